"""Which fields of a plan are varied, and how far around the planner's values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hounsfield.plans.base import BasePlan

# What stands for the planner's own augmentation among the named ones.
PLANNED = "planned"


class Factor(NamedTuple):
    """A number between its planned value divided and multiplied by this, even on a logarithmic scale."""

    factor: float

    def suggest(self, trial: Any, name: str, planned: Any) -> Any:
        """A value of it."""
        return trial.suggest_float(name, planned / self.factor, planned * self.factor, log=True)

    def describe(self, planned: Any) -> str:
        """Its range in words."""
        return f"{planned / self.factor:.2g} to {planned * self.factor:.2g}"


class Range(NamedTuple):
    """A number between two, whatever was planned."""

    low: float
    high: float

    def suggest(self, trial: Any, name: str, planned: Any) -> Any:
        """A value of it; the range is widened where the planned value lies outside."""
        return trial.suggest_float(name, min(self.low, planned), max(self.high, planned))

    def describe(self, planned: Any) -> str:
        """Its range in words."""
        return f"{min(self.low, planned):g} to {max(self.high, planned):g}"


class Multiples(NamedTuple):
    """A whole number: its planned value, or this part or multiple of it."""

    factors: tuple[float, ...]

    def values(self, planned: int) -> list[int]:
        """Those that there are."""
        return sorted({planned, *(max(1, round(planned * factor)) for factor in self.factors)})

    def suggest(self, trial: Any, name: str, planned: Any) -> Any:
        """A value of it."""
        return trial.suggest_categorical(name, self.values(planned))

    def describe(self, planned: Any) -> str:
        """Its values in words."""
        return ", ".join(map(str, self.values(planned)))


class Names(NamedTuple):
    """One of the values that the plan knows by a name, or what was planned."""

    names: tuple[str, ...]

    def suggest(self, trial: Any, name: str, planned: Any) -> Any:  # noqa: ARG002 - as the others
        """A name."""
        return trial.suggest_categorical(name, [PLANNED, *self.names])

    def describe(self, planned: Any) -> str:  # noqa: ARG002 - as the others
        """The names in words."""
        return ", ".join((PLANNED, *self.names))


Dimension = Factor | Range | Multiples | Names
# Fields of any plan; those that a plan does not have, or that are null or 0 where they are multiplied, are left alone.
FIELDS: dict[str, Dimension] = {
    "learning_rate": Factor(5.0),
    "weight_decay": Factor(10.0),
    "dropout": Range(0.0, 0.5),
    "label_smoothing": Range(0.0, 0.15),
    "average_decay": Range(0.0, 0.95),
    "augmentation": Names(("none", "light", "medium", "strong")),
    "width": Multiples((0.5, 2.0)),
    "batch_size": Multiples((0.5, 2.0)),
}


def dimensions(plan: BasePlan) -> dict[str, Dimension]:
    """The fields of a plan that can be varied."""
    found = {}
    for name, dimension in FIELDS.items():
        planned = getattr(plan, name, None)
        if planned is None or (isinstance(dimension, Factor) and planned <= 0):
            continue
        if isinstance(dimension, Names) and not set(dimension.names) <= plan.named_values.get(name, {}).keys():
            continue
        # The first stage of a network that was pretrained has a fixed width.
        if name == "width" and plan.weights is not None:
            continue
        found[name] = dimension
    return found


def centre(plan: BasePlan, space: Mapping[str, Dimension]) -> dict[str, Any]:
    """The values of the plan itself."""
    return {name: PLANNED if isinstance(dimension, Names) else getattr(plan, name) for name, dimension in space.items()}


def suggest(plan: BasePlan, space: Mapping[str, Dimension], trial: Any) -> dict[str, Any]:
    """Values of the fields, from a trial of Optuna."""
    return {name: each.suggest(trial, name, getattr(plan, name)) for name, each in space.items()}


def assignments(plan: BasePlan, values: Mapping[str, Any]) -> list[str]:
    """The values that differ from the plan's, as ``--set`` takes them."""
    return [
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
        if value != PLANNED and value != getattr(plan, name)
    ]
