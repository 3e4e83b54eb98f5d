"""Figures of a test of values or grades."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from hounsfield.evaluation.value_assessment import ValueAssessment
from hounsfield.evaluation.value_groups import ValueGroups
from hounsfield.reports.figures import COLOURS, GREY, SIDE, confusion_figure, dress, new_figure
from hounsfield.reports.sections.drawings import forest_figure
from hounsfield.tasks import TASKS

# A forest plot of more groups than this is unreadable.
MOST_GROUPS = 40
PANELS = {"mae": "Mean absolute error", "bias": "Mean error"}


def value_figures(assessment: ValueAssessment) -> dict[str, Figure]:
    """Every figure of a test by file name without suffix."""
    if TASKS[assessment.task].ordered:
        return {"confusion": confusion_figure(grade_counts(assessment), assessment.labels)}
    return {"agreement": agreement_figure(assessment), "bland_altman": bland_altman_figure(assessment)}


def grade_counts(assessment: ValueAssessment) -> npt.NDArray[np.int64]:
    """(K, K) cases by true grade, in rows, and predicted grade."""
    count = len(assessment.labels)
    pairs = count * assessment.truth.astype(np.int64) + assessment.predicted.astype(np.int64)
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


def groups_figure(found: ValueGroups) -> Figure | None:
    """Draw the means of groups with their intervals; ``None`` where there are no groups."""
    if not found.attributes:
        return None
    rows = [
        (f"{group.group} ({group.patients:,})", {name: each.to_dict() for name, each in group.figures.items()})
        for group in (found.overall, *found.groups)
    ]
    differing = {gap.group for gap in found.findings}
    marked = frozenset(name for name, _ in rows if name.rpartition(" (")[0] in differing)
    return forest_figure(rows[:MOST_GROUPS], panel_titles(found.titles), marked)


def panel_titles(titles: Mapping[str, str]) -> dict[str, str]:
    """The names of what groups are compared by, as titles of panels."""
    return {name: title[:1].upper() + title[1:] for name, title in titles.items()}


def agreement_figure(assessment: ValueAssessment) -> Figure:
    """Draw predicted against true values, with the line of equality."""
    figure = new_figure(SIDE, SIDE)
    axes = figure.add_subplot()
    ends = [min(assessment.truth.min(), assessment.predicted.min())]
    ends += [max(assessment.truth.max(), assessment.predicted.max())]
    axes.plot(ends, ends, color=GREY, linewidth=0.8, linestyle="--")
    axes.plot(assessment.truth, assessment.predicted, "o", color=COLOURS[0], markersize=3, alpha=0.6, linestyle="")
    name = assessment.labels[0]
    dress(axes, "Predicted against true value", f"True {name}", f"Predicted {name}")
    return figure


def bland_altman_figure(assessment: ValueAssessment) -> Figure:
    """Draw differences against means (Bland, Altman 1986), with the bias and both limits of agreement."""
    figure = new_figure(SIDE, SIDE)
    axes = figure.add_subplot()
    means = (assessment.truth + assessment.predicted) / 2
    axes.plot(
        means, assessment.predicted - assessment.truth, "o", color=COLOURS[0], markersize=3, alpha=0.6, linestyle=""
    )
    axes.axhline(0.0, color="black", linewidth=0.6)
    for name, style in (("bias", "-"), ("loa_low", "--"), ("loa_high", "--")):
        axes.axhline(assessment.estimates[name].value, color=COLOURS[1], linewidth=1.0, linestyle=style)
    dress(axes, "Bland-Altman plot", f"Mean of true and predicted {assessment.labels[0]}", "Predicted − true")
    return figure
