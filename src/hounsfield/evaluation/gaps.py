"""Is a group treated differently from other cases? One permutation test for every figure, and gaps with intervals.

Each figure compares a mean over the group's cases with that over the others: of the decisions for sensitivity and
specificity, of ranks for scores, of placements for AUC, of residuals for calibration. Where a group is treated like
the others, the values are exchangeable between patients, and the moments of the comparison under all permutations are
known in closed form: nothing is resampled, and a group without a single error has no variance of zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from hounsfield.evaluation.intervals import Clusters, Interval, renumbered
from hounsfield.evaluation.outcomes import Booleans, Floats, Integers

LEAST_SKEW = 1e-3


class Contrast(NamedTuple):
    """A difference of means between a group and other cases.

    Attributes:
        value: mean in the group minus mean in the others.
        error: its standard deviation if the group were like the others.
        p_value: two-sided, of that.
    """

    value: float
    error: float
    p_value: float


@dataclass(frozen=True, eq=False)
class Comparable:
    """Values that are exchangeable between patients where groups are treated alike.

    Attributes:
        values: (n,) what is averaged.
        stratum: (n,) within which values are exchangeable, from 0; −1 for a case that does not take part.
        summed: whether the differences of the strata add up (AUC has one for cases and one for non-cases) or are
            averaged, each with the weight that makes the average most precise (Mantel, Haenszel 1959).
    """

    values: Floats
    stratum: Integers
    summed: bool = False


def contrast(comparable: Comparable, group: Booleans, of_case: Integers) -> Contrast:
    """Compare a group with the other cases.

    The cases of a patient that lie on one side make one unit. A unit's sum is scaled by its standard deviation, n(1 +
    (n − 1)ρ) with the correlation ρ of one patient's cases, then Σ a z has the moments of a linear permutation
    statistic (Hájek, Šidák, Sen 1999, "Theory of rank tests", section 3.3); its tail is Pearson's type III with the
    skewness of that statistic (Mielke, Berry 2007, "Permutation methods", section 2.3), or the normal where that is
    wider.

    Args:
        comparable: values and strata.
        group: (n,) whether a case belongs to the group.
        of_case: (n,) the patient of each case.

    Returns:
        The difference; ``nan`` where no stratum has cases on both sides.
    """
    part = _both_sides(comparable, group)
    if not part.any():
        return Contrast(math.nan, math.nan, math.nan)
    values, group, of_case = comparable.values[part], group[part], of_case[part]
    stratum, _ = renumbered(comparable.stratum[part])
    sizes, inside = np.bincount(stratum), np.bincount(stratum, weights=group)
    harmonic = inside * (sizes - inside) / sizes
    scale = 1 / harmonic if comparable.summed else np.full(len(sizes), 1 / harmonic.sum())
    residual = values - (np.bincount(stratum, weights=values) / sizes)[stratum]
    units = _units(of_case, group, stratum)
    sums = np.asarray(np.bincount(units.of_case, weights=residual), dtype=np.float64)
    weight = (units.inside - (inside / sizes)[units.stratum]) * scale[units.stratum]
    spread = np.sqrt(units.size * (1 + (units.size - 1) * _correlation(residual, sums, units.size)))
    value = float(np.sum(weight * sums))
    mean, variance, third = _moments(weight * spread, sums / spread, units.stratum)
    variance, third = _between_strata(weight * sums, units, variance, third)
    if variance <= 0:
        return Contrast(value, 0.0, 1.0)
    error = math.sqrt(variance)
    return Contrast(value, error, tail((value - mean) / error, third / variance**1.5))


def _both_sides(comparable: Comparable, group: Booleans) -> Booleans:
    """(n,) whether a case's stratum has cases of the group and others."""
    taking = comparable.stratum >= 0
    count = int(comparable.stratum.max(initial=-1)) + 1
    if count == 0:
        return np.zeros(len(group), dtype=bool)
    inside = np.bincount(comparable.stratum[taking & group], minlength=count)
    outside = np.bincount(comparable.stratum[taking & ~group], minlength=count)
    return np.asarray(taking & ((inside > 0) & (outside > 0))[comparable.stratum])


@dataclass(frozen=True, eq=False)
class _Units:
    """What is permuted: one patient's cases of one stratum on one side."""

    of_case: Integers
    size: Floats
    inside: Floats
    stratum: Integers
    block: Integers  # patient and side, whatever the stratum


def _units(of_case: Integers, group: Booleans, stratum: Integers) -> _Units:
    block = 2 * renumbered(of_case)[0] + group
    codes, count = renumbered(block * (int(stratum.max()) + 1) + stratum)
    one = np.empty(count, dtype=np.int64)
    one[codes] = np.arange(len(codes))
    size = np.bincount(codes, minlength=count).astype(np.float64)
    return _Units(codes, size, group[one].astype(np.float64), stratum[one], block[one])


def _correlation(residual: Floats, sums: Floats, size: Floats) -> float:
    """The correlation of two cases of one unit, from 0 to 1."""
    pairs = float(np.sum(size * (size - 1)))
    variance = float(np.mean(residual**2))
    if pairs == 0 or variance == 0:
        return 0.0
    return float(np.clip((np.sum(sums**2) - np.sum(residual**2)) / pairs / variance, 0.0, 1.0))


def _moments(slots: Floats, values: Floats, stratum: Integers) -> tuple[float, float, float]:
    """Mean, variance and third cumulant of Σ aᵢ z_π(i) over all permutations π within strata."""
    count = np.bincount(stratum).astype(np.float64)

    def central(x: Floats) -> tuple[Floats, Floats, Floats]:
        mean = np.bincount(stratum, weights=x) / count
        deviation = x - mean[stratum]
        powers = (deviation * deviation, deviation * deviation * deviation)
        square, cube = (np.asarray(np.bincount(stratum, weights=power), dtype=np.float64) for power in powers)
        return np.asarray(mean), square, cube

    (slot_mean, slot_square, slot_cube), (mean, square, cube) = central(slots), central(values)
    variance = slot_square * square / np.maximum(count - 1, 1)
    third = np.where(count > 2, count * slot_cube * cube / np.maximum((count - 1) * (count - 2), 1), 0.0)
    return float(np.sum(count * slot_mean * mean)), float(variance.sum()), float(third.sum())


def _between_strata(parts: Floats, units: _Units, variance: float, third: float) -> tuple[float, float]:
    """Widen the moments where one patient has units in several strata, which are not independent of each other."""
    mean = np.bincount(units.stratum, weights=parts) / np.bincount(units.stratum)
    centred = parts - mean[units.stratum]
    alone = float(np.sum(centred**2))
    together = float(np.sum(np.bincount(units.block, weights=centred) ** 2))
    effect = max(1.0, together / alone) if alone > 0 else 1.0
    return variance * effect, third * effect**1.5


def tail(deviate: float, skewness: float) -> float:
    """Two-sided p-value of a standardised statistic of given skewness: twice the smaller tail.

    Pearson's type III distribution ends on its short side where the statistic may not, so no tail is taken to be
    lighter than the normal one.
    """
    upper = max(_pearson_upper(deviate, skewness), float(special.ndtr(-deviate)))
    lower = max(_pearson_upper(-deviate, -skewness), float(special.ndtr(deviate)))
    return min(1.0, 2 * min(upper, lower))


def _pearson_upper(deviate: float, skewness: float) -> float:
    """P(T > deviate) for a standardised gamma variable, mirrored where the skewness is negative."""
    if abs(skewness) < LEAST_SKEW:
        return float(special.ndtr(-deviate))
    shape = 4 / skewness**2
    point = shape + math.copysign(1.0, skewness) * deviate * math.sqrt(shape)
    if point <= 0:
        return 1.0 if skewness > 0 else 0.0
    tail_of_gamma = special.gammaincc if skewness > 0 else special.gammainc
    return float(tail_of_gamma(shape, point))


def difference_interval(value: float, inside: Interval, other: float, outside: Interval) -> Interval:
    """The interval of a difference of two figures from the interval of each (MOVER; Newcombe 1998, method 10).

    Args:
        value: the figure of the group.
        inside: its interval.
        other: the figure of the other cases.
        outside: its interval.
    """
    below = math.hypot(value - inside.low, outside.high - other)
    above = math.hypot(inside.high - value, other - outside.low)
    return Interval(value - other - below, value - other + above)


def mean_interval(residual: Floats, clusters: Clusters, least: float, *, confidence: float) -> Interval:
    """The interval of a mean by patient, Student's t; its variance is not taken to be less than ``least``."""
    count = len(clusters)
    mean = float(residual.mean())
    sums = clusters.sums((residual - mean)[:, None])[:, 0]
    seen = float(np.sum(sums**2)) / len(residual) ** 2 * count / max(count - 1, 1)
    half = float(special.stdtrit(max(count - 1, 1), (1 + confidence) / 2)) * math.sqrt(max(seen, least))
    return Interval(mean - half, mean + half)
