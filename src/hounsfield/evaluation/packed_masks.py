"""Masks kept small: a true and a predicted one of each image, for other tolerances and for pictures."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Self

import numpy as np

from hounsfield.masks import Mask

# Masks are long runs of one value: more effort gains little.
LEVEL = 1


@dataclass(frozen=True)
class PackedPair:
    """The true and the predicted mask of one image, compressed.

    Attributes:
        shape: of both, (spatial …, channels).
        true: compressed.
        predicted: compressed.
        spacing: mm along each spatial axis; ``None`` where unknown.
    """

    shape: tuple[int, ...]
    true: bytes
    predicted: bytes
    spacing: tuple[float, ...] | None

    @classmethod
    def of(cls, true: Mask, predicted: Mask, spacing: tuple[float, ...] | None) -> Self:
        """Compress two uint8 masks of one shape."""
        first, second = (zlib.compress(np.ascontiguousarray(each).tobytes(), LEVEL) for each in (true, predicted))
        return cls(true.shape, first, second, spacing)

    def masks(self) -> tuple[Mask, Mask]:
        """The true and the predicted mask."""
        true, predicted = (
            np.frombuffer(zlib.decompress(each), np.uint8).reshape(self.shape) for each in (self.true, self.predicted)
        )
        return true, predicted
