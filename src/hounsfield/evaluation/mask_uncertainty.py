"""What a segmenter's bundle keeps of its validation images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy.typing as npt

from hounsfield.evaluation.novelty import Novelty
from hounsfield.evaluation.outcomes import Floats


@dataclass(frozen=True, eq=False)
class MaskUncertainty:
    """How well validation images were segmented, and where images like those of training lie.

    Attributes:
        dice: (n, labels) of validation images, each by a network that was not trained on it; NaN where neither the
            truth nor the prediction has the label.
        expected: (n, labels) the Dice that the probabilities of the same predictions let expect.
        novelty: tells images that are out of distribution; ``None`` where it was not fitted.
    """

    dice: Floats
    expected: Floats
    novelty: Novelty | None = None

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays for a file."""
        arrays: dict[str, npt.NDArray[Any]] = {"dice": self.dice, "expected": self.expected}
        return arrays | (self.novelty.to_arrays() if self.novelty else {})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """What ``to_arrays`` gave.

        Raises:
            KeyError: an array is missing.
        """
        novelty = Novelty.from_arrays(arrays) if any(key.startswith("novelty/") for key in arrays) else None
        return cls(arrays["dice"], arrays["expected"], novelty)
