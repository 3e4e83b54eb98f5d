"""The variance of AUC without resampling (DeLong), by patient (Obuchowski), and the difference of two AUCs.

All of it rests on one array: the influence of each case on the AUC. Summed within patients and squared, it is the
variance; averaged over labels, it serves the macro AUC; subtracted, the difference of two networks on one test.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from hounsfield.evaluation.gaps import difference_interval
from hounsfield.evaluation.intervals import Clusters, Interval, make_clusters, renumbered
from hounsfield.evaluation.outcomes import Booleans, Floats


class Difference(NamedTuple):
    """A difference of two figures of the same cases, its interval, and the p-value of no difference."""

    value: float
    low: float
    high: float
    p_value: float


def auc_influence(truth: Booleans, scores: Floats, clusters: Clusters) -> tuple[float, Floats]:
    """The AUC and the influence of each case on it.

    DeLong, DeLong, Clarke-Pearson 1988 give the structural components; midranks find them in O(n log n) (Sun, Xu
    2014). Each class's part is scaled by √(m/(m−1)), m the number of clusters that hold the class, so that the sum
    of squares is DeLong's variance for single cases. For clustered ones it is Obuchowski's (1997), but that the
    covariance of the two parts is scaled by both their factors and not by that of all clusters.

    Args:
        truth: (n,) with at least one case of each kind.
        scores: (n,).
        clusters: the patient of each case.

    Returns:
        The AUC, and (n,) influences that sum to 0.
    """
    positive, negative = np.flatnonzero(truth), np.flatnonzero(~truth)
    ranks = stats.rankdata(scores)
    above = (ranks[positive] - stats.rankdata(scores[positive])) / len(negative)
    below = 1 - (ranks[negative] - stats.rankdata(scores[negative])) / len(positive)
    value = float(above.mean())
    influence = np.zeros(len(truth))
    influence[positive] = (above - value) / len(positive) * _small_sample(positive, clusters)
    influence[negative] = (below - value) / len(negative) * _small_sample(negative, clusters)
    return value, influence


def _small_sample(rows: np.ndarray, clusters: Clusters) -> float:
    count = renumbered(clusters.of_case[rows])[1]
    return float(np.sqrt(count / (count - 1))) if count > 1 else 1.0


def influence_variance(influence: Floats, clusters: Clusters) -> float:
    """The variance of a figure from the (n,) influences of its cases, cases of one patient together."""
    return float(np.sum(clusters.sums(influence[:, None]) ** 2))


def auc_interval(
    truth: Booleans, scores: Floats, clusters: Clusters, *, known: Booleans | None = None, confidence: float = 0.95
) -> Interval:
    """The interval of the AUC, or of the mean AUC over the columns, on the logit scale; see :func:`auc_estimate`."""
    return auc_estimate(truth, scores, clusters, known=known, confidence=confidence)[1]


def auc_estimate(
    truth: Booleans, scores: Floats, clusters: Clusters, *, known: Booleans | None = None, confidence: float = 0.95
) -> tuple[float, Interval]:
    """The AUC, or the mean AUC over the columns, and its interval on the logit scale.

    Args:
        truth: (n, K); columns without both kinds of case are left out.
        scores: (n, K).
        clusters: the patient of each case.
        known: (n, K) the cases that count in each column; all where not given.
        confidence: the nominal coverage.
    """
    negative = ~truth if known is None else known & ~truth
    columns = _rankable(truth, negative)
    if not columns:
        return np.nan, Interval(np.nan, np.nan)
    value, influence = _mean_influence(truth, negative, scores, columns, clusters)
    variance = influence_variance(influence, clusters)
    positives, negatives = _patients(truth, negative, columns, clusters)
    if variance <= 0 or not 0 < value < 1 or (not clusters.single and min(positives, negatives) < 2):
        return value, hanley_interval(value, positives, negatives, confidence=confidence)
    quantile = stats.t.ppf((1 + confidence) / 2, max(min(positives, negatives) - 1, 1.0))
    centre, half = np.log(value / (1 - value)), quantile * np.sqrt(variance) / (value * (1 - value))
    return value, Interval(*(float(1 / (1 + np.exp(-end))) for end in (centre - half, centre + half)))


def _rankable(truth: Booleans, negative: Booleans) -> list[int]:
    """The columns that hold both kinds of case."""
    return np.flatnonzero(truth.any(axis=0) & negative.any(axis=0)).tolist()


def _mean_influence(
    truth: Booleans, negative: Booleans, scores: Floats, columns: list[int], clusters: Clusters
) -> tuple[float, Floats]:
    found = []
    for column in columns:
        rows = np.flatnonzero(truth[:, column] | negative[:, column])
        part = Clusters(clusters.of_case[rows], clusters.stratum)
        value, among = auc_influence(truth[rows, column], scores[rows, column], part)
        influence = np.zeros(len(truth))
        influence[rows] = among
        found.append((value, influence))
    return float(np.mean([value for value, _ in found])), np.mean([influence for _, influence in found], axis=0)


def _patients(truth: Booleans, negative: Booleans, columns: list[int], clusters: Clusters) -> tuple[float, float]:
    """How many patients have cases with a label, and without it, on average over the columns."""
    positives = [renumbered(clusters.of_case[truth[:, column]])[1] for column in columns]
    negatives = [renumbered(clusters.of_case[negative[:, column]])[1] for column in columns]
    return float(np.mean(positives)), float(np.mean(negatives))


def hanley_interval(value: float, positives: float, negatives: float, *, confidence: float = 0.95) -> Interval:
    """The score-type interval from the AUC alone, which stays wide at 0 and 1 (Newcombe 2006, method 5).

    It holds the values whose standard error by Hanley and McNeil (1982), in Newcombe's symmetric form, puts them
    within the normal quantile of ``value``.
    """
    z = float(stats.norm.ppf((1 + confidence) / 2))
    grid = np.linspace(0, 1, 20_001)[1:-1]
    half = (positives + negatives) / 2 - 1
    spread = grid * (1 - grid) * (1 + half * (1 - grid) / (2 - grid) + half * grid / (1 + grid))
    inside = grid[np.abs(value - grid) <= z * np.sqrt(spread / (positives * negatives))]
    low = 0.0 if value <= 0 else float(inside.min(initial=value))
    high = 1.0 if value >= 1 else float(inside.max(initial=value))
    return Interval(low, high)


def auc_difference(
    truth: Booleans,
    first: Floats,
    second: Floats,
    clusters: Clusters | None = None,
    *,
    known: Booleans | None = None,
    confidence: float = 0.95,
) -> Difference:
    """AUC of the second scores minus that of the first, on the same cases (DeLong et al. 1988).

    Where no variance can be seen, as between an AUC of 1 and one of .5 of equal scores, the two are taken for
    independent and their intervals of :func:`hanley_interval` are combined, which is too wide rather than of no width.

    Args:
        truth: (n,) or (n, K); the difference is of the mean over the columns that hold both kinds of case, ``nan`` if
            none does.
        first: scores of one network, of the shape of ``truth``.
        second: scores of the other.
        clusters: the patient of each case; ``None`` for one case a patient.
        known: of the shape of ``truth``, the cases that count; all where not given.
        confidence: the nominal coverage of the interval.
    """
    count = len(truth)
    truth, first, second = truth.reshape(count, -1), first.reshape(count, -1), second.reshape(count, -1)
    clusters = clusters or make_clusters(truth)
    negative = ~truth if known is None else known.reshape(count, -1) & ~truth
    columns = _rankable(truth, negative)
    if not columns:
        return Difference(np.nan, np.nan, np.nan, np.nan)
    before, first_influence = _mean_influence(truth, negative, first, columns, clusters)
    after, second_influence = _mean_influence(truth, negative, second, columns, clusters)
    error = float(np.sqrt(influence_variance(second_influence - first_influence, clusters)))
    value = after - before
    z = float(stats.norm.ppf((1 + confidence) / 2))
    low, high = value - z * error, value + z * error
    if error == 0:
        if np.array_equal(first, second) or (value == 0 and first_influence.any()):  # one ranking
            return Difference(0.0, 0.0, 0.0, 1.0)
        sizes = _patients(truth, negative, columns, clusters)
        ends = [hanley_interval(each, *sizes, confidence=confidence) for each in (after, before)]
        low, high = difference_interval(after, ends[0], before, ends[1])
        error = (value - low if value > 0 else high - value) / z
    return Difference(value, max(-1.0, low), min(1.0, high), float(2 * stats.norm.sf(abs(value) / error)))
