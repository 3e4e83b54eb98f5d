"""What a training has to see to where it starts from weights that were trained before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from hounsfield.cohorts import Cohort
from hounsfield.containers import read_parquet
from hounsfield.errors import CohortError, PlanError
from hounsfield.plans.loading import load_plan
from hounsfield.plans.whole_images import WholeImagePlan
from hounsfield.pretrained import find_source
from hounsfield.tasks import TASKS


def check_adapting(plan: WholeImagePlan, cohort: Cohort) -> None:
    """Refuse what cannot be adapted, and weights that know images by which they would be judged.

    Raises:
        PlanError: a probe of samples of several images, or of grades in order.
        CohortError: the weights are of a run that was trained on patients of this validation or test.
    """
    if plan.adapt is None or plan.weights is None:
        return
    if plan.adapt == "probe" and (plan.views is not None or TASKS[plan.task].ordered):
        what = "samples of several images" if plan.views is not None else "grades in order"
        raise PlanError(f"The plan has adapt: probe, which is not for {what}. Set adapt: finetune.")
    judged = cohort.table[cohort.table["split"].isin(["validation", "test"])]
    shared = max((_shared(known, judged) for known in _learned_from(plan.weights)), default=0)
    if shared:
        raise CohortError(
            f"{shared:,} of {len(judged):,} images of validation and test are of patients, or are images, that the "
            f"weights {plan.weights} were trained on, so figures on them would be too good. Split the data as that "
            "run did (its seed and a column 'split'), leave those patients out, or take other weights."
        )


def _learned_from(weights: str) -> Iterator[pd.DataFrame]:
    """The rows that a run of one's own learned from, then those of the run whose weights it started from, and so on."""
    followed: set[Path] = set()
    while True:
        run = find_source(weights).folder.parent
        if run in followed or not (run / "cohort.parquet").is_file():
            return
        followed.add(run)
        plan = load_plan(run / "plan.yaml")
        known = read_parquet(run / "cohort.parquet")
        # Each network of an ensemble learned from images that are validation for another one.
        own = ["train"] if getattr(plan, "folds", 1) == 1 else ["train", "validation"]
        yield known[known["split"].isin(own)]
        if plan.weights is None or not Path(plan.weights).is_dir():
            return
        weights = plan.weights


def _shared(known: pd.DataFrame, judged: pd.DataFrame) -> int:
    """How many images of ``judged`` are known themselves, or by their patient."""
    images = {_absolute(image) for image in known["image"]}
    patients = set(known["patient"].dropna().astype(str))
    same = judged["image"].map(_absolute).isin(images) | judged["patient"].astype("object").map(str).isin(patients)
    return int(same.sum())


def _absolute(image: object) -> str:
    return str(Path(str(image)).absolute())


def origin(plan: WholeImagePlan) -> dict[str, dict[str, str]]:
    """What a bundle keeps of the weights that its training started from."""
    if plan.adapt is None or plan.weights is None:
        return {}
    return {"origin": find_source(plan.weights).origin(plan.adapt)}
