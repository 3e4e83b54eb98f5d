"""What turns a network's probabilities into honest ones, in the form that a bundle stores and prediction applies.

How each is fitted is in ``recalibration``; here is NumPy alone, so that a prediction starts quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.outcomes import Floats
from hounsfield.tasks import TASKS, LabelTask

SMALLEST = float(np.finfo(np.float64).eps)  # scikit-learn's clipping in log_loss
# How much of the network's own probability an isotonic curve keeps, so that its steps never make two cases alike.
KEPT_SHARE = 0.01


@dataclass(frozen=True)
class Unscaled:
    """The probabilities as they are."""

    name: ClassVar[str] = "none"

    def apply(self, scores: Floats, task: LabelTask) -> Floats:  # noqa: ARG002 - the shape of every scaling
        """The scores themselves."""
        return scores


@dataclass(frozen=True)
class Temperature:
    """All logits divided by one number (Guo et al. 2017); no decision at .5 and no ranking within a column changes."""

    name: ClassVar[str] = "temperature"
    temperature: float

    def apply(self, scores: Floats, task: LabelTask) -> Floats:
        """Softmax or sigmoid of the divided logits."""
        return probabilities_of(logits_of(scores, task) / self.temperature, task)


@dataclass(frozen=True)
class Platt:
    """A slope and an intercept for each column of logits (Platt 1999); vector scaling in a multi-class task."""

    name: ClassVar[str] = "platt"
    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]

    def apply(self, scores: Floats, task: LabelTask) -> Floats:
        """Softmax or sigmoid of the scaled and shifted logits."""
        return probabilities_of(logits_of(scores, task) * np.array(self.slopes) + np.array(self.intercepts), task)


@dataclass(frozen=True)
class Isotonic:
    """A rising step curve for each column (Zadrozny, Elkan 2002), joined by straight lines; rows are renormalised.

    The curve is kept away from 0 and 1 by half a case, so that no later case can have an infinite loss, and one part
    in a hundred of the network's own probability is mixed in, so that the ranking stays.
    """

    name: ClassVar[str] = "isotonic"
    inputs: tuple[tuple[float, ...], ...]
    outputs: tuple[tuple[float, ...], ...]

    def apply(self, scores: Floats, task: LabelTask) -> Floats:
        """Read each column from its curve."""
        curves = zip(scores.T, self.inputs, self.outputs, strict=True)
        curve = np.column_stack([np.interp(column, xs, ys) for column, xs, ys in curves])
        scaled = (1 - KEPT_SHARE) * curve + KEPT_SHARE * scores
        return LINKS[TASKS[task].activation].put_right(scaled)


Scaling = Unscaled | Temperature | Platt | Isotonic

SCALINGS: dict[str, type[Scaling]] = {
    "none": Unscaled,
    "temperature": Temperature,
    "platt": Platt,
    "isotonic": Isotonic,
}


def scaling_to_dict(scaling: Scaling) -> dict[str, Any]:
    """The form that a bundle stores."""
    return {"name": scaling.name, **asdict(scaling)}


def scaling_from_dict(stored: Mapping[str, Any]) -> Scaling:
    """The scaling that ``scaling_to_dict`` wrote.

    Raises:
        EvaluationError: the name is unknown, or the parameters do not fit it.
    """
    parameters = {key: _frozen(value) for key, value in stored.items() if key != "name"}
    try:
        return SCALINGS[stored["name"]](**parameters)
    except (KeyError, TypeError) as error:
        raise EvaluationError(
            f"The stored calibration {dict(stored)} is not one of {', '.join(SCALINGS)} with its parameters ({error}). "
            "Fit it again on validation cases."
        ) from error


def logits_of(scores: npt.NDArray[Any], task: LabelTask) -> Floats:
    """Log odds of (n, K) probabilities, of a multi-class task their logarithms; 0 and 1 are moved off by 2e-16."""
    clipped = np.minimum(np.maximum(np.asarray(scores, dtype=np.float64), SMALLEST), 1 - SMALLEST)
    return LINKS[TASKS[task].activation].logits(clipped)


def probabilities_of(logits: Floats, task: LabelTask) -> Floats:
    """The inverse of :func:`logits_of`: softmax over the last axis of a multi-class task, else the sigmoid of each."""
    return LINKS[TASKS[task].activation].probabilities(logits)


def _softmax(logits: Floats) -> Floats:
    return _shares(np.exp(logits - logits.max(axis=-1, keepdims=True)))


def _shares(values: Floats) -> Floats:
    return np.asarray(values / values.sum(axis=-1, keepdims=True))


class Link(NamedTuple):
    """How probabilities and logits belong together, and how probabilities changed one by one are put right."""

    logits: Callable[[Floats], Floats]
    probabilities: Callable[[Floats], Floats]
    put_right: Callable[[Floats], Floats]


LINKS: dict[str, Link] = {
    "sigmoid": Link(
        lambda scores: np.asarray(np.log(scores) - np.log1p(-scores)),
        lambda logits: np.asarray(np.exp(-np.logaddexp(0.0, -logits))),
        lambda scores: scores,
    ),
    "softmax": Link(lambda scores: np.asarray(np.log(scores)), _softmax, _shares),
}


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, (list, tuple)) else value
