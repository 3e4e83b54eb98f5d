"""A classifier in training: what it is shown, how it is judged, and what is kept of it."""

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
from hounsfield.training.batches import NO_MIXING, Mixing, PixelSource, TrainingBatches, predict_rows
from hounsfield.training.fitted import LEAST_LOSS
from hounsfield.training.loop import Schedule, optimizer

# Images on which batch-norm statistics are taken anew after an epoch: enough for steady means, and never so many that
# this costs a small cohort as much as its training.
RECALIBRATION_IMAGES = (256, 1024)
RECALIBRATION_SHARE = 0.25


@dataclass(frozen=True)
class Examples:
    """What is trained on: prepared pixels, targets and weights of all rows, and which rows do what."""

    pixels: PixelSource
    targets: np.ndarray
    weights: np.ndarray
    train: np.ndarray
    validation: np.ndarray


class ClassifierTrainee:
    """See :class:`hounsfield.training.loop.Trainee`.

    Args:
        network: a plain network as ``models.build`` makes it; its weights are the start.
        examples: pixels, targets and rows.
        schedule: the plan's decisions on optimisation.
        augmentation: the plan's random changes.
        precision: of the arithmetic.
        label_smoothing: share of each target that is spread over all labels.
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
        precision: Precision,
        label_smoothing: float,
        seed: int,
    ) -> None:
        keras.utils.set_random_seed(seed)
        augmentation = _unchanged_apart(augmentation)
        self.model = training_model(network, precision, build_layers(augmentation, seed), seed=seed)
        self._examples, self._schedule, self._seed = examples, schedule, seed
        self._mixing = Mixing(augmentation.mixup, augmentation.unchanged_share)
        steps = max(1, len(examples.train) // min(schedule.batch_size, len(examples.train)))
        softmax = network.get_layer("probabilities").activation is keras.activations.softmax
        kind = keras.losses.CategoricalCrossentropy if softmax else keras.losses.BinaryCrossentropy
        self.model.compile(
            optimizer(schedule, steps, self.model.trainable_variables),
            kind(label_smoothing=label_smoothing),
            jit_compile=jit_compilation(),
        )
        plain = self.model.get_layer("network")
        self.forward: Callable[[np.ndarray], Any] = compiled_forward(lambda images: plain(images, training=True))
        wanted = RECALIBRATION_SHARE * len(examples.train)
        self.num_recalibrating = round(min(RECALIBRATION_IMAGES[1], max(RECALIBRATION_IMAGES[0], wanted)))

    def batches(self, epoch: int) -> TrainingBatches:
        """The batches of an epoch."""
        return self._batches(epoch, self._mixing)

    def plain_batches(self, epoch: int) -> TrainingBatches:
        """The same, with no image mixed into another."""
        return self._batches(epoch, NO_MIXING)

    def _batches(self, epoch: int, mixing: Mixing) -> TrainingBatches:
        examples = self._examples
        return TrainingBatches(
            examples.pixels,
            examples.train,
            examples.targets,
            examples.weights,
            batch_size=self._schedule.batch_size,
            mixing=mixing,
            seed=self._seed,
            epoch=epoch,
        )

    def validate(self, epoch: int) -> dict[str, float]:  # noqa: ARG002 - validation is due after every epoch
        """Log-loss and accuracy on the validation rows."""
        examples = self._examples
        rows = examples.validation
        return validation_scores(
            examples.targets[rows], predict_rows(self.model, examples.pixels, rows, batch_size=128)
        )

    def weights(self) -> list[np.ndarray]:
        """Those of the plain network."""
        values: list[np.ndarray] = self.model.get_layer("network").get_weights()
        return values


def _unchanged_apart(augmentation: Augmentation) -> Augmentation:
    """The limits with the ``unchanged_share`` that mixing and the layers need where both change images.

    Each draws on its own whom it spares. With the root of the plan's probability, the plan's share of the images is
    spared by both, so left as it is.
    """
    both = augmentation.mixup and set(augmentation.changes()) != {"mixup"}
    return (
        augmentation.model_copy(update={"unchanged_share": math.sqrt(augmentation.unchanged_share)})
        if both
        else augmentation
    )


def validation_scores(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Log-loss and accuracy of probabilities (rows, outputs) against 0/1 targets of the same shape."""
    probability = np.clip(predicted.astype(np.float64), 1e-7, 1 - 1e-7)
    if targets.shape[1] > 1 and np.all(targets.sum(1) == 1) and np.allclose(probability.sum(1), 1, atol=1e-3):
        loss = -np.log(probability[targets > 0]).mean()
        correct = probability.argmax(1) == targets.argmax(1)
    else:
        loss = -(targets * np.log(probability) + (1 - targets) * np.log(1 - probability)).mean()
        correct = (probability > 0.5) == (targets > 0.5)
    return {"val_loss": float(loss), "val_accuracy": float(correct.mean())}
