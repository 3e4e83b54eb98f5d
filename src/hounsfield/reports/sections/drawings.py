"""Figures of the report that are not files of the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hounsfield.evaluation.operating import DecisionCurve
from hounsfield.evaluation.selective import RiskCoverage
from hounsfield.reports.figures import COLOURS, GREY, SIDE, dress, new_figure

ROW = 0.24  # inches per group


def decision_figure(curve: DecisionCurve) -> Figure:
    """Draw net benefit against the threshold probability, for the model and for treating all or none."""
    figure = new_figure(SIDE, 3.6)
    axes = figure.add_subplot()
    axes.fill_between(curve.thresholds, curve.low, curve.high, color=COLOURS[0], alpha=0.15, linewidth=0)
    axes.plot(curve.thresholds, curve.model, color=COLOURS[0], label="model")
    axes.plot(curve.thresholds, curve.everyone, "--", color=COLOURS[1], label="treat all")
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle=":", label="treat none")
    top = max(float(curve.model.max()), float(curve.everyone.max()), 0.01)
    axes.set_ylim(-0.15 * top, 1.05 * top)
    dress(axes, "Decision curve", "Threshold probability", "Net benefit")
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    return figure


def risk_coverage_figure(curve: RiskCoverage) -> Figure:
    """Draw the share of wrong answers against the share of images answered."""
    figure = new_figure(SIDE, 3.4)
    axes = figure.add_subplot()
    axes.plot(curve.coverage, curve.risk, color=COLOURS[0])
    axes.axhline(float(curve.risk[-1]), color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, max(1.15 * float(np.max(curve.risk[curve.coverage >= 0.1], initial=0.02)), 0.02))
    dress(axes, "Risk against coverage", "Share of images answered, most confident first", "Share of wrong answers")
    return figure


def forest_figure(
    rows: Sequence[tuple[str, Mapping[str, Any]]], metrics: Mapping[str, str], marked: frozenset[str] = frozenset()
) -> Figure:
    """Draw figures of groups with their intervals, one panel per metric; the first row is all cases.

    Args:
        rows: name, and an estimate per metric as in ``metrics.json``.
        metrics: key and title of each panel.
        marked: names of groups that differ beyond chance, drawn filled and in another colour.
    """
    figure = new_figure(2.4 + 1.9 * len(metrics), 0.9 + ROW * len(rows))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    places = range(len(rows))
    for axes, (key, title) in zip(panels, metrics.items(), strict=True):
        for place, (name, figures) in zip(places, rows, strict=True):
            estimate = figures.get(key, {})
            value, low, high = (_finite(estimate.get(end)) for end in ("value", "low", "high"))
            colour = COLOURS[1] if name in marked else GREY if estimate.get("note") else COLOURS[0]
            axes.plot([low, high], [place, place], color=colour, linewidth=1.4)
            axes.plot(value, place, "D" if name in marked else "o", color=colour, markersize=4)
        overall = _finite(rows[0][1].get(key, {}).get("value"))
        if math.isfinite(overall):
            axes.axvline(overall, color=GREY, linewidth=0.8, linestyle=":")
        dress(axes, title, "", "")
    panels[0].set_yticks(places, [name for name, _ in rows], fontsize=8)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _finite(value: Any) -> float:
    return math.nan if value is None else float(value)
