"""Typical and worst cases of a regressor with heat maps of what speaks for a higher value."""

from __future__ import annotations

import numpy as np

from hounsfield.drawing.pictures import data_address
from hounsfield.explanation import Explainer, Explanation
from hounsfield.progress import Progress
from hounsfield.reports.base import Cases
from hounsfield.reports.overlays import pair_of_pictures
from hounsfield.reports.sections.cases import explained
from hounsfield.reports.sections.content import Block, Case, Gallery, Paragraph
from hounsfield.runs.values import ValueRun

SIDE = 288  # pixels of a picture
TYPICAL, WORST = 6, 6
TASK = "finding the evidence"


def value_cases(run: ValueRun, progress: Progress) -> Cases:
    """Explain typical and worst cases of the split that is shown.

    Raises:
        HounsfieldError: the run's data or network cannot be read.
    """
    explainer = Explainer(run.bundle)
    worst = _worst(run)
    typical = [row for row in _typical(run) if row not in worst]
    rows = [*typical, *worst]
    table = run.table[run.table["split"] == run.split]
    samples = [str(reference) for reference in table["image"].iloc[rows]]
    found: dict[int, Case] = {}
    for done, (row, result) in enumerate(zip(rows, explained(run, explainer, samples), strict=True), start=1):
        if result is not None:
            found[row] = _case(run, row, result, f"Image {done}")
        progress(TASK, done, len(rows))
    name = "grade" if run.ordered else run.bundle.labels[0]
    blocks: list[Block] = [
        Paragraph(
            f"Method: {explainer.method.description}. Bright areas speak for a higher {name}, scaled to the maximum of "
            "each image. A map shows what the prediction depends on, not that it is correct. Images have pseudonyms "
            "that are used only in this report."
        ),
        Gallery("Typical cases: a median error", tuple(found[row] for row in typical if row in found)),
        Gallery("Largest errors", tuple(found[row] for row in worst if row in found)),
    ]
    return Cases(tuple(blocks), made=bool(found))


def _errors(run: ValueRun) -> np.ndarray:
    return np.abs(run.shown.predicted - run.shown.truth)


def _worst(run: ValueRun) -> list[int]:
    errors = _errors(run)
    return [int(row) for row in np.argsort(-errors, kind="stable")[:WORST] if errors[row] > 0]


def _typical(run: ValueRun) -> list[int]:
    """The cases nearest to the median error, in the order of their true values."""
    errors = _errors(run)
    nearest = np.argsort(np.abs(errors - np.median(errors)), kind="stable")[:TYPICAL]
    return [int(row) for row in nearest[np.argsort(run.shown.truth[nearest], kind="stable")]]


def _case(run: ValueRun, row: int, explanation: Explanation, name: str) -> Case:
    original, overlay = (data_address(picture) for picture in pair_of_pictures(explanation, SIDE))
    truth, predicted = run.shown.truth[row], run.shown.predicted[row]
    texts = [run.bundle.labels[int(place)] if run.ordered else f"{place:.4g}" for place in (truth, predicted)]
    # Of values agreement is a matter of degree.
    right = not run.ordered or truth == predicted
    caption = f"truth: {texts[0]}; predicted: {texts[1]}{explanation.of_several}"
    return Case(name, original, overlay, caption, right=bool(right))
