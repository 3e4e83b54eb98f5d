"""The picture of a search: how its trials did, and what mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from hounsfield.reports.figures import COLOURS, GREY, dress, new_figure


def tuning_figure(
    trials: Sequence[tuple[float, bool]],
    flattered: tuple[float, float],
    importance: Mapping[str, float],
    title: str,
) -> Figure:
    """Draw the trials in their order, the planner's first, and the share of their differences that each field explains.

    Args:
        trials: what each reached, NaN where it diverged, and whether it was complete; the planner's plan first.
        flattered: the best score, and what to expect of it.
        importance: field → share; nothing is drawn where it is empty.
        title: of the figure by which trials were judged.
    """
    figure = new_figure(8.4 if importance else 4.6, 3.2)
    axes, *others = figure.subplots(1, 2 if importance else 1, squeeze=False)[0]
    scores, complete = (np.array(each) for each in zip(*trials, strict=True))
    numbers = np.arange(1, len(scores) + 1)
    axes.axhline(scores[0], color=GREY, linewidth=0.8, linestyle="--", label="the planner's plan")
    axes.plot(numbers[complete], scores[complete], "o", color=COLOURS[0], markersize=4)
    axes.plot(1, scores[0], "o", color=GREY, markersize=6)
    axes.axhline(flattered[1], color=COLOURS[1], linewidth=1.2, label="expected of the best")
    if not complete.all():
        # They were judged on less, and far ones would leave the others no room: these are drawn at the edge.
        low, high = axes.get_ylim()
        stopped = np.clip(scores[~complete], low, high)
        axes.plot(numbers[~complete], stopped, "x", color=GREY, markersize=4, label="stopped early, judged on less")
    axes.legend(frameon=False, fontsize=8)
    axes.locator_params(axis="x", integer=True)
    dress(axes, "Trials", "trial", title)
    for bars in others:
        names = sorted(importance, key=lambda name: importance[name])
        bars.barh(range(len(names)), [importance[name] for name in names], color=COLOURS[0], height=0.6)
        bars.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        bars.set_xlim(0, 1)
        dress(bars, "What mattered", "share of the differences between trials", "")
    return figure
