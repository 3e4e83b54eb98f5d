"""Does a run rely on what it should not need? Its test images with corners, border and exposure changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hounsfield.bundle import Bundle
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import RunError
from hounsfield.evaluation import as_outcomes
from hounsfield.evaluation.masking_effect import MaskingEffect, masking_effects
from hounsfield.images import Image
from hounsfield.inference import Predictor
from hounsfield.inference.interventions import UNCHANGED, predict_interventions
from hounsfield.inference.views import require_single_images
from hounsfield.progress import Progress, silent
from hounsfield.testing.cohort import tested_cohort
from hounsfield.testing.engine_runs import evenly

# More images make the answer hardly surer, and each is predicted eight times.
MOST_IMAGES = 1000


def mask_shortcuts(
    run: Path | str,
    data: DataRequest | str | None = None,
    *,
    threshold: float | None = None,
    confidence: float = 0.95,
    progress: Progress = silent,
) -> tuple[MaskingEffect, ...]:
    """Predict the test images of a run as they are and after each intervention, and compare the answers.

    Args:
        run: the run folder.
        data: other DATA, as ``evaluate_run`` takes it. Of more than a thousand images, that many at equal steps.
        threshold: of the decisions; the bundle's where not given.
        confidence: nominal coverage of the intervals.
        progress: told of the images.

    Raises:
        RunError: the run has no test rows, its data has changed, or no image can be read.
        ImageError: an image could not be predicted.
        UsageError: the bundle judges several images together.
    """
    bundle = Bundle.load(run)
    require_single_images(bundle, "The masking of shortcuts")
    predictor = Predictor(bundle, threshold=threshold)
    # Part of `evaluate`, whose use of the test images has been counted.
    cohort = tested_cohort(run, data, bundle, None).cohort
    rows = evenly(np.arange(len(cohort)), MOST_IMAGES)
    kept: list[int] = []

    def readable() -> Iterator[Image]:
        for row, image in zip(rows.tolist(), cohort.stream(rows), strict=True):
            if isinstance(image, Image):
                kept.append(row)
                yield image

    found = predict_interventions(predictor, readable(), progress=progress, total=len(rows))
    if not kept:
        raise RunError(f"None of the {len(rows):,} test images can be read. Restore the data, or name other data.")
    truth = cohort.targets()[kept]
    answers = {
        name: as_outcomes(
            truth, scores, labels=bundle.labels, task=bundle.classifier_task, threshold=predictor.threshold
        )
        for name, scores in found.items()
    }
    patients = cohort.table["patient"].iloc[kept]
    groups = patients.to_numpy() if patients.notna().all() else None
    before = answers.pop(UNCHANGED)
    return masking_effects(before, answers, groups=groups, confidence=confidence)
