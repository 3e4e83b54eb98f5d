"""The section on what the test says: figures with intervals, curves, decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from hounsfield.evaluation.classification import estimate_from_dict
from hounsfield.evaluation.curves import confusion_matrix, precision_recall_curve, roc_curve
from hounsfield.evaluation.metrics import METRICS
from hounsfield.evaluation.outcomes import Outcomes
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
from hounsfield.reports.run_report.wording import of_patients
from hounsfield.reports.svg import svg_of
from hounsfield.runs.record import ClassifierRun, Run

# Metrics in the order in which a reader asks for them.
ORDER = tuple(METRICS)
CURVE_POINTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def results_section(run: ClassifierRun) -> Section:
    """Every metric with its interval, curves, and the confusion matrix."""
    answers = run.shown.answers
    blocks: list[Block] = [
        Paragraph(on_what(run)),
        metric_table(run, {name: METRICS[name].title for name in ORDER}, "the epoch and the calibration"),
        *_class_table(run),
        *_curves(run),
        *_confusions(answers),
    ]
    return Section("results", "Results", tuple(blocks))


def on_what(run: Run) -> str:
    """On what the figures are, and what their intervals mean."""
    return (
        f"{run.num_cases:,} {run.split} images{of_patients(run)}. Intervals hold the true figure in 95 of 100 such "
        "studies; they are by patient where patients are known."
    )


def metric_table(run: Run, titles: Mapping[str, str], note: str) -> Table:
    """Each metric that a run has of those that have a title, on the shown split and on validation."""
    splits = list(dict.fromkeys(split for split in (run.split, "validation") if split in run.metrics))
    rows = []
    for name, title in titles.items():
        if name in run.estimates:
            cells = [with_interval(run.metrics[split].get(name, {})) for split in splits]
            rows.append((title, *cells, f"{run.estimates[name]['n']:,}", run.estimates[name].get("note", "")))
    return Table(
        "Figures with 95 % intervals",
        ("metric", *splits, f"n ({run.split})", ""),
        tuple(rows),
        f"Validation images chose {note}; their figures are somewhat too good.",
    )


def _class_table(run: ClassifierRun) -> Iterator[Table]:
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


def _curves(run: ClassifierRun) -> Iterator[Drawing]:
    answers = run.shown.answers
    if not answers.answerable.any():
        return
    estimates = {name: estimate_from_dict(found) for name, found in run.estimates.items()}
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


def _asked(answers: Outcomes) -> list[tuple[str, int]]:
    """The questions that can be ranked, and their columns."""
    return [(answers.questions[column], int(column)) for column in np.flatnonzero(answers.answerable)]


def _roc_table(answers: Outcomes) -> Table:
    rows = []
    for question, column in _asked(answers):
        curve = roc_curve(answers.truth[:, column], answers.scores[:, column])
        rows.append((question, *(number(float(curve.y[curve.x <= at].max())) for at in CURVE_POINTS)))
    columns = ("sensitivity at 1 − specificity of", *(f"{at:g}" for at in CURVE_POINTS))
    return Table("", columns, tuple(rows))


def _precision_table(answers: Outcomes) -> Table:
    rows = []
    for question, column in _asked(answers):
        curve = precision_recall_curve(answers.truth[:, column], answers.scores[:, column])
        rows.append((question, *(number(float(curve.y[curve.x >= at].max())) for at in CURVE_POINTS)))
    return Table("", ("precision at recall of", *(f"{at:g}" for at in CURVE_POINTS)), tuple(rows))


def _score_table(answers: Outcomes) -> Table:
    rows = []
    for question, column in _asked(answers):
        for truth, name in ((True, question), (False, f"not {question}")):
            scores = answers.scores[answers.truth[:, column] == truth, column]
            points = np.percentile(scores, (5, 25, 50, 75, 95))
            rows.append((name, f"{len(scores):,}", *(number(float(point)) for point in points)))
    return Table("", ("images", "n", "5 %", "25 %", "median", "75 %", "95 %"), tuple(rows))


def _confusions(answers: Outcomes) -> Iterator[Block]:
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
