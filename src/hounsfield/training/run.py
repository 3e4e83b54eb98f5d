"""From a plan and a cohort to a finished run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
import pandas as pd

from hounsfield.atomic import remove_tree
from hounsfield.cohorts import Cohort
from hounsfield.cohorts.request import DataRequest
from hounsfield.distributed.delegating import delegating_to
from hounsfield.errors import RunError, UsageError
from hounsfield.hardware import Hardware, peak_memory_mb
from hounsfield.images import Image
from hounsfield.models.devices import accelerators
from hounsfield.planning import SCRATCH, Start, check_network, check_start
from hounsfield.plans.base import BasePlan, Effort
from hounsfield.plans.loading import check_changes, load_plan
from hounsfield.progress import Progress, silent
from hounsfield.runs.folder import RunFolder
from hounsfield.runs.manifest import write_run_manifest
from hounsfield.runs.test_use import record_test_use, sealed_run
from hounsfield.training.base import Job
from hounsfield.training.finish import finish
from hounsfield.training.networks import train_networks
from hounsfield.training.preparation import Prepared, prepare
from hounsfield.training.starts import better_start
from hounsfield.training.table import TRAININGS
from hounsfield.training.together import Crew, check_shares
from hounsfield.training.tracking import Ending, Tracker, check_tracking, tracking

AnyPlan = TypeVar("AnyPlan", bound=BasePlan)


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        folder: what it wrote.
        metrics: the content of ``metrics.json``.
        diagnosis: lines on overfitting.
        uncertainty: lines on what validation decided, and on how sure the predictions are.
        notes: what was decided about the data.
    """

    folder: Path
    metrics: dict[str, Any]
    diagnosis: tuple[str, ...]
    uncertainty: tuple[str, ...]
    notes: tuple[str, ...]


def train(  # noqa: PLR0913 - what a user may want to say of a training
    request: DataRequest | str | Path,
    out: Path | str,
    *,
    plan: BasePlan | None = None,
    effort: Effort | None = None,
    minutes: float | None = None,
    network: str | None = None,
    seed: int | None = None,
    changes: Sequence[str] = (),
    seal: bool = False,
    started: float | None = None,
    start: Start = SCRATCH,
    track: Sequence[str] = (),
    register: str | None = None,
    progress: Progress = silent,
    crew: Crew | None = None,
) -> Run:
    """Train, evaluate and bundle a network for labels, values or boxes, as the data has them.

    Args:
        request: DATA, or a request with its options.
        out: the run folder, which must not exist or be empty.
        plan: made by the planner where not given.
        effort: the planner's dial, where no plan is given; standard by default, or what fits into the minutes.
        minutes: that all of this may take, instead of those of the effort or of the plan.
        network: overrides the planner's network, where no plan is given.
        seed: of the split and the training; where not given, that of the plan, or 0.
        changes: ``field=value`` of the plan, set by hand.
        seal: leaves the test images alone, until ``hounsfield evaluate RUN --open-seal`` opens them once.
        started: reading of ``time.monotonic`` from which the minutes count; by default that of the call.
        start: weights that the training starts from, how they are adapted, and the licence that is accepted; where no
            plan is given.
        track: who follows the training beside TensorBoard: "mlflow:URI", "wandb:PROJECT".
        register: "NAME" or "NAME@ALIAS": the registered model of MLflow that gets the bundle as a new version.
        progress: told of all that takes long.
        crew: makes workers that train the networks of an ensemble side by side, or a single network together.

    Raises:
        UsageError: workers cannot share the batches of the plan equally; a network or another effort is given beside a
            plan, which has its own; or a tracker is unknown.
        MissingDependency: the package of a tracker is not installed.
        CohortError, PlanError, RunError, ResourceError: see their messages.
    """
    started = time.monotonic() if started is None else started
    if plan is not None and (network is not None or effort is not None or start != SCRATCH):
        raise UsageError(
            "A plan has its own network, weights and effort: give the plan, or these; single fields change with --set."
        )
    if not isinstance(request, DataRequest):
        request = DataRequest(str(request))
    request = request.with_settings()
    if request.extend is not None:
        _check_extended(Path(request.extend), seal=seal)
    check_changes(changes)
    check_network(network)
    check_start(start, network)
    check_tracking(track, register)
    seed = seed if seed is not None else plan.seed if plan is not None else 0
    folder = RunFolder.create(Path(out))
    with folder.removed_if_empty(), folder.locked():
        folder.require_new()
        try:
            with delegating_to(crew):
                prepared = prepare(request, seed=seed, progress=progress)
            if seal:
                _require_test(prepared.cohort)
            if plan is None:
                plan = prepared.plan(effort=effort, minutes=minutes, network=network, seed=seed, start=start)
            if minutes is not None and (changes or plan.minutes != minutes):
                # Epochs that are set by hand would lift the limit.
                changes = (*changes, f"minutes={minutes}")
            plan = plan.model_copy(update={"seed": seed})
            if changes:
                plan = prepared.changed(plan, changes)
            plan.save(folder.plan)
            folder.write_cohort(prepared.cohort.table, prepared.cohort.box_table)
            # Last of what the run needs to be continued: a folder that has it has all else.
            folder.write_environment(
                request.to_dict(),
                backend=keras.backend.backend(),
                hardware=Hardware.here(accelerators()),
                tracking={"track": list(track), "register": register},
                sealed=seal,
            )
            make = partial(_job, folder, prepared, request, progress, started, crew)
            with delegating_to(crew):
                job = make(plan)
            if request.extend is not None and not seal:
                record_test_use(Path(request.extend), "train --extend")
        except BaseException:
            # Nothing was trained: the user may want to run the same command again.
            folder.discard()
            raise
        return _run(folder, partial(better_start, job, make, prepared), track, register, crew)


def _check_crew(plan: BasePlan, crew: Crew | None) -> None:
    """Refuse workers that cannot share the training of a single network, as far as this is known."""
    if crew is not None and getattr(plan, "folds", 1) == 1:
        check_shares(plan, crew.workers or 1)


def resume(path: Path | str, *, progress: Progress = silent, crew: Crew | None = None) -> Run:
    """Continue a run that was killed, to what it would have become.

    Raises:
        RunError: there is no such run, it is finished, or its data has changed.
    """
    folder = RunFolder.open(Path(path))
    with folder.locked():
        if folder.finished:
            raise RunError(
                f"The run {path} is finished: there is nothing to continue, and nothing in it was changed. To train "
                f"longer, begin a new run with: hounsfield train DATA --plan {folder.plan} --set epochs=N"
            )
        folder.reopen()
        plan = load_plan(folder.plan)
        environment = folder.read_environment()
        followed = environment.get("tracking", {})
        track, register = followed.get("track", ()), followed.get("register")
        check_tracking(track, register)
        request = DataRequest.from_dict(environment["data"])
        with delegating_to(crew):
            prepared = prepare(request, seed=plan.seed, progress=progress)
        _require_same(folder.cohort, prepared.cohort.table, "rows or splits", request)
        if prepared.cohort.box_table is not None:
            _require_same(folder.boxes, prepared.cohort.box_table, "boxes", request)
        # Runs of earlier versions, and those that lost power, may lack it.
        if not folder.cohort.is_file():
            folder.write_cohort(prepared.cohort.table, prepared.cohort.box_table)
        # What the epochs took before counts as if it had been now.
        started = time.monotonic() - folder.seconds_in_epochs()
        make = partial(_job, folder, prepared, request, progress, started, crew)
        with delegating_to(crew):
            job = make(plan)
        return _run(folder, partial(better_start, job, make, prepared), track, register, crew)


def _require_test(cohort: Cohort) -> None:
    if not len(cohort.rows("test")):
        raise UsageError("--seal keeps test images for one look, and the data has no test rows. Leave it out.")


def _check_extended(run: Path, *, seal: bool) -> None:
    """Refuse a run that is not finished, or to look at test images that are sealed."""
    if not RunFolder.open(run).finished:
        raise RunError(
            f"The run {run} is not finished, so its splits and figures are not final. Finish it first: hounsfield "
            f"train --resume {run}"
        )
    if sealed_run(run) and not seal:
        raise UsageError(
            f"The test images of the run {run} are sealed, and they are those of the new run, too. Give --seal as well."
        )


def _require_same(kept: Path, table: pd.DataFrame, what: str, request: DataRequest) -> None:
    if kept.is_file() and not _as_text(pd.read_parquet(kept)).equals(_as_text(table)):
        raise RunError(
            f"The data of the run {kept.parent} has changed since it was begun: {kept.name} holds other {what} than "
            f"{request.data} has now. Restore the data, or start a new run."
        )


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """All values as text, whatever their types; the bytes of outlines, which are none, as hexadecimal digits."""
    plain = table.copy()
    for name, kind in table.dtypes.items():
        if kind == np.dtype(object):
            plain[name] = table[name].map(lambda value: value.hex() if isinstance(value, bytes) else value)
    return plain.astype(str)


def _job(
    folder: RunFolder,
    prepared: Prepared,
    request: DataRequest,
    progress: Progress,
    started: float,
    crew: Crew | None,
    plan: BasePlan,
) -> Job[Any, Any]:
    """Everything that can fail before the first step of a training that was started at that time."""
    _check_crew(plan, crew)
    entry = TRAININGS[plan.family]
    entry.check(plan, prepared.cohort)
    plan = fitted_plan(plan, prepared.cohort)
    store = entry.build_store(plan, prepared.cohort, progress)
    deadline = started + 60 * plan.minutes if plan.minutes is not None else None
    data = request.command_line()
    return Job(
        folder,
        plan,
        store,
        prepared.fingerprint,
        prepared.pictures,
        prepared.intensities,
        data,
        progress,
        deadline,
    )


def fitted_plan(plan: AnyPlan, cohort: Cohort) -> AnyPlan:
    """The plan with its pipeline fitted on the training rows, if it has anything to learn.

    Rows that cannot be read or prepared are left out; the store then names and counts them.

    Raises:
        PreprocessingError: no training row is left to learn from.
    """
    if not plan.pipeline.needs_fit:
        return plan
    rows = cohort.rows("train")
    fitted = plan.pipeline.fit(lambda: (image for image in cohort.stream(rows) if isinstance(image, Image)))
    return plan.model_copy(update={"pipeline": fitted})


def _run(
    folder: RunFolder,
    begin: Callable[[], Job[Any, Any]],
    track: Sequence[str],
    register: str | None,
    crew: Crew | None,
) -> Run:
    with tracking(folder, track, register) as tracker:
        run = _trained(begin(), tracker, crew)
        # Last: the run is whole, whatever becomes of a server.
        tracker.end(Ending.of(run.metrics, folder.bundle))
    return run


def _trained(job: Job[Any, Any], tracker: Tracker, crew: Crew | None) -> Run:
    folder, cohort = job.folder, job.store.cohort
    started = time.monotonic() - folder.seconds_in_epochs()
    folder.record_data(cohort.notes, [reference for reference, _ in job.store.bad])
    members, interrupted = train_networks(job, tracker, crew)
    folder.record("trained", seconds=round(time.monotonic() - started, 1), interrupted=interrupted)
    finished = finish(job, members)
    folder.record("finished", seconds=round(time.monotonic() - started, 1), peak_memory_mb=peak_memory_mb())
    write_run_manifest(folder.path)
    if not interrupted:
        # Last: a run without checkpoints is finished, and what is not can be resumed.
        remove_tree(folder.checkpoints)
    return Run(folder.path, finished.metrics, finished.diagnosis, finished.uncertainty, cohort.notes)
