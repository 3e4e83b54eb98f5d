"""Reading a plan of either task from a file."""

from __future__ import annotations

from pathlib import Path

import yaml

from hounsfield.errors import PlanError
from hounsfield.planning.base import BasePlan
from hounsfield.planning.detection_plan import DetectionPlan
from hounsfield.planning.plan import Plan


def load_plan(path: Path | str) -> Plan | DetectionPlan:
    """Read a plan; its field ``task`` tells of which kind it is.

    Raises:
        PlanError: the file is missing, unreadable or no plan.
    """
    text = BasePlan.read_text(path)
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        values = None
    kind = DetectionPlan if isinstance(values, dict) and values.get("task") == "detection" else Plan
    plan: Plan | DetectionPlan = kind.from_yaml(text, origin=f"The plan {path}")
    return plan


def classifier_plan(path: Path | str, what: str) -> Plan:
    """Read the plan of a classifier.

    Args:
        path: of the plan.
        what: what needs it, to begin a sentence with.

    Raises:
        PlanError: as :func:`load_plan`, or the plan is a detector's.
    """
    plan = load_plan(path)
    if isinstance(plan, DetectionPlan):
        raise PlanError(
            f"{what} takes the run of a classifier, and {path} is the plan of a detector. Give the run of a training "
            "on labels of whole images."
        )
    return plan
