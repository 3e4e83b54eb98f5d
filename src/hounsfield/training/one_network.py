"""Training one network in this process."""

from __future__ import annotations

from typing import Any

import keras

from hounsfield.progress import Progress, silent
from hounsfield.shares import WHOLE, sharing
from hounsfield.tasks import TASKS
from hounsfield.training.base import Member, Specification
from hounsfield.training.loop import BatchReport, Company, EpochReport, PaceReport, fit, ignore
from hounsfield.training.pace import Pace
from hounsfield.training.probing import probe
from hounsfield.training.schedule import Schedule
from hounsfield.training.table import TRAININGS


def train_network(
    specification: Specification[Any, Any],
    *,
    on_batch: BatchReport = ignore,
    on_epoch: EpochReport = ignore,
    on_pace: PaceReport = ignore,
    progress: Progress = silent,
    company: Company | None = None,
) -> Member[Any, Any]:
    """Train one network: a pure function of its specification, wherever it runs, unless the clock has to decide.

    Args:
        specification: what is trained on which rows.
        on_batch: told of each batch.
        on_epoch: told of each epoch.
        on_pace: told of each decision on the number of epochs.
        progress: told of images whose features are computed.
        company: other processes that train the same network with this one.

    Raises:
        RunError: see ``loop.fit``.
    """
    plan, decided = specification.plan, list(specification.decided)
    entry = TRAININGS[plan.family]
    keras.utils.set_random_seed(specification.seed)
    network = entry.build_network(plan)
    # Before the network is prepared for training, which takes time too.
    pace = Pace(plan.epochs, None if decided else specification.limit, decided)
    adapt, probed = getattr(plan, "adapt", None), None
    if adapt is not None and plan.views is None and not TASKS[plan.task].ordered:
        # A finetuning begins with the last layer of a probe (Kumar et al., 2022, arXiv:2202.10054).
        with sharing(WHOLE):
            trainee: Any = entry.make_trainee(network, specification)
            probed = probe(network, trainee, specification, on_epoch if adapt == "probe" else ignore, progress)
        if adapt == "probe":
            return Member(network, specification, probed)
    fitted = fit(
        entry.make_trainee(network, specification),
        Schedule.of(plan),
        seed=specification.seed,
        pace=pace,
        checkpoint=specification.checkpoint,
        on_batch=on_batch,
        on_epoch=on_epoch,
        on_pace=on_pace,
        company=company,
        start=probed,
    )
    entry.put_weights(network, fitted.weights)
    return Member(network, specification, fitted)
