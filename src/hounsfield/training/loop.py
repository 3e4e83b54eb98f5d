"""Training one network: epochs, averaged weights, validation, checkpoints, early stopping."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hounsfield.augmentation import Augmentation
from hounsfield.errors import RunError
from hounsfield.models.twin import Precision, jit_compilation, training_forward, training_twin
from hounsfield.training.averaging import WeightAverage, averaged_weights
from hounsfield.training.batches import PixelSource, PredictionBatches, TrainingBatches
from hounsfield.training.checkpoint import load_checkpoint, save_checkpoint

logger = logging.getLogger(__name__)

# Images on which batch-norm statistics are taken anew after an epoch: enough for steady means, and never so many that
# this costs a small cohort as much as its training.
RECALIBRATION_IMAGES = (256, 1024)
RECALIBRATION_SHARE = 0.25


@dataclass(frozen=True)
class Schedule:
    """How one network is trained; each field is a decision of the plan.

    ``warmup`` is a share of all steps, ``patience`` a number of epochs, ``accumulate`` a number of batches
    whose gradients make one step, ``average_decay`` the weight of the past in the average of the weights.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup: float
    label_smoothing: float
    accumulate: int
    average_decay: float
    patience: int
    precision: Precision


@dataclass(frozen=True)
class Examples:
    """What is trained on: prepared pixels, targets and weights of all rows, and which rows do what."""

    pixels: PixelSource
    targets: np.ndarray
    weights: np.ndarray
    train: np.ndarray
    validation: np.ndarray


@dataclass
class Fitted:
    """What a training leaves: the best averaged weights, and one history record an epoch."""

    weights: list[np.ndarray]
    history: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False

    @property
    def best_epoch(self) -> int:
        """Epoch (from 1) of the smallest validation loss."""
        return min(range(len(self.history)), key=lambda index: float(self.history[index]["val_loss"])) + 1


# Called after each batch: (epoch from 1, batch from 1, batches an epoch).
BatchReport = Callable[[int, int, int], None]
# Called after each epoch with the records of all epochs so far.
EpochReport = Callable[[list[dict[str, Any]]], None]


def _ignore(*_: object) -> None:
    """Listen to nothing."""


def fit(
    network: keras.Model,
    examples: Examples,
    schedule: Schedule,
    augmentation: Augmentation,
    *,
    seed: int,
    checkpoint: Path | None = None,
    on_batch: BatchReport = _ignore,
    on_epoch: EpochReport = _ignore,
) -> Fitted:
    """Train a network and leave the best averaged weights in it.

    Args:
        network: a plain network as ``models.build`` makes it; its weights are the start.
        examples: pixels, targets and rows.
        schedule: the plan's decisions on optimisation.
        augmentation: the plan's random changes.
        seed: of the order, the mixing, the augmentation and the dropout.
        checkpoint: where the state is kept after each epoch; if the file exists the training continues
            from it, and the result is that of an unbroken training.
        on_batch: told of each batch.
        on_epoch: told of each epoch.

    Returns:
        The weights and the history. An interrupt (Ctrl-C) ends the training after the last whole epoch;
        before the first one it is passed on.

    Raises:
        RunError: the loss is no number before one epoch could be kept.
    """
    keras.utils.set_random_seed(seed)
    twin = training_twin(network, schedule.precision, augmentation.layers(seed), seed=seed)
    steps = max(1, len(examples.train) // min(schedule.batch_size, len(examples.train)))
    _compile(
        twin,
        schedule,
        steps,
        binary_outputs=network.get_layer("probabilities").activation is not keras.activations.softmax,
    )
    forward = training_forward(twin)
    average, fitted = WeightAverage(schedule.average_decay), Fitted([])
    if checkpoint is not None and checkpoint.exists():
        load_checkpoint(checkpoint, twin, average, fitted)
    try:
        for epoch in range(len(fitted.history), schedule.epochs):
            if _exhausted(fitted, schedule.patience):
                break
            batches = TrainingBatches(
                examples.pixels,
                examples.train,
                examples.targets,
                examples.weights,
                batch_size=schedule.batch_size,
                mixup=augmentation.mixup,
                seed=seed,
                epoch=epoch,
            )
            if not _run_epoch(twin, forward, examples, batches, average, fitted, on_batch=on_batch):
                logger.warning("The loss is no number any more: the best of %d epochs is kept.", len(fitted.history))
                break
            if checkpoint is not None:
                save_checkpoint(checkpoint, twin, average, fitted)
            on_epoch(fitted.history)
    except KeyboardInterrupt:
        if not fitted.history:
            raise
        fitted.interrupted = True
        logger.warning("Interrupted: the run is finished with the best of %d whole epochs.", len(fitted.history))
    network.set_weights(fitted.weights)
    return fitted


def _compile(twin: keras.Model, schedule: Schedule, steps: int, *, binary_outputs: bool) -> None:
    # An epoch with fewer batches than are to be accumulated would never change a weight.
    accumulate = min(schedule.accumulate, steps)
    # Keras counts batches in its schedules, not the steps that accumulated gradients make.
    total = schedule.epochs * steps
    warmup = min(total - 1, max(1, round(schedule.warmup * total)))
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=schedule.learning_rate / 25,
        warmup_target=schedule.learning_rate,
        warmup_steps=warmup,
        decay_steps=max(1, total - warmup),
        alpha=0.005,
    )
    optimizer = keras.optimizers.AdamW(
        rate,
        weight_decay=schedule.weight_decay,
        beta_2=0.99,
        global_clipnorm=5.0,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
    )
    # One-dimensional weights are biases and normalisation scales, which decay only harms.
    optimizer.exclude_from_weight_decay([weight for weight in twin.trainable_variables if len(weight.shape) < 2])
    kind = keras.losses.BinaryCrossentropy if binary_outputs else keras.losses.CategoricalCrossentropy
    twin.compile(optimizer, kind(label_smoothing=schedule.label_smoothing), jit_compile=jit_compilation())


def _exhausted(fitted: Fitted, patience: int) -> bool:
    return bool(fitted.history) and len(fitted.history) - fitted.best_epoch >= patience


def _run_epoch(
    twin: keras.Model,
    forward: Callable[[np.ndarray], Any],
    examples: Examples,
    batches: TrainingBatches,
    average: WeightAverage,
    fitted: Fitted,
    *,
    on_batch: BatchReport,
) -> bool:
    """Train one epoch, take its weights into the average, and judge the average on the validation rows.

    Returns:
        Whether the training can go on; an epoch whose loss is no number leaves no trace.
    """
    started, epoch = time.monotonic(), len(fitted.history)

    def report(batch: int, logs: object) -> None:  # noqa: ARG001 - Keras gives the logs by this name
        on_batch(epoch + 1, batch + 1, len(batches))

    reporter = keras.callbacks.LambdaCallback(on_train_batch_end=report)
    try:
        log = twin.fit(batches, epochs=epoch + 1, initial_epoch=epoch, shuffle=False, verbose=0, callbacks=[reporter])
    except RuntimeError as error:
        # PyTorch's cross-entropy refuses NaN by itself, where the others return it.
        if "between 0 and 1" not in str(error):
            raise
        return _diverged(fitted, epoch)
    average.update(twin)
    record: dict[str, Any] = {"epoch": epoch + 1, "loss": float(log.history["loss"][-1])}
    images = min(RECALIBRATION_IMAGES[1], max(RECALIBRATION_IMAGES[0], RECALIBRATION_SHARE * len(examples.train)))
    with averaged_weights(twin, forward, average, batches, math.ceil(images / batches.batch_size)):
        predicted = twin.predict(PredictionBatches(examples.pixels, examples.validation, batch_size=128), verbose=0)
        record |= validation_scores(examples.targets[examples.validation], predicted)
        if not np.isfinite([record["loss"], record["val_loss"]]).all():
            return _diverged(fitted, epoch)
        if not fitted.history or record["val_loss"] < min(past["val_loss"] for past in fitted.history):
            fitted.weights = twin.get_layer("network").get_weights()
    record["learning_rate"] = float(keras.ops.convert_to_numpy(twin.optimizer.learning_rate))
    record["seconds"] = time.monotonic() - started
    fitted.history.append(record)
    return True


def _diverged(fitted: Fitted, epoch: int) -> bool:
    if not fitted.history:
        raise RunError(
            f"The loss of epoch {epoch + 1} is no number: the training diverged. A smaller learning rate was needed, "
            "or images without NaN: train again with '--set learning_rate=…' at a tenth of the plan's, or with '--set "
            "precision=float32'."
        )
    return False


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
