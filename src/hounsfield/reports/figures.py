"""Figures of a run and of its results; each function returns a Figure and writes no file.

Figures are made without pyplot, so they need neither global state nor a display. Colours are Okabe and Ito's, which
colour-blind readers can tell apart; lines of one figure also differ by dash, for print without colour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hounsfield.atomic import replacing
from hounsfield.drawing.pictures import COLOURS as COLOURS  # noqa: PLC0414 - the figures of other modules take it from here
from hounsfield.evaluation.calibration import reliability
from hounsfield.evaluation.classification import Estimate
from hounsfield.evaluation.curves import Curve, precision_recall_curve, roc_curve
from hounsfield.evaluation.detection_titles import TITLES
from hounsfield.evaluation.metrics import METRICS
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.reports.fonts import letter
from hounsfield.tasks import Threshold, thresholds

DASHES = ("-", "--", "-.", ":")
GREY = "#767676"
SIDE = 4.6  # inches of a square figure
MAX_CURVE_POINTS = 2_000
MAX_NAMED_CLASSES = 40
LEGEND_INSIDE = 4


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a figure in the format of the path's suffix, to a temporary name first.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    letter(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight", facecolor="white")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, without pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Give a panel its title, the names of its axes, and a light grid."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def learning_curves(history: pd.DataFrame) -> Figure:
    """Draw each quantity of a training against the epoch, for training and validation.

    Args:
        history: one row per epoch; ``epoch`` where there is one, otherwise the row number, from 1. Every column
            ``NAME`` with a partner ``val_NAME`` gets a panel, and so do the loss and columns of validation alone; the
            learning rate and other columns without a partner are left out.
    """
    columns = list(map(str, history.columns))
    names = [name for name in columns if name == "loss" or f"val_{name}" in columns]
    names += [name.removeprefix("val_") for name in columns if name.startswith("val_") and name[4:] not in columns]
    figure, panels = _panels(max(len(names), 1), width=SIDE, height=3.4)
    epochs = np.asarray(history["epoch"] if "epoch" in columns else np.arange(1, len(history) + 1))
    marker = "o" if len(history) == 1 else None
    for axes, name in zip(panels, names, strict=False):
        if name in columns:
            axes.plot(epochs, history[name], color=COLOURS[0], label="training", marker=marker)
        if f"val_{name}" in columns:
            validation = history[f"val_{name}"]
            judged = validation.notna()
            points = "o" if judged.sum() < len(judged) else marker
            axes.plot(
                epochs[judged], validation[judged], DASHES[1], color=COLOURS[1], label="validation", marker=points
            )
            _mark_best(axes, epochs, validation.to_numpy(dtype=float), smallest="loss" in name)
        known = METRICS[name].title if name in METRICS else TITLES.get(name)
        dress(axes, known or name.replace("_", " ").capitalize(), "Epoch", "")
        axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)
    return figure


def _mark_best(axes: Axes, epochs: npt.NDArray[Any], values: npt.NDArray[np.float64], *, smallest: bool) -> None:
    if not np.isfinite(values).any():
        return
    best = int(np.nanargmin(values) if smallest else np.nanargmax(values))
    axes.plot(epochs[best], values[best], "o", color=COLOURS[1], fillstyle="none", label=f"best: {values[best]:.3f}")


def roc_figure(answers: Outcomes, estimates: Mapping[str, Estimate] | None = None) -> Figure:
    """Draw the ROC curve, one per label where there are several; with AUC and interval if ``estimates`` are given."""
    figure, axes = _square(answers)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for index, column in _drawable(answers):
        curve = roc_curve(*answers.column(column))
        _draw_curve(axes, curve, index, _legend(answers, column, "auc", estimates))
    _mark_operating_point(axes, answers)
    dress(axes, "ROC curve", "1 − specificity", "Sensitivity")
    _legend_outside(axes, answers, "lower right")
    return figure


def precision_recall_figure(answers: Outcomes, estimates: Mapping[str, Estimate] | None = None) -> Figure:
    """Draw precision against recall, one curve per label where there are several; chance is the label's prevalence."""
    figure, axes = _square(answers)
    for index, column in _drawable(answers):
        curve = precision_recall_curve(*answers.column(column))
        _draw_curve(axes, curve, index, _legend(answers, column, "average_precision", estimates), stepped=True)
        prevalence = float(answers.column(column)[0].mean())
        axes.axhline(prevalence, color=COLOURS[index % len(COLOURS)], linewidth=0.8, linestyle=":")
    dress(axes, "Precision-recall curve", "Recall (sensitivity)", "Precision (PPV)")
    _legend_outside(axes, answers, "lower left")
    return figure


def confusion_figure(matrix: npt.NDArray[np.int64], labels: Sequence[str]) -> Figure:
    """Draw a confusion matrix: counts as text, the share of each true class as shade.

    Args:
        matrix: (C, C), rows the truth, columns the prediction.
        labels: the C names.
    """
    count = len(labels)
    side = max(SIDE - 0.6, 0.55 * count + 2) if count <= MAX_NAMED_CLASSES else 9.0
    figure = new_figure(side, side)
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= MAX_NAMED_CLASSES:
        for row, column in np.ndindex(matrix.shape):
            share = shares[row, column]
            text = f"{matrix[row, column]:,}\n{share:.0%}" if count <= 8 else f"{matrix[row, column]:,}"
            colour = "white" if share > 0.55 else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9 if count <= 8 else 7)
        axes.set_xticks(range(count), labels, rotation=45 if count > 2 else 0, ha="right" if count > 2 else "center")
        axes.set_yticks(range(count), labels)
    axes.set_xlabel("Prediction")
    axes.set_ylabel("Truth")
    axes.set_title("Confusion matrix (shares of rows)", fontsize=11)
    return figure


def reliability_figure(answers: Outcomes, groups: npt.ArrayLike | None = None) -> Figure:
    """Draw observed frequency against mean probability in bins of equal counts, with Wilson intervals by patient.

    Args:
        answers: of n cases.
        groups: (n,) patient of each case; ``None`` where each case is a patient of its own.
    """
    figure, axes = _square(answers)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="perfect calibration")
    columns = range(answers.outcome.shape[1])
    for index, column in enumerate(columns):
        rows = answers.known_rows(column)
        if not len(rows):
            continue
        patients = None if groups is None else np.asarray(groups)[rows]
        bins = reliability(answers.outcome[rows, column], answers.confidence[rows, column], groups=patients)
        spread = np.abs(np.stack([bins.low, bins.high]) - bins.frequency)
        name = answers.questions[column] if len(columns) > 1 else None
        style: dict[str, Any] = {
            "color": COLOURS[index % len(COLOURS)],
            "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
        }
        bars = spread if len(columns) == 1 else None
        axes.errorbar(bins.probability, bins.frequency, bars, marker="o", markersize=4, capsize=2, label=name, **style)
    names = ("Predicted probability", "Observed frequency")
    if answers.traits.exclusive:
        names = (f"Probability of {answers.judged[0]}", "Share correct")
    dress(axes, "Reliability", *names)
    _legend_outside(axes, answers, "upper left")
    return figure


def score_histogram(answers: Outcomes, threshold: Threshold = 0.5) -> Figure:
    """Draw the distribution of the scores of the cases with and without each label."""
    figure, panels = _panels(answers.truth.shape[1], width=SIDE, height=3.2)
    bins, limits = np.linspace(0, 1, 31).tolist(), thresholds(threshold, answers.labels, answers.task)
    for column, axes in enumerate(panels):
        truth, scores = answers.column(column)
        question = answers.questions[column]
        other = answers.labels[0] if answers.traits.paired else f"not {question}"
        for part, name, colour, hatch in ((~truth, other, COLOURS[0], None), (truth, question, COLOURS[1], "////")):
            if part.any():
                label = f"{name} ({int(part.sum()):,})"
                axes.hist(scores[part], bins, alpha=0.6, color=colour, hatch=hatch, label=label, density=True)
        if question in limits:
            axes.axvline(limits[question], color="black", linewidth=0.8, linestyle="--")
        dress(axes, f"Probability of {question}", "Score", "Density")
        axes.legend(frameon=False, fontsize=8)
    return figure


def montage(
    images: Sequence[npt.NDArray[Any]],
    titles: Sequence[str] | None = None,
    columns: int = 6,
    *,
    stretch: bool = True,
) -> Figure:
    """Draw images side by side, each from its own 1st to its 99th percentile; the middle slice of a volume.

    Args:
        images: (rows, columns), (rows, columns, channels) or (slices, rows, columns, channels) each.
        titles: a line above each image.
        columns: images per row.
        stretch: False for 8-bit pictures that are shown as they are.
    """
    count = max(len(images), 1)
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = new_figure(1.7 * columns, 1.85 * rows)
    for index, image in enumerate(images):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(_displayable(image) if stretch else image / 255, cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
        if titles is not None:
            axes.set_title(titles[index], fontsize=7)
    return figure


def _displayable(image: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    pixels = np.asarray(image, dtype=np.float64)
    if pixels.ndim == 4:
        pixels = pixels[len(pixels) // 2]
    if pixels.ndim == 3 and pixels.shape[-1] != 3:
        pixels = pixels[..., 0]
    finite = pixels[np.isfinite(pixels)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    scaled = (pixels - low) / (high - low) if high > low else np.full(pixels.shape, 0.5)
    return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)


def _drawable(answers: Outcomes) -> list[tuple[int, int]]:
    return list(enumerate(np.flatnonzero(answers.answerable).tolist()))


def _draw_curve(axes: Axes, curve: Curve, index: int, label: str, *, stepped: bool = False) -> None:
    kept = np.unique(np.linspace(0, len(curve.x) - 1, min(len(curve.x), MAX_CURVE_POINTS)).round().astype(int))
    axes.plot(
        curve.x[kept],
        curve.y[kept],
        color=COLOURS[index % len(COLOURS)],
        linestyle=DASHES[index // len(COLOURS) % len(DASHES)],
        drawstyle="steps-pre" if stepped else "default",
        label=label,
    )


def _mark_operating_point(axes: Axes, answers: Outcomes) -> None:
    if not answers.two_sided:
        return
    truth, decided = answers.truth[:, 0], answers.decisions[:, 0]
    axes.plot(decided[~truth].mean(), decided[truth].mean(), "o", color=COLOURS[1], label="operating point")


def _legend(answers: Outcomes, column: int, metric: str, estimates: Mapping[str, Estimate] | None) -> str:
    question = answers.questions[column]
    key = metric if answers.truth.shape[1] == 1 else f"{metric}_{question}"
    name = question if answers.truth.shape[1] > 1 else {"auc": "AUC", "average_precision": "AP"}[metric]
    if estimates is None or key not in estimates:
        return name
    estimate = estimates[key]
    interval = f" ({estimate.low:.3f}–{estimate.high:.3f})" if math.isfinite(estimate.low) else ""
    return f"{name} {estimate.value:.3f}{interval}"


def _legend_outside(axes: Axes, answers: Outcomes, place: Literal["lower right", "lower left", "upper left"]) -> None:
    """A legend of few entries is inside the axes, of many beside them."""
    if not axes.get_legend_handles_labels()[0]:
        return
    if len(answers.questions) <= LEGEND_INSIDE:
        axes.legend(frameon=False, fontsize=8, loc=place)
    else:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))


def _square(answers: Outcomes) -> tuple[Figure, Axes]:
    figure = new_figure(SIDE if len(answers.questions) <= LEGEND_INSIDE else 1.6 * SIDE, SIDE)
    axes = figure.add_subplot()
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_aspect("equal")
    return figure, axes


def _panels(count: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = new_figure(width * columns, height * rows)
    return figure, [figure.add_subplot(rows, columns, index + 1) for index in range(count)]
