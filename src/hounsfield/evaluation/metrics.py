"""Every metric of classification, defined once, for many weighted replicates at a time.

A metric is a pure function of a ``Tally``: answers, and an array of case weights with one column a replicate. It
returns one row a question and one column a replicate. The headline figure is the mean over the questions for which
it is defined, so a multi-class sensitivity is the macro one-versus-rest and a multi-label figure the mean over labels.

Undefined is ``nan``, never an error: the AUC of a label that no case or every case has, the sensitivity without a
positive case, the PPV without a positive decision, Cohen's kappa when both sides always name the same one class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

from hounsfield.evaluation.intervals import Clusters
from hounsfield.evaluation.outcomes import (
    Booleans,
    Floats,
    Integers,
    Outcomes,
    as_outcomes,
)
from hounsfield.evaluation.scaling import SMALLEST
from hounsfield.tasks import LabelTask, num_labels

ECE_BINS = 10


class Tally:
    """Sums over the cases that several metrics share, for R replicates at once.

    Args:
        answers: n cases, K questions.
        weights: (n, R), how often each case counts in each replicate; whole or real, not negative.
        resampled: the weights are a bootstrap's, so chance came in twice: with the sample and with its resampling.
        clusters: the patient of each case; each its own where not given.
    """

    def __init__(
        self, answers: Outcomes, weights: Floats, *, resampled: bool = False, clusters: Clusters | None = None
    ) -> None:
        self.answers = answers
        self.weights = weights
        self.resampled = resampled
        self.clusters = clusters

    @cached_property
    def total(self) -> Floats:
        """(1, R): the weight of all cases; (K, R), of those with a known truth, where some are not known."""
        if self.answers.unknown is not None:
            return self.sums(self.answers.known)
        return np.asarray(self.weights.sum(axis=0, keepdims=True))

    @cached_property
    def positives(self) -> Floats:
        """(K, R): the weight of the cases that have the label."""
        return self.sums(self.answers.truth)

    @cached_property
    def called(self) -> Floats:
        """(K, R): the weight of the cases decided to have the label."""
        return self.sums(self.answers.decisions & self.answers.known)

    @cached_property
    def hits(self) -> Floats:
        """(K, R): the weight of the true positives."""
        return self.sums(self.answers.truth & self.answers.decisions)

    @cached_property
    def right(self) -> Floats:
        """The weight of the right decisions: (1, R) where one is made for each case, else (K, R)."""
        if self.answers.traits.exclusive:
            return np.asarray(self.hits.sum(axis=0, keepdims=True))
        return np.asarray(self.total - self.positives - self.called + 2 * self.hits)

    def sums(self, values: npt.NDArray[Any]) -> Floats:
        """Weighted sums over the cases of (n, J) values: (J, R)."""
        return np.asarray(values.astype(np.float64).T @ self.weights)

    def ranked(self, column: int) -> tuple[Floats, Floats]:
        """Weight of the positives and of all cases at each distinct score, highest first: two arrays (G, R)."""
        scores = self.answers.scores[:, column]
        truth = self.answers.truth[:, column]
        weights = self.weights
        if self.answers.unknown is not None:
            weights = weights * self.answers.known[:, column, None]
        if (np.diff(scores) > 0).any():
            order = np.argsort(-scores, kind="stable")
            scores, truth, weights = scores[order], truth[order], weights[order]
        positive = weights * truth[:, None]
        starts = np.flatnonzero(np.diff(scores, prepend=np.inf))
        if len(starts) == len(scores):
            return positive, weights
        return np.add.reduceat(positive, starts, axis=0), np.add.reduceat(weights, starts, axis=0)


def auc(tally: Tally) -> Floats:
    """Area under the ROC curve: how often a case scores above a non-case, ties counting half (Hanley, McNeil 1982)."""
    rows = []
    for column in range(tally.answers.truth.shape[1]):
        positive, every = tally.ranked(column)
        negative = every - positive
        wins = np.einsum("gr,gr->r", negative, np.cumsum(positive, axis=0) - positive / 2)
        rows.append(_ratio(wins, positive.sum(axis=0) * negative.sum(axis=0)))
    return np.stack(rows)


def average_precision(tally: Tally) -> Floats:
    """Precision averaged over the steps of recall, Σ (R_k − R_{k−1}) P_k, without interpolation."""
    rows = []
    for column in range(tally.answers.truth.shape[1]):
        positive, every = tally.ranked(column)
        steps = np.flatnonzero(positive.any(axis=1))
        if not len(steps):
            rows.append(np.full(every.shape[1], np.nan))
            continue
        gained = positive[steps]  # recall steps at these scores only, so what lies between is summed, not accumulated
        starts = np.append(0, steps[:-1] + 1)
        called = np.cumsum(np.add.reduceat(every[: steps[-1] + 1], starts, axis=0), axis=0)
        precision = _ratio(np.cumsum(gained, axis=0), called, otherwise=0.0)
        rows.append(_ratio(np.einsum("gr,gr->r", gained, precision), gained.sum(axis=0)))
    return np.stack(rows)


def sensitivity(tally: Tally) -> Floats:
    """True positives among the cases that have the label (recall)."""
    return _ratio(tally.hits, tally.positives)


def specificity(tally: Tally) -> Floats:
    """True negatives among the cases without the label."""
    return _ratio(tally.total - tally.positives - tally.called + tally.hits, tally.total - tally.positives)


def ppv(tally: Tally) -> Floats:
    """True positives among the positive decisions (precision); it holds for the prevalence of these data."""
    return _ratio(tally.hits, tally.called)


def npv(tally: Tally) -> Floats:
    """True negatives among the negative decisions; it holds for the prevalence of these data."""
    return _ratio(tally.total - tally.positives - tally.called + tally.hits, tally.total - tally.called)


def f1(tally: Tally) -> Floats:
    """Harmonic mean of sensitivity and PPV, 2 TP / (2 TP + FP + FN)."""
    return _ratio(2 * tally.hits, tally.positives + tally.called)


def accuracy(tally: Tally) -> Floats:
    """Right decisions among all; in a multi-label task for each label, so its headline is the mean over labels."""
    return _ratio(tally.right, tally.total)


def balanced_accuracy(tally: Tally) -> Floats:
    """Mean of the sensitivities of all classes; of sensitivity and specificity for each yes-or-no question."""
    if tally.answers.traits.exclusive:
        return _defined_mean(sensitivity(tally))[None]
    return np.asarray((sensitivity(tally) + specificity(tally)) / 2)


def kappa(tally: Tally) -> Floats:
    """Agreement beyond chance (Cohen 1960)."""
    if tally.answers.traits.exclusive:
        chance = _ratio((tally.positives * tally.called).sum(axis=0, keepdims=True), tally.total)
    else:
        negative, left = tally.total - tally.positives, tally.total - tally.called
        chance = _ratio(tally.positives * tally.called + negative * left, tally.total)
    return _ratio(tally.right - chance, tally.total - chance)


def brier(tally: Tally) -> Floats:
    """Mean squared error of the probabilities (Brier 1950); in a multi-class task summed over the classes, 0 to 2."""
    return _ratio(tally.sums(brier_losses(tally.answers)), tally.total)


def log_loss(tally: Tally) -> Floats:
    """Mean negative natural logarithm of the probability given to what was true."""
    return _ratio(tally.sums(log_losses(tally.answers)), tally.total)


def ece(tally: Tally) -> Floats:
    """Expected calibration error in ten bins of equal mass, debiased; of the decided class in a multi-class task.

    The mean over bins of |observed frequency − mean probability| is too large even for perfect probabilities,
    because each bin's frequency is noisy. The expected excess, from the folded normal distribution, is subtracted
    (Kumar, Liang, Ma 2019, "Verified uncertainty calibration", appendix D), with the noise of patients of whom several
    similar cases are judged. What is left can be just below 0, which is reported as 0.
    """
    noise = 2.0 if tally.resampled else 1.0
    answers, found = tally.answers, []
    for column in range(answers.outcome.shape[1]):
        rows = slice(None) if answers.unknown is None else answers.known_rows(column)
        probability, outcome = answers.confidence[rows, column], answers.outcome[rows, column]
        if len(outcome):
            effect = _design_effect(probability, outcome, tally.clusters, rows)
            bins = calibration_bins(probability, outcome, tally.weights[rows])
            found.append(debiased_ece(*bins, noise=noise * effect))
        else:
            found.append(np.full(tally.weights.shape[1], np.nan))
    return np.stack(found)


def _design_effect(probability: Floats, outcome: Booleans, clusters: Clusters | None, rows: slice | Integers) -> float:
    """By how much similar cases of a patient raise the variance of a bin's frequency, at least 1 (Kish 1965)."""
    if clusters is None or clusters.single:
        return 1.0
    bins = equal_mass_bins(probability, ECE_BINS)
    residual = outcome - (np.bincount(bins, outcome) / np.maximum(np.bincount(bins), 1))[bins]
    together = np.unique(np.stack([clusters.of_case[rows], bins]), axis=1, return_inverse=True)[1]
    total = float(np.sum(residual**2))
    return max(float(np.sum(np.bincount(together.ravel(), residual) ** 2)) / total, 1.0) if total > 0 else 1.0


def brier_losses(answers: Outcomes) -> Floats:
    """The Brier loss of each case: (n, 1), in a multi-label task (n, K), 0 where the truth is not known."""
    losses = np.square(answers.scores - answers.truth) * answers.known
    return losses.sum(axis=1, keepdims=True) if answers.traits.exclusive else losses


def log_losses(answers: Outcomes) -> Floats:
    """The logarithmic loss of each case: (n, 1), in a multi-label task (n, K), 0 where the truth is not known."""
    scores = np.clip(answers.scores, SMALLEST, 1 - SMALLEST)
    if answers.traits.exclusive:
        return -np.log(scores[answers.truth])[:, None]
    return -np.log(np.where(answers.truth, scores, 1 - scores)) * answers.known


def equal_mass_bins(scores: Floats, num_bins: int, weights: Floats | None = None) -> Integers:
    """The bin of each case: bins of equal weight in the order of the scores, equal scores together.

    Args:
        scores: (n,).
        num_bins: how many bins at most; ties can leave some empty.
        weights: (n,) case weights, by default one each.
    """
    _, group = np.unique(scores, return_inverse=True)
    mass = np.bincount(group, weights=weights).astype(np.float64)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    return np.asarray(np.minimum((middle * num_bins).astype(np.int64), num_bins - 1)[group])


def calibration_bins(
    probability: Floats, outcome: Booleans, weights: Floats, num_bins: int = ECE_BINS
) -> tuple[Floats, Floats, Floats]:
    """Weight, summed outcome and summed probability of each bin and replicate: three arrays (bins, R).

    For one column of weights the bins have equal weight, for several equal numbers of cases, so that they are the same
    in every replicate.
    """
    bins = equal_mass_bins(probability, num_bins, weights[:, 0] if weights.shape[1] == 1 else None)
    rows = np.arange(len(probability))
    shape = (num_bins, len(probability))
    parts = (np.ones(len(probability)), outcome.astype(np.float64), probability)
    mass, events, expected = (
        np.asarray(sparse.csr_array((part, (bins, rows)), shape=shape) @ weights) for part in parts
    )
    return mass, events, expected


def debiased_ece(mass: Floats, events: Floats, expected: Floats, *, noise: float = 1.0) -> Floats:
    """The debiased expected calibration error from the sums of ``calibration_bins``: (R,).

    Args:
        mass: (bins, R) weight of the cases.
        events: (bins, R) weight of those that came true.
        expected: (bins, R) weighted sum of the probabilities.
        noise: by how much a frequency's variance exceeds the binomial one: 2 in a bootstrap replicate.
    """
    frequency = _ratio(events, mass, otherwise=0.0)
    gap = np.abs(frequency - _ratio(expected, mass, otherwise=0.0))
    error = np.sqrt(noise * _ratio(frequency * (1 - frequency), mass, otherwise=0.0))
    standardised = _ratio(gap, error, otherwise=0.0)
    folded = error * np.sqrt(2 / np.pi) * np.exp(-(standardised**2) / 2) + gap * (1 - 2 * stats.norm.cdf(-standardised))
    excess = np.where(error > 0, folded - gap, 0.0)
    return _ratio(((gap - excess) * mass).sum(axis=0), mass.sum(axis=0))


@dataclass(frozen=True)
class Metric:
    """One metric: its name for people, its function, and the values that it can take.

    Attributes:
        title: how a table or a figure calls it.
        compute: the function of a tally.
        low: the least possible value; ``high`` the greatest.
        better: whether larger or smaller is better.
        of: whose number the estimate rests on, for its ``n``.
        per_label: whether a multi-class task reports it for each class too.
    """

    title: str
    compute: Callable[[Tally], Floats]
    low: float = 0.0
    high: float = 1.0
    better: str = "larger"
    of: str = "all"
    per_label: bool = False

    def __call__(
        self,
        y_true: npt.ArrayLike,
        y_score: npt.ArrayLike,
        *,
        task: LabelTask = "binary",
        threshold: float = 0.5,
        weights: npt.ArrayLike | None = None,
    ) -> float:
        """The headline value for truths and scores as ``as_outcomes`` takes them, with optional (n,) case weights."""
        width = np.shape(y_score)[1] if np.ndim(y_score) == 2 else 1
        names = [str(index) for index in range(num_labels(width, task))]
        answers = as_outcomes(y_true, y_score, labels=names, task=task, threshold=threshold)
        counted = np.ones(len(answers)) if weights is None else np.asarray(weights, dtype=np.float64)
        kept = np.flatnonzero(counted > 0)
        value = float(headline(self.compute(Tally(answers.take(kept), counted[kept, None])))[0])
        return self.clip(value)

    def clip(self, value: float) -> float:
        """The nearest value that the metric can take; ``nan`` stays."""
        return min(max(value, self.low), self.high) if math.isfinite(value) else value


METRICS: dict[str, Metric] = {
    "auc": Metric("AUC", auc, per_label=True),
    "average_precision": Metric("Average precision", average_precision, per_label=True),
    "accuracy": Metric("Accuracy", accuracy),
    "balanced_accuracy": Metric("Balanced accuracy", balanced_accuracy),
    "sensitivity": Metric("Sensitivity", sensitivity, of="positives", per_label=True),
    "specificity": Metric("Specificity", specificity, of="negatives", per_label=True),
    "ppv": Metric("PPV", ppv, of="called", per_label=True),
    "npv": Metric("NPV", npv, of="left", per_label=True),
    "f1": Metric("F1", f1, per_label=True),
    "kappa": Metric("Cohen's kappa", kappa, low=-1.0),
    "brier": Metric("Brier score", brier, high=2.0, better="smaller"),
    "log_loss": Metric("Log loss", log_loss, high=np.inf, better="smaller"),
    "ece": Metric("Calibration error (ECE)", ece, better="smaller"),
}


def headline(values: Floats) -> Floats:
    """The mean over the questions for which a metric is defined: (K, R) → (R,)."""
    return _defined_mean(values)


def _defined_mean(values: Floats) -> Floats:
    defined = np.isfinite(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0).astype(np.float64))


def _ratio(numerator: Floats, denominator: Floats, otherwise: float = np.nan) -> Floats:
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    result = np.full(denominator.shape, otherwise)
    return np.asarray(np.divide(numerator, denominator, out=result, where=denominator > 0))
