"""Typical and worst cases of a segmenter: images with true and predicted outlines."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from hounsfield.cohorts import Cohort, load_request, read_mask
from hounsfield.cohorts.request import DataRequest
from hounsfield.drawing.pictures import data_address
from hounsfield.errors import ImageError
from hounsfield.images.image import Image
from hounsfield.inference import BadImage
from hounsfield.inference.masks import Segmenter
from hounsfield.progress import Progress
from hounsfield.reports.base import Cases
from hounsfield.reports.mask_figures import compared_pictures, worst_images
from hounsfield.reports.sections.content import Block, Case, Gallery, Paragraph
from hounsfield.runs.masks import MaskRun

SIDE = 448  # pixels of a picture
TYPICAL, WORST = 4, 4
TASK = "drawing cases"


class _Outlined(NamedTuple):
    """An image with its true mask and the bundle's."""

    image: Image
    true: Image
    predicted: Image


def outlined_cases(run: MaskRun, progress: Progress) -> Cases:
    """Outline typical and worst cases of the split that is shown.

    Raises:
        HounsfieldError: the run's data or network cannot be read.
    """
    test = run.shown
    worst = worst_images(test, WORST).tolist()
    typical = [row for row in _typical(run) if row not in worst]
    request = DataRequest.from_dict(run.environment["data"])
    cohort = load_request(request, labels=run.bundle.labels, task=run.bundle.task)
    segmenter, found = Segmenter(run.bundle), {}
    for number, row in enumerate(rows := [*typical, *worst], start=1):
        case = _read(cohort, segmenter, test.images[row])
        if case is not None:
            found[row] = _case(run, row, case, f"Image {number}")
        progress(TASK, number, len(rows))
    blocks: list[Block] = [
        Paragraph(
            "Solid outlines are true, dashed ones predicted, one colour per label. Of a volume the slice with most of "
            "both is shown. Images have pseudonyms that are used only in this report."
        ),
        Gallery("Typical cases: a median Dice", tuple(found[row] for row in typical if row in found), True),
    ]
    if worst:
        blocks.append(
            Gallery("Worst cases: the lowest mean Dice", tuple(found[row] for row in worst if row in found), True)
        )
    return Cases(tuple(blocks), made=bool(found))


def _read(cohort: Cohort, segmenter: Segmenter, name: str) -> _Outlined | None:
    """The masks of one image; ``None`` where it can no longer be read."""
    rows = np.flatnonzero(cohort.table["image"].astype(str) == name)
    if not len(rows):
        return None
    try:
        image = cohort.read(int(rows[0]))
        true = read_mask(cohort, int(rows[0]), image)
    except ImageError:
        return None
    predicted = next(iter(segmenter.stream(image)))
    return None if isinstance(predicted, BadImage) else _Outlined(image, true, predicted.mask)


def _typical(run: MaskRun) -> list[int]:
    """The images nearest to the median Dice, in its order."""
    scores = run.shown.of_images("dice")
    known = np.flatnonzero(~np.isnan(scores))
    if not len(known):
        return []
    nearest = known[np.argsort(np.abs(scores[known] - np.median(scores[known])), kind="stable")][:TYPICAL]
    return [int(row) for row in nearest[np.argsort(scores[nearest], kind="stable")]]


def _case(run: MaskRun, row: int, case: _Outlined, name: str) -> Case:
    masks = (np.asarray(case.true.pixels), np.asarray(case.predicted.pixels))
    original, overlay = compared_pictures(case.image, masks, run.bundle.labels, side=SIDE)
    values = run.shown.of_cases("dice")[row]
    pairs = zip(run.bundle.labels, values.tolist(), strict=True)
    known = [(label, value) for label, value in pairs if not math.isnan(value)]
    told = [f"{label}: {value:.3f}" for label, value in known]
    return Case(name, data_address(original), data_address(overlay), f"Dice of {', '.join(told)}", right=True)
