"""A network that was trained from scratch beside one that was adapted, and both as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hounsfield.models import ensemble
from hounsfield.models.ordinal import folded
from hounsfield.training.base import Member
from hounsfield.training.batches import predict_rows
from hounsfield.training.table import TRAININGS
from hounsfield.training.whole_images import BATCH

AnyMember = Member[Any, Any]


def joined(adapted: Sequence[AnyMember], companions: Sequence[AnyMember]) -> list[AnyMember]:
    """Each adapted network and its companion as one, which averages their logits.

    Where the user ended the training before each had its companion, the adapted networks alone.
    """
    if len(companions) < len(adapted):
        return list(adapted)
    return [_as_one(*pair) for pair in zip(adapted, companions, strict=True)]


def _as_one(adapted: AnyMember, companion: AnyMember) -> AnyMember:
    network = ensemble([folded(adapted.network), folded(companion.network)])
    return replace(adapted, network=network)


def loss_of(member: AnyMember) -> float:
    """The loss of a trained network on its validation rows; with a companion, that of both as one."""
    plan = member.specification.plan
    if getattr(plan, "companion", None) is None:
        return member.fitted.best_figure
    specification = member.specification
    entry: Any = TRAININGS[plan.family]
    trainee = entry.make_trainee(entry.build_network(plan), specification)
    rows = specification.validation
    predicted = predict_rows(member.network, specification.store, rows, batch_size=BATCH)
    return float(trainee.judge(trainee.examples.targets[rows], predicted)[trainee.criterion.figure])
