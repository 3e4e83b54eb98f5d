"""Exact statistics of pixel arrays, quick for the types that images come in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SAMPLE = 16_384
# Float32 interpolation of equal values leaves differences of this relative size, which are not contrast.
_ROUNDING = 1e-6


def extremes(values: NDArray[Any]) -> tuple[float, float]:
    """Return minimum and maximum."""
    return float(values.min()), float(values.max())


def all_finite(values: NDArray[Any]) -> bool:
    """Return whether no value is NaN or infinite."""
    with np.errstate(invalid="ignore", over="ignore"):
        # A finite sum proves it in one quick pass; only otherwise is every value checked.
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())


def is_constant(low: float, high: float) -> bool:
    """Whether an image with this minimum and maximum has no contrast beyond float32 rounding."""
    return high - low <= _ROUNDING * max(abs(low), abs(high))


def percentiles(values: NDArray[Any], percents: Sequence[float]) -> tuple[float, ...]:
    """Return the percentiles of ``values`` with linear interpolation, exactly as ``numpy.percentile`` defines them."""
    flat = values.reshape(-1)
    if flat.dtype.kind in "iuf" and flat.size <= _SAMPLE:
        # For so few values, selecting is faster than counting or bracketing.
        return _at_places(flat, [percent / 100 * (flat.size - 1) for percent in percents])
    if flat.dtype.kind in "iu" and flat.dtype.itemsize <= 2:
        return _counted_percentiles(flat, percents)
    if flat.dtype.kind != "f":
        return tuple(float(value) for value in np.percentile(flat, percents))
    sample = np.sort(flat[:: flat.size // _SAMPLE | 1])
    return tuple(_selected_percentile(flat, sample, percent) for percent in percents)


def _counted_percentiles(flat: NDArray[Any], percents: Sequence[float]) -> tuple[float, ...]:
    """Count instead of select: there are at most 65,536 distinct values."""
    least = int(flat.min())
    up_to = np.bincount(flat.astype(np.int64) - least).cumsum()
    result = []
    for percent in percents:
        place = percent / 100 * (flat.size - 1)
        lower, upper = np.searchsorted(up_to, (math.floor(place), math.ceil(place)), side="right")
        result.append(float(least + lower + (upper - lower) * (place - math.floor(place))))
    return tuple(result)


def _selected_percentile(flat: NDArray[Any], sample: NDArray[Any], percent: float) -> float:
    """Select among the few values that a sorted sample brackets (Floyd & Rivest, CACM 18, 1975).

    The bracket is checked by counting, so an unrepresentative sample costs time but the result is exact.
    """
    place = percent / 100 * (flat.size - 1)
    guess, margin = percent / 100 * (sample.size - 1), 2 * math.sqrt(sample.size)
    low = sample[int(guess - margin)] if guess > margin else -math.inf
    high = sample[int(guess + margin)] if guess + margin < sample.size else math.inf
    bracket = flat[(flat >= low) & (flat <= high)]
    skipped = int(np.count_nonzero(flat < low))
    if math.floor(place) < skipped or math.ceil(place) >= skipped + bracket.size:
        bracket, skipped = flat, 0
    return _at_places(bracket, [place - skipped])[0]


def _at_places(values: NDArray[Any], places: Sequence[float]) -> tuple[float, ...]:
    """Return the order statistics at the given places, linearly interpolated between two of them."""
    neighbours = [(math.floor(place), math.ceil(place)) for place in places]
    ordered = np.partition(values, [rank for pair in neighbours for rank in pair])
    found = [(float(ordered[lower]), float(ordered[upper])) for lower, upper in neighbours]
    return tuple(low + (high - low) * (place % 1) for (low, high), place in zip(found, places, strict=True))


def mean_and_std(values: NDArray[Any]) -> tuple[float, float]:
    """Return the mean and the population standard deviation, accumulated in double precision.

    The standard deviation of a constant image is exactly 0, whatever rounding did to its values.
    """
    if is_constant(*extremes(values)):
        return float(values.flat[0]), 0.0
    if values.dtype.char not in "BHhf":
        return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    mean, std = cv2.meanStdDev(np.ascontiguousarray(values).reshape(-1, 1))
    return float(mean[0, 0]), float(std[0, 0])
