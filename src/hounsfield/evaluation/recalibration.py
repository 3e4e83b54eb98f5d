"""Make probabilities honest: temperature, Platt and isotonic scaling, fitted and chosen on validation cases.

Each scaling is a small frozen object that a bundle can store as JSON and apply to any later prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.answers import Answers, Floats, Integers, Task
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.metrics import SMALLEST

RIDGE = 1e-3  # keeps separable validation cases from sending a slope to infinity
NUM_FOLDS = 5


class Scaling(Protocol):
    """What turns a network's probabilities into calibrated ones."""

    name: ClassVar[str]

    @classmethod
    def fit(cls, answers: Answers) -> Self:
        """Learn from cases that the network was not trained on."""

    def apply(self, scores: Floats, task: Task) -> Floats:
        """Calibrated probabilities of the same shape, (n, K)."""


@dataclass(frozen=True)
class Unscaled:
    """The probabilities as they are."""

    name: ClassVar[str] = "none"

    @classmethod
    def fit(cls, answers: Answers) -> Self:  # noqa: ARG003 - the shape of every scaling
        """Nothing is learned."""
        return cls()

    def apply(self, scores: Floats, task: Task) -> Floats:  # noqa: ARG002 - the shape of every scaling
        """The scores themselves."""
        return scores


@dataclass(frozen=True)
class Temperature:
    """All logits divided by one number (Guo et al. 2017); no decision at .5 and no ranking within a column changes."""

    name: ClassVar[str] = "temperature"
    temperature: float

    @classmethod
    def fit(cls, answers: Answers) -> Self:
        """The temperature with the least log loss, between 1/20 and 20."""

        def loss(log_temperature: float) -> float:
            return _log_loss(cls(float(np.exp(log_temperature))).apply(answers.scores, answers.task), answers)

        found = optimize.minimize_scalar(
            loss, bounds=(-np.log(20), np.log(20)), method="bounded", options={"xatol": 1e-8}
        )
        return cls(float(np.exp(found.x)))

    def apply(self, scores: Floats, task: Task) -> Floats:
        """Softmax or sigmoid of the divided logits."""
        return _probabilities(_logits(scores, task) / self.temperature, task)


@dataclass(frozen=True)
class Platt:
    """A slope and an intercept for each column of logits (Platt 1999); vector scaling in a multi-class task."""

    name: ClassVar[str] = "platt"
    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]

    @classmethod
    def fit(cls, answers: Answers) -> Self:
        """Slopes and intercepts with the least log loss, held near 1 and 0 by a light ridge."""
        logits, truth = _logits(answers.scores, answers.task), answers.truth.astype(np.float64)
        columns, count = logits.shape[1], len(logits)

        def loss(parameters: Floats) -> tuple[float, Floats]:
            slopes, intercepts = parameters[:columns], parameters[columns:]
            scaled = _probabilities(logits * slopes + intercepts, answers.task)
            value = _log_loss(scaled, answers) + RIDGE * (np.sum((slopes - 1) ** 2) + np.sum(intercepts**2)) / 2
            residual = (scaled - truth) / (count if answers.task == "multi-class" else count * columns)
            gradient = np.concatenate([(residual * logits).sum(axis=0), residual.sum(axis=0)])
            return value, gradient + RIDGE * np.concatenate([slopes - 1, intercepts])

        start = np.concatenate([np.ones(columns), np.zeros(columns)])
        found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
        return cls(tuple(map(float, found[:columns])), tuple(map(float, found[columns:])))

    def apply(self, scores: Floats, task: Task) -> Floats:
        """Softmax or sigmoid of the scaled and shifted logits."""
        return _probabilities(_logits(scores, task) * np.array(self.slopes) + np.array(self.intercepts), task)


@dataclass(frozen=True)
class Isotonic:
    """A rising step curve for each column (Zadrozny, Elkan 2002), joined by straight lines; rows are renormalised.

    The curve is kept away from 0 and 1 by half a case, so that no later case can have an infinite loss.
    """

    name: ClassVar[str] = "isotonic"
    inputs: tuple[tuple[float, ...], ...]
    outputs: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(cls, answers: Answers) -> Self:
        """Pool adjacent violators in each column."""
        inputs, outputs = [], []
        for truth, scores in zip(answers.truth.T, answers.scores.T, strict=True):
            levels, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
            means = np.bincount(group, weights=truth) / counts
            fitted = np.asarray(optimize.isotonic_regression(means, weights=counts).x)
            edge = 0.5 / (len(truth) + 1)
            knots = _ends_of_steps(fitted)
            inputs.append(tuple(levels[knots].tolist()))
            outputs.append(tuple(np.clip(fitted[knots], edge, 1 - edge).tolist()))
        return cls(tuple(inputs), tuple(outputs))

    def apply(self, scores: Floats, task: Task) -> Floats:
        """Read each column from its curve."""
        curves = zip(scores.T, self.inputs, self.outputs, strict=True)
        scaled = np.column_stack([np.interp(column, xs, ys) for column, xs, ys in curves])
        return scaled / scaled.sum(axis=1, keepdims=True) if task == "multi-class" else scaled


SCALINGS: dict[str, type[Unscaled | Temperature | Platt | Isotonic]] = {
    "none": Unscaled,
    "temperature": Temperature,
    "platt": Platt,
    "isotonic": Isotonic,
}


def scaling_to_dict(scaling: Scaling) -> dict[str, Any]:
    """The form that a bundle stores."""
    return {"name": scaling.name, **asdict(scaling)}  # type: ignore[call-overload]  # every scaling is a dataclass


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


def fit_scaling(
    answers: Answers, *, groups: npt.ArrayLike | None = None, seed: int = 0
) -> tuple[Scaling, dict[str, float]]:
    """Fit every scaling on validation cases, and choose one there.

    Each is judged by its log loss in five folds of these cases, patients kept together. The probabilities stay as
    they are unless the best scaling beats them by more than one standard error of the difference, so noise alone
    does not change a network's output.

    Args:
        answers: validation cases.
        groups: (n,) their patients.
        seed: of the folds.

    Returns:
        The chosen scaling, fitted on all cases, and the cross-validated log loss of each by name.
    """
    of_case = make_clusters(answers.truth, groups).of_case
    losses = {name: _held_out_losses(kind, answers, of_case, seed) for name, kind in SCALINGS.items()}
    means = {name: float(each.mean()) for name, each in losses.items()}
    best = min(means, key=lambda name: means[name])
    gain = losses["none"] - losses[best]
    if means["none"] - means[best] <= float(gain.std()) / np.sqrt(len(gain)):
        best = "none"
    return SCALINGS[best].fit(answers), means


def _held_out_losses(kind: type[Scaling], answers: Answers, of_case: Integers, seed: int) -> Floats:
    """(n,) log loss of each case under a scaling that was fitted without its fold."""
    if kind is Unscaled:
        return _case_losses(answers.scores, answers)
    count = min(NUM_FOLDS, int(of_case.max()) + 1)
    if count < 2:
        return np.full(len(answers), np.inf)
    fold_of = (np.random.default_rng(seed).permutation(int(of_case.max()) + 1) % count)[of_case]
    losses = np.zeros(len(answers))
    for index in range(count):
        fold, others = np.flatnonzero(fold_of == index), np.flatnonzero(fold_of != index)
        part = answers.take(fold)
        losses[fold] = _case_losses(kind.fit(answers.take(others)).apply(part.scores, part.task), part)
    return losses


def _case_losses(scores: Floats, answers: Answers) -> Floats:
    clipped = np.clip(scores, SMALLEST, 1 - SMALLEST)
    if answers.task == "multi-class":
        return np.asarray(-np.log(clipped[answers.truth]))
    return np.asarray(-np.log(np.where(answers.truth, clipped, 1 - clipped)).mean(axis=1))


def _log_loss(scores: Floats, answers: Answers) -> float:
    return float(_case_losses(scores, answers).mean())


def _logits(scores: Floats, task: Task) -> Floats:
    clipped = np.clip(scores, SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(clipped) if task == "multi-class" else special.logit(clipped))


def _probabilities(logits: Floats, task: Task) -> Floats:
    return np.asarray(special.softmax(logits, axis=1) if task == "multi-class" else special.expit(logits))


def _ends_of_steps(values: Floats) -> Integers:
    """The first and the last index of each run of equal values."""
    change = np.flatnonzero(np.diff(values) != 0)
    return np.unique(np.concatenate([[0], change, change + 1, [len(values) - 1]]))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, (list, tuple)) else value
