"""Training the networks of a run: one, or one for each fold."""

from __future__ import annotations

from typing import Any

import keras

from hounsfield.training.base import Job, Member, Specification
from hounsfield.training.loop import BatchReport, EpochReport, Schedule, fit, ignore
from hounsfield.training.table import TRAININGS
from hounsfield.training.tracking import Tracker


def train_network(
    specification: Specification[Any, Any], *, on_batch: BatchReport = ignore, on_epoch: EpochReport = ignore
) -> Member[Any, Any]:
    """Train one network: a pure function of its specification, wherever it runs.

    Args:
        specification: what is trained on which rows.
        on_batch: told of each batch.
        on_epoch: told of each epoch.

    Raises:
        RunError: see ``loop.fit``.
    """
    plan = specification.plan
    entry = TRAININGS[plan.family]
    keras.utils.set_random_seed(specification.seed)
    network = entry.build_network(plan)
    fitted = fit(
        entry.make_trainee(network, specification),
        Schedule.of(plan),
        seed=specification.seed,
        checkpoint=specification.checkpoint,
        on_batch=on_batch,
        on_epoch=on_epoch,
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
    job.folder.checkpoints.mkdir(exist_ok=True)
    parts = TRAININGS[job.plan.family].rows(job)
    members: list[Member[Any, Any]] = []
    for number, (train, validation) in enumerate(parts):
        checkpoint = job.folder.checkpoints / f"member{number + 1}.npz"
        specification = Specification(job.plan, job.store, train, validation, number, checkpoint)
        try:
            members.append(_followed(job, specification, members, len(parts), tracker))
        except KeyboardInterrupt:
            if not members:
                raise
            return members, True
        if members[-1].fitted.interrupted:
            return members, True
    return members, False


def _followed(
    job: Job[Any, Any],
    specification: Specification[Any, Any],
    before: list[Member[Any, Any]],
    num_networks: int,
    tracker: Tracker,
) -> Member[Any, Any]:
    """Train one network, with its history written and its progress shown as it goes."""
    plan, number = job.plan, specification.number
    name = "training" if num_networks == 1 else f"training network {number + 1} of {num_networks}"
    total = plan.epochs * max(1, len(specification.train) // plan.batch_size)
    records = [_numbered(member.specification.number, record) for member in before for record in member.fitted.history]

    def on_batch(epoch: int, batch: int, batches: int) -> None:
        job.progress(name, min((epoch - 1) * batches + batch, total - 1), total)

    def on_epoch(history: list[dict[str, Any]]) -> None:
        job.folder.write_history(records + [_numbered(number, record) for record in history])
        job.folder.record("epoch", **_numbered(number, history[-1]))
        tracker.log(f"member{number + 1}", history[-1])

    member = train_network(specification, on_batch=on_batch, on_epoch=on_epoch)
    job.folder.write_history(records + [_numbered(number, record) for record in member.fitted.history])
    job.progress(name, total, total)
    return member


def _numbered(number: int, record: dict[str, Any]) -> dict[str, Any]:
    return {"member": number + 1} | record
