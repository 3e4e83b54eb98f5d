"""From DATA to a cohort that can be trained on: loaded, looked at, freed of leaks, split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.cohorts import Cohort, assign_splits, load_cohort
from hounsfield.cohorts.duplicates import DuplicateGroup, duplicate_groups
from hounsfield.cohorts.fingerprint import Fingerprint, fingerprint
from hounsfield.cohorts.leaks import settle_leaks
from hounsfield.cohorts.request import DataRequest
from hounsfield.cohorts.scan import Scan, scan
from hounsfield.cohorts.store import refuse_bad
from hounsfield.cohorts.training_boxes import TrainingBoxes, training_boxes
from hounsfield.errors import CohortError, UsageError
from hounsfield.models import network_names
from hounsfield.models.backbone import backbone_names
from hounsfield.planning.boxes import detection_expectations_here, make_detection_plan
from hounsfield.planning.expectations import with_expectations_here
from hounsfield.planning.labels import make_plan
from hounsfield.plans.base import Effort
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.plans.labels import Plan
from hounsfield.progress import Progress, silent


@dataclass(frozen=True)
class Prepared:
    """A cohort ready to be trained on.

    Attributes:
        cohort: with splits.
        fingerprint: of its training rows.
        pictures: reference → a number that images of the same picture share.
        boxes: of a detection cohort, what its planner must know of the training rows.
    """

    cohort: Cohort
    fingerprint: Fingerprint
    pictures: dict[str, int]
    boxes: TrainingBoxes | None = None

    def plan(self, *, effort: Effort = "standard", network: str | None = None, seed: int = 0) -> Plan | DetectionPlan:
        """Decide how to train on this cohort; see ``planning.make_plan`` and ``planning.make_detection_plan``.

        Raises:
            UsageError: no network for this task is called so.
        """
        if self.boxes is None:
            check_network(network, network_names())
        else:
            check_network(network, backbone_names(), what="backbone of a detector")
        asked: dict[str, Any] = {"effort": effort, "network": network, "seed": seed, "num_prepared": len(self.cohort)}
        if self.boxes is None:
            return make_plan(self.fingerprint, **asked)
        return make_detection_plan(self.fingerprint, self.boxes, **asked)

    def changed(self, plan: Plan | DetectionPlan, changes: Sequence[str]) -> Plan | DetectionPlan:
        """The plan with fields set by hand, and with the time and memory that it then needs."""
        if isinstance(plan, DetectionPlan):
            return detection_expectations_here(plan.changed(changes), self.fingerprint, len(self.cohort))
        return with_expectations_here(plan.changed(changes), self.fingerprint, len(self.cohort))


def prepare(request: DataRequest, *, seed: int, progress: Progress = silent) -> Prepared:
    """Load a cohort, settle the leaks of its given splits, split what has none, and look at the training rows.

    Raises:
        CohortError: the data cannot be trained on; the message says why.
    """
    cohort = load_cohort(
        request.data,
        kind=request.kind,
        images=Path(request.images) if request.images else None,
        label_columns=request.label_columns or None,
        allow_outside=request.allow_outside,
        progress=progress,
    )
    scanned = scan(cohort, progress=progress)
    refuse_bad(scanned.bad, len(cohort))
    # Rows of known patients that have no split yet stay together by patient: their pictures need no comparing.
    compared = cohort.table["split"].notna().any() or not cohort.knows_patients
    groups = duplicate_groups(scanned) if compared else ()
    pictures = _pictures(cohort, groups)
    cohort = settle_leaks(
        cohort,
        drop=request.drop_leaks,
        allow=request.allow_leaks,
        scanned=scanned,
        groups=groups,
        progress=progress,
    )
    cohort = assign_splits(cohort, seed=seed, pictures=pictures, progress=progress)
    check_trainable(cohort)
    train = cohort.subset(cohort.rows("train"))
    facts = _scan_of(train, scanned)
    boxes = training_boxes(train, facts) if cohort.task == "detection" else None
    return Prepared(cohort, fingerprint(train, scanned=facts, progress=progress), pictures, boxes)


def _pictures(cohort: Cohort, groups: Sequence[DuplicateGroup]) -> dict[str, int]:
    """Number the pictures: an exact or a changed copy has the number of the first image of its group."""
    numbers = np.arange(len(cohort))
    # Groups with changed copies hold the exact ones too and come last, so theirs is the number that stays.
    for group in groups:
        numbers[list(group.rows)] = group.rows[0]
    return dict(zip(cohort.table["image"], numbers.tolist(), strict=True))


def _scan_of(part: Cohort, scanned: Scan) -> Scan:
    facts = dict(zip(scanned.cohort.table["image"], scanned.facts, strict=True))
    return Scan(part, [facts[reference] for reference in part.table["image"]])


def check_network(network: str | None, known: Sequence[str] | None = None, *, what: str = "network") -> None:
    """Refuse a name that no network has; of networks of any task where ``known`` is not given.

    Raises:
        UsageError: no network is called so.
    """
    known = known or tuple(dict.fromkeys((*network_names(), *backbone_names())))
    if network is not None and network not in known:
        raise UsageError(f"No {what} is called '{network}'. Known are: {', '.join(known)}.")


def check_trainable(cohort: Cohort) -> None:
    """Look whether each label has an image in training and, unless labels are independent, in validation.

    Raises:
        CohortError: a label has none.
    """
    targets = cohort.targets()
    for split in ("train", "validation"):
        counts = targets[cohort.rows(split)].sum(0)
        complete = counts if cohort.task != "binary" else np.array([len(cohort.rows(split)) - counts[0], counts[0]])
        absent = [label for label, count in zip(cohort.labels, complete, strict=True) if count == 0]
        if absent and (split == "train" or not cohort.multi_label):
            raise CohortError(
                f"The {split} split of the cohort '{cohort.name}' has no image of {', '.join(absent)}: at least one of "
                "each label is needed there. Add images of more patients, or leave the column 'split' out to have the "
                "split made."
            )
