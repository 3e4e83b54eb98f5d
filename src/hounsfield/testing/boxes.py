"""Testing a finished run of a detector: on its own test split, or on other data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.boxes import COLUMNS
from hounsfield.bundle import Bundle
from hounsfield.cohorts import SceneStore
from hounsfield.cohorts.cohort import Cohort
from hounsfield.evaluation import DetectionAssessment, Finding
from hounsfield.evaluation.detection import assess_detections
from hounsfield.evaluation.detections import Detections, Truth, as_detections
from hounsfield.images import Image
from hounsfield.inference.detector import Detector
from hounsfield.inference.windows import Found
from hounsfield.progress import Progress, silent
from hounsfield.testing.cohort import tested_cohort


def evaluate_detector(
    run: Path | str, data: str | None = None, *, progress: Progress = silent, **options: Any
) -> tuple[DetectionAssessment, Callable[[int], Image]]:
    """Run the bundle of a detector on test images, and measure it.

    Args:
        run: the run folder.
        data: other DATA with boxes, all images of which are tested, or its test images where it comes with splits;
            ``None`` for the test images of the run's own data.
        progress: told of the images.
        options: those of ``evaluation.assess_detections``; the threshold is the bundle's where not given.

    Returns:
        The figures, and what reads the image of a number among them.

    Raises:
        RunError: the run has no test images, or its data has changed.
        BundleError: the run was not finished, or is a classifier's.
        CohortError: the data cannot be tested on.
    """
    bundle = Bundle.load(run)
    detector = Detector(bundle)
    cohort, note = tested_cohort(run, data, bundle)
    store = SceneStore.build(cohort, bundle.pipeline, progress=progress)
    looked = look(detector, store, np.arange(len(store)), progress, "test")
    assessment = assess_findings(store.cohort, looked, bundle, **options)
    novelty = bundle.counting.novelty if bundle.counting else None
    unlike = int(novelty.unlike({"features": looked.features}).sum()) if novelty else 0
    told = f"{unlike:,} of {len(store):,} images are unlike those of training."
    notes = (
        *store.cohort.notes,
        note,
        f"Found by {detector.engine.description}.",
        *([told] if novelty else []),
        *assessment.notes,
    )

    def read(number: int) -> Image:
        return store.cohort.source.read(str(store.cohort.table["image"].iloc[number]))

    return replace(assessment, notes=notes), read


@dataclass(frozen=True, eq=False)
class RawFindings:
    """What a bundle's detector finds in some rows of a store.

    Attributes:
        rows: (n,) of the store.
        found: of each row, in pixels of the image as read.
        detections: the same with the truths.
        features: (n, features).
    """

    rows: np.ndarray
    found: list[Found]
    detections: Detections
    features: np.ndarray


def look(detector: Detector, store: SceneStore, rows: np.ndarray, progress: Progress, name: str) -> RawFindings:
    """Find objects in rows of a store, down to the floor of scores."""
    found, features = [], []
    for number, row in enumerate(rows.tolist(), start=1):
        looked = detector.look(store.pixels(row))
        found.append(looked.found._replace(boxes=store.change(row).back(looked.found.boxes)))
        features.append(looked.features)
        progress(f"finding objects in {name} images", number, len(rows))
    truths = [Truth(*store.cohort.boxes(row)) for row in rows.tolist()]
    detections = as_detections(truths, [Finding(*each) for each in found], labels=detector.bundle.labels)
    return RawFindings(rows, found, detections, np.stack(features))


def assess_findings(cohort: Cohort, looked: RawFindings, bundle: Bundle, **options: Any) -> DetectionAssessment:
    """Measure what was found, with intervals by known patient; ``options`` are those of ``assess_detections``."""
    patients = cohort.table["patient"].iloc[looked.rows]
    groups = patients.to_numpy() if patients.notna().all() else None
    options = {"threshold": bundle.threshold} | options
    return assess_detections(looked.detections, groups=groups, **options)


def finding_table(cohort: Cohort, looked: RawFindings, labels: tuple[str, ...]) -> pd.DataFrame:
    """One row a finding: image, label, score, the box in pixels of the image as read, and the split."""
    columns = list(COLUMNS[looked.detections.rank])
    parts = []
    for row, found in zip(looked.rows.tolist(), looked.found, strict=True):
        part = pd.DataFrame(np.asarray(found.boxes, np.float64).round(2), columns=columns)
        part.insert(0, "image", cohort.table["image"].iloc[row])
        part.insert(1, "label", [labels[number] for number in found.classes])
        part.insert(2, "score", np.asarray(found.scores, np.float64).round(5))
        part["split"] = cohort.table["split"].iloc[row]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)
