"""The sections on the test of a regressor: figures with intervals, agreement, ranges, groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from hounsfield.evaluation.value_uncertainty import ValueUncertainty
from hounsfield.reports.sections.content import (
    Block,
    Drawing,
    Matrix,
    Paragraph,
    Section,
    Table,
    percent,
)
from hounsfield.reports.sections.metric_table import metric_table, on_what
from hounsfield.reports.svg import svg_of
from hounsfield.reports.value_figures import agreement_figure, bland_altman_figure, grade_counts
from hounsfield.runs.values import ValueRun

# Bins of true values, by which errors are listed.
BINS = 4
COVERAGES = (0.8, 0.9, 0.95)


def results_section(run: ValueRun, titles: Mapping[str, str], chosen: str) -> Section:
    """Every figure with its interval, and agreement or the confusion matrix."""
    blocks = [Paragraph(on_what(run)), metric_table(run, titles, chosen), *_agreement(run)]
    return Section("results", "Results", tuple(blocks))


def _agreement(run: ValueRun) -> Iterator[Block]:
    test = run.shown
    if run.ordered:
        counts = tuple(tuple(map(int, row)) for row in grade_counts(test))
        yield Matrix(test.labels, counts, "Confusion matrix: rows are the truth, columns the prediction.")
        return
    yield Drawing(
        svg_of(agreement_figure(test), "agreement", "Predicted against true value"),
        "Predicted against true value; on the dashed line they are equal.",
        _error_table(run),
    )
    yield Drawing(
        svg_of(bland_altman_figure(test), "blandaltman", "Bland-Altman plot"),
        "Difference of predicted and true value against their mean: bias and 95 % limits of agreement.",
    )


def _error_table(run: ValueRun) -> Table:
    """Errors in quarters of the true values: predictions tend to the middle, so the ends may be biased."""
    test = run.shown
    edges = np.unique(np.quantile(test.truth, np.linspace(0, 1, BINS + 1)))
    place = np.clip(np.searchsorted(edges, test.truth, side="right") - 1, 0, max(len(edges) - 2, 0))
    rows = []
    for index, (low, high) in enumerate(pairwise(edges)):
        error = (test.predicted - test.truth)[place == index]
        rows.append(
            (f"{low:.4g} to {high:.4g}", f"{len(error):,}", f"{np.abs(error).mean():.4g}", f"{error.mean():+.4g}")
        )
    return Table("", (f"true {test.labels[0]}", "images", "mean absolute error", "mean error"), tuple(rows))


def ranges_section(run: ValueRun) -> Section:
    """How wide ranges are that hold the true value with a promised probability, and how often they did."""
    return Section("ranges", "Prediction ranges", tuple(_range_blocks(run)))


def _range_blocks(run: ValueRun) -> Iterator[Block]:
    kept = run.bundle.kept(ValueUncertainty)
    if kept is None:
        yield Paragraph("The bundle keeps no validation images, from which ranges are derived.")
        return
    yield Paragraph(
        "hounsfield predict RUN INPUT --sets 0.9 adds a range to each prediction that holds the true value in 90 of "
        "100 images like the validation images (split conformal prediction). Of images unlike those, which are flagged "
        "as out of distribution, nothing is promised."
    )
    rows = [(percent(coverage), *_range_cells(run, kept, coverage)) for coverage in COVERAGES]
    title = "Images with the true value in the range" if run.ordered else "Width of the ranges"
    yield Table(title, ("promised", "range", f"held on {run.split} images"), tuple(rows), beside=True)


def _range_cells(run: ValueRun, kept: ValueUncertainty, coverage: float) -> tuple[str, str]:
    limits, test = kept.conformal(coverage), run.shown
    if not np.isfinite(limits.limit):
        return "too few validation images", "–"
    if not run.ordered:
        held = np.abs(test.predicted - test.truth) <= limits.limit
        return f"± {limits.limit:.4g}", percent(float(held.mean()), 1)
    rows = run.table[run.table["split"] == run.split]
    low, high = limits.grades(rows[[f"p_{label}" for label in test.labels]].to_numpy(np.float64))
    held = (low <= test.truth) & (test.truth <= high)
    return f"{(high - low + 1).mean():.2f} grades on average", percent(float(held.mean()), 1)
