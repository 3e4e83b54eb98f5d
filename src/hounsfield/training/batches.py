"""Batches of prepared images: the order is a function of the seed and the epoch, so it can be replayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np

from hounsfield.errors import require
from hounsfield.shares import WHOLE, Share, current_share


class PixelSource(Protocol):
    """Where prepared pixels come from; a ``Store`` is one."""

    def batch(self, rows: np.ndarray) -> Any:
        r"""The pixels of some rows: float32 (rows, \*spatial, channels), or of samples what ``ViewPixels`` gives."""


class Feed:
    """Hands the batches of one epoch after the other to ``fit``: on TensorFlow, two threads prepare them ahead.

    Keras leaves this to an autotuned pipeline of TensorFlow, whose end waits for a timer that doubles from 10 ms on: an
    epoch of 3 s then often takes 5.1, one of 6 s takes 10.2. Keras's own threads end a tenth of a second late. Both
    keep what they made for an epoch, so the pipeline here is made once.
    """

    def __init__(self) -> None:
        self._batches: Any = None
        self._pipeline: Any = None

    def epoch(self, batches: keras.utils.PyDataset) -> Any:
        """What ``fit`` is to be given for an epoch.

        Args:
            batches: as many in each epoch, all of one size, in the order of their numbers.

        Returns:
            A ``tf.data.Dataset``; on other backends the batches themselves.
        """
        if keras.backend.backend() != "tensorflow":
            return batches
        self._batches = batches
        if self._pipeline is None:
            self._pipeline = self._made()
        return self._pipeline

    def _made(self) -> Any:
        tensorflow = require("tensorflow", "training on the TensorFlow backend")
        example = self._batches[0]
        flat = keras.tree.flatten(example)

        def prepare(number: Any) -> Any:
            arrays = tensorflow.numpy_function(self._flat, [number], [array.dtype for array in flat])
            for array, like in zip(arrays, flat, strict=True):
                array.set_shape(like.shape)
            return keras.tree.pack_sequence_as(example, arrays)

        options = tensorflow.data.Options()
        options.autotune.enabled = False
        numbers = tensorflow.data.Dataset.range(len(self._batches))
        return numbers.map(prepare, num_parallel_calls=2).prefetch(2).with_options(options)

    def _flat(self, number: int) -> list[np.ndarray]:
        arrays: list[np.ndarray] = keras.tree.flatten(self._batches[int(number)])
        return arrays


@dataclass(frozen=True)
class Mixing:
    """How the images of a batch are mixed with each other.

    Attributes:
        mixup: α of the Beta distribution of mixing shares, 0 for none.
        unchanged_share: probability that an image is not mixed.
    """

    mixup: float = 0.0
    unchanged_share: float = 0.0


NO_MIXING = Mixing()


class TrainingBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """One epoch of shuffled batches (images, targets, weights); of each the share of this process.

    Args:
        pixels: where the images come from.
        rows: rows of the cohort that are trained on.
        targets: (cohort, outputs), float32, for all rows of the cohort.
        weights: float32, (cohort,): how much each row counts; or (cohort, outputs): each of its targets. Then the
            targets of a batch have the weights beside them, (batch, 2·outputs), and each of its rows counts once. A
            target of weight 0 may be NaN.
        batch_size: images a batch; the last, smaller batch of an epoch is left out, since its batch
            statistics would be noisier than all others.
        mixing: of the images with each other.
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
        mixing: Mixing = NO_MIXING,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        super().__init__()
        self._pixels = pixels
        self._share = current_share()
        self._by_target = weights.ndim == 2
        self._targets = np.where(weights > 0, targets, 0).astype(np.float32) if self._by_target else targets
        self._weights = weights
        self._mixing = mixing
        self._seed = (seed, epoch)
        order = np.random.default_rng(self._seed).permutation(rows)
        self.batch_size = size = min(batch_size, len(order))
        self._batches = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]

    def __len__(self) -> int:
        """Number of batches in the epoch."""
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        r"""Images (batch, \*spatial, channels), targets (batch, outputs or 2·outputs), weights (batch,)."""
        images, targets, weights = self._mixed(index)
        if not self._by_target:
            return images, targets, weights
        return images, np.concatenate([targets, weights], axis=1), np.ones(len(targets), np.float32)

    def _mixed(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images, targets and weights of a batch, mixed with each other where that is wanted."""
        whole = np.sort(self._batches[index])
        part = self._share.of(len(whole))
        rows = whole[part]
        images, targets, weights = self._pixels.batch(rows), self._targets[rows], self._weights[rows]
        mixing = self._mixing
        if not mixing.mixup:
            return images, targets, weights
        generator = np.random.default_rng((*self._seed, index))
        share = generator.beta(mixing.mixup, mixing.mixup, size=len(whole)).astype(np.float32)
        partner = generator.permutation(len(whole))
        share[generator.random(len(whole)) < mixing.unchanged_share] = 1
        share, others = share[part], whole[partner[part]]
        # A whole batch has its partners within.
        partners = images[partner] if len(rows) == len(whole) else self._pixels.batch(others)
        wide = share.reshape(-1, *[1] * (images.ndim - 1))
        mixed = wide * images + (1 - wide) * partners
        by_target = share[:, None]
        other_targets, other_weights = self._targets[others], self._weights[others]
        if not self._by_target:
            both = by_target * targets + (1 - by_target) * other_targets
            return mixed, both, share * weights + (1 - share) * other_weights
        # Each image's targets keep their own weight: of one that is not known nothing is mixed in.
        own, other = by_target * weights, (1 - by_target) * other_weights
        total = own + other
        both = (own * targets + other * other_targets) / np.where(total > 0, total, 1)
        return mixed, both, total


def predict_rows(
    model: keras.Model, pixels: PixelSource, rows: np.ndarray, *, batch_size: int, share: Share = WHOLE
) -> np.ndarray:
    """A model's answers to images in the order of ``rows``: (rows, outputs).

    Args:
        model: of one output.
        pixels: where the images come from.
        rows: which.
        batch_size: images at once.
        share: of this process, where others predict the rest at the same time.
    """
    first, last = (round(number * len(rows) / share.size) for number in (share.rank, share.rank + 1))
    own = rows[first:last]
    starts = range(0, len(own), batch_size)
    parts = [model.predict_on_batch(pixels.batch(own[start : start + batch_size])) for start in starts]
    if share.add_up is None:
        return np.concatenate(parts)
    found = np.zeros((len(rows), model.output_shape[-1]), np.float32)
    if parts:
        found[first:last] = np.concatenate(parts)
    return share.add_up(found.reshape(-1)).reshape(found.shape)
