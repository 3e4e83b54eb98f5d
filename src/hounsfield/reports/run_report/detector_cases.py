"""The section with typical and worst cases of a detector: the images with true boxes and findings drawn on them."""

from __future__ import annotations

import numpy as np

from hounsfield.errors import HounsfieldError
from hounsfield.evaluation.detection import DetectionAssessment, image_errors
from hounsfield.images.image import Image
from hounsfield.progress import Progress, silent
from hounsfield.reports.boxed import boxed, by_outcome
from hounsfield.reports.detection import worst_images
from hounsfield.reports.pictures import data_address
from hounsfield.reports.run_report.content import Block, Callout, Case, Cases, Paragraph, Section
from hounsfield.reports.run_report.evidence import Evidence
from hounsfield.reports.run_report.sources import run_images
from hounsfield.runs.record import DetectorRun

SIDE = 448  # pixels of a picture
TYPICAL, WORST = 4, 4
TASK = "drawing cases"


def cases_section(run: DetectorRun, *, wanted: bool = True, progress: Progress = silent) -> Evidence:
    """Draw typical and worst cases of the shown split; where that cannot be, say why."""
    if not wanted:
        return Evidence(_section(Callout("note", "Left out", "The report was made without pictures, as asked for.")))
    try:
        return _drawn(run, progress)
    except HounsfieldError as error:
        return Evidence(_section(Callout("warning", "No case could be shown", str(error))))


def _section(*blocks: Block) -> Section:
    return Section("evidence", "Cases", blocks)


def _drawn(run: DetectorRun, progress: Progress) -> Evidence:
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
            "Solid lines are the truth: blue around objects that were found, wide orange around those that were "
            "missed. Dashes are findings: light blue for true ones, wide pink for false ones. Of a volume the slice "
            "with most boxes is shown. Images are known by pseudonyms of this report alone."
        ),
        Cases("Typical cases: a middling share of errors", tuple(cases[row] for row in typical if row in cases), True),
    ]
    if worst:
        blocks.append(
            Cases("Worst cases: most errors taken together", tuple(cases[row] for row in worst if row in cases), True)
        )
    return Evidence(_section(*blocks), made=bool(cases))


def _typical(test: DetectionAssessment, worst: list[int]) -> list[int]:
    """Images with objects whose share of errors is nearest to the median, in the order of their objects."""
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
    caption = f"{hits + missed:,} objects: {hits:,} found, {missed:,} missed; {false:,} false findings"
    original, overlay = (data_address(boxed(image, drawn, side=SIDE)) for drawn in ((), groups))
    return Case(name, original, overlay, caption, right=True)
