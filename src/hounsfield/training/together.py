"""Training one network by several processes, each of which has a share of every batch: the result is that of one."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any, Protocol

import keras

from hounsfield.distributed import Pool
from hounsfield.distributed.calls import Calls, call_each
from hounsfield.distributed.hub import Address, Hub, Line, Lost
from hounsfield.distributed.work import Work
from hounsfield.errors import UsageError, require
from hounsfield.plans.base import BasePlan
from hounsfield.shares import Share, sharing
from hounsfield.training.base import Member, Specification
from hounsfield.training.checkpoint import kept_in
from hounsfield.training.company import Others, follow, read_news
from hounsfield.training.fitted import LEAST_LOSS, Criterion, Fitted
from hounsfield.training.loop import BatchReport, EpochReport, PaceReport, ignore, logger
from hounsfield.training.one_network import train_network
from hounsfield.training.pace import Decisions
from hounsfield.training.schedule import Schedule
from hounsfield.training.table import TRAININGS


class Crew(Protocol):
    """Makes workers for some work."""

    @property
    def workers(self) -> int | None:
        """How many, where this was asked for."""

    def __call__(self, work: Work) -> Pool:
        """The workers."""


@dataclass(frozen=True)
class Part:
    """What one process does of a training.

    Attributes:
        specification: of the network.
        rank: of the process, from 0.
        size: number of processes.
        hub: that joins them.
    """

    specification: Specification[Any, Any]
    rank: int
    size: int
    hub: Address


def train_part(part: Part) -> None:
    """Train one network with other processes; what was learned is in the checkpoint."""
    if keras.backend.backend() == "jax":
        # Otherwise JAX runs a step in a thread of its own, the only one, in which the function that adds gradients up
        # can wait for ever for a copy that the same thread has to make (jax-ml/jax, issue 25861). It has to be set
        # before anything is computed.
        jax = require("jax", "training on the JAX backend")
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    # Where another process is lost, all go on from the checkpoint, with one in its place.
    while not _trained(part):
        pass


def _trained(part: Part) -> bool:
    """Train until it is over, or until another process is lost; whether it is over."""
    try:
        with (
            Line(part.hub, part.rank) as line,
            sharing(Share(part.rank, part.size, line.add_up, line.average)),
        ):
            _train(part, line)
    except Lost:
        return False
    return True


def _train(part: Part, line: Line) -> None:
    decided = [(after, epochs) for after, epochs in line.start["decided"]]
    specification = replace(part.specification, decided=decided)
    if part.rank == 0:
        train_network(specification, company=Others(line, part.rank, part.size))
        return
    plan = specification.plan
    entry = TRAININGS[plan.family]
    keras.utils.set_random_seed(specification.seed)
    trainee = entry.make_trainee(entry.build_network(plan), specification)
    follow(trainee, Schedule.of(plan), line, part.rank, part.size)


def check_shares(plan: BasePlan, size: int, num_rows: int | None = None) -> None:
    """Refuse a training that so many processes cannot share.

    Args:
        plan: of the training.
        size: number of processes.
        num_rows: that are trained on, where this is known.

    Raises:
        UsageError: they cannot.
    """
    if getattr(plan, "adapt", None) == "probe":
        raise UsageError(
            "A probe trains one layer on features that are computed once, which one process does in moments. Leave "
            "--workers and --ray out."
        )
    batch = plan.batch_size if num_rows is None else min(plan.batch_size, Schedule.of(plan).num_images(num_rows))
    if batch % size:
        fitting = [str(count) for count in range(2, batch + 1) if batch % count == 0]
        larger = size * max(1, round(batch / size))
        raise UsageError(
            f"The training has batches of {batch} images, which {size} workers cannot share in equal parts. Give "
            f"--workers {', '.join(fitting[:-1])}{' or ' if fitting[:-1] else ''}{fitting[-1]}, or begin a new run "
            f"with --set batch_size={larger}."
        )


def train_together(
    specification: Specification[Any, Any],
    *,
    crew: Crew,
    on_batch: BatchReport = ignore,
    on_epoch: EpochReport = ignore,
    on_pace: PaceReport = ignore,
    **_: Any,
) -> Member[Any, Any]:
    """Train one network by workers; the arguments are those of ``train_network``.

    Args:
        specification: of the network; its checkpoint has to be on a disk that all workers see.
        crew: makes the workers.
        on_batch: told of each batch.
        on_epoch: told of each epoch.
        on_pace: told of each decision on the number of epochs.

    Raises:
        UsageError: the batches cannot be shared by so many.
        ResourceError: workers do not come, or are lost again and again.
        RunError: see ``loop.fit``.
    """
    driver = _Driver(specification, on_batch, on_epoch, on_pace)
    with crew(Calls(f"{__name__}:{train_part.__name__}", {"KERAS_BACKEND": keras.backend.backend()})) as pool:
        check_shares(specification.plan, pool.size, len(specification.train))
        interrupted = driver.run(pool)
    return driver.member(interrupted=interrupted)


class _Driver:
    """The command's own process in a training by workers: it joins them, and tells how far they are."""

    def __init__(
        self,
        specification: Specification[Any, Any],
        on_batch: BatchReport,
        on_epoch: EpochReport,
        on_pace: PaceReport,
    ) -> None:
        self._specification = specification
        self._on_batch, self._on_epoch, self._on_pace = on_batch, on_epoch, on_pace
        self._batches = Schedule.of(specification.plan).num_batches(len(specification.train))
        self._decided: Decisions = list(specification.decided)
        self._criterion = LEAST_LOSS
        # Epochs that are known; a run that is resumed has some at the start.
        self._done: int | None = None
        self._batch = 0

    def run(self, pool: Pool) -> bool:
        """Let the workers train; whether the user interrupted them after a whole epoch."""
        hub = Hub(pool.size, pool.host, self._start, self._step, self._hear)
        parts = [Part(self._specification, rank, pool.size, hub.address) for rank in range(pool.size)]

        def call() -> None:
            try:
                list(call_each(pool, parts, together=True))
            except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
                hub.fail(error)

        threading.Thread(target=call, daemon=True).start()
        try:
            hub.serve()
        except KeyboardInterrupt:
            checkpoint = self._specification.checkpoint
            if checkpoint is None or not checkpoint.exists():
                raise
            return True
        finally:
            hub.close()
        return False

    def member(self, *, interrupted: bool) -> Member[Any, Any]:
        """The trained network, from the checkpoint."""
        specification = self._specification
        plan, checkpoint = specification.plan, specification.checkpoint
        entry = TRAININGS[plan.family]
        network = entry.build_network(plan)
        fitted = Fitted([], interrupted=interrupted, criterion=self._criterion)
        if checkpoint is not None:
            kept_in(checkpoint, fitted)
        fitted.epochs = self._decided[-1][1] if self._decided else plan.epochs
        entry.put_weights(network, fitted.weights)
        if interrupted:
            logger.warning("Interrupted: the run is finished with the best of %d whole epochs.", len(fitted.history))
        return Member(network, specification, fitted)

    def _start(self) -> dict[str, Any]:
        self._batch = 0
        return {"decided": list(self._decided)}

    def _step(self) -> None:
        self._batch += 1
        self._on_batch((self._done or 0) + 1, min(self._batch, self._batches), self._batches)

    def _hear(self, content: bytes) -> bool:
        news, _ = read_news(content)
        history, self._batch = news["history"], 0
        self._criterion = Criterion(*news["criterion"])
        decided = [(after, epochs) for after, epochs in news["decided"]]
        if len(decided) > len(self._decided):
            self._decided = decided
            self._on_pace(decided)
        for done in range(len(history) if self._done is None else self._done, len(history)):
            self._on_epoch(history[: done + 1])
        self._done = len(history)
        return not news["over"]
