"""The part of ``hounsfield evaluate`` on detection: anyone's findings against the truth, and how it is printed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, get_args

from hounsfield.cli.backend import announce_backend
from hounsfield.cli.console import out, print_json, say
from hounsfield.errors import EvaluationError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from hounsfield.cohorts.box_lists import BoxList
    from hounsfield.evaluation.classification import Estimate
    from hounsfield.evaluation.detection import DetectionAssessment
    from hounsfield.evaluation.detection_matching import Criterion


@dataclass(frozen=True)
class TableTest:
    """How a table of findings is to be judged.

    Attributes:
        threshold: the score from which a finding counts as said; ``None`` for .5.
        criterion: what hits an object in the free-response figures: "iou" or "centre".
        overlap: IoU from which a finding hits an object.
        num_replicates: of the bootstrap, and its ``seed``; ``confidence`` is the coverage of its intervals.
    """

    threshold: float | None
    criterion: str
    overlap: float
    num_replicates: int
    seed: int
    confidence: float


def evaluate_findings(found: Path, truth: Path, test: TableTest) -> DetectionAssessment:
    """Judge a list of findings by a list of true boxes.

    Raises:
        CohortError: a list cannot be read.
        EvaluationError: the lists are not of the same images.
        UsageError: the criterion is not known.
    """
    from hounsfield.cohorts.box_lists import read_findings, read_truth
    from hounsfield.evaluation import assess_detections, detections_from_tables

    criterion = known_criterion(test.criterion)
    true = read_truth(truth)
    given = read_findings(found, true)
    if len(given.boxes) and given.rank != true.rank:
        raise EvaluationError(
            f"The findings have boxes of {2 * given.rank} coordinates and the truth of {2 * true.rank}: expected both "
            "of images, or both of volumes. Give lists of one kind."
        )
    true, told = _same_splits(given, true)
    images = true.images["image"].astype(str)
    boxes, notes = _same_images(given, images)
    notes = [*told, *notes]
    labels = (*true.labels, *(label for label in given.labels if label not in true.labels))
    notes += _remarks(true, boxes, labels, test.threshold)
    detections = detections_from_tables(true.boxes, boxes, images=list(images), labels=labels)
    patients = true.images["patient"].to_numpy(dtype=object) if "patient" in true.images else None
    if patients is None:
        notes.append("The truth names no patients: every image is taken for another patient.")
    return assess_detections(
        detections,
        threshold=0.5 if test.threshold is None else test.threshold,
        criterion=criterion,
        overlap=test.overlap,
        groups=patients,
        notes=(*true.notes, *given.notes, *notes),
        num_replicates=test.num_replicates,
        seed=test.seed,
        confidence=test.confidence,
    )


def known_criterion(name: str) -> Criterion:
    """The criterion of a name.

    Raises:
        UsageError: there is none of this name.
    """
    from hounsfield.evaluation.detection_matching import Criterion

    known: dict[str, Criterion] = {each: each for each in get_args(Criterion)}
    if name not in known:
        raise UsageError(f"The criterion '{name}' is not known; expected {' or '.join(known)}.")
    return known[name]


def _same_splits(given: BoxList, true: BoxList) -> tuple[BoxList, list[str]]:
    """The truth of the splits that the findings are of, where both name splits, as the findings of a run do."""
    if "split" not in given.images or "split" not in true.images or given.images.empty:
        return true, []
    wanted = sorted(set(given.images["split"].astype(str)))
    kept = true.images[true.images["split"].astype(str).isin(wanted)].reset_index(drop=True)
    boxes = true.boxes[true.boxes["image"].isin(kept["image"])].reset_index(drop=True)
    if kept.empty:
        return true, [
            f"The truth has no image of the split {', '.join(wanted)} that the findings name: all are judged."
        ]
    if len(kept) == len(true.images):
        return true, []
    told = f"Only the {len(kept):,} images of the split {', '.join(wanted)} are judged: the findings are of these."
    return replace(true, images=kept, boxes=boxes), [told]


def _same_images(given: BoxList, images: pd.Series[str]) -> tuple[pd.DataFrame, list[str]]:
    """The findings under the truth's names of images; by the file's name alone where paths differ throughout."""
    boxes, known = given.boxes, set(images)
    if boxes.empty or boxes["image"].isin(known).any():
        missing, notes = boxes["image"][~boxes["image"].isin(known)], []
    else:
        by_name = {PurePosixPath(image).name: image for image in images}
        if len(by_name) < len(known):
            by_name = {}
        renamed = boxes["image"].map(lambda image: by_name.get(PurePosixPath(image).name))
        missing = boxes["image"][renamed.isna()]
        boxes = boxes.assign(image=renamed)
        notes = ["Images were matched by their file names, since the paths differ."]
    if len(missing):
        raise EvaluationError(
            f"The findings name {missing.nunique():,} images that the truth does not, first '{missing.iloc[0]}' (the "
            f"truth has {len(known):,} images, such as '{images.iloc[0]}'). Expected the same names in both. In the "
            "truth, give an image without objects a row with an empty box."
        )
    return boxes, notes


def _remarks(true: BoxList, found: pd.DataFrame, labels: tuple[str, ...], threshold: float | None) -> list[str]:
    images = len(true.images)
    silent = images - found["image"].nunique()
    notes = [f"{len(true.boxes):,} objects in {images:,} images; {len(found):,} findings, none in {silent:,} images."]
    strange = labels[len(true.labels) :]
    if strange:
        notes.append(f"Findings of {', '.join(strange)} are all false: the truth has no such object.")
    if threshold is None and len(found):
        notes.append("Findings with a score of at least .5 are counted; choose another on other data by --threshold.")
    return notes


def evaluate_detection_run(run: Path, data: str | None, test: TableTest, *, output: Path | None, as_json: bool) -> None:
    """Test the bundle of a detector on its own test images or on other data, and print what that says."""
    from hounsfield.cli.console import progress_bars
    from hounsfield.reports.detection import write_detection_assessment

    criterion = known_criterion(test.criterion)
    announce_backend()
    from hounsfield.training import evaluate_detector

    with progress_bars() as progress:
        assessment, read = evaluate_detector(
            run,
            data,
            progress=progress,
            criterion=criterion,
            overlap=test.overlap,
            num_replicates=test.num_replicates,
            seed=test.seed,
            confidence=test.confidence,
            **({} if test.threshold is None else {"threshold": test.threshold}),
        )
    report_detections(assessment, test.confidence, as_json=as_json)
    if output is not None:
        write_detection_assessment(assessment, output, read=read)
        say(f"Metrics and figures: {output}")


def report_detections(assessment: DetectionAssessment, confidence: float, *, as_json: bool = False) -> None:
    """Print what a test of detection says: notes to standard error, figures to standard output."""
    for note in assessment.notes:
        say(note)
    if as_json:
        print_json(assessment.to_dict())
        return
    from rich.table import Table

    from hounsfield.evaluation.detection_titles import detection_title

    table = Table("", "value", f"{confidence:.0%} interval", "n")
    for name, estimate in assessment.estimates.items():
        title = detection_title(name, assessment.detections.labels)
        table.add_row(title, *_cells(estimate), f"{estimate.n:,}")
    out.print(table)


def _cells(estimate: Estimate) -> tuple[str, str]:
    value = f"{estimate.value:.3f}" if math.isfinite(estimate.value) else "–"
    return value, f"{estimate.low:.3f} to {estimate.high:.3f}" if math.isfinite(estimate.low) else "–"


def evaluate_table(found: Path, truth: Path, test: TableTest, *, output: Path | None, as_json: bool) -> None:
    """Judge a list of findings, print the figures, and write them with their pictures where a folder is named.

    Raises:
        UsageError: what is to be judged is a run.
    """
    if found.is_dir():
        raise UsageError(
            f"{found} is a folder, and --truth is for a table of findings. A run knows the truth of its data: "
            "leave the option out, or give the table."
        )
    assessment = evaluate_findings(found, truth, test)
    report_detections(assessment, test.confidence, as_json=as_json)
    if output is not None:
        from hounsfield.reports.detection import write_detection_assessment

        for path in write_detection_assessment(assessment, output):
            say(f"wrote {path}")
