"""From a plan and a cohort to a finished run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from hounsfield.atomic import replacing
from hounsfield.cohorts import TARGETS, Cohort, Store, assign_folds
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import PlanError, RunError, UsageError
from hounsfield.hardware import Hardware, peak_memory_mb
from hounsfield.models import build, ensemble, flip_averaged
from hounsfield.models.devices import accelerators
from hounsfield.planning import check_network
from hounsfield.plans.base import BasePlan, Effort
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.plans.labels import Plan
from hounsfield.plans.loading import check_changes, load_plan
from hounsfield.progress import Progress, silent
from hounsfield.runs.folder import RunFolder
from hounsfield.training.classifier import ClassifierTrainee, Examples
from hounsfield.training.detection_finish import DetectionJob
from hounsfield.training.detection_run import detection_job, run_detection
from hounsfield.training.finish import finish
from hounsfield.training.fitting import fitted_plan
from hounsfield.training.job import Job, Member
from hounsfield.training.loop import Schedule, fit
from hounsfield.training.preparation import Prepared, prepare
from hounsfield.training.rows import member_examples
from hounsfield.training.tensorboard import ScalarLog
from hounsfield.training.weights import group_attribute


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        folder: what it wrote.
        metrics: the content of ``metrics.json``.
        diagnosis: lines on overfitting.
        uncertainty: lines on calibration and on images unlike those of training.
        notes: what was decided about the data.
    """

    folder: Path
    metrics: dict[str, Any]
    diagnosis: tuple[str, ...]
    uncertainty: tuple[str, ...]
    notes: tuple[str, ...]


def train(
    request: DataRequest | str | Path,
    out: Path | str,
    *,
    plan: BasePlan | None = None,
    effort: Effort = "standard",
    network: str | None = None,
    seed: int | None = None,
    changes: Sequence[str] = (),
    progress: Progress = silent,
) -> Run:
    """Train, evaluate and bundle a classifier, or a detector where the data has boxes.

    Args:
        request: DATA, or a request with its options.
        out: the run folder, which must not exist or be empty.
        plan: made by the planner where not given.
        effort: the planner's dial, where no plan is given.
        network: overrides the planner's network, where no plan is given.
        seed: of the split and the training; where not given, that of the plan, or 0.
        changes: ``field=value`` of the plan, set by hand.
        progress: told of all that takes long.

    Raises:
        UsageError: a network or another effort is asked for beside a plan, which has its own.
        CohortError, PlanError, RunError, ResourceError: see their messages.
    """
    if plan is not None and (network is not None or effort != "standard"):
        raise UsageError(
            "A plan has its own network and effort: give the plan, or the network and the effort; single fields change "
            "with --set."
        )
    if not isinstance(request, DataRequest):
        request = DataRequest(str(request))
    check_changes(changes)
    check_network(network)
    seed = seed if seed is not None else plan.seed if plan is not None else 0
    folder = RunFolder.create(Path(out))
    try:
        prepared = prepare(request, seed=seed, progress=progress)
        plan = plan or prepared.plan(effort=effort, network=network, seed=seed)
        plan = plan.model_copy(update={"seed": seed})
        if changes:
            plan = prepared.changed(plan, changes)
        plan.save(folder.plan)
        folder.write_environment(
            request.to_dict(), backend=keras.backend.backend(), hardware=Hardware.here(accelerators())
        )
        with replacing(folder.cohort) as temporary:
            prepared.cohort.table.to_parquet(temporary)
        run = _ready(folder, plan, prepared, request, progress)
    except BaseException:
        # Nothing was trained: the user may want to run the same command again.
        folder.discard()
        raise
    return run()


def resume(path: Path | str, *, progress: Progress = silent) -> Run:
    """Continue a run that was killed, to what it would have become.

    Raises:
        RunError: there is no such run, it is finished, or its data has changed.
    """
    folder = RunFolder.open(Path(path))
    if folder.finished:
        raise RunError(
            f"The run {path} is finished: there is nothing to continue, and nothing in it has been changed. To train "
            f"longer, begin a new run with: hounsfield train DATA --plan {folder.plan} --set epochs=N"
        )
    plan = load_plan(folder.plan)
    request = DataRequest.from_dict(folder.read_environment()["data"])
    prepared = prepare(request, seed=plan.seed, progress=progress)
    _require_same(folder.cohort, prepared.cohort.table, "rows or splits", request)
    if prepared.cohort.box_table is not None:
        _require_same(folder.boxes, prepared.cohort.box_table, "boxes", request)
    return _ready(folder, plan, prepared, request, progress)()


def _require_same(kept: Path, table: pd.DataFrame, what: str, request: DataRequest) -> None:
    if kept.is_file() and not pd.read_parquet(kept).astype(str).equals(table.astype(str)):
        raise RunError(
            f"The data of the run {kept.parent} has changed since it was begun: {kept.name} holds other {what} than "
            f"{request.data} gives now. Restore the data, or start a new run."
        )


def _ready(
    folder: RunFolder,
    plan: BasePlan,
    prepared: Prepared,
    request: DataRequest,
    progress: Progress,
) -> Callable[[], Run]:
    """The training, with everything done that can fail before its first step."""
    if isinstance(plan, DetectionPlan):
        detection = detection_job(folder, plan, prepared, request, progress)
        return lambda: _run_detection(detection)
    if not isinstance(plan, Plan):
        raise TypeError(plan.task)
    job = _job(folder, plan, prepared, request, progress)
    return lambda: _run(job)


def _run_detection(job: DetectionJob) -> Run:
    outcome = run_detection(job)
    return Run(job.folder.path, outcome.metrics, outcome.diagnosis, outcome.uncertainty, job.store.cohort.notes)


def _check_fit(plan: Plan, cohort: Cohort) -> None:
    if (plan.task, plan.labels) != (cohort.task, cohort.labels):
        raise PlanError(
            f"The plan is for a {plan.task} task with the labels {', '.join(plan.labels)}, but the data has a "
            f"{cohort.task} task with {', '.join(cohort.labels)}. Make a plan for this data with 'hounsfield plan "
            "DATA'."
        )
    if plan.task == "multi-label" and plan.balance_classes:
        raise PlanError(
            "The plan has balance_classes: true, but rows with several labels cannot be weighted by one of them. Set "
            "it to false."
        )
    if plan.balance_groups:
        group_attribute(plan, cohort)
    axes = {*plan.test_time_flips, *plan.augmentation.flip_axes}
    rank = len(plan.input_shape) - 1
    if not axes <= set(range(rank)):
        raise PlanError(
            f"The plan mirrors along axis {max(axes)}, but its images have the spatial axes 0 to {rank - 1}. Mend "
            "test_time_flips or augmentation.flip_axes."
        )
    # An option that the network does not take is better found now than after the images are prepared.
    build(plan.network, plan.input_shape, len(plan.labels), plan.task, **plan.network_options())


def _job(folder: RunFolder, plan: Plan, prepared: Prepared, request: DataRequest, progress: Progress) -> Job:
    """Everything that can fail before the first step of training."""
    _check_fit(plan, prepared.cohort)
    plan = fitted_plan(plan, prepared.cohort)
    store = Store.build(prepared.cohort, plan.pipeline, progress=progress)
    if store.shape != plan.input_shape:
        raise PlanError(
            f"The pipeline makes images of shape {store.shape}, but the plan's input_shape is "
            f"{plan.input_shape}. Mend one of them in the plan."
        )
    TARGETS[store.cohort.family].check_trainable(store.cohort)
    return Job(folder, plan, store, prepared.fingerprint, prepared.pictures, request.command_line(), progress)


def _run(job: Job) -> Run:
    folder, plan = job.folder, job.plan
    started = time.monotonic() - folder.seconds_in_epochs()
    folder.record_data(job.store.cohort.notes, [reference for reference, _ in job.store.bad])
    members, interrupted = _train_members(job)
    folder.record("trained", seconds=round(time.monotonic() - started, 1), interrupted=interrupted)
    network = members[0].network if len(members) == 1 else ensemble([member.network for member in members])
    finished = finish(job, members, flip_averaged(network, plan.test_time_flips))
    if not interrupted:
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
    folder.record("finished", seconds=round(time.monotonic() - started, 1), peak_memory_mb=peak_memory_mb())
    lines = tuple(finished.diagnosis.lines())
    return Run(folder.path, finished.metrics, lines, finished.uncertainty, job.store.cohort.notes)


def _train_members(job: Job) -> tuple[list[Member], bool]:
    """Train one network, or one a fold."""
    job.folder.checkpoints.mkdir(exist_ok=True)
    plan = job.plan
    folds = None
    if plan.folds > 1:
        folds = assign_folds(job.store.cohort, plan.folds, seed=plan.seed, pictures=job.pictures)
    members: list[Member] = []
    records: list[dict[str, Any]] = []
    scalars = ScalarLog(job.folder.tensorboard)
    for number in range(plan.folds):
        try:
            member = _train_member(job, member_examples(plan, job.store, folds, number), number, records, scalars)
        except KeyboardInterrupt:
            if not members:
                raise
            return members, True
        members.append(member)
        if member.fitted.interrupted:
            return members, True
    return members, False


def _train_member(
    job: Job, examples: Examples, number: int, records: list[dict[str, Any]], scalars: ScalarLog
) -> Member:
    plan, folder = job.plan, job.folder
    keras.utils.set_random_seed(plan.seed + number)
    network = build(plan.network, plan.input_shape, len(plan.labels), plan.task, **plan.network_options())
    name = "training" if plan.folds == 1 else f"training network {number + 1} of {plan.folds}"
    total = plan.epochs * max(1, len(examples.train) // plan.batch_size)

    def on_batch(epoch: int, batch: int, batches: int) -> None:
        job.progress(name, min((epoch - 1) * batches + batch, total - 1), total)

    def on_epoch(history: list[dict[str, Any]]) -> None:
        folder.write_history(records + [{"member": number + 1} | record for record in history])
        folder.record("epoch", member=number + 1, **history[-1])
        scalars.write(number + 1, history[-1])

    schedule = Schedule.of(plan)
    trainee = ClassifierTrainee(
        network,
        examples,
        schedule,
        plan.augmentation,
        precision=plan.precision,
        label_smoothing=plan.label_smoothing,
        seed=plan.seed + number,
    )
    fitted = fit(
        trainee,
        schedule,
        seed=plan.seed + number,
        checkpoint=folder.checkpoints / f"member{number + 1}.npz",
        on_batch=on_batch,
        on_epoch=on_epoch,
    )
    network.set_weights(fitted.weights)
    records += [{"member": number + 1} | record for record in fitted.history]
    folder.write_history(records)
    job.progress(name, total, total)
    return Member(network, examples, fitted)
