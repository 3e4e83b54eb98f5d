"""The table of families: the truth of a cohort as networks, splits, audits and messages need it."""

from __future__ import annotations

from hounsfield.cohorts.targets.base import Targets
from hounsfield.cohorts.targets.boxes import BoxTargets
from hounsfield.cohorts.targets.labels import LabelTargets
from hounsfield.cohorts.targets.masks import MaskTargets
from hounsfield.cohorts.targets.values import ValueTargets
from hounsfield.tasks import Family

TARGETS: dict[Family, Targets] = {
    "labels": LabelTargets(),
    "values": ValueTargets(),
    "boxes": BoxTargets(),
    "masks": MaskTargets(),
}
