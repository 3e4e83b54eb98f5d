"""Temperature, Platt and isotonic scaling, fitted and chosen on validation cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize

from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.metrics import Tally, accuracy, balanced_accuracy, headline, log_losses
from hounsfield.evaluation.outcomes import Floats, Integers, Outcomes
from hounsfield.evaluation.scaling import (
    SCALINGS,
    Isotonic,
    Platt,
    Scaling,
    Temperature,
    Unscaled,
    logits_of,
    probabilities_of,
)
from hounsfield.tasks import TASKS, LabelTask, decide

RIDGE = 1e-3  # keeps separable validation cases from sending a slope to infinity
NUM_FOLDS = 5
# Patients needed before a scaling is considered: the isotonic curve pays from about a thousand on (Niculescu-Mizil,
# Caruana 2005, "Predicting good probabilities with supervised learning", figure 8), and even one number needs some.
LEAST_PATIENTS = {"temperature": 50, "platt": 200, "isotonic": 1000}
# Scalings that leave every decision of every task as it was, where the threshold is carried along.
DECISION_KEEPING = ("none", "temperature")


@dataclass(frozen=True, eq=False)
class ScalingChoice:
    """The scaling that was chosen, and what the others would have done.

    Attributes:
        scaling: fitted on all cases.
        losses: the log loss of each scaling that was considered, in cases left out of its fit.
        held_out: (n, K) the probabilities of each case under the chosen kind, fitted without the case's fold; what is
            measured on them is not flattered by the fit.
    """

    scaling: Scaling
    losses: dict[str, float]
    held_out: Floats


def fit_scaling(
    answers: Outcomes,
    *,
    groups: npt.ArrayLike | None = None,
    candidates: Sequence[str] = tuple(SCALINGS),
    threshold: float = 0.5,
    seed: int = 0,
) -> ScalingChoice:
    """Fit scalings on validation cases, and choose one there.

    Each is judged by its log loss in five folds of these cases, patients kept together. From the simplest to the most
    flexible, one takes the place of the one before only where it is better by more than a standard error of the
    difference, so noise alone does not change a network's output; of few patients the flexible ones are not fitted at
    all. In a binary task the threshold is carried along (:func:`carried_threshold`), and decisions stay; so they do
    under a temperature in any task. Other scalings can change decisions in tasks of several labels, and must besides
    leave neither accuracy nor balanced accuracy lower there.

    Args:
        answers: validation cases.
        groups: (n,) their patients.
        candidates: names in ``SCALINGS``.
        threshold: multi-label: what a score must exceed to be a yes, before and after.
        seed: of the folds.
    """
    of_case = make_clusters(answers.truth, groups).of_case
    chosen, held_out = Unscaled.name, answers.scores
    losses = {chosen: _case_losses(held_out, answers)}
    for name in SCALINGS:
        if name not in candidates or of_case.max() + 1 < LEAST_PATIENTS.get(name, np.inf):
            continue
        scores = _held_out(name, answers, of_case, seed)
        losses[name] = _case_losses(scores, answers)
        gain = losses[chosen] - losses[name]
        if gain.mean() > _standard_error(gain, of_case) and _decides_as_well(name, scores, answers, threshold):
            chosen, held_out = name, scores
    return ScalingChoice(FITS[chosen](answers), {name: float(each.mean()) for name, each in losses.items()}, held_out)


def carried_threshold(scaling: Scaling, threshold: float, task: LabelTask = "binary") -> float:
    """The threshold on calibrated probabilities that decides as ``threshold`` did before.

    In a multi-label task that is so of a temperature alone: under others each label would need a threshold of its own,
    and the one that there is stays. A multi-class decision has none.
    """
    traits = TASKS[task]
    if not traits.paired and not (traits.multi_label and scaling.name == "temperature"):
        return threshold
    return float(scaling.apply(np.array([[threshold]]), "binary")[0, 0])


def carried_thresholds(scaling: Scaling, threshold: float, num_labels: int) -> tuple[float, ...]:
    """The threshold of each label on calibrated probabilities that decides as one ``threshold`` did before."""
    apart = scaling.apply(np.full((1, num_labels), threshold), "multi-label")[0]
    return tuple(float(each) for each in apart)


def _held_out(name: str, answers: Outcomes, of_case: Integers, seed: int) -> Floats:
    """(n, K) scores of each case under a scaling that was fitted without its fold; unchanged for a lone patient."""
    count = min(NUM_FOLDS, int(of_case.max()) + 1)
    scores = answers.scores.astype(np.float64)
    if count < 2:
        return scores
    fold_of = (np.random.default_rng(seed).permutation(int(of_case.max()) + 1) % count)[of_case]
    for index in range(count):
        fold, others = np.flatnonzero(fold_of == index), np.flatnonzero(fold_of != index)
        scores[fold] = FITS[name](answers.take(others)).apply(answers.scores[fold], answers.task)
    return scores


def _standard_error(gain: Floats, of_case: Integers) -> float:
    """Of the mean of (n,) differences, the cases of one patient summed before they are squared."""
    sums = np.bincount(of_case, weights=gain - gain.mean())
    return float(np.sqrt(np.square(sums).sum()) / len(gain))


def _decides_as_well(name: str, scores: Floats, answers: Outcomes, threshold: float) -> bool:
    if answers.traits.paired or name in DECISION_KEEPING:
        return True
    before, after = (_accuracies(_rescored(answers, each, threshold)) for each in (answers.scores, scores))
    return bool((after >= before - 1e-12).all())


def _accuracies(answers: Outcomes) -> Floats:
    tally = Tally(answers, np.ones((len(answers), 1)))
    return np.array([headline(metric(tally))[0] for metric in (accuracy, balanced_accuracy)])


def _rescored(answers: Outcomes, scores: Floats, threshold: float) -> Outcomes:
    """The same cases with other probabilities, decided at a threshold or by the largest."""
    return replace(answers, scores=scores, decisions=decide(scores, answers.task, threshold))


def _fit_temperature(answers: Outcomes) -> Temperature:
    """The temperature with the least log loss, between 1/20 and 20."""
    logits = logits_of(answers.scores, answers.task)

    def loss(log_temperature: float) -> float:
        scores = probabilities_of(logits / np.exp(log_temperature), answers.task)
        return float(_case_losses(scores, answers).mean())

    found = optimize.minimize_scalar(loss, bounds=(-np.log(20), np.log(20)), method="bounded", options={"xatol": 1e-8})
    return Temperature(float(np.exp(found.x)))


def _fit_platt(answers: Outcomes) -> Platt:
    """Slopes and intercepts with the least log loss, held near 1 and 0 by a light ridge."""
    logits, truth = logits_of(answers.scores, answers.task), answers.truth.astype(np.float64)
    columns, count = logits.shape[1], len(logits)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        slopes, intercepts = parameters[:columns], parameters[columns:]
        scaled = probabilities_of(logits * slopes + intercepts, answers.task)
        value = float(_case_losses(scaled, answers).mean())
        value += RIDGE * float(np.sum((slopes - 1) ** 2) + np.sum(intercepts**2)) / 2
        residual = (scaled - truth) / count * (1.0 if answers.traits.exclusive else _label_shares(answers))
        gradient = np.concatenate([(residual * logits).sum(axis=0), residual.sum(axis=0)])
        return value, gradient + RIDGE * np.concatenate([slopes - 1, intercepts])

    start = np.concatenate([np.ones(columns), np.zeros(columns)])
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
    return Platt(tuple(map(float, found[:columns])), tuple(map(float, found[columns:])))


def _fit_isotonic(answers: Outcomes) -> Isotonic:
    """Pool adjacent violators in each column."""
    inputs, outputs = [], []
    for column in range(answers.truth.shape[1]):
        rows = answers.known_rows(column)
        if not len(rows):
            inputs.append((0.0, 1.0))
            outputs.append((0.0, 1.0))
            continue
        truth, scores = answers.truth[rows, column], answers.scores[rows, column]
        levels, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
        means = np.bincount(group, weights=truth) / counts
        fitted = np.asarray(optimize.isotonic_regression(means, weights=counts).x)
        edge = 0.5 / (len(truth) + 1)
        knots = _ends_of_steps(fitted)
        inputs.append(tuple(levels[knots].tolist()))
        outputs.append(tuple(np.clip(fitted[knots], edge, 1 - edge).tolist()))
    return Isotonic(tuple(inputs), tuple(outputs))


FITS: dict[str, Callable[[Outcomes], Scaling]] = {
    "none": lambda _: Unscaled(),
    "temperature": _fit_temperature,
    "platt": _fit_platt,
    "isotonic": _fit_isotonic,
}


def _case_losses(scores: Floats, answers: Outcomes) -> Floats:
    """(n,) log loss of each case, the mean over the labels of a multi-label task whose truth is known."""
    losses = log_losses(replace(answers, scores=scores))
    return np.asarray(losses.mean(axis=1) if answers.unknown is None else (losses * _label_shares(answers)).sum(axis=1))


def _label_shares(answers: Outcomes) -> Floats:
    """(n, K) the share of each label in the loss of its case: equal among those with a known truth."""
    known = answers.known.astype(np.float64)
    return np.asarray(known / np.maximum(known.sum(axis=1, keepdims=True), 1))


def _ends_of_steps(values: Floats) -> Integers:
    """The first and the last index of each run of equal values."""
    change = np.flatnonzero(np.diff(values) != 0)
    return np.unique(np.concatenate([[0], change, change + 1, [len(values) - 1]]))
