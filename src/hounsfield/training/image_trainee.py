"""A network on whole images in training: what it is shown, how it is judged, and what is kept of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from hounsfield.augmentation.build import build_layers
from hounsfield.models.training_model import Precision, compiled_forward, jit_compilation, training_model
from hounsfield.plans.augmentation import Augmentation
from hounsfield.shares import WHOLE, Share
from hounsfield.training.averaging import Batches
from hounsfield.training.batches import NO_MIXING, Mixing, PixelSource, TrainingBatches, predict_rows
from hounsfield.training.fitted import LEAST_LOSS
from hounsfield.training.optimizer import optimizer
from hounsfield.training.schedule import Schedule

# Images on which batch-norm statistics are taken anew after an epoch: enough for steady means, and never so many that
# this costs a small cohort as much as its training.
RECALIBRATION_IMAGES = (256, 1024)
RECALIBRATION_SHARE = 0.25


Judge = Callable[[np.ndarray, np.ndarray], dict[str, float]]


@dataclass(frozen=True)
class Examples:
    """What is trained on: prepared pixels, targets and weights of all rows, and which rows do what."""

    pixels: PixelSource
    targets: np.ndarray
    weights: np.ndarray
    train: np.ndarray
    validation: np.ndarray


class ImageTrainee:
    """See :class:`hounsfield.training.loop.Trainee`.

    Args:
        network: a plain network as ``models.build`` makes it; its weights are the start.
        examples: pixels, targets and rows.
        schedule: the plan's decisions on optimisation.
        augmentation: the plan's random changes.
        loss: of the network's outputs.
        judge: from targets and predictions, both (rows, outputs), to the figures of an epoch; "val_loss" among them.
        precision: of the arithmetic.
        seed: of the order, the mixing, the augmentation and the dropout.
    """

    criterion = LEAST_LOSS

    def __init__(
        self,
        network: keras.Model,
        examples: Examples,
        schedule: Schedule,
        augmentation: Augmentation,
        *,
        loss: keras.losses.Loss,
        judge: Judge,
        precision: Precision,
        seed: int,
    ) -> None:
        keras.utils.set_random_seed(seed)
        augmentation = _unchanged_apart(augmentation)
        self.examples, self.judge = examples, judge
        self._schedule, self._seed = schedule, seed
        self.model, self._plain = self._build(network, precision, build_layers(augmentation, seed))
        if schedule.in_stages:
            freeze_normalisation(self._plain)
        # Samples of several images are fewer at once.
        self._at_once = 128
        self._mixing = Mixing(augmentation.mixup, augmentation.unchanged_share)
        steps = schedule.num_batches(len(examples.train))
        self.model.compile(
            optimizer(schedule, steps, self.model.trainable_variables),
            loss,
            jit_compile=jit_compilation(),
        )
        plain = self._plain
        self.forward: Callable[[np.ndarray], Any] = compiled_forward(plain, lambda images: plain(images, training=True))
        wanted = RECALIBRATION_SHARE * len(examples.train)
        self.num_recalibrating = round(min(RECALIBRATION_IMAGES[1], max(RECALIBRATION_IMAGES[0], wanted)))

    def _build(
        self, network: keras.Model, precision: Precision, augmentation: list[keras.Layer]
    ) -> tuple[keras.Model, keras.Model]:
        """The model that is trained, and the copy of the network in it."""
        model = training_model(network, precision, augmentation, seed=self._seed)
        return model, model.get_layer("network")

    def _pixels(self, epoch: int) -> Any:  # noqa: ARG002 - the same in every epoch
        """Where the images of an epoch come from."""
        return self.examples.pixels

    def batches(self, epoch: int) -> TrainingBatches:
        """The batches of an epoch."""
        return self._batches(epoch, self._mixing)

    def plain_batches(self, epoch: int) -> Batches:
        """The same, with no image mixed into another."""
        return self._batches(epoch, NO_MIXING)

    def _batches(self, epoch: int, mixing: Mixing) -> TrainingBatches:
        examples, rows = self.examples, self.examples.train
        if (num_images := self._schedule.num_images(len(rows))) < len(rows):
            rows = np.random.default_rng((self._seed, epoch)).permutation(rows)[:num_images]
        return TrainingBatches(
            self._pixels(epoch),
            rows,
            examples.targets,
            examples.weights,
            batch_size=self._schedule.batch_size,
            mixing=mixing,
            seed=self._seed,
            epoch=epoch,
        )

    def validate(self, epoch: int, *, last: bool, share: Share = WHOLE) -> dict[str, float]:  # noqa: ARG002 - always due
        """The figures of the validation rows, of which each process predicts a part."""
        examples = self.examples
        rows = examples.validation
        predicted = predict_rows(self.model, examples.pixels, rows, batch_size=self._at_once, share=share)
        return self.judge(examples.targets[rows], predicted)

    def weights(self) -> list[np.ndarray]:
        """Those of the plain network."""
        values: list[np.ndarray] = self._plain.get_weights()
        return values


def freeze_normalisation(network: keras.Model) -> None:
    """Let each batch normalisation do in training what it does in use, with the statistics that it has.

    With those of a few images a finetuning would lose what the pretrained layers know before it has learned anything,
    and its last layer, which starts as a probe, would get other features than it was fitted to.
    """
    for layer in network._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def _unchanged_apart(augmentation: Augmentation) -> Augmentation:
    """The limits with the ``unchanged_share`` that mixing and the layers need where both change images.

    Each draws on its own which images it leaves. With the root of the plan's probability, the plan's share of the
    images is left unchanged by both.
    """
    both = augmentation.mixup and set(augmentation.changes()) != {"mixup"}
    return (
        augmentation.model_copy(update={"unchanged_share": math.sqrt(augmentation.unchanged_share)})
        if both
        else augmentation
    )
