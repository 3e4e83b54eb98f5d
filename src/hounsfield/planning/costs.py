"""What a training would cost on this machine, before anybody asks for one."""

from __future__ import annotations

import dataclasses
from typing import get_args

from hounsfield.cohorts.split import FRACTIONS
from hounsfield.planning.base import Facts, Wish
from hounsfield.planning.table import make_plan
from hounsfield.plans.base import Effort
from hounsfield.plans.costs import Cost
from hounsfield.tasks import Task


def training_costs(facts: Facts, task: Task) -> tuple[Cost, ...]:
    """Estimate each effort's training by the planner's own rules and a short measurement of this machine's speed.

    Args:
        facts: of a whole cohort; where it has no split, the usual share of its rows is taken to be trained on.
        task: of the cohort.
    """
    found = facts.fingerprint
    given = found.splits.get("train", 0)
    share = given / max(found.num_images, 1) if given else FRACTIONS[0]
    training = dataclasses.replace(
        facts,
        fingerprint=dataclasses.replace(found, num_readable=max(1, round(found.num_readable * share))),
        num_images=found.num_readable,
    )
    return tuple(Cost.of(make_plan(training, Wish(effort=effort), task)) for effort in get_args(Effort))
