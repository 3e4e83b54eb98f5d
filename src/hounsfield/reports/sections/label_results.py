"""The section on the test of labels: figures with intervals, curves, decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from hounsfield.evaluation.classification import estimate_from_dict
from hounsfield.evaluation.curves import confusion_matrix, precision_recall_curve, roc_curve
from hounsfield.evaluation.metrics import METRICS
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.reports.figures import precision_recall_figure, roc_figure, score_histogram
from hounsfield.reports.sections.content import (
    Block,
    Drawing,
    Matrix,
    Paragraph,
    Section,
    Table,
    number,
    with_interval,
)
from hounsfield.reports.sections.metric_table import CURVE_POINTS, metric_table, on_what
from hounsfield.reports.svg import svg_of
from hounsfield.runs import LabelRun


def results_section(run: LabelRun, titles: Mapping[str, str], chosen: str) -> Section:
    """Every metric with its interval, curves, and the confusion matrix."""
    answers = run.shown.answers
    blocks: list[Block] = [
        Paragraph(on_what(run)),
        metric_table(run, titles, chosen),
        *_class_table(run),
        *_curves(run),
        *_confusions(answers),
    ]
    return Section("results", "Results", tuple(blocks))


def _class_table(run: LabelRun) -> Iterator[Table]:
    """The metrics of each label, where there are several."""
    labels = run.bundle.labels
    names = [name for name in METRICS if METRICS[name].per_label and f"{name}_{labels[0]}" in run.estimates]
    if not names:
        return
    rows = []
    for label in labels:
        found = [run.estimates.get(f"{name}_{label}", {}) for name in names]
        rows.append((label, *(with_interval(estimate) for estimate in found)))
    yield Table("Each label against the others", ("label", *(METRICS[name].title for name in names)), tuple(rows))


def _curves(run: LabelRun) -> Iterator[Drawing]:
    answers = run.shown.answers
    if not answers.answerable.any():
        return
    estimates = {name: estimate_from_dict(found) for name, found in run.estimates.items()}
    yield Drawing(
        svg_of(roc_figure(answers, estimates), "roc", "ROC curve"),
        "Sensitivity against the share of false positives among images without the label, at every threshold.",
        _roc_table(answers),
    )
    yield Drawing(
        svg_of(precision_recall_figure(answers, estimates), "pr", "Precision-recall curve"),
        "Share of correct positive predictions against sensitivity, at every threshold. Dotted: prevalence.",
        _precision_table(answers),
    )
    yield Drawing(
        svg_of(score_histogram(answers, run.bundle.threshold), "scores", "Histogram of probabilities"),
        "Distribution of the probabilities of images with and without the label.",
        _score_table(answers),
        wide=answers.truth.shape[1] > 1,
    )


def _asked(answers: Outcomes) -> list[tuple[str, int]]:
    """The labels that can be ranked, and their columns."""
    return [(answers.questions[column], int(column)) for column in np.flatnonzero(answers.answerable)]


def _roc_table(answers: Outcomes) -> Table:
    rows = []
    for question, column in _asked(answers):
        curve = roc_curve(*answers.column(column))
        rows.append((question, *(number(float(curve.y[curve.x <= at].max())) for at in CURVE_POINTS)))
    columns = ("sensitivity at 1 − specificity of", *(f"{at:g}" for at in CURVE_POINTS))
    return Table("", columns, tuple(rows))


def _precision_table(answers: Outcomes) -> Table:
    rows = []
    for question, column in _asked(answers):
        curve = precision_recall_curve(*answers.column(column))
        rows.append((question, *(number(float(curve.y[curve.x >= at].max())) for at in CURVE_POINTS)))
    return Table("", ("precision at recall of", *(f"{at:g}" for at in CURVE_POINTS)), tuple(rows))


def _score_table(answers: Outcomes) -> Table:
    rows = []
    for question, column in _asked(answers):
        for truth, name in ((True, question), (False, f"not {question}")):
            truths, every = answers.column(column)
            scores = every[truths == truth]
            points = np.percentile(scores, (5, 25, 50, 75, 95))
            rows.append((name, f"{len(scores):,}", *(number(float(point)) for point in points)))
    return Table("", ("images", "n", "5 %", "25 %", "median", "75 %", "95 %"), tuple(rows))


def _confusions(answers: Outcomes) -> Iterator[Block]:
    matrices = confusion_matrix(answers)
    if matrices.ndim == 2:
        counts = tuple(tuple(map(int, row)) for row in matrices)
        yield Matrix(answers.labels, counts, "Confusion matrix: rows are the truth, columns the prediction.")
        return
    rows = [
        (label, *(f"{int(count):,}" for count in (both[1, 1], both[0, 1], both[1, 0], both[0, 0])))
        for label, both in zip(answers.labels, matrices, strict=True)
    ]
    yield Table(
        "Predictions", ("label", "true positive", "false positive", "false negative", "true negative"), tuple(rows)
    )
