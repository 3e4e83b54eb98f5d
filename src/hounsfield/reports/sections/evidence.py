"""Typical and worst cases with heat maps, and checks of these maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.drawing.pictures import data_address
from hounsfield.errors import BundleError, MissingDependency
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.evaluation.proportions import wilson_interval
from hounsfield.explanation import (
    Explainer,
    Explanation,
    deletion_curve,
    insertion_curve,
    open_method,
    place,
    points_into,
    randomised,
    similarity,
)
from hounsfield.inference.views import run as run_engine
from hounsfield.progress import Progress
from hounsfield.reports.base import Cases
from hounsfield.reports.overlays import pair_of_pictures
from hounsfield.reports.sections.cases import explained
from hounsfield.reports.sections.content import Block, Case, Gallery, Paragraph, Table, interval, number
from hounsfield.runs import LabelRun
from hounsfield.tasks import TASKS

SIDE = 288  # pixels of a picture
TYPICAL, WORST = 6, 8
# Images whose maps are checked; more make the checks more certain and the report slower.
CHECKED, POINTED = 8, 24
BOXES = {2: ("y0", "x0", "y1", "x1"), 3: ("z0", "y0", "x0", "z1", "y1", "x1")}
TASK = "finding the evidence"


def evidence(run: LabelRun, progress: Progress) -> Cases:
    """Explain typical and worst cases of the split that is shown, and check the heat maps.

    Raises:
        HounsfieldError: the run's data or network cannot be read.
    """
    explainer = Explainer(run.bundle)
    answers = run.shown.answers
    typical, errors = _typical(answers), _worst(answers, run.shown.groups)
    worst = [row for rows in errors.values() for row in rows]
    boxed = _boxed(run, len(explainer.bundle.input_shape) - 1)
    rows = list(dict.fromkeys([*typical, *worst, *boxed]))
    samples = [str(reference) for reference in _table(run)["image"].iloc[rows]]
    found: dict[int, Explanation] = {}
    for done, (row, result) in enumerate(zip(rows, explained(run, explainer, samples), strict=True), start=1):
        if result is not None:
            found[row] = result
        progress(TASK, done, len(rows))
    names = {row: f"Image {number}" for number, row in enumerate([*typical, *worst], start=1)}
    blocks: list[Block] = [
        Paragraph(
            f"Method: {explainer.method.description}. Bright areas speak for the label, scaled to the maximum of each "
            "image. A map shows what the prediction depends on, not that it is correct; where the probability is low, "
            "even the maximum may be little. Images have pseudonyms that are used only in this report."
        ),
        Gallery("Typical cases: correct, with median confidence", _cases(run, typical, found, names)),
    ]
    blocks += [Gallery(title, _cases(run, rows, found, names)) for title, rows in errors.items() if rows]
    checks = list(_checks(explainer, run, found, boxed))
    blocks += [Table("Can these maps be trusted?", ("check", "result", "reference"), tuple(checks), wordy=True)]
    return Cases(tuple(blocks), made=bool(found), validated=bool(checks))


def _errors(answers: Outcomes) -> npt.NDArray[np.float64]:
    """(n,) how far the probabilities are from the truth; of several labels the largest distance of those known."""
    return np.asarray((np.abs(answers.truth - answers.scores) * answers.known).max(axis=1), np.float64)


def _typical(answers: Outcomes) -> list[int]:
    """Correct predictions of each label in turn, those nearest to the median error first."""
    errors, right = _errors(answers), answers.right
    columns = [answers.truth[:, column] for column in range(answers.truth.shape[1])]
    groups = [columns[0], ~columns[0]] if TASKS[answers.task].paired else columns
    queues = []
    for group in groups:
        rows = np.flatnonzero(group & right)
        if len(rows):
            queues.append(rows[np.argsort(np.abs(errors[rows] - np.median(errors[rows])), kind="stable")].tolist())
    chosen: list[int] = []
    while len(chosen) < TYPICAL and any(queues):
        chosen += [row for queue in queues if queue and (row := queue.pop(0)) not in chosen]
    return chosen[:TYPICAL]


def _worst(answers: Outcomes, groups: npt.NDArray[Any] | None) -> dict[str, list[int]]:
    """The most confident errors, one for each patient; of two labels misses and false alarms apart."""
    wrong, errors = ~answers.right, _errors(answers)
    kinds = {"Most confident errors": wrong}
    if TASKS[answers.task].paired:
        present = answers.truth[:, 0]
        kinds = {"Most confident misses": wrong & present, "Most confident false alarms": wrong & ~present}
    of_case = make_clusters(answers.truth, groups).of_case
    found = {}
    for title, rows in kinds.items():
        ranked = np.flatnonzero(rows)[np.argsort(-errors[rows], kind="stable")]
        firsts = np.unique(of_case[ranked], return_index=True)[1]
        found[title] = ranked[np.sort(firsts)][: WORST // len(kinds)].tolist()
    return found


def _table(run: LabelRun) -> pd.DataFrame:
    """The predictions of the shown split, row by row as ``answers`` has them."""
    rows = run.table[run.table["split"] == run.split]
    kept = pd.Series(data=True, index=rows.index) if TASKS[run.bundle.task].multi_label else rows["label"].notna()
    return rows[kept].reset_index(drop=True)


def _cases(run: LabelRun, rows: list[int], found: dict[int, Explanation], names: dict[int, str]) -> tuple[Case, ...]:
    table, right = _table(run), run.shown.answers.right
    cases = []
    for row in rows:
        if row not in found:
            continue
        explanation = found[row]
        original, overlay = (data_address(picture) for picture in pair_of_pictures(explanation, SIDE))
        truth, predicted = (
            text if isinstance(text := table[name].iloc[row], str) else "none" for name in ("label", "prediction")
        )
        caption = f"truth: {truth}; predicted: {predicted}, p({explanation.label}) = {explanation.probability:.3f}"
        caption += explanation.of_several
        cases.append(Case(names[row], original, overlay, caption, bool(right[row])))
    return tuple(cases)


def _boxed(run: LabelRun, rank: int) -> list[int]:
    """Correct positive predictions whose finding has a known box, at equal steps."""
    columns = BOXES[rank]
    if not TASKS[run.bundle.task].paired or not set(columns) <= set(run.cohort.columns):
        return []
    known = set(run.cohort.dropna(subset=list(columns))["image"])
    table, answers = _table(run), run.shown.answers
    rows = np.flatnonzero(table["image"].isin(known).to_numpy() & answers.truth[:, 0] & answers.decisions[:, 0])
    return [int(row) for row in rows[:: max(1, len(rows) // POINTED)][:POINTED]]


def _checks(
    explainer: Explainer, run: LabelRun, found: dict[int, Explanation], boxed: list[int]
) -> Iterator[tuple[str, str, str]]:
    checked = {row: found[row] for row in list(found)[:CHECKED]}
    if checked:
        yield from _hiding(explainer, list(checked.values()))
        yield from _shuffled(explainer, list(checked.values()))
    yield from _pointing(run, {row: found[row] for row in boxed if row in found})


def _hiding(explainer: Explainer, cases: list[Explanation]) -> Iterator[tuple[str, str, str]]:
    """Mean areas of deletion and insertion, beside those of a random order."""
    areas = np.array([_areas(explainer, case, seed) for seed, case in enumerate(cases)]).mean(axis=0)
    yield (
        f"Probability while the most relevant areas are blurred first ({len(cases)} images; lower is better)",
        number(float(areas[0])),
        f"{float(areas[1]):.3f} in a random order",
    )
    yield (
        "Probability while the most relevant areas are revealed first (higher is better)",
        number(float(areas[2])),
        f"{float(areas[3]):.3f} in a random order",
    )


def _areas(explainer: Explainer, case: Explanation, seed: int) -> list[float]:
    bundle = explainer.bundle
    pixels = bundle.pipeline.apply(case.original).pixels
    shape, target = pixels.shape[:-1], explainer.target(case.label)

    def probability(batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        found = bundle.calibrated(run_engine(explainer.predictor.engine, batch).probabilities)
        return np.asarray(found[:, int(np.abs(target).argmax())] if target.sum() > 0 else 1 - found[:, 0], np.float64)

    heat = place(case.grid, shape, shape)
    orders = (heat, np.random.default_rng(seed).random(shape).astype(np.float32))
    return [curve(probability, pixels, order).area for curve in (deletion_curve, insertion_curve) for order in orders]


def _shuffled(explainer: Explainer, cases: list[Explanation]) -> Iterator[tuple[str, str, str]]:
    """Similarity to the maps of a network with randomised weights, which should be low."""
    try:
        network = randomised(explainer.bundle.network())
        method = open_method("grad_cam", lambda: network, explainer.predictor.engine)
    except (BundleError, MissingDependency):
        return
    alike = []
    for case in cases:
        pixels = explainer.bundle.pipeline.apply(case.original).pixels
        target = explainer.target(case.label)
        alike.append(similarity(case.grid, method.evidence(pixels, target)))
    yield (
        "Similarity to maps of the same network with randomised weights (rank correlation)",
        f"{float(np.mean(alike)):.2f}",
        "1 would mean that the maps do not depend on what was learned",
    )


def _pointing(run: LabelRun, found: dict[int, Explanation]) -> Iterator[tuple[str, str, str]]:
    if not found:
        return
    table = _table(run)
    rank = next(iter(found.values())).heat.ndim
    boxes = run.cohort.set_index("image")[list(BOXES[rank])]
    hits, shares = [], []
    for row, case in found.items():
        box = boxes.loc[table["image"].iloc[row]].to_numpy(dtype=np.int64)
        hits.append(points_into(case.heat, box))
        shares.append(np.prod(box[rank:] - box[:rank]) / case.heat.size)
    ends: Any = wilson_interval(round(sum(hits)), len(hits))
    yield (
        f"Pointing game: the maximum of the map lies in the box of the finding ({len(hits)} correct predictions)",
        f"{float(np.mean(hits)):.2f} ({interval(ends.low, ends.high, 2)})",
        f"a box covers {float(np.mean(shares)):.2f} of its image",
    )
