"""What a regressor's bundle keeps of its validation images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.novelty import Novelty
from hounsfield.evaluation.outcomes import Floats
from hounsfield.evaluation.readings import Readings
from hounsfield.evaluation.value_intervals import ConformalRange, misfits


@dataclass(frozen=True, eq=False)
class ValueUncertainty:
    """How far predictions of validation images were off, and where images like those of training lie.

    Attributes:
        misfit: (n,) of each true value or grade; see ``ConformalRange``.
        novelty: tells images that are out of distribution; ``None`` where it was not fitted.
    """

    misfit: Floats
    novelty: Novelty | None = None

    @classmethod
    def of(cls, truth: Floats, readings: Readings, novelty: Novelty | None = None) -> Self:
        """Keep what is needed of predictions of values (n,), or of places of grades."""
        if readings.probabilities is None:
            return cls(np.abs(truth - readings.values), novelty)
        return cls(misfits(readings.probabilities)[np.arange(len(truth)), truth.astype(np.int64)], novelty)

    def conformal(self, coverage: float) -> ConformalRange:
        """Ranges that hold the true value with this probability."""
        return ConformalRange.fit(self.misfit, coverage)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays for a file."""
        return {"misfit": self.misfit} | (self.novelty.to_arrays() if self.novelty else {})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """What ``to_arrays`` gave; raises ``KeyError`` where an array is missing."""
        novelty = Novelty.from_arrays(arrays) if any(key.startswith("novelty/") for key in arrays) else None
        return cls(arrays["misfit"], novelty)
