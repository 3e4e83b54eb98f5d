"""What a training would cost on this machine, before anybody asks for one."""

from __future__ import annotations

import dataclasses
from typing import get_args

from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.cohorts.split import FRACTIONS
from hounsfield.cohorts.training_boxes import TrainingBoxes
from hounsfield.planning.boxes import make_detection_plan
from hounsfield.planning.labels import make_plan
from hounsfield.plans.base import BasePlan, Effort
from hounsfield.plans.costs import Cost


def training_costs(seen: Fingerprint, boxes: TrainingBoxes | None = None) -> tuple[Cost, ...]:
    """Estimate each effort's training by the planner's own rules and a short measurement of this machine's speed.

    Args:
        seen: the fingerprint of a whole cohort; the share of its rows that would be trained on is assumed where no
            split is given.
        boxes: of a detection cohort.
    """
    given = seen.splits.get("train", 0)
    share = given / max(seen.num_images, 1) if given else FRACTIONS[0]
    training = dataclasses.replace(seen, num_readable=max(1, round(seen.num_readable * share)))
    plans: list[BasePlan] = [
        make_plan(training, effort=effort, num_prepared=seen.num_readable)
        if boxes is None
        else make_detection_plan(training, boxes, effort=effort, num_prepared=seen.num_readable)
        for effort in get_args(Effort)
    ]
    return tuple(Cost.of(plan) for plan in plans)
