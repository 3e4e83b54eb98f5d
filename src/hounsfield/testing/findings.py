"""Anyone's list of findings with boxes, judged by a list of true boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from hounsfield.cohorts.box_lists import BoxList, read_findings, read_truth
from hounsfield.errors import EvaluationError
from hounsfield.evaluation import DetectionAssessment, assess_detections, detections_from_tables
from hounsfield.evaluation.detection_matching import known_criterion


def evaluate_findings(
    found: Path,
    truth: Path,
    *,
    threshold: float | None = None,
    criterion: str = "iou",
    notes: Sequence[str] = (),
    **options: Any,
) -> DetectionAssessment:
    """Judge a list of findings by a list of true boxes.

    Args:
        found: the findings with their scores.
        truth: the true boxes.
        threshold: the lowest score of a finding that counts at the operating point; .5 where not given.
        criterion: what hits an object in the free-response figures: "iou" or "centre".
        notes: what a reader must know beside what is noted here.
        options: ``overlap``, ``num_replicates``, ``seed`` and ``confidence`` of ``assess_detections``.

    Raises:
        CohortError: a list cannot be read.
        EvaluationError: the lists are not of the same images.
        UsageError: the criterion is not known.
    """
    known = known_criterion(criterion)
    true = read_truth(truth)
    given = read_findings(found, true)
    if len(given.boxes) and given.rank != true.rank:
        raise EvaluationError(
            f"The findings have boxes of {2 * given.rank} coordinates and the truth of {2 * true.rank}: expected both "
            "of images, or both of volumes. Give lists of one kind."
        )
    true, told = _same_splits(given, true)
    images = true.images["image"].astype(str)
    boxes, matched = _same_images(given, images)
    notes = [*notes, *told, *matched]
    labels = (*true.labels, *(label for label in given.labels if label not in true.labels))
    notes += _remarks(true, boxes, labels, threshold)
    detections = detections_from_tables(true.boxes, boxes, images=list(images), labels=labels)
    patients = true.images["patient"].to_numpy(dtype=object) if "patient" in true.images else None
    if patients is None:
        notes.append("The truth names no patients, so every image counts as a patient of its own.")
    return assess_detections(
        detections,
        threshold=0.5 if threshold is None else threshold,
        criterion=known,
        groups=patients,
        notes=(*true.notes, *given.notes, *notes),
        **options,
    )


def _same_splits(given: BoxList, true: BoxList) -> tuple[BoxList, list[str]]:
    """The truth of the splits that the findings are of, where both name splits, as the findings of a run do."""
    if "split" not in given.images or "split" not in true.images or given.images.empty:
        return true, []
    wanted = sorted(set(given.images["split"].astype(str)))
    kept = true.images[true.images["split"].astype(str).isin(wanted)].reset_index(drop=True)
    boxes = true.boxes[true.boxes["image"].isin(kept["image"])].reset_index(drop=True)
    if kept.empty:
        told = f"The truth has no image of the split {', '.join(wanted)} that the findings name: all are evaluated."
        return true, [told]
    if len(kept) == len(true.images):
        return true, []
    told = f"Only the {len(kept):,} images of the split {', '.join(wanted)} are evaluated: the findings are of these."
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
    notes = [
        f"{len(true.boxes):,} objects in {images:,} images; {len(found):,} findings; {silent:,} images have no finding."
    ]
    strange = labels[len(true.labels) :]
    if strange:
        notes.append(f"Findings of {', '.join(strange)} are all false: the truth has no such object.")
    if threshold is None and len(found):
        notes.append(
            "Findings with a score of .5 or more count; choose another threshold, on other data, with --threshold."
        )
    return notes
