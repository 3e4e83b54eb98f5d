"""From images and a plan to pretrained weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from hounsfield.atomic import make_private, remove_tree
from hounsfield.cohorts import Cohort, load_request
from hounsfield.cohorts.decoded import keep_decoded
from hounsfield.cohorts.fingerprint import fingerprint
from hounsfield.cohorts.request import DataRequest
from hounsfield.cohorts.scan import Scan, scan
from hounsfield.cohorts.store_building import refuse_bad
from hounsfield.containers import read_parquet
from hounsfield.errors import CohortError, RunError, UsageError
from hounsfield.hardware import Hardware
from hounsfield.models.devices import accelerators
from hounsfield.planning import PLANNERS, Facts, Wish
from hounsfield.plans.base import EFFORT_MINUTES, BasePlan
from hounsfield.plans.loading import load_plan
from hounsfield.pretrained.folder import MANIFEST, PATIENT, PIXELS, Pretrained, write_pretrained
from hounsfield.pretraining import reconstruction, vicreg
from hounsfield.pretraining.base import Method
from hounsfield.progress import Progress, silent
from hounsfield.runs.folder import RunFolder
from hounsfield.tasks import MODEL_NAMES, Family
from hounsfield.training import prepare
from hounsfield.training.fitted import Fitted
from hounsfield.training.loop import fit
from hounsfield.training.pace import Decisions, Pace, TimeLimit
from hounsfield.training.run import fitted_plan
from hounsfield.training.schedule import Schedule

METHODS: dict[Family, Method] = {"labels": vicreg, "values": vicreg, "masks": reconstruction}
# With fewer images nothing is learned that would hold for others.
FEWEST_IMAGES = 16
# Of so many images one is held out to watch the pretraining.
HELD_OUT = 10
# Of the time, the part that is for the epochs even where reading took long.
LEAST_PART = 0.25


@dataclass(frozen=True)
class Pretraining:
    """A finished pretraining.

    Attributes:
        folder: what ``--weights`` takes.
        method: by which it was pretrained.
        images: that the network learned from.
        patients: of theirs; ``None`` where they are not known.
        history: a record of each epoch.
        notes: what was decided about the data.
    """

    folder: Path
    method: str
    images: int
    patients: int | None
    history: list[dict[str, Any]]
    notes: tuple[str, ...]


class PretrainingFolder(RunFolder):
    """The folder of a pretraining, which no command takes for a run: its plan has another name."""

    def __init__(self, path: Path, *, made: Sequence[Path] = ()) -> None:
        super().__init__(path, made=made)
        self.plan = path / "pretraining.yaml"
        self.manifest = path / MANIFEST

    @property
    def finished(self) -> bool:
        """Whether the weights are there, and the pretraining was not stopped before."""
        return self.manifest.is_file() and not self.checkpoints.is_dir()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Find an existing folder.

        Raises:
            RunError: it is not there, or is none of a pretraining.
        """
        folder = cls(path)
        if not folder.plan.is_file() or not folder.environment.is_file():
            raise RunError(
                f"{path} is no folder of a pretraining that can be continued: pretraining.yaml and environment.json "
                "were expected in it. Give the folder that 'hounsfield pretrain' wrote, or begin anew."
            )
        return folder


def pretrain(
    request: DataRequest,
    out: Path,
    *,
    plan: BasePlan | None = None,
    minutes: float | None = None,
    seed: int = 0,
    changes: Sequence[str] = (),
    started: float | None = None,
    progress: Progress = silent,
) -> Pretraining:
    """Let a network learn from images without looking at labels.

    Of data with splits the training rows alone are taken, or those that a training with the same seed would take; of
    data without labels (``request.unlabelled``) all images.

    Args:
        request: DATA and its options.
        out: a new or empty folder.
        plan: of a later training, whose network and preprocessing are taken; the planner's for these images by default.
        minutes: that all of it may take; 20 by default.
        seed: of the split and of everything random.
        changes: ``field=value`` of the plan, set by hand.
        started: reading of ``time.monotonic`` from which the minutes count; by default that of the call.
        progress: told of all that takes long.

    Raises:
        UsageError: the plan is of a detector, or starts from weights itself.
        CohortError, PlanError, RunError, ResourceError: see their messages.
    """
    started = time.monotonic() if started is None else started
    if plan is not None:
        _method(plan)
    folder = PretrainingFolder.create(out)
    with folder.removed_if_empty(), folder.locked():
        folder.require_new()
        try:
            images = _gather(request, seed, progress)
            plan = _planned(plan or _plan_for(images, seed), images, minutes, seed, changes)
            plan = fitted_plan(plan, images.cohort)
            plan.save(folder.plan)
            folder.write_cohort(images.table, None)
            # Last of what is needed to continue: a folder that has it has all else.
            hardware = Hardware.here(accelerators())
            folder.write_environment(request.to_dict(), backend=keras.backend.backend(), hardware=hardware)
        except BaseException:
            # Nothing was trained: the user may want to run the same command again.
            folder.discard()
            raise
        return _run(folder, plan, images, progress, started)


def resume(path: Path, *, progress: Progress = silent) -> Pretraining:
    """Continue a pretraining that was stopped, to what it would have become.

    Raises:
        RunError: there is none, it is finished, or its data has changed.
    """
    folder = PretrainingFolder.open(path)
    with folder.locked():
        if folder.finished:
            raise RunError(f"The pretraining {path} is finished: there is nothing to continue.")
        folder.reopen()
        plan = load_plan(folder.plan)
        request = DataRequest.from_dict(folder.read_environment()["data"])
        images = _gather(request, plan.seed, progress)
        kept = read_parquet(folder.cohort)
        if not kept.astype(str).equals(images.table.astype(str)):
            raise RunError(
                f"The data of the pretraining {path} has changed since it was begun. Restore it, or begin anew."
            )
        return _run(folder, plan, images, progress, time.monotonic() - folder.seconds_in_epochs())


@dataclass(frozen=True)
class _Images:
    """What is learned from.

    Attributes:
        cohort: training rows alone.
        facts: of them, as planners take them.
        table: of them, as it is written: the patient and the digest of the pixels of each.
    """

    cohort: Cohort
    facts: Facts
    table: Any


def _gather(request: DataRequest, seed: int, progress: Progress) -> _Images:
    """Read the images, and leave out those of validation and test.

    Raises:
        CohortError: they cannot be read, or are too few.
    """
    begun = time.monotonic()
    if request.unlabelled:
        cohort = keep_decoded(load_request(request, progress=progress))
        scanned = scan(cohort, progress=progress)
        refuse_bad(scanned.bad, len(cohort))
        found = fingerprint(cohort, scanned=scanned, progress=progress)
        facts = Facts(found, None, len(cohort), time.monotonic() - begun)
    else:
        try:
            prepared = prepare(request, seed=seed, progress=progress)
        except CohortError as error:
            raise CohortError(
                f"{error} To learn from all images below a folder, whatever they show, give --unlabelled."
            ) from error
        rows = prepared.cohort.rows("train")
        told = f"{len(prepared.cohort) - len(rows):,} images of validation and test are left out: {len(rows):,} remain."
        cohort, facts = prepared.cohort.subset(rows).with_notes(told), prepared.facts
        scanned = scan(cohort, progress=progress)
    if len(cohort) < FEWEST_IMAGES:
        raise CohortError(
            f"Found {len(cohort)} images to learn from, and {FEWEST_IMAGES} are the fewest. Give a larger collection."
        )
    return _Images(cohort, facts, _table(cohort, scanned))


def _table(cohort: Cohort, scanned: Scan) -> Any:
    """What later trainings must know: which patients and pictures were seen."""
    table = cohort.table[["image", PATIENT]].assign(**{PIXELS: scanned.table["digest"].to_numpy()})
    return table.astype({"image": str, PATIENT: object, PIXELS: object}).reset_index(drop=True)


def _plan_for(images: _Images, seed: int) -> BasePlan:
    """The planner's plan of a training on these images."""
    plan: BasePlan = PLANNERS[images.cohort.family].make(images.facts, Wish(seed=seed))
    return plan


def _method(plan: BasePlan) -> Method:
    """The method for a plan.

    Raises:
        UsageError: there is none, or the plan starts from weights itself.
    """
    if plan.family not in METHODS:
        raise UsageError(
            f"A {MODEL_NAMES[plan.family]} cannot be pretrained: expected images for a classifier, a regressor or a "
            "segmenter, or a plan of one."
        )
    if plan.weights is not None:
        raise UsageError(
            "The plan starts from weights, and a pretraining begins without any. Make one with 'hounsfield plan DATA' "
            "and without --weights."
        )
    return METHODS[plan.family]


def _planned(plan: Any, images: _Images, minutes: float | None, seed: int, changes: Sequence[str]) -> BasePlan:
    """The plan of the pretraining."""
    limit = minutes or EFFORT_MINUTES["standard"]
    own = _method(plan).plan_of(plan, len(images.cohort))
    whole: BasePlan = own.model_copy(
        update={"minutes": limit, "seed": seed, "patience": own.epochs, "pacing": (), "reasons": {}}
    )
    return whole.changed(changes) if changes else whole


def _run(folder: PretrainingFolder, plan: Any, images: _Images, progress: Progress, started: float) -> Pretraining:
    method = _method(plan)
    store = method.build_store(plan, images.cohort, progress)
    folder.record_data(images.cohort.notes, [reference for reference, _ in store.bad])
    # What a pretraining becomes depends on nothing that was built before.
    keras.utils.set_random_seed(plan.seed)
    network = method.build_network(plan)
    held = np.arange(0, len(store), max(HELD_OUT, len(store) // method.HELD))
    rows = np.setdiff1d(np.arange(len(store)), held)
    trainee = method.make_trainee(network, store, rows, held, plan)
    fitted = _fit(folder, plan, trainee, len(rows), progress, started)
    network.set_weights(fitted.weights)
    facts = Pretrained(
        method=method.NAME,
        for_masks=method.FOR_MASKS,
        input_shape=plan.input_shape,
        settings=method.settings(plan),
        images=len(store),
    )
    write_pretrained(folder.path, facts, network, plan.pipeline)
    folder.record("finished", seconds=round(time.monotonic() - started, 1), interrupted=fitted.interrupted)
    if not fitted.interrupted:
        # Last: a folder without checkpoints is finished, and what is not can be continued.
        remove_tree(folder.checkpoints)
    patients = images.table[PATIENT].nunique() or None
    return Pretraining(folder.path, method.NAME, len(store), patients, fitted.history, images.cohort.notes)


def _fit(
    folder: PretrainingFolder, plan: BasePlan, trainee: Any, num_rows: int, progress: Progress, started: float
) -> Fitted:
    make_private(folder.checkpoints)
    decided = list(plan.decided_epochs(1))
    limit = None
    if plan.minutes is not None and not decided:
        left = max(started + 60 * plan.minutes - time.monotonic(), LEAST_PART * 60 * plan.minutes)
        limit = TimeLimit(left, Schedule.of(plan).num_images(num_rows), 0)
    total = decided[-1][1] if decided else plan.epochs

    def on_batch(epoch: int, batch: int, batches: int) -> None:
        progress("pretraining", min((epoch - 1) * batches + batch, total * batches - 1), total * batches)

    def on_epoch(history: list[dict[str, Any]]) -> None:
        folder.write_history(history)
        folder.record("epoch", **history[-1])

    def on_pace(decided: Decisions) -> None:
        nonlocal total
        total = decided[-1][1]
        load_plan(folder.plan).with_epochs(1, decided).save(folder.plan)
        folder.record("pace", after=decided[-1][0], epochs=total)

    fitted = fit(
        trainee,
        Schedule.of(plan),
        seed=plan.seed,
        pace=Pace(plan.epochs, limit, decided),
        checkpoint=folder.checkpoints / "network.npz",
        on_batch=on_batch,
        on_epoch=on_epoch,
        on_pace=on_pace,
    )
    progress("pretraining", total, total)
    return fitted
