"""Reading a plan of either task from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from hounsfield.errors import PlanError, UsageError
from hounsfield.plans.base import BasePlan
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.plans.labels import Plan


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


def check_changes(changes: Sequence[str]) -> None:
    """Look, before any data is read, whether changes of a plan name fields that some plan has.

    Args:
        changes: each as ``field=value``.

    Raises:
        UsageError: one does not.
    """
    known = dict.fromkeys(
        field for kind in (Plan, DetectionPlan) for field in kind.model_fields if field not in ("reasons", "seed")
    )
    for change in changes:
        name, sign, _ = change.partition("=")
        if name.strip() == "seed":
            raise UsageError(
                "The seed decides the split before there is a plan: give it as the seed (--seed), not as a change."
            )
        if not sign or name not in known:
            raise UsageError(
                f"'{change}' does not set a field of a plan. Write field=value; the fields are {', '.join(known)}."
            )


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
