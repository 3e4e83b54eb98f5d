"""Fitting what a pipeline has to learn."""

from __future__ import annotations

from typing import TypeVar

from hounsfield.cohorts import Cohort
from hounsfield.images import Image
from hounsfield.plans.base import BasePlan

AnyPlan = TypeVar("AnyPlan", bound=BasePlan)


def fitted_plan(plan: AnyPlan, cohort: Cohort) -> AnyPlan:
    """The plan with its pipeline fitted on the training rows, if it has anything to learn.

    Rows that cannot be read or prepared are left out; the store then names and counts them.

    Raises:
        PreprocessingError: no training row is left to learn from.
    """
    if not plan.pipeline.needs_fit:
        return plan
    references = [str(reference) for reference in cohort.table["image"].iloc[cohort.rows("train")]]
    fitted = plan.pipeline.fit(
        lambda: (image for image in cohort.source.stream(references) if isinstance(image, Image))
    )
    return plan.model_copy(update={"pipeline": fitted})
