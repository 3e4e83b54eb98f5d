"""A segmenter in training: what it is shown, how it is judged, and what is kept of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt

from hounsfield.augmentation.build import build_layers
from hounsfield.augmentation.patches import draw_placement, read_mask_patch, read_patch
from hounsfield.inference.sliding import Sliding
from hounsfield.masks import dice, judged_regions
from hounsfield.models.training_model import jit_compilation, training_copy
from hounsfield.plans.masks import MaskPlan
from hounsfield.segmentation import deep_supervision_loss
from hounsfield.segmentation.unet import supervised_outputs
from hounsfield.shares import WHOLE, Share, current_share
from hounsfield.training.fitted import Criterion
from hounsfield.training.optimizer import optimizer
from hounsfield.training.schedule import Schedule


class PatchSource(Protocol):
    """Where prepared images with their masks come from; a ``MaskStore`` is one."""

    def image(self, row: int) -> npt.NDArray[np.floating[Any]]:
        """(spatial …, channels)."""

    def mask(self, row: int) -> npt.NDArray[np.uint8]:
        """(spatial …, 1), or (spatial …, labels) where labels overlap."""

    def foreground(self, row: int) -> Sequence[npt.NDArray[np.integer[Any]]]:
        """For each label some of its pixels: (n, rank)."""


class PatchBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    r"""One epoch of shuffled batches: patches (batch, \*patch, channels), and masks of them as uint8.

    Of each batch it gives the share of this process. What is drawn depends on the seed, the epoch and the place in the
    epoch alone, so an epoch can be replayed.

    Args:
        source: the prepared images.
        rows: of which a patch each is drawn; a row may stand there several times. A last, smaller batch is left out.
        plan: patch, batch size, augmentation, share of patches around labels.
        seed: of the order and of every draw.
        epoch: number of the epoch, from 0.
    """

    def __init__(
        self, source: PatchSource, rows: npt.NDArray[np.int64], plan: MaskPlan, *, seed: int, epoch: int
    ) -> None:
        super().__init__()
        self._share = current_share()
        self._source, self._plan, self._draw = source, plan, (seed, epoch)
        num_patches = Schedule.of(plan).num_images(len(rows))
        self._order = np.random.default_rng(self._draw).permutation(rows)[:num_patches]
        self.batch_size = min(plan.batch_size, num_patches)

    def __len__(self) -> int:
        """Number of batches in the epoch."""
        return len(self._order) // self.batch_size

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Patches and their masks."""
        places = range(index * self.batch_size, (index + 1) * self.batch_size)[self._share.of(self.batch_size)]
        patches, masks = zip(*map(self._patch, places), strict=True)
        return np.stack(patches), np.stack(masks)

    def _patch(self, place: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        row, generator = int(self._order[place]), np.random.default_rng((*self._draw, place))
        source, plan = self._source, self._plan
        image, target = source.image(row), None
        if generator.random() < plan.foreground_share:
            # The label first, so that a small structure is seen as often as a large one.
            labels = [pixels for pixels in source.foreground(row) if len(pixels)]
            if labels:
                pixels = labels[int(generator.integers(len(labels)))]
                target = pixels[int(generator.integers(len(pixels)))]
        placement = draw_placement(
            generator,
            image.shape[:-1],
            plan.input_shape[:-1],
            plan.augmentation,
            spacing=plan.spacing,
            target=target,
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
        logits = [y_pred[0], *y_pred[2:]]
        return deep_supervision_loss(logits, self._reductions, y, overlapping=self._overlapping)


class SegmenterTrainee:
    """See :class:`hounsfield.training.loop.Trainee`.

    Args:
        network: a plain U-Net; its weights are the start.
        source: the prepared images.
        train: rows of which patches are drawn, each as often as it stands there.
        judged: rows by which epochs are compared.
        plan: of the training.
        seed: of everything random.
    """

    criterion = Criterion("val_dice", more_is_better=True)
    # There are no statistics of batches.
    num_recalibrating = 0

    def __init__(
        self,
        network: keras.Model,
        source: PatchSource,
        train: npt.NDArray[np.int64],
        judged: npt.NDArray[np.int64],
        plan: MaskPlan,
        *,
        seed: int,
    ) -> None:
        keras.utils.set_random_seed(seed)
        self._source, self._train, self._judged, self._plan, self._seed = source, train, judged, plan, seed
        supervised = supervised_outputs(plan.strides)
        exact = ("logits", "features", *(each.name for each in supervised))
        self.model = SupervisedNetwork(
            training_copy(network, plan.precision, exact),
            [(1,) * plan.rank, *(each.reduction for each in supervised)],
            overlapping=plan.overlapping,
            augmentation=build_layers(plan.intensities, seed),
        )
        schedule = Schedule.of(plan)
        steps = schedule.num_batches(len(train))
        self.model.compile(optimizer(schedule, steps, self.model.trainable_variables), jit_compile=jit_compilation())
        self.forward: Callable[[npt.NDArray[np.float32]], Any] = self.model.network

    def batches(self, epoch: int) -> PatchBatches:
        """The batches of an epoch."""
        return PatchBatches(self._source, self._train, self._plan, seed=self._seed, epoch=epoch)

    plain_batches = batches

    def validate(self, epoch: int, *, last: bool, share: Share = WHOLE) -> dict[str, float]:
        """The Dice of whole prepared images, every few epochs and after the last: the mean over labels, and of each.

        It is work of the first process.
        """
        if share.rank or ((epoch + 1) % self._plan.validate_every and not last):
            return {}
        sliding = Sliding(self._plan.input_shape[:-1], self._plan.overlapping)
        scores = []
        for row in self._judged.tolist():
            found = sliding.segment(self._run, np.asarray(self._source.image(row)), keep=False)
            scores.append(self._scores(self._source.mask(row), found.mask))
        means = [_mean([each for each in column if not math.isnan(each)]) for column in zip(*scores, strict=True)]
        of_labels = {f"val_dice_{label}": mean for label, mean in zip(self._plan.labels, means, strict=True)}
        return {"val_dice": _mean([mean for mean in means if not math.isnan(mean)])} | of_labels

    def _scores(self, mask: npt.NDArray[np.uint8], found: npt.NDArray[np.uint8]) -> list[float]:
        """The Dice of each label; NaN where it is in neither."""
        overlapping = self._plan.overlapping
        return [
            dice(*judged_regions(mask, found, index, overlapping=overlapping))
            for index in range(len(self._plan.labels))
        ]

    def _run(self, batch: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        logits, features, *_ = self.model.predict_on_batch(batch)
        return np.asarray(logits, np.float32), np.asarray(features, np.float32)

    def weights(self) -> list[npt.NDArray[np.float32]]:
        """Those of the plain network."""
        values: list[npt.NDArray[np.float32]] = self.model.network.get_weights()
        return values


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
