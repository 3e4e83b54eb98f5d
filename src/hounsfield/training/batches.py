"""Batches of prepared images: the order is a function of the seed and the epoch, so it can be replayed."""

from __future__ import annotations

import math
from typing import Any, Protocol

import keras
import numpy as np


class PixelSource(Protocol):
    """Where prepared pixels come from; a ``Store`` is one."""

    def batch(self, rows: np.ndarray) -> np.ndarray:
        r"""The pixels of some rows: float32 (rows, \*spatial, channels)."""


class PreparedAhead(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """Batches in the order of their numbers; TensorFlow has them prepared while the network is busy."""

    def __init__(self) -> None:
        # With one thread Keras leaves this to an autotuned pipeline of TensorFlow, whose end waits for a timer that
        # doubles from 10 ms on: an epoch of 3 s then often takes 5.1, one of 6 s takes 10.2. On JAX, Keras's own
        # threads go on past the batch that it looks at before a training, and the epoch misses it.
        super().__init__(workers=2 if keras.backend.backend() == "tensorflow" else 1, max_queue_size=4)


class TrainingBatches(PreparedAhead):
    """One epoch of shuffled batches (images, targets, weights).

    Args:
        pixels: where the images come from.
        rows: rows of the cohort that are trained on.
        targets: (cohort, outputs), float32, for all rows of the cohort.
        weights: (cohort,), float32: how much each row counts.
        batch_size: images a batch; the last, smaller batch of an epoch is left out, since its batch
            statistics would be noisier than all others.
        mixup: α of the Beta distribution of mixing shares, 0 for none.
        seed: of the order and of the mixing.
        epoch: number of the epoch, from 0.
    """

    def __init__(
        self,
        pixels: PixelSource,
        rows: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        *,
        batch_size: int,
        mixup: float = 0.0,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        super().__init__()
        self._pixels = pixels
        self._targets = targets
        self._weights = weights
        self._mixup = mixup
        self._seed = (seed, epoch)
        order = np.random.default_rng(self._seed).permutation(rows)
        self.batch_size = size = min(batch_size, len(order))
        self._batches = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]

    def __len__(self) -> int:
        """Number of batches in the epoch."""
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        r"""Images (batch, \*spatial, channels), targets (batch, outputs), weights (batch,)."""
        rows = np.sort(self._batches[index])
        images, targets, weights = self._pixels.batch(rows), self._targets[rows], self._weights[rows]
        if not self._mixup:
            return images, targets, weights
        generator = np.random.default_rng((*self._seed, index))
        share = generator.beta(self._mixup, self._mixup, size=len(rows)).astype(np.float32)
        partner = generator.permutation(len(rows))
        wide = share.reshape(-1, *[1] * (images.ndim - 1))
        return (
            wide * images + (1 - wide) * images[partner],
            share[:, None] * targets + (1 - share[:, None]) * targets[partner],
            share * weights + (1 - share) * weights[partner],
        )


class PredictionBatches(PreparedAhead):
    """Batches of images in the order of ``rows``, for validation."""

    def __init__(self, pixels: PixelSource, rows: np.ndarray, *, batch_size: int) -> None:
        super().__init__()
        self._pixels = pixels
        self._rows = rows
        self._batch_size = batch_size

    def __len__(self) -> int:
        """Number of batches."""
        return math.ceil(len(self._rows) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any]:
        r"""Images (batch, \*spatial, channels)."""
        return (self._pixels.batch(self._rows[index * self._batch_size : (index + 1) * self._batch_size]),)
