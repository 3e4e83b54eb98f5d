"""What follows the last epoch of a detector: the bundle, its score, the figures on validation and test."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.atomic import replacing, write_json
from hounsfield.bundle import Bundle, export_onnx, save_bundle
from hounsfield.cohorts import SceneStore
from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.detection import FasterRCNN
from hounsfield.errors import BundleError, MissingDependency
from hounsfield.evaluation import (
    DetectionAssessment,
    Novelty,
    choose_score,
    estimates_to_dict,
    quick_precision,
)
from hounsfield.evaluation.detection_uncertainty import DetectionUncertainty
from hounsfield.images import Image
from hounsfield.inference import Detector, check_bfloat16
from hounsfield.inference.onnx_networks import checked_precision
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.progress import Progress
from hounsfield.reports.figures import learning_curves, save_figure
from hounsfield.reports.table import PAGES
from hounsfield.runs.folder import RunFolder
from hounsfield.testing.boxes import RawFindings
from hounsfield.testing.boxes import assess as assess_findings
from hounsfield.testing.boxes import predict as look
from hounsfield.testing.boxes import table as finding_table
from hounsfield.testing.engine_runs import evenly
from hounsfield.training.job import origin

logger = logging.getLogger(__name__)

# Images on which bfloat16 is compared with float32, and training images that are looked at again: by them overfitting
# is judged, and what images like those of training are.
CHECKED, REVISITED = 24, 400
# A difference of AP50 between training and validation above this is worth a word; so is less than this in training.
NOTABLE_GAP, LEARNED = 0.1, 0.7


@dataclass(frozen=True)
class DetectionJob:
    """One training of a detector: what was decided, on which images, where it is written, and who is told.

    Attributes:
        folder: the run folder.
        plan: with its pipeline fitted.
        store: the prepared images.
        seen: the fingerprint of the training rows.
        data: DATA and its options, as they stand in a command.
        progress: told of all that takes long.
    """

    folder: RunFolder
    plan: DetectionPlan
    store: SceneStore
    seen: Fingerprint
    data: str
    progress: Progress


def finish_detection(job: DetectionJob, network: FasterRCNN) -> tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]:
    """Write the bundle, metrics, findings and figures of a training.

    The score from which a finding is said is chosen on validation; test figures are those of the bundle, run by the
    engine that will run it later.

    Returns:
        The content of ``metrics.json``, lines on overfitting, and lines on the score and on counts.
    """
    folder, store = job.folder, job.store
    detector, held = _deploy(job, network)
    train, test = (np.asarray(store.cohort.rows(split)) for split in ("train", "test"))
    revisited = look(detector, store, evenly(train, REVISITED), job.progress, "training")
    bundle = _with_score(
        detector.bundle, held, Novelty.fit({"features": revisited.features}, {"features": held.features})
    )
    looks = {"validation": held}
    if len(test):
        looks["test"] = look(detector, store, test, job.progress, "test")
    assessed = {split: assess_findings(store.cohort, each, bundle) for split, each in looks.items()}
    metrics = {split: estimates_to_dict(dict(assessment.estimates)) for split, assessment in assessed.items()}
    diagnosis = _diagnosis(job, revisited, held)
    uncertainty = _uncertainty_lines(bundle, assessed)
    folder.record("diagnosis", lines=diagnosis)
    folder.record("uncertainty", lines=uncertainty)
    table = pd.concat([finding_table(store.cohort, each, bundle) for each in looks.values()])
    with replacing(folder.predictions) as temporary:
        table.to_csv(temporary, index=False)
    split = list(looks)[-1]
    _draw(job, assessed[split], looks[split].rows, split)
    # Written last: a run that has its metrics has all else.
    write_json(folder.metrics, metrics)
    return metrics, tuple(diagnosis), tuple(uncertainty)


def _deploy(job: DetectionJob, network: FasterRCNN) -> tuple[Detector, RawFindings]:
    """The detector as it will be used, and what it finds in the validation images."""
    folder, plan, store = job.folder, job.plan, job.store
    bundle = save_bundle(
        folder.bundle,
        network,
        pipeline=plan.pipeline,
        labels=plan.labels,
        task="detection",
        settings={"window_overlap": plan.window_overlap},
        **origin(job.seen),
    )
    validation = np.asarray(store.cohort.rows("validation"))
    try:
        export_onnx(bundle)
    except (BundleError, MissingDependency) as error:
        folder.record("warning", text=str(error))
        logger.warning("%s", error)
    detector = Detector(bundle)
    held = look(detector, store, validation, job.progress, "validation")
    if bundle.has_onnx:
        checked = (store.pixels(int(row)) for row in evenly(validation, CHECKED))
        same = check_bfloat16(_with_score(bundle, held), checked)
        folder.record("engine check", bfloat16_same_findings=same)
        detector = Detector(bundle.with_check("bfloat16", same))
        if checked_precision(detector.bundle) == "bf16":
            held = look(detector, store, validation, job.progress, "validation")
    folder.record("engine", name=detector.engine.name)
    return detector, held


def _with_score(bundle: Bundle, held: RawFindings, novelty: Novelty | None = None) -> Bundle:
    """The bundle with the score from which a finding is said, and with what its counts were worth."""
    threshold = choose_score(held.detections)
    counts = DetectionUncertainty(held.detections.truth_counts(), held.detections.counts(threshold), novelty)
    return bundle.with_uncertainty(counts, threshold=threshold)


def _diagnosis(job: DetectionJob, revisited: RawFindings, held: RawFindings) -> list[str]:
    """Whether the detector knows its training images better than others, and what to try."""
    trained, validated = (quick_precision(each.detections)[1] for each in (revisited, held))
    gap = trained - validated
    told = f"AP50 {trained:.3f} on {len(revisited.rows)} training images and {validated:.3f} in validation"
    lines = [f"Overfitting: {told}, gap {gap:+.3f}."]
    command = f"hounsfield train {job.data} --plan {job.folder.plan}"
    if trained < LEARNED:
        lines.append(f"  Try: a longer training: {command} --set epochs={2 * job.plan.epochs}")
    elif gap > NOTABLE_GAP:
        lines.append(f"  Try: stronger augmentation, or more images: {command} --set augmentation=strong")
    return lines


def _uncertainty_lines(bundle: Bundle, assessed: dict[str, DetectionAssessment]) -> list[str]:
    lines = [
        f"A finding is said from a score of {bundle.threshold:.3f}, the one of the greatest F1 on validation images."
    ]
    for split, assessment in assessed.items():
        error = assessment.estimates["count_mae"]
        lines.append(f"Counts on {split}: wrong by {error.value:.2f} objects an image on average.")
    return lines


def _draw(job: DetectionJob, assessment: DetectionAssessment, rows: np.ndarray, split: str) -> None:
    drawn = PAGES[assessment.family].figures(assessment, lambda number: _read(job, int(rows[number])))
    figures = {f"{name}_{split}": figure for name, figure in drawn.items()}
    figures["learning_curves"] = learning_curves(pd.read_csv(job.folder.history))
    for name, figure in figures.items():
        save_figure(figure, job.folder.figures / f"{name}.png")


def _read(job: DetectionJob, row: int) -> Image:
    cohort = job.store.cohort
    return cohort.source.read(str(cohort.table["image"].iloc[row]))
