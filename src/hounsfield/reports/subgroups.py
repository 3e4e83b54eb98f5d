"""Figures of a bias audit, of a learning curve, and of an ablation of measures against overfitting."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hounsfield.atomic import write_text
from hounsfield.evaluation.ablation import Ablation
from hounsfield.evaluation.bias_outcome import BiasAudit, GroupReport
from hounsfield.evaluation.bias_report import BiasReport
from hounsfield.evaluation.group_figures import GROUP_METRICS
from hounsfield.evaluation.learning_curve import LearningCurve
from hounsfield.evaluation.value_groups import ValueGroups
from hounsfield.reports.figures import COLOURS, GREY, dress, new_figure, save_figure
from hounsfield.reports.value_figures import groups_figure
from hounsfield.runs.manifest import adding

PANELS = ("auc", "sensitivity", "specificity", "calibration")
MOST_GROUPS = 40
ROW = 0.23  # inches per group
PANEL = 2.1


def subgroup_figure(audit: BiasAudit, question: str | None = None) -> Figure:
    """Draw the metrics of every group of one attribute with their intervals, beside those of all cases.

    A group that differs beyond chance is filled and bold, one that is too small to judge is grey; both also differ by
    shape, for readers who cannot see the colours.

    Args:
        audit: with at least one attribute.
        question: the label, where there are several; by default the first.
    """
    ending = "" if "auc" in audit.overall.figures else f"_{question or _first_question(audit)}"
    groups = [group for group in audit.groups if len(group.parts) == 1][:MOST_GROUPS]
    figure = new_figure(2.6 + PANEL * len(PANELS), 1.3 + ROW * (len(groups) + 1))
    panels = figure.subplots(1, len(PANELS), sharey=True)
    found = _differing(audit, ending)
    for axes, name in zip(panels, PANELS, strict=True):
        everyone = audit.overall.figures[name + ending]
        if math.isfinite(everyone.low):
            axes.axvspan(everyone.low, everyone.high, color="#dddddd", zorder=0)
            axes.axvline(everyone.value, color=GREY, linewidth=0.8, linestyle="--", zorder=1)
        if name == "calibration":
            axes.axvline(0.0, color="black", linewidth=0.6, zorder=1)
        for row, group in enumerate(groups):
            if row and group.parts[0][0] != groups[row - 1].parts[0][0]:
                axes.axhline(row - 0.5, color="#cccccc", linewidth=0.5, zorder=0)
            _draw_group(axes, row, group, name + ending, differs=(group.group, name) in found)
        axes.set_title(GROUP_METRICS[name].title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(visible=True, axis="x", color="#eeeeee", linewidth=0.6)
        axes.set_axisbelow(True)
    _name_rows(panels[0], groups, {group for group, _ in found})
    figure.supxlabel(
        f"{audit.confidence:.0%} intervals; band: all cases; filled diamond: differs from the others beyond chance; "
        "grey cross: too small to judge",
        fontsize=7.5,
    )
    return figure


def _differing(audit: BiasAudit, ending: str) -> set[tuple[str, str]]:
    """(group, metric) of each finding; where an attribute has two groups, each mirrors the other."""
    levels = {attribute.name: attribute.levels for attribute in audit.attributes}
    found = set()
    for gap in audit.findings:
        if len(gap.parts) == 1 and (not ending or f"_{gap.question}" == ending):
            column, level = gap.parts[0]
            mirrored = levels[column] if len(levels[column]) == 2 else (level,)
            found |= {(f"{column} = {each}", gap.metric) for each in mirrored}
    return found


def _first_question(audit: BiasAudit) -> str:
    return next(name for name in audit.overall.figures if name.startswith("auc_")).removeprefix("auc_")


def _draw_group(axes: Axes, row: int, group: GroupReport, name: str, *, differs: bool) -> None:
    estimate = group.figures[name]
    if not math.isfinite(estimate.value):
        return
    marker, colour, filled = ("D", COLOURS[1], True) if differs else ("o", COLOURS[0], False)
    if estimate.note:
        marker, colour = "x", GREY
    if math.isfinite(estimate.low):
        axes.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=1.2)
    axes.plot(estimate.value, row, marker, color=colour, markersize=5, markerfacecolor=colour if filled else "white")


def _name_rows(axes: Axes, groups: Sequence[GroupReport], found: set[str]) -> None:
    axes.set_yticks(range(len(groups)), [f"{group.group} (n = {group.patients:,})" for group in groups], fontsize=8)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    for label, group in zip(axes.get_yticklabels(), groups, strict=True):
        label.set_fontweight("bold" if group.group in found else "normal")


def learning_curve_figure(curve: LearningCurve) -> Figure:
    """Draw the error against the size of the training set, measured and predicted."""
    figure = new_figure(4.8, 3.6)
    axes = figure.add_subplot()
    below = [error - low for error, low in zip(curve.errors, curve.lows, strict=True)]
    above = [high - error for error, high in zip(curve.errors, curve.highs, strict=True)]
    bars = [[max(0.0, each) for each in below], [max(0.0, each) for each in above]]
    axes.errorbar(curve.sizes, curve.errors, bars, fmt="o", color=COLOURS[0], capsize=3, label="measured")
    sizes = [curve.sizes[-1], *(each.size for each in curve.forecasts)]
    axes.plot(sizes, [curve.now, *(each.error for each in curve.forecasts)], "--", color=COLOURS[1], label="predicted")
    axes.fill_between(
        [each.size for each in curve.forecasts],
        [each.low for each in curve.forecasts],
        [each.high for each in curve.forecasts],
        color=COLOURS[1],
        alpha=0.2,
        label=f"{curve.confidence:.0%} interval",
    )
    axes.set_xscale("log")
    axes.set_xticks(sorted({*curve.sizes, *sizes}), [f"{size:,}" for size in sorted({*curve.sizes, *sizes})])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    dress(axes, "Would more data help?", f"Training {curve.unit}", curve.title)
    axes.legend(frameon=False, fontsize=8)
    return figure


def ablation_figure(found: Ablation) -> Figure:
    """Draw the change of the log loss without each measure, with its interval; helpful measures are right of 0."""
    figure = new_figure(5.2, 1.3 + 0.4 * len(found.bought))
    axes = figure.add_subplot()
    axes.axvline(0.0, color=GREY, linewidth=0.8, linestyle="--")
    for row, each in enumerate(found.bought):
        change = each.changes["log_loss"]
        axes.plot([change.low, change.high], [row, row], color=COLOURS[0], linewidth=1.4)
        axes.plot(change.value, row, "o", color=COLOURS[0])
    axes.set_yticks(range(len(found.bought)), [f"without {each.remedy}" for each in found.bought])
    axes.set_ylim(len(found.bought) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=5)
    dress(
        axes,
        "Contribution of each measure against overfitting",
        "Change of the validation log loss (95 % interval)",
        "",
    )
    return figure


def write_bias(report: BiasReport | ValueGroups, folder: Path, figures: Path | None = None) -> list[Path]:
    """Write ``bias.json``, and ``subgroups.png`` where there are groups; return what was written.

    Args:
        report: of one test.
        folder: a run, or any other folder; made if needed.
        figures: folder of the figure; by default ``folder``.

    Raises:
        OSError: a folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table, picture = folder / "bias.json", (figures or folder) / "subgroups.png"
    figure = GROUP_FIGURES[type(report)](report)
    with adding(folder, [table, picture]):
        write_text(table, json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n")
        if figure is not None:
            save_figure(figure, picture)
    return [table, *([picture] if figure is not None else [])]


def _bias_figure(report: BiasReport) -> Figure | None:
    return subgroup_figure(report.audit) if report.audit.attributes else None


# What was found -> draws its groups, where there are any.
GROUP_FIGURES: dict[type, Callable[[Any], Figure | None]] = {BiasReport: _bias_figure, ValueGroups: groups_figure}
