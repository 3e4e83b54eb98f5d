"""Testing a finished run of a detector: on its own test split, or on other data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.bundle import Bundle
from hounsfield.cohorts import SceneStore
from hounsfield.evaluation import DetectionAssessment
from hounsfield.images import Image
from hounsfield.inference.detector import Detector
from hounsfield.progress import Progress, silent
from hounsfield.training.detection_finish import assess_look, look
from hounsfield.training.evaluation import tested_cohort


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
    assessment = assess_look(store.cohort, looked, bundle, **options)
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
