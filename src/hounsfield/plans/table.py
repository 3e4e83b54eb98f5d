"""The plan of each family of tasks."""

from __future__ import annotations

from hounsfield.plans.base import BasePlan
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.plans.labels import Plan
from hounsfield.plans.masks import MaskPlan
from hounsfield.plans.values import ValuePlan
from hounsfield.tasks import Family

PLANS: dict[Family, type[BasePlan]] = {
    "labels": Plan,
    "values": ValuePlan,
    "boxes": DetectionPlan,
    "masks": MaskPlan,
}
