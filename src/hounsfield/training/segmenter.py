"""A segmenter in training: what it is shown, how it is judged, and what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt

from hounsfield.augmentation.patches import draw_placement, read_mask_patch, read_patch
from hounsfield.plans.augmentation import PatchAugmentation
from hounsfield.segmentation import deep_supervision_loss


class PatchSource(Protocol):
    """Where prepared images with their masks come from; a ``MaskStore`` is one."""

    @property
    def spacing(self) -> Sequence[float]:
        """Mm along each spatial axis of the prepared images."""

    def image(self, row: int) -> npt.NDArray[np.floating[Any]]:
        """(spatial …, channels)."""

    def mask(self, row: int) -> npt.NDArray[np.uint8]:
        """(spatial …, 1), or (spatial …, labels) where labels overlap."""

    def foreground(self, row: int) -> Sequence[npt.NDArray[np.int64]]:
        """For each label some of its pixels: (n, rank)."""


class PatchBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    r"""One epoch of shuffled batches: patches (batch, \*patch, channels), and masks of them as uint8.

    What is drawn depends on the seed, the epoch and the place in the epoch alone, so an epoch can be replayed.

    Args:
        source: the prepared images.
        rows: of which a patch each is drawn; a row may stand there several times. A last, smaller batch is left out.
        shape: of the patches, without channels.
        batch_size: patches a batch.
        limits: of the random changes.
        foreground_share: of the patches, that are drawn around a pixel of some label.
        seed: of the order and of every draw.
        epoch: number of the epoch, from 0.
    """

    def __init__(
        self,
        source: PatchSource,
        rows: npt.NDArray[np.int64],
        shape: Sequence[int],
        *,
        batch_size: int,
        limits: PatchAugmentation,
        foreground_share: float,
        seed: int,
        epoch: int,
    ) -> None:
        super().__init__()
        self._source, self._shape, self._limits = source, tuple(shape), limits
        self._share, self._draw = foreground_share, (seed, epoch)
        self._order = np.random.default_rng(self._draw).permutation(rows)
        self.batch_size = min(batch_size, len(rows))

    def __len__(self) -> int:
        """Number of batches in the epoch."""
        return len(self._order) // self.batch_size

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Patches and their masks."""
        places = range(index * self.batch_size, (index + 1) * self.batch_size)
        patches, masks = zip(*map(self._patch, places), strict=True)
        return np.stack(patches), np.stack(masks)

    def _patch(self, place: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        source, row, generator = self._source, int(self._order[place]), np.random.default_rng((*self._draw, place))
        image = source.image(row)
        target = None
        if generator.random() < self._share:
            # The label first, so that a small structure is seen as often as a large one.
            labels = [pixels for pixels in source.foreground(row) if len(pixels)]
            if labels:
                pixels = labels[int(generator.integers(len(labels)))]
                target = pixels[int(generator.integers(len(pixels)))]
        placement = draw_placement(
            generator, image.shape[:-1], self._shape, self._limits, spacing=source.spacing, target=target
        )
        return read_patch(image, placement), read_mask_patch(source.mask(row), placement)


class SupervisedNetwork(keras.Model):  # type: ignore[misc]  # Keras has no types
    """A network with its loss: plain ``compile``, ``fit`` and ``predict``.

    Args:
        network: a plain U-Net, or its copy for training.
        reductions: of each supervised output.
        overlapping: whether each output is a label of its own.
        augmentation: layers that change the values of images in training, and move nothing.
    """

    def __init__(
        self,
        network: keras.Model,
        reductions: Sequence[Sequence[int]],
        *,
        overlapping: bool,
        augmentation: Sequence[keras.Layer] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.augmentation = list(augmentation)
        self._reductions, self._overlapping = tuple(map(tuple, reductions)), overlapping
        self.built = True

    def call(self, images: Any, training: bool | None = None) -> Any:
        """What the network puts out."""
        if training:
            for layer in self.augmentation:
                images = layer(images, training=True)
        return self.network(images, training=training)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:  # noqa: ARG002
        """The loss of all supervised outputs; the second output, the features, has none."""
        return deep_supervision_loss([y_pred[0], *y_pred[2:]], self._reductions, y, overlapping=self._overlapping)
