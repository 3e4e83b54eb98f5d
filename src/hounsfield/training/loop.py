"""Training one network: epochs, averaged weights, validation, checkpoints, early stopping."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from hounsfield.errors import RunError
from hounsfield.shares import WHOLE, Share, sharing
from hounsfield.training.averaging import Batches, WeightAverage, averaged_weights
from hounsfield.training.batches import Feed
from hounsfield.training.checkpoint import load_checkpoint, save_checkpoint
from hounsfield.training.fitted import Criterion, Fitted
from hounsfield.training.pace import Decisions, Pace, Stopwatch
from hounsfield.training.schedule import Schedule

logger = logging.getLogger(__name__)


class Trainee(Protocol):
    """A network in training, and all that differs between the tasks.

    Attributes:
        model: compiled.
        criterion: by which the best epoch is known.
        num_recalibrating: images on which batch-norm statistics of averaged weights are taken anew.
    """

    model: keras.Model
    criterion: Criterion
    num_recalibrating: int

    def batches(self, epoch: int) -> Batches:
        """The batches of an epoch, counted from 0; of each the share of this process."""

    def plain_batches(self, epoch: int) -> Batches:
        """Batches whose images are as the network will meet them in use, for batch-norm statistics."""

    def forward(self, images: np.ndarray) -> Any:
        """Pass images as they are in training mode, for what they leave in moving statistics."""

    def validate(self, epoch: int, *, last: bool, share: Share = WHOLE) -> dict[str, float]:
        """Judge the model as it is after an epoch, counted from 0: figures to be recorded; none where not due.

        Where other processes do so at the same time, this one may do its share alone; the first one's figures count.
        """

    def weights(self) -> list[np.ndarray]:
        """What is to be kept of the model as it is."""


class Company(Protocol):
    """Other processes that train the same network with this one.

    Attributes:
        share: of this process in what all compute after the steps of an epoch.
    """

    share: Share

    def tell(
        self, model: keras.Model, average: WeightAverage, fitted: Fitted, pace: Pace, *, over: bool = False
    ) -> None:
        """Let the others have the state of the network, and train the next epoch if it is not over."""

    def mean(self, figures: dict[str, float]) -> dict[str, float]:
        """Each figure's mean over all processes."""

    def check(self) -> None:
        """Look whether the others are there.

        Raises:
            Exception: one was lost.
        """


# Called after each batch: (epoch from 1, batch from 1, batches an epoch).
BatchReport = Callable[[int, int, int], None]
# Called after each epoch with the records of all epochs so far.
EpochReport = Callable[[list[dict[str, Any]]], None]
# Called with all decisions on the number of epochs, after each new one.
PaceReport = Callable[[Decisions], None]


def ignore(*_: object) -> None:
    """Listen to nothing."""


def fit(  # noqa: PLR0913 - one of each that listens
    trainee: Trainee,
    schedule: Schedule,
    *,
    seed: int,
    pace: Pace | None = None,
    checkpoint: Path | None = None,
    on_batch: BatchReport = ignore,
    on_epoch: EpochReport = ignore,
    on_pace: PaceReport = ignore,
    company: Company | None = None,
    start: Fitted | None = None,
) -> Fitted:
    """Train a network and keep its best averaged weights.

    Args:
        trainee: the network in training; its weights are the start.
        schedule: the plan's decisions on optimisation.
        seed: of everything random.
        pace: decides the number of epochs; that of the schedule where not given.
        checkpoint: where the state is kept after each epoch; if the file exists the training continues
            from it, and the result is that of an unbroken training.
        on_batch: told of each batch.
        on_epoch: told of each epoch.
        on_pace: told of each decision on the number of epochs, before anything is trained by it.
        company: other processes that train the same network with this one, which decides.
        start: what left the weights that the trainee has; they are kept unless an epoch is better.

    Returns:
        The weights and the history. An interrupt (Ctrl-C) ends the training after the last whole epoch;
        before the first one it is passed on.

    Raises:
        RunError: the loss became NaN or infinite before one epoch could be kept.
    """
    keras.utils.set_random_seed(seed)
    average, fitted = WeightAverage(schedule.average_decay), Fitted.begun(trainee.criterion, start)
    pace = pace or Pace(schedule.epochs)
    feed, stopwatch = Feed(), Stopwatch()
    if checkpoint is not None and checkpoint.exists():
        load_checkpoint(checkpoint, trainee.model, average, fitted)
    try:
        while len(fitted.history) < pace.total and not _exhausted(fitted, schedule.patience):
            if company is not None:
                company.tell(trainee.model, average, fitted, pace)
            follow_pace(trainee.model.optimizer, pace, len(fitted.history), schedule.epochs)
            last = len(fitted.history) + 1 == pace.total
            stopwatch.start(on_batch)
            epoch = Epoch(trainee, feed, len(fitted.history), company)
            if not _run_epoch(epoch, average, fitted, last=last, on_batch=stopwatch):
                logger.warning("The loss became NaN or infinite: the best of %d epochs is kept.", len(fitted.history))
                break
            stopwatch.stop()
            if pace.decide(len(fitted.history), stopwatch.seconds, stopwatch.compiling):
                on_pace(pace.decided)
            if checkpoint is not None:
                save_checkpoint(checkpoint, trainee.model, average, fitted)
            on_epoch(fitted.history)
    except KeyboardInterrupt:
        if not fitted.history:
            raise
        fitted.interrupted = True
        logger.warning("Interrupted: the run is finished with the best of %d whole epochs.", len(fitted.history))
    fitted.epochs = pace.total
    if company is not None:
        company.tell(trainee.model, average, fitted, pace, over=True)
    return fitted


def follow_pace(optimizer: Any, pace: Pace, done: int, epochs: int) -> None:
    """Let the schedule go on at the pace that was decided.

    Args:
        optimizer: whose schedule has the length of all epochs of the plan.
        pace: as decided so far.
        done: epochs that were trained.
        epochs: of the plan.
    """
    if not pace.decided:
        return
    steps = int(keras.ops.convert_to_numpy(optimizer._iterations))
    length = epochs * (steps // done) if done else 0
    optimizer.follow(steps, pace.place(done) * length, pace.stride(done) * epochs)


def _exhausted(fitted: Fitted, patience: int) -> bool:
    return bool(fitted.history) and len(fitted.history) - fitted.best_epoch >= patience


@dataclass(frozen=True)
class Epoch:
    """One epoch of training steps.

    Attributes:
        trainee: the network in training.
        feed: hands over its batches.
        number: of the epoch, from 0.
        company: other processes that train the same network.
    """

    trainee: Trainee
    feed: Feed
    number: int
    company: Company | None

    def train(self, on_batch: BatchReport) -> dict[str, float]:
        """Train, and give the figures of the epoch; NaN where they were no numbers any more."""
        batches, company = self.trainee.batches(self.number), self.company

        def report(batch: int, logs: object) -> None:  # noqa: ARG001 - Keras gives the logs by this name
            if company is not None:
                company.check()
            on_batch(self.number + 1, batch + 1, len(batches))

        try:
            log = self.trainee.model.fit(
                self.feed.epoch(batches),
                epochs=self.number + 1,
                initial_epoch=self.number,
                shuffle=False,
                verbose=0,
                callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=report)],
            )
            figures = {name: float(values[-1]) for name, values in log.history.items()}
        except RuntimeError as error:
            # PyTorch's cross-entropy refuses NaN by itself, where the others return it.
            if "between 0 and 1" not in str(error):
                raise
            figures = {"loss": math.nan}
        return figures if company is None else company.mean(figures)

    @property
    def share(self) -> Share:
        """Of this process in what is done after the steps."""
        return WHOLE if self.company is None else self.company.share

    @contextmanager
    def averaged(self, average: WeightAverage) -> Iterator[None]:
        """Take the weights into the average, and let the model carry that for the length of a block."""
        trainee = self.trainee
        average.update(trainee.model)
        # No step: what the model computes here is not of a shared batch.
        with sharing(WHOLE), averaged_weights(trainee, average, trainee.plain_batches(self.number), self.share):
            yield


def _run_epoch(epoch: Epoch, average: WeightAverage, fitted: Fitted, *, last: bool, on_batch: BatchReport) -> bool:
    """Train one epoch, take its weights into the average, and judge the average on validation.

    Returns:
        Whether the training can go on; an epoch whose loss is not finite leaves no trace.
    """
    started, number, trainee = time.monotonic(), epoch.number, epoch.trainee
    record: dict[str, Any] = {"epoch": number + 1} | epoch.train(on_batch)
    if not math.isfinite(record["loss"]):
        return _diverged(fitted, number)
    with epoch.averaged(average):
        record |= trainee.validate(number, last=last, share=epoch.share)
        if not math.isfinite(record.get("val_loss", 0.0)):
            return _diverged(fitted, number)
        fitted.history.append(record)
        if not fitted.weights or fitted.kept_epoch == number + 1:
            fitted.weights = trainee.weights()
    record["learning_rate"] = float(keras.ops.convert_to_numpy(trainee.model.optimizer.learning_rate))
    record["seconds"] = time.monotonic() - started
    return True


def _diverged(fitted: Fitted, epoch: int) -> bool:
    if not fitted.history:
        raise RunError(
            f"The loss became NaN or infinite in epoch {epoch + 1}: the training diverged. Train again with a tenth of "
            "the plan's learning rate ('--set learning_rate=…'), or with '--set precision=float32'."
        )
    return False
