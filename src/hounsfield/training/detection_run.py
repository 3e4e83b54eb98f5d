"""From a detection plan and a cohort with boxes to a finished run."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from pydantic import ValidationError

from hounsfield.atomic import replacing
from hounsfield.cohorts import Cohort, SceneStore
from hounsfield.cohorts.request import DataRequest
from hounsfield.detection import FasterRCNN
from hounsfield.errors import CohortError, PlanError
from hounsfield.hardware import peak_memory_mb
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.progress import Progress
from hounsfield.runs.folder import RunFolder
from hounsfield.training.detection_finish import DetectionJob, finish_detection
from hounsfield.training.detector import DetectorTrainee, put_weights
from hounsfield.training.fitted import Fitted
from hounsfield.training.fitting import fitted_plan
from hounsfield.training.loop import Schedule, fit
from hounsfield.training.preparation import Prepared
from hounsfield.training.tensorboard import ScalarLog


@dataclass(frozen=True)
class DetectionOutcome:
    """What a finished training of a detector gives: the content of ``metrics.json``, and lines to be read."""

    metrics: dict[str, Any]
    diagnosis: tuple[str, ...]
    uncertainty: tuple[str, ...]


def detection_job(
    folder: RunFolder, plan: DetectionPlan, prepared: Prepared, request: DataRequest, progress: Progress
) -> DetectionJob:
    """Everything that can fail before the first step of training.

    Raises:
        PlanError: the plan does not fit the cohort, or its fields do not fit each other.
        CohortError: a split has no box, or too many images are bad.
    """
    _check_fit(plan, prepared.cohort)
    if prepared.cohort.box_table is not None:
        with replacing(folder.boxes) as temporary:
            prepared.cohort.box_table.to_parquet(temporary)
    plan = fitted_plan(plan, prepared.cohort)
    store = SceneStore.build(prepared.cohort, plan.pipeline, progress=progress)
    _check_store(plan, store)
    return DetectionJob(folder, plan, store, prepared.fingerprint, request.command_line(), progress)


def _check_fit(plan: DetectionPlan, cohort: Cohort) -> None:
    if cohort.task != "detection" or plan.labels != cohort.labels:
        raise PlanError(
            f"The plan is for a detector of {', '.join(plan.labels)}, but the data has a {cohort.task} task with "
            f"{', '.join(cohort.labels)}. Make a plan for this data with 'hounsfield plan DATA'."
        )
    rank = cohort.box_rank
    axes = set(plan.augmentation.flip_axes)
    if len(plan.input_shape) - 1 != rank or not axes <= set(range(rank)):
        raise PlanError(
            f"The plan has the input_shape {plan.input_shape} and mirrors along the axes {sorted(axes)}, but the boxes "
            f"have {rank} axes. Mend input_shape or augmentation.flip_axes."
        )
    most = int(cohort.box_counts()[cohort.rows("train")].sum(axis=1).max())
    if most > plan.max_objects:
        raise PlanError(
            f"A training image has {most:,} objects, and the plan has room for {plan.max_objects:,} in max_objects: "
            f"some would be dropped. Set max_objects to {most:,} or more."
        )


def _check_store(plan: DetectionPlan, store: SceneStore) -> None:
    if store.shape[-1] != plan.input_shape[-1]:
        raise PlanError(
            f"The pipeline makes images of {store.shape[-1]} channels, and the plan's input_shape is "
            f"{plan.input_shape}. Mend one of them in the plan."
        )
    for split in ("train", "validation"):
        rows = store.cohort.rows(split)
        if not sum(len(store.boxes(int(row))[0]) for row in rows):
            raise CohortError(
                f"The {split} split of the cohort '{store.cohort.name}' has no box at all after the pipeline, in "
                f"{len(rows)} images: a detector learns from objects and is judged by them. Add images with boxes "
                "there, or leave the column 'split' out to have the split made."
            )
    try:
        plan.detector_settings()
    except ValidationError as error:
        raise PlanError(f"The plan cannot be used: {error.errors()[0]['msg']}. Mend its anchors.") from error


def run_detection(job: DetectionJob) -> DetectionOutcome:
    """Train, evaluate and bundle a detector."""
    folder = job.folder
    started = time.monotonic() - folder.seconds_in_epochs()
    folder.record_data(job.store.cohort.notes, [reference for reference, _ in job.store.bad])
    folder.checkpoints.mkdir(exist_ok=True)
    keras.utils.set_random_seed(job.plan.seed)
    network = FasterRCNN(job.plan.detector_settings())
    fitted = _train(job, network)
    put_weights(network, fitted.weights)
    folder.record("trained", seconds=round(time.monotonic() - started, 1), interrupted=fitted.interrupted)
    metrics, diagnosis, uncertainty = finish_detection(job, network)
    if not fitted.interrupted:
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
    folder.record("finished", seconds=round(time.monotonic() - started, 1), peak_memory_mb=peak_memory_mb())
    return DetectionOutcome(metrics, diagnosis, uncertainty)


def _train(job: DetectionJob, network: FasterRCNN) -> Fitted:
    plan, folder, cohort = job.plan, job.folder, job.store.cohort
    train, validation = (np.asarray(cohort.rows(split)) for split in ("train", "validation"))
    trainee = DetectorTrainee(network, job.store, train, validation, plan)
    total = plan.epochs * max(1, len(train) // plan.batch_size)
    scalars = ScalarLog(folder.tensorboard)

    def on_batch(epoch: int, batch: int, batches: int) -> None:
        job.progress("training", min((epoch - 1) * batches + batch, total - 1), total)

    def on_epoch(history: list[dict[str, Any]]) -> None:
        folder.write_history(history)
        folder.record("epoch", **history[-1])
        scalars.write(1, history[-1])

    fitted = fit(
        trainee,
        Schedule.of(plan),
        seed=plan.seed,
        checkpoint=folder.checkpoints / "member1.npz",
        on_batch=on_batch,
        on_epoch=on_epoch,
    )
    folder.write_history(fitted.history)
    job.progress("training", total, total)
    return fitted
