"""The picture of a stream of predictions: every chart as a share of its limit, and the alarms."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from hounsfield.evaluation.monitoring import Monitoring
from hounsfield.reports.figures import COLOURS, GREY, dress, new_figure

COLUMNS = 3
# Of taller paths the picture shows no more.
MOST = 2.5


def monitoring_figure(found: Monitoring) -> Figure:
    """Draw one panel per chart; the line at 1 is its limit, and a mark stands at each of its alarms."""
    rows = math.ceil(len(found.names) / COLUMNS)
    figure = new_figure(3.6 * COLUMNS, 1.9 * rows)
    images = np.arange(1, len(found.paths) + 1)
    for number, name in enumerate(found.names):
        axes = figure.add_subplot(rows, COLUMNS, number + 1)
        path = np.minimum(found.paths[:, number], MOST)
        axes.plot(images, path, color=COLOURS[0], linewidth=0.9)
        axes.axhline(1, color=GREY, linewidth=0.9, linestyle="--")
        places = [alarm.number for alarm in found.alarms if alarm.chart == name]
        axes.plot(places, path[np.array(places, dtype=int) - 1], "v", color=COLOURS[1], markersize=5)
        dress(axes, name, "image" if number >= len(found.names) - COLUMNS else "", "")
        axes.set_ylim(0, max(1.3, float(path.max()) * 1.05))
    return figure
