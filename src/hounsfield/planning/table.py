"""The planner of each family of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hounsfield.errors import UsageError
from hounsfield.planning import boxes, labels, masks, values
from hounsfield.planning.adapting import source_of
from hounsfield.planning.base import Facts, Planner, Start, Wish
from hounsfield.plans.base import BasePlan
from hounsfield.tasks import Family, Task, family_of

PLANNERS: dict[Family, Planner[Any]] = {"labels": labels, "values": values, "boxes": boxes, "masks": masks}


def make_plan(facts: Facts, wish: Wish, task: Task) -> BasePlan:
    """Decide everything about a training, with reasons; nothing is trained.

    Raises:
        UsageError: the network that is asked for does not exist, or weights cannot be used.
    """
    planner = PLANNERS[family_of(task)]
    check_network(wish.network, planner.networks(), task)
    plan: BasePlan = planner.make(facts, wish)
    return plan


def check_network(network: str | None, known: Sequence[str] | None = None, task: Task | None = None) -> None:
    """Refuse the name of a network that does not exist; where ``known`` is not given, for any task.

    Raises:
        UsageError: there is no such network.
    """
    known = known or tuple(dict.fromkeys(name for planner in PLANNERS.values() for name in planner.networks()))
    if network is not None and network not in known:
        what = f"network for {task}" if task else "network"
        raise UsageError(f"No {what} is called '{network}'. Known are: {', '.join(known)}.")


def check_start(start: Start, network: str | None) -> None:
    """Refuse weights that cannot be used, before any image is read.

    Raises:
        UsageError: they cannot.
    """
    source_of(Wish(network=network, weights=start.weights, adapt=start.adapt, licence=start.licence))
