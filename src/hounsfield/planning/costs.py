"""What a training would cost on this machine, before anybody asks for one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import get_args

from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.cohorts.split import FRACTIONS
from hounsfield.cohorts.training_boxes import TrainingBoxes
from hounsfield.planning.base import BasePlan, Effort
from hounsfield.planning.detection_planner import make_detection_plan
from hounsfield.planning.planner import make_plan


@dataclass(frozen=True)
class Cost:
    """An estimate for one effort.

    Attributes:
        effort: of the plan.
        seconds: of the whole training at most; early stopping may end it sooner.
        memory_mb: greatest resident memory.
        disk_mb: of the prepared images.
    """

    effort: Effort
    seconds: float
    memory_mb: float
    disk_mb: float

    def words(self) -> tuple[str, str, str]:
        """Time, memory and disk as a person says them."""
        minutes, disk = self.seconds / 60, self.disk_mb
        time = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
        sizes = [f"{size:,.0f} MB" if size < 10_000 else f"{size / 1000:,.0f} GB" for size in (self.memory_mb, disk)]
        return (f"{self.seconds:.0f} s" if minutes < 2 else time, sizes[0], sizes[1])


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
    return tuple(_cost(plan) for plan in plans)


def _cost(plan: BasePlan) -> Cost:
    seconds, memory, disk = (
        value or 0.0 for value in (plan.expected_seconds, plan.expected_memory_mb, plan.expected_disk_mb)
    )
    return Cost(plan.effort, seconds, memory, disk)
