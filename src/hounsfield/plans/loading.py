"""Reading the plan of any task from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from hounsfield.errors import PlanError, UsageError
from hounsfield.plans.base import BasePlan
from hounsfield.plans.labels import Plan
from hounsfield.plans.table import PLANS
from hounsfield.tasks import TASKS, Family
from hounsfield.textfiles import parse_yaml

# Whose plans ``classifier_plan`` reads.
CLASSIFIERS: tuple[Family, ...] = ("labels",)


def load_plan(path: Path | str) -> BasePlan:
    """Read a plan; its field ``task`` decides which class of ``PLANS`` it is.

    Raises:
        PlanError: the file is missing, unreadable or no plan.
    """
    text = BasePlan.read_text(path)
    try:
        values = parse_yaml(text)
    except yaml.YAMLError:
        values = None
    task = values.get("task") if isinstance(values, dict) else None
    traits = TASKS.get(task) if isinstance(task, str) else None  # type: ignore[call-overload]  # any text may stand there
    kind = PLANS[traits.family] if traits is not None else Plan
    return kind.from_yaml(text, origin=f"The plan {path}")


def check_changes(changes: Sequence[str]) -> None:
    """Check, before any data is read, that changes of a plan name fields that some plan has.

    Args:
        changes: each as ``field=value``.

    Raises:
        UsageError: one does not.
    """
    known = dict.fromkeys(field for kind in PLANS.values() for field in kind.settable())
    known.pop("seed")
    for change in changes:
        name, sign, _ = change.partition("=")
        if name.strip() == "seed":
            raise UsageError("The seed also decides the split, which is made before the plan: set it with --seed.")
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
        PlanError: as :func:`load_plan`, or the plan is of another kind.
    """
    plan = load_plan(path)
    if not isinstance(plan, Plan):
        raise PlanError(
            f"{what} takes the run of a classifier, and {path} is a plan for the task '{plan.task}'. Give the run of a "
            "training on labels of whole images."
        )
    return plan
