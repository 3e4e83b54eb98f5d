"""Training the networks of a run: one, or one for each fold."""

from __future__ import annotations

import time
from typing import Any

import keras

from hounsfield.atomic import make_private
from hounsfield.planning.dial import LEAST_PART
from hounsfield.plans.loading import load_plan
from hounsfield.training.base import Job, Member, Specification
from hounsfield.training.loop import BatchReport, EpochReport, PaceReport, fit, ignore
from hounsfield.training.pace import Decisions, Pace, TimeLimit
from hounsfield.training.schedule import Schedule
from hounsfield.training.table import TRAININGS
from hounsfield.training.tracking import Tracker, described


def train_network(
    specification: Specification[Any, Any],
    *,
    on_batch: BatchReport = ignore,
    on_epoch: EpochReport = ignore,
    on_pace: PaceReport = ignore,
) -> Member[Any, Any]:
    """Train one network: a pure function of its specification, wherever it runs, unless the clock has to decide.

    Args:
        specification: what is trained on which rows.
        on_batch: told of each batch.
        on_epoch: told of each epoch.
        on_pace: told of each decision on the number of epochs.

    Raises:
        RunError: see ``loop.fit``.
    """
    plan, decided = specification.plan, list(specification.decided)
    entry = TRAININGS[plan.family]
    keras.utils.set_random_seed(specification.seed)
    network = entry.build_network(plan)
    # Before the network is prepared for training, which takes time too.
    pace = Pace(plan.epochs, None if decided else specification.limit, decided)
    fitted = fit(
        entry.make_trainee(network, specification),
        Schedule.of(plan),
        seed=specification.seed,
        pace=pace,
        checkpoint=specification.checkpoint,
        on_batch=on_batch,
        on_epoch=on_epoch,
        on_pace=on_pace,
    )
    entry.put_weights(network, fitted.weights)
    return Member(network, specification, fitted)


def train_networks(job: Job[Any, Any], tracker: Tracker) -> tuple[list[Member[Any, Any]], bool]:
    """Train every network of a run.

    Args:
        job: the training.
        tracker: told of each epoch.

    Returns:
        The networks, and whether the user interrupted the training: then there may be fewer.
    """
    make_private(job.folder.checkpoints)
    parts = TRAININGS[job.plan.family].rows(job)
    follower = Follower(job, tracker, len(parts))
    tracker.begin(described(job.plan))
    members: list[Member[Any, Any]] = []
    for number, (train, validation) in enumerate(parts):
        specification = Specification(
            job.plan,
            job.store,
            train,
            validation,
            number,
            checkpoint=job.folder.checkpoints / f"member{number + 1}.npz",
            decided=job.plan.decided_epochs(number + 1),
            limit=_limit(job, len(train), len(parts) - number),
        )
        try:
            members.append(follower.train(specification))
        except KeyboardInterrupt:
            if not members:
                raise
            return members, True
        if members[-1].fitted.interrupted:
            return members, True
    return members, False


def _limit(job: Job[Any, Any], num_rows: int, num_networks: int) -> TimeLimit | None:
    """The time that the next of so many networks may take: its share of what is left."""
    if job.deadline is None or job.plan.minutes is None:
        return None
    # Reading and preparing may have taken long: a part of the time is for training in any case.
    left = max(job.deadline - time.monotonic(), LEAST_PART * 60 * job.plan.minutes) / num_networks
    cohort, entry = job.store.cohort, TRAININGS[job.plan.family]
    # Findings in validation images are looked for twice, before and after the check of bfloat16.
    images = min(num_rows, entry.REVISITED) + 2 * len(cohort.rows("validation")) + len(cohort.rows("test"))
    predicted = round(images * entry.inputs_per_image(job))
    return TimeLimit(left, Schedule.of(job.plan).num_images(num_rows), predicted)


class Follower:
    """Trains networks one after the other, writes their history and what was decided, and shows the progress.

    Args:
        job: the training.
        tracker: told of each epoch.
        num_networks: that are trained.
    """

    def __init__(self, job: Job[Any, Any], tracker: Tracker, num_networks: int) -> None:
        self._job, self._tracker, self._num_networks = job, tracker, num_networks
        self._records: list[dict[str, Any]] = []

    def train(self, specification: Specification[Any, Any]) -> Member[Any, Any]:
        """Train the next network."""
        job, number = self._job, specification.number + 1
        name = "training" if self._num_networks == 1 else f"training network {number} of {self._num_networks}"
        batches = Schedule.of(job.plan).num_batches(len(specification.train))
        total = (specification.decided[-1][1] if specification.decided else job.plan.epochs) * batches

        def on_batch(epoch: int, batch: int, batches: int) -> None:
            job.progress(name, min((epoch - 1) * batches + batch, total - 1), total)

        def on_epoch(history: list[dict[str, Any]]) -> None:
            job.folder.write_history([*self._records, *_numbered(number, history)])
            job.folder.record("epoch", member=number, **history[-1])
            self._tracker.log(f"member{number}", history[-1])

        def on_pace(decided: Decisions) -> None:
            nonlocal total
            total = decided[-1][1] * batches
            # The plan as it was written, whose pipeline may have been fitted since.
            load_plan(job.folder.plan).with_epochs(number, decided).save(job.folder.plan)
            job.folder.record("pace", member=number, after=decided[-1][0], epochs=decided[-1][1])

        member = train_network(specification, on_batch=on_batch, on_epoch=on_epoch, on_pace=on_pace)
        self._records += _numbered(number, member.fitted.history)
        job.folder.write_history(self._records)
        job.progress(name, total, total)
        return member


def _numbered(number: int, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"member": number} | record for record in history]
