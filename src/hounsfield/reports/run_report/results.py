"""The section on what the test says: figures with intervals, curves, decisions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hounsfield.evaluation.answers import Answers
from hounsfield.evaluation.classification import Estimate
from hounsfield.evaluation.curves import confusion_matrix, precision_recall_curve, roc_curve
from hounsfield.evaluation.metrics import METRICS
from hounsfield.reports.figures import precision_recall_figure, roc_figure, score_histogram
from hounsfield.reports.run_report.content import (
    Block,
    Drawing,
    Matrix,
    Paragraph,
    Section,
    Table,
    number,
    with_interval,
)
from hounsfield.reports.run_report.record import RunRecord
from hounsfield.reports.svg import svg_of

# Metrics in the order in which a reader asks for them.
ORDER = tuple(METRICS)
CURVE_POINTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def results_section(run: RunRecord) -> Section:
    """Every metric with its interval, curves, and the confusion matrix."""
    answers = run.shown.answers
    patients = f" of {len(set(run.shown.groups)):,} patients" if run.shown.groups is not None else ""
    blocks: list[Block] = [
        Paragraph(
            f"{len(answers):,} {run.split} images{patients}. Intervals hold the true figure in 95 of 100 such studies; "
            "they are by patient where patients are known."
        ),
        metric_table(run),
        *_class_table(run),
        *_curves(run),
        *_confusions(answers),
    ]
    return Section("results", "Results", tuple(blocks))


def metric_table(run: RunRecord) -> Table:
    """Each metric on validation and on the shown split."""
    splits = [split for split in (run.split, "validation") if split in run.metrics]
    splits = list(dict.fromkeys(splits))
    known = [name for name in ORDER if name in run.estimates]
    rows = []
    for name in known:
        cells = [with_interval(run.metrics[split].get(name, {})) for split in splits]
        rows.append((METRICS[name].title, *cells, f"{run.estimates[name]['n']:,}", run.estimates[name].get("note", "")))
    return Table(
        "Figures with 95 % intervals",
        ("metric", *splits, f"n ({run.split})", ""),
        tuple(rows),
        "Validation images chose the epoch and the calibration; their figures are somewhat too good.",
    )


def _class_table(run: RunRecord) -> Iterator[Table]:
    """The metrics of each label, where there are several."""
    labels = run.bundle.labels if run.bundle.task != "binary" else ()
    names = [
        name for name in ORDER if METRICS[name].per_label and f"{name}_{labels[0] if labels else ''}" in run.estimates
    ]
    if not names:
        return
    rows = []
    for label in labels:
        found = [run.estimates.get(f"{name}_{label}", {}) for name in names]
        rows.append((label, *(with_interval(estimate) for estimate in found)))
    yield Table("Each label against the rest", ("label", *(METRICS[name].title for name in names)), tuple(rows))


def _curves(run: RunRecord) -> Iterator[Drawing]:
    answers = run.shown.answers
    if not answers.answerable.any():
        return
    estimates = {name: _estimate(found) for name, found in run.estimates.items()}
    yield Drawing(
        svg_of(roc_figure(answers, estimates), "roc", "ROC curve"),
        "How many images with the label are found, against how many without it are called wrongly, at every threshold.",
        _roc_table(answers),
    )
    yield Drawing(
        svg_of(precision_recall_figure(answers, estimates), "pr", "Precision-recall curve"),
        "How many of the calls are right, against how many images with the label are found. Dotted: guessing.",
        _precision_table(answers),
    )
    yield Drawing(
        svg_of(score_histogram(answers, run.bundle.threshold), "scores", "Histogram of probabilities"),
        "How the probabilities are distributed among images with and without the label.",
        _score_table(answers),
        wide=answers.truth.shape[1] > 1,
    )


def _estimate(found: Mapping[str, Any]) -> Estimate:
    value, low, high = (math.nan if found.get(name) is None else found[name] for name in ("value", "low", "high"))
    return Estimate(value, low, high, int(found.get("n", 0)))


def _asked(answers: Answers) -> list[tuple[str, int]]:
    """The questions that can be ranked, and their columns."""
    return [(answers.questions[column], int(column)) for column in np.flatnonzero(answers.answerable)]


def _roc_table(answers: Answers) -> Table:
    rows = []
    for question, column in _asked(answers):
        curve = roc_curve(answers.truth[:, column], answers.scores[:, column])
        rows.append((question, *(number(float(curve.y[curve.x <= at].max())) for at in CURVE_POINTS)))
    columns = ("sensitivity at 1 − specificity of", *(f"{at:g}" for at in CURVE_POINTS))
    return Table("", columns, tuple(rows))


def _precision_table(answers: Answers) -> Table:
    rows = []
    for question, column in _asked(answers):
        curve = precision_recall_curve(answers.truth[:, column], answers.scores[:, column])
        rows.append((question, *(number(float(curve.y[curve.x >= at].max())) for at in CURVE_POINTS)))
    return Table("", ("precision at recall of", *(f"{at:g}" for at in CURVE_POINTS)), tuple(rows))


def _score_table(answers: Answers) -> Table:
    rows = []
    for question, column in _asked(answers):
        for truth, name in ((True, question), (False, f"not {question}")):
            scores = answers.scores[answers.truth[:, column] == truth, column]
            points = np.percentile(scores, (5, 25, 50, 75, 95))
            rows.append((name, f"{len(scores):,}", *(number(float(point)) for point in points)))
    return Table("", ("images", "n", "5 %", "25 %", "median", "75 %", "95 %"), tuple(rows))


def _confusions(answers: Answers) -> Iterator[Block]:
    matrices = confusion_matrix(answers)
    if answers.task != "multi-label":
        counts = tuple(tuple(map(int, row)) for row in matrices)
        yield Matrix(answers.labels, counts, "Confusion matrix: rows are the truth, columns the decision.")
        return
    rows = [
        (label, *(f"{int(count):,}" for count in (both[1, 1], both[0, 1], both[1, 0], both[0, 0])))
        for label, both in zip(answers.labels, matrices, strict=True)
    ]
    yield Table("Decisions", ("label", "rightly yes", "wrongly yes", "wrongly no", "rightly no"), tuple(rows))
