"""Typical and worst cases of a detector: images with true boxes and findings drawn on them."""

from __future__ import annotations

import numpy as np

from hounsfield.drawing.boxed import boxed, by_outcome
from hounsfield.drawing.pictures import data_address
from hounsfield.evaluation.detection import DetectionAssessment, image_errors
from hounsfield.images.image import Image
from hounsfield.progress import Progress
from hounsfield.reports.base import Cases
from hounsfield.reports.box_figures import worst_images
from hounsfield.reports.sections.cases import run_images
from hounsfield.reports.sections.content import Block, Case, Gallery, Paragraph
from hounsfield.runs import BoxRun

SIDE = 448  # pixels of a picture
TYPICAL, WORST = 4, 4
TASK = "drawing cases"


def drawn_cases(run: BoxRun, progress: Progress) -> Cases:
    """Draw typical and worst cases of the split that is shown.

    Raises:
        CohortError: the run's data is no longer there.
    """
    test = run.shown
    worst = worst_images(test, WORST).tolist()
    typical = _typical(test, worst)
    references = list(run.rows(run.split)["image"])
    rows = [*typical, *worst]
    images = dict(zip(rows, run_images(run, [references[row] for row in rows]), strict=True))
    cases = {}
    for number, row in enumerate(rows, start=1):
        image = images[row]
        if image is not None:
            cases[row] = _case(test, row, image, f"Image {number}")
        progress(TASK, number, len(rows))
    blocks: list[Block] = [
        Paragraph(
            "Solid lines are true objects: blue where found, wide orange where missed. Dashed lines are findings: "
            "light blue where correct, wide pink for false positives. Of a volume the slice with most boxes is "
            "shown. Images have pseudonyms that are used only in this report."
        ),
        Gallery("Typical cases: a median share of errors", tuple(cases[row] for row in typical if row in cases), True),
    ]
    if worst:
        blocks.append(
            Gallery(
                "Worst cases: most missed objects and false positives",
                tuple(cases[row] for row in worst if row in cases),
                True,
            )
        )
    return Cases(tuple(blocks), made=bool(cases))


def _typical(test: DetectionAssessment, worst: list[int]) -> list[int]:
    """Images with objects whose share of errors is nearest to the median, by number of objects."""
    errors = image_errors(test.detections, threshold=test.threshold, overlap=test.overlap)
    hits, wrong = errors["hits"], errors["missed"] + errors["false"]
    share = wrong / np.maximum(hits + wrong, 1)
    rows = np.array([row for row in np.flatnonzero(hits + errors["missed"]) if row not in worst], np.int64)
    if not len(rows):
        return []
    nearest = rows[np.argsort(np.abs(share[rows] - np.median(share[rows])), kind="stable")][:TYPICAL]
    return [int(row) for row in nearest[np.argsort((hits + errors["missed"])[nearest], kind="stable")]]


def _case(test: DetectionAssessment, row: int, image: Image, name: str) -> Case:
    errors = image_errors(test.detections, threshold=test.threshold, overlap=test.overlap)
    groups = by_outcome(test.detections, row, threshold=test.threshold, overlap=test.overlap)
    hits, missed, false = (int(errors[key][row]) for key in ("hits", "missed", "false"))
    caption = f"{hits + missed:,} objects: {hits:,} found, {missed:,} missed; {false:,} false positives"
    original, overlay = (data_address(boxed(image, drawn, side=SIDE)) for drawn in ((), groups))
    return Case(name, original, overlay, caption, right=True)
