"""What a detector's bundle keeps of its validation images, so that its counts come with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy.typing as npt

from hounsfield.evaluation.novelty import Novelty
from hounsfield.evaluation.outcomes import Integers


@dataclass(frozen=True, eq=False)
class DetectionUncertainty:
    """True and found counts of validation images, and where images like those of training lie.

    Attributes:
        counts_true: (n, labels) objects of each label in each image.
        counts_found: (n, labels) findings of each label with at least the bundle's threshold.
        novelty: tells unlike images; ``None`` where it was not fitted.
    """

    counts_true: Integers
    counts_found: Integers
    novelty: Novelty | None = None

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays for a file."""
        arrays: dict[str, npt.NDArray[Any]] = {"counts_true": self.counts_true, "counts_found": self.counts_found}
        return arrays | (self.novelty.to_arrays() if self.novelty else {})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """What ``to_arrays`` gave.

        Raises:
            KeyError: an array is missing.
        """
        novelty = Novelty.from_arrays(arrays) if any(key.startswith("novelty/") for key in arrays) else None
        return cls(arrays["counts_true"], arrays["counts_found"], novelty)
