"""Bootstrap by patient, vectorised over replicates through case weights; percentile and BCa intervals.

A replicate is not a copy of the data but a column of weights: how often each patient was drawn. The statistic gets
(n, R) weights and answers for R replicates at once, so memory is bounded by the chunk and sorting is done once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.outcomes import Booleans, Floats, Integers

Sampling = Literal["cohort", "case-control"]
Statistic = Callable[[Floats], Floats]  # weights (n, R) -> values (J, R)

CHUNK_ELEMENTS = 3_200_000  # float64 weights held at once: 26 MB, small enough for the allocator to reuse
JACKKNIFE_GROUPS = 400
MAX_REDRAWS = 1_000
FLAT = 1e-12  # replicates that differ by less differ by rounding alone


class Interval(NamedTuple):
    """The two ends of a confidence interval; ``nan`` where it is undefined."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which cases are drawn together (one patient's), and the stratum that each cluster belongs to.

    Attributes:
        of_case: (n,) cluster index of each case.
        stratum: (G,) stratum index of each cluster.
    """

    of_case: Integers
    stratum: Integers

    def __len__(self) -> int:
        return len(self.stratum)

    @property
    def single(self) -> bool:
        """Whether every case is its own cluster."""
        return len(self.stratum) == len(self.of_case)

    def sums(self, values: Floats) -> Floats:
        """Sum (n, J) values of the cases within each cluster: (G, J)."""
        totals = np.empty((len(self), values.shape[1]))
        for index, column in enumerate(values.T):
            totals[:, index] = np.bincount(self.of_case, weights=column, minlength=len(self))
        return totals


def make_clusters(truth: Booleans, groups: npt.ArrayLike | None = None) -> Clusters:
    """Group cases by patient, each patient in the stratum of the rarest label among its cases.

    Args:
        truth: (n, K) labels.
        groups: (n,) patient of each case; ``None`` for one case a patient. A missing value is a patient of its own.

    Raises:
        EvaluationError: there is not one group a case.
    """
    of_case = np.arange(len(truth)) if groups is None else _group_indices(groups, len(truth))
    count = int(of_case.max()) + 1
    columns = np.column_stack([truth, ~truth]) if truth.shape[1] == 1 else truth
    frequency = columns.sum(axis=0)
    stratum = np.full(count, columns.shape[1])
    for column in np.argsort(-frequency, kind="stable"):
        stratum[of_case[columns[:, column]]] = column
    return Clusters(of_case, np.unique(stratum, return_inverse=True)[1])


def renumbered(codes: Integers) -> tuple[Integers, int]:
    """Whole numbers from 0 renumbered without gaps in their order, and how many there are."""
    used = np.zeros(int(codes.max(initial=-1)) + 1, dtype=bool)
    used[codes] = True
    return (np.cumsum(used) - 1)[codes], int(used.sum())


def _group_indices(groups: npt.ArrayLike, num_cases: int) -> Integers:
    values = pd.Series(np.asarray(groups, dtype=object))
    if len(values) != num_cases:
        raise EvaluationError(
            f"There are {len(values):,} patients for {num_cases:,} cases; one a case is needed. Check that both come "
            "from the same table."
        )
    codes, known = pd.factorize(values)
    unknown = codes < 0
    codes = codes.astype(np.int64)
    codes[unknown] = len(known) + np.arange(int(unknown.sum()))
    return codes


def resampled_weights(
    clusters: Clusters, truth: Booleans, num_replicates: int, *, seed: int = 0, sampling: Sampling = "cohort"
) -> Iterator[Floats]:
    """Yield (n, r) weights of bootstrap replicates, chunk after chunk.

    Args:
        clusters: what is drawn.
        truth: (n, K) labels; each column that holds both cases and non-cases does so in every replicate.
        num_replicates: how many in all.
        seed: the same seed gives the same weights.
        sampling: ``"cohort"``: patients were sampled as they came, so the number of each label varies and a replicate
            without one of the labels is drawn again. ``"case-control"``: the number of patients of each stratum was
            fixed by design, and stays fixed in every replicate.
    """
    generator = np.random.default_rng(seed)
    spare = np.random.default_rng((seed, 1))
    both = truth.any(axis=0) & ~truth.all(axis=0)
    indicators = np.column_stack([truth[:, both], ~truth[:, both]]).astype(np.float64)
    chunk = max(1, CHUNK_ELEMENTS // len(truth))
    for start in range(0, num_replicates, chunk):
        drawn = _draw(clusters, min(chunk, num_replicates - start), generator, sampling)
        present = clusters.sums(indicators) > 0
        yield _expand(clusters, _redraw_empty(drawn, present, clusters, spare, sampling))


def _draw(clusters: Clusters, count: int, generator: np.random.Generator, sampling: Sampling) -> Floats:
    """(count, G) multiplicities of the clusters."""
    if sampling == "cohort":
        draws = generator.integers(0, len(clusters), (count, len(clusters)), dtype=np.int32)
        return _multiplicities(draws, len(clusters))
    drawn = np.zeros((count, len(clusters)))
    for stratum in range(int(clusters.stratum.max()) + 1):
        members = np.flatnonzero(clusters.stratum == stratum)
        draws = generator.integers(0, len(members), (count, len(members)), dtype=np.int32)
        drawn[:, members] = _multiplicities(draws, len(members))
    return drawn


def _multiplicities(draws: npt.NDArray[np.int32], size: int) -> Floats:
    counted = np.empty(draws.shape)
    for row, values in enumerate(draws):
        counted[row] = np.bincount(values, minlength=size)
    return counted


def _redraw_empty(
    drawn: Floats, present: Booleans, clusters: Clusters, spare: np.random.Generator, sampling: Sampling
) -> Floats:
    """Draw again every replicate in which an indicator that the data hold has no case."""
    for _ in range(MAX_REDRAWS):
        empty = np.flatnonzero((drawn @ present.astype(np.float64) == 0).any(axis=1))
        if not len(empty):
            break
        drawn[empty] = _draw(clusters, len(empty), spare, sampling)
    return drawn


def _expand(clusters: Clusters, drawn: Floats) -> Floats:
    by_cluster = np.ascontiguousarray(drawn.T)
    if clusters.single and (np.diff(clusters.of_case) == 1).all():
        return by_cluster
    return by_cluster[clusters.of_case]


def bootstrap(
    statistic: Statistic,
    clusters: Clusters,
    truth: Booleans,
    *,
    num_replicates: int = 2000,
    seed: int = 0,
    sampling: Sampling = "cohort",
) -> Floats:
    """The values of a statistic in every replicate: (J, replicates)."""
    weights = resampled_weights(clusters, truth, num_replicates, seed=seed, sampling=sampling)
    return np.concatenate([statistic(chunk) for chunk in weights], axis=1)


def jackknife(statistic: Statistic, clusters: Clusters, *, seed: int = 0) -> Floats:
    """The values of a statistic without one cluster, or without one of 400 random groups of clusters: (J, groups)."""
    count = min(len(clusters), JACKKNIFE_GROUPS)
    group = np.random.default_rng(seed).permutation(len(clusters)) % count
    left_out = group[clusters.of_case]
    chunk = max(1, CHUNK_ELEMENTS // len(clusters.of_case))
    values = []
    for start in range(0, count, chunk):
        ids = np.arange(start, min(start + chunk, count))
        values.append(statistic((left_out[:, None] != ids).astype(np.float64)))
    return np.concatenate(values, axis=1)


def vary(replicates: Floats) -> bool:
    """Whether (R,) replicates differ by more than rounding; where they do not, they tell nothing of a spread."""
    defined = replicates[np.isfinite(replicates)]
    return len(defined) > 0 and float(np.ptp(defined)) > FLAT


def percentile_interval(replicates: Floats, *, confidence: float = 0.95) -> Interval:
    """The interval between two quantiles of (R,) replicates; undefined replicates are left out."""
    tail = (1 - confidence) / 2
    return _quantiles(replicates, tail, 1 - tail)


def recentred_interval(value: float, replicates: Floats, *, confidence: float = 0.95) -> Interval:
    """The percentile interval moved so that the replicates' median is the value.

    For a statistic that is an absolute deviation, whose replicates all lie too high, and which BCa over-corrects.
    """
    low, high = percentile_interval(replicates, confidence=confidence)
    shift = value - percentile_interval(replicates, confidence=0.0).low
    return Interval(low + shift, high + shift)


def bca_interval(value: float, replicates: Floats, left_out: Floats, *, confidence: float = 0.95) -> Interval:
    """The bias-corrected and accelerated interval, widened for small samples.

    BCa: Efron 1987; Efron, Tibshirani 1993, section 14.3. The bootstrap's spread is too small where few cases carry
    a figure; its quantiles are moved outwards from Φ(z) to Φ(t) (after Hesterberg 2015, "What teachers should know
    about the bootstrap"), with the degrees of freedom that the jackknife's own variance has (Satterthwaite).

    Args:
        value: the statistic on the data.
        replicates: (R,) its bootstrap replicates; undefined ones are left out.
        left_out: (G,) its jackknife values.
        confidence: the nominal coverage.
    """
    replicates = replicates[np.isfinite(replicates)]
    deviations = left_out[np.isfinite(left_out)]
    if not math.isfinite(value) or not len(replicates) or not len(deviations):
        return Interval(math.nan, math.nan)
    deviations = deviations.mean() - deviations
    tail = _widened_tail(confidence, deviations)
    below = (np.mean(replicates < value) + np.mean(replicates <= value)) / 2
    if not 0 < below < 1:
        return _quantiles(replicates, tail, 1 - tail)
    bias = stats.norm.ppf(below)
    spread = np.sum(deviations**2) ** 1.5
    acceleration = np.sum(deviations**3) / (6 * spread) if spread > 0 else 0.0
    ends = bias + stats.norm.ppf([tail, 1 - tail])
    low, high = stats.norm.cdf(bias + ends / np.maximum(1 - acceleration * ends, 1e-3))
    return _quantiles(replicates, float(low), float(high))


def degrees_of_freedom(deviations: Floats) -> float:
    """The degrees of freedom 2V²/Var(V) of a variance V = Σd² (Satterthwaite), at least 2; infinite without noise."""
    squares = np.sum(deviations**2)
    noise = np.sum(deviations**4) - squares**2 / len(deviations)
    return float(max(2 * squares**2 / noise, 2.0)) if squares > 0 and noise > 0 else math.inf


def student_interval(value: float, deviations: Floats, *, confidence: float = 0.95) -> Interval:
    """Student's interval of a figure whose variance is the sum of the squared deviations of the patients."""
    half = float(stats.t.ppf((1 + confidence) / 2, degrees_of_freedom(deviations)) * np.sqrt(np.sum(deviations**2)))
    return Interval(value - half, value + half)


def logit_interval(value: float, left_out: Floats, *, confidence: float = 0.95) -> Interval:
    """Student's interval of a mean between 0 and 1 on the logit scale, with the variance of the jackknife.

    Skewed means of few patients are covered better than by a bootstrap: the ends stay within the range, and lie further
    on the side of the long tail.

    Args:
        value: strictly between 0 and 1.
        left_out: (G,) its jackknife values; undefined ones are left out.
        confidence: the nominal coverage.
    """
    known = left_out[np.isfinite(left_out)]
    deviations = (known - known.mean()) * math.sqrt((len(known) - 1) / len(known)) / (value * (1 - value))
    middle = math.log(value / (1 - value))
    ends = student_interval(middle, deviations, confidence=confidence)
    return Interval(*(1 / (1 + math.exp(-end)) for end in ends))


def _widened_tail(confidence: float, deviations: Floats) -> float:
    """The tail probability that makes up for the degrees of freedom of the jackknife's variance."""
    return float(stats.norm.cdf(stats.t.ppf((1 - confidence) / 2, degrees_of_freedom(deviations))))


def _quantiles(replicates: Floats, low: float, high: float) -> Interval:
    defined = replicates[np.isfinite(replicates)]
    if not len(defined):
        return Interval(math.nan, math.nan)
    return Interval(*(float(value) for value in np.quantile(defined, [low, high])))
