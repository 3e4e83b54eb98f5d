"""Fingerprint and hardware make a plan, with reasons."""

from hounsfield.planning.base import BasePlan, Effort
from hounsfield.planning.detection_plan import DetectionPlan
from hounsfield.planning.detection_planner import make_detection_plan
from hounsfield.planning.hardware import Hardware
from hounsfield.planning.loading import check_changes, load_plan
from hounsfield.planning.plan import Plan
from hounsfield.planning.planner import make_plan

__all__ = [
    "BasePlan",
    "DetectionPlan",
    "Effort",
    "Hardware",
    "Plan",
    "check_changes",
    "load_plan",
    "make_detection_plan",
    "make_plan",
]
