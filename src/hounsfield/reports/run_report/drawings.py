"""Figures that a report has and a run folder has not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hounsfield.evaluation.operating import DecisionCurve
from hounsfield.evaluation.selective import RiskCoverage
from hounsfield.reports.figures import COLOURS, DASHES, GREY, SIDE, dress, new_figure

ROW = 0.24  # inches a group
# Numbers of a detector's history that are no loss.
NO_LOSSES = frozenset({"epoch", "member", "seconds", "learning_rate", "images"})


def decision_figure(curve: DecisionCurve) -> Figure:
    """Draw net benefit against the threshold probability, as far as anything is gained."""
    figure = new_figure(SIDE, 3.6)
    axes = figure.add_subplot()
    axes.plot(curve.thresholds, curve.model, color=COLOURS[0], label="by the model")
    axes.plot(curve.thresholds, curve.everyone, "--", color=COLOURS[1], label="on everyone")
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle=":", label="on no one")
    top = max(float(curve.model.max()), float(curve.everyone.max()), 0.01)
    axes.set_ylim(-0.15 * top, 1.05 * top)
    dress(axes, "Decision curve", "Acting from a probability of", "Net benefit")
    axes.legend(frameon=False, fontsize=8)
    return figure


def risk_coverage_figure(curve: RiskCoverage) -> Figure:
    """Draw the share of wrong answers against the share of images answered."""
    figure = new_figure(SIDE, 3.4)
    axes = figure.add_subplot()
    axes.plot(curve.coverage, curve.risk, color=COLOURS[0])
    axes.axhline(float(curve.risk[-1]), color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, max(1.15 * float(np.max(curve.risk[curve.coverage >= 0.1], initial=0.02)), 0.02))
    dress(axes, "Risk against coverage", "Share of images answered, surest first", "Share of wrong answers")
    return figure


def detector_curves_figure(history: pd.DataFrame) -> Figure:
    """Draw the losses of a detector's training, and average precision on validation images, against the epoch."""
    numeric = [str(name) for name in history.columns if pd.api.types.is_numeric_dtype(history[name])]
    precisions = [name for name in numeric if name.startswith("val_ap") and history[name].notna().any()]
    losses = [name for name in numeric if not name.startswith("val_") and name not in NO_LOSSES]
    figure = new_figure(2.1 * SIDE, 3.4)
    epochs = history["epoch"] if "epoch" in numeric else np.arange(1, len(history) + 1)
    panels = {"Losses of training": losses, "Average precision of validation": precisions}
    for axes, (title, names) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for number, name in enumerate(names):
            known = history[name].notna().to_numpy()
            colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
            label = name.removeprefix("val_").replace("_", " ")
            axes.plot(np.asarray(epochs)[known], history[name][known], dash, color=colour, label=label, marker=".")
        dress(axes, title, "Epoch", "")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if names:
            axes.legend(frameon=False, fontsize=8)
    return figure


def forest_figure(
    rows: Sequence[tuple[str, Mapping[str, Any]]], metrics: Mapping[str, str], marked: frozenset[str] = frozenset()
) -> Figure:
    """Draw figures of groups with their intervals, one panel a metric; the first row is that of all cases.

    Args:
        rows: name, and by metric an estimate as ``metrics.json`` has it.
        metrics: key and title of each panel.
        marked: names of groups that differ beyond chance: filled and of another colour.
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
