"""Five points that stand for how values are distributed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Distribution:
    """Five points of a distribution over images: the extremes, percentiles 5 and 95, and the median."""

    minimum: float
    low: float
    median: float
    high: float
    maximum: float

    @classmethod
    def of(cls, values: Any) -> Distribution:
        """Describe the finite values among ``values``; all points are NaN when there is none."""
        numbers = np.asarray(values, dtype=np.float64)
        numbers = numbers[np.isfinite(numbers)]
        points = np.percentile(numbers, (0, 5, 50, 95, 100)) if numbers.size else np.full(5, np.nan)
        return cls(*(float(point) for point in points))
