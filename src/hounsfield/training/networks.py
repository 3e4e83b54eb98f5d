"""Training the networks of a run: one, or one for each fold."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np

from hounsfield.atomic import make_private
from hounsfield.distributed.calls import Calls, call_each
from hounsfield.planning.dial import LEAST_PART
from hounsfield.plans.loading import load_plan
from hounsfield.training.base import Job, Member, Specification
from hounsfield.training.companions import joined
from hounsfield.training.fitted import Fitted
from hounsfield.training.one_network import train_network
from hounsfield.training.pace import Decisions, TimeLimit
from hounsfield.training.schedule import Schedule
from hounsfield.training.table import TRAININGS
from hounsfield.training.together import Crew, train_together
from hounsfield.training.tracking import Tracker, described

# The plan of one network, and its training and validation rows.
Part = tuple[Any, np.ndarray, np.ndarray]


def train_networks(
    job: Job[Any, Any], tracker: Tracker, crew: Crew | None = None
) -> tuple[list[Member[Any, Any]], bool]:
    """Train every network of a run, and each companion after all that are adapted.

    Args:
        job: the training.
        tracker: told of each epoch.
        crew: makes workers that train the networks of an ensemble side by side, or a single one together.

    Returns:
        The networks, each with its companion as one, and whether the user interrupted the training: then there may be
        fewer, and some alone.
    """
    make_private(job.folder.checkpoints)
    parts = TRAININGS[job.plan.family].rows(job)
    alone = getattr(job.plan, "companion", None) is None
    plans = [job.plan] if alone else [job.plan, job.plan.companion_plan()]
    members, interrupted = _train_all(job, tracker, [(plan, *rows) for plan in plans for rows in parts], crew)
    return joined(members[: len(parts)], members[len(parts) :]) if not alone else members, interrupted


def _train_all(
    job: Job[Any, Any], tracker: Tracker, parts: list[Part], crew: Crew | None
) -> tuple[list[Member[Any, Any]], bool]:
    tracker.begin(described(job.plan))
    for record in job.done:
        tracker.log("member1", record)
    if crew is not None and len(parts) > 1:
        return _train_apart(job, tracker, parts, crew), False
    follower = Follower(job, tracker, len(parts), train_network if crew is None else partial(train_together, crew=crew))
    members: list[Member[Any, Any]] = []
    for number, part in enumerate(parts):
        specification = _specification(job, number, part, len(parts) - number)
        try:
            members.append(follower.train(specification))
        except KeyboardInterrupt:
            if not members:
                raise
            return members, True
        if members[-1].fitted.interrupted:
            return members, True
    return members, False


def _specification(job: Job[Any, Any], number: int, part: Part, in_turn: int) -> Specification[Any, Any]:
    """What one network of a run is trained on; its time is a share of what is left for so many in turn."""
    plan, train, validation = part
    return Specification(
        plan,
        job.store,
        train,
        validation,
        number,
        checkpoint=job.folder.checkpoints / f"member{number + 1}.npz",
        decided=job.plan.decided_epochs(number + 1),
        limit=_limit(job, plan, train, in_turn),
    )


class Trained(NamedTuple):
    """What a training in another process left, and what was decided there on the number of its epochs."""

    fitted: Fitted
    decided: Decisions


def train_apart(specification: Specification[Any, Any]) -> Trained:
    """Train one network in a worker's process."""
    decided = list[Decisions]()
    member = train_network(specification, on_pace=decided.append)
    return Trained(member.fitted, decided[-1] if decided else ())


def _train_apart(job: Job[Any, Any], tracker: Tracker, parts: list[Part], crew: Crew) -> list[Member[Any, Any]]:
    """Train networks by workers, and note of each what one process notes as it trains."""
    entry, total = TRAININGS[job.plan.family], len(parts)
    members: list[Member[Any, Any]] = []
    records: list[dict[str, Any]] = []
    with crew(Calls(f"{__name__}:{train_apart.__name__}", {"KERAS_BACKEND": keras.backend.backend()})) as pool:
        in_turn = math.ceil(total / pool.size)
        specifications = [_specification(job, number, part, in_turn) for number, part in enumerate(parts)]
        job.progress(f"training {total} networks", 0, total)
        for specification, (fitted, decided) in zip(specifications, call_each(pool, specifications), strict=True):
            number = specification.number + 1
            if decided:
                load_plan(job.folder.plan).with_epochs(number, decided).save(job.folder.plan)
                job.folder.record("pace", member=number, after=decided[-1][0], epochs=decided[-1][1])
            for record in fitted.history:
                job.folder.record("epoch", member=number, **record)
                tracker.log(f"member{number}", record)
            records += _numbered(number, fitted.history)
            job.folder.write_history(records)
            network = entry.build_network(specification.plan)
            entry.put_weights(network, fitted.weights)
            members.append(Member(network, specification, fitted))
            job.progress(f"training {total} networks", number, total)
    return members


def _limit(job: Job[Any, Any], plan: Any, train: np.ndarray, num_networks: int) -> TimeLimit | None:
    """The time that the next of so many networks may take: its share of what is left."""
    if job.deadline is None or job.plan.minutes is None:
        return None
    # Reading and preparing may have taken long: a part of the time is for training in any case.
    left = max(job.deadline - time.monotonic(), LEAST_PART * 60 * job.plan.minutes) / num_networks
    entry = TRAININGS[job.plan.family]
    return TimeLimit(left, Schedule.of(plan).num_images(len(train)), entry.num_predicted(job, train))


class Follower:
    """Trains networks one after the other, writes their history and what was decided, and shows the progress.

    Args:
        job: the training.
        tracker: told of each epoch.
        num_networks: that are trained.
        train: trains one; ``train_network``, or what takes the same arguments.
    """

    def __init__(
        self, job: Job[Any, Any], tracker: Tracker, num_networks: int, train: Callable[..., Member[Any, Any]]
    ) -> None:
        self._job, self._tracker, self._num_networks = job, tracker, num_networks
        self._train = train
        self._records: list[dict[str, Any]] = []

    def train(self, specification: Specification[Any, Any]) -> Member[Any, Any]:
        """Train the next network."""
        job, plan, number = self._job, specification.plan, specification.number + 1
        name = "training" if self._num_networks == 1 else f"training network {number} of {self._num_networks}"
        batches = Schedule.of(plan).num_batches(len(specification.train))
        total = (specification.decided[-1][1] if specification.decided else plan.epochs) * batches

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

        member = self._train(
            specification, on_batch=on_batch, on_epoch=on_epoch, on_pace=on_pace, progress=job.progress
        )
        self._records += _numbered(number, member.fitted.history)
        job.folder.write_history(self._records)
        job.progress(name, total, total)
        return member


def _numbered(number: int, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"member": number} | record for record in history]
