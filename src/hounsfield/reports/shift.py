"""A report of how one cohort differs from another: what awaits a network of the first in the second."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hounsfield.atomic import write_text
from hounsfield.cohorts.scan import Scan
from hounsfield.cohorts.shift import FIGURES, SIGNIFICANCE, Shift, picture_descriptions, shifts
from hounsfield.cohorts.signature import CELLS
from hounsfield.errors import EvaluationError
from hounsfield.evaluation.separability import Separability, separability
from hounsfield.reports.figures import COLOURS, GREY, dress, new_figure, save_figure

# Quantities in the figure.
MOST_BARS = 14


@dataclass(frozen=True, eq=False)
class ShiftReport:
    """How a second cohort differs from a first.

    Attributes:
        names: of the two.
        images: readable images of each.
        shifts: every quantity that both have, largest difference first.
        pictures: how well a classifier separates them by their pictures; ``None`` where that is impossible.
        thumbnails: mean thumbnail of each, (cells, cells) or (cells, cells, cells).
        notes: what was not compared, and why.
    """

    names: tuple[str, str]
    images: tuple[int, int]
    shifts: tuple[Shift, ...]
    pictures: Separability | None
    thumbnails: tuple[np.ndarray, np.ndarray] | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The content of ``shift.json``."""
        names = ("auc", "low", "high", "p_value")
        pictures = None if self.pictures is None else dict(zip(names, self.pictures[:4], strict=True))
        return {
            "first": {"name": self.names[0], "images": self.images[0]},
            "second": {"name": self.names[1], "images": self.images[1]},
            "pictures": pictures,
            "quantities": [{**asdict(one), "notable": one.notable} for one in self.shifts],
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """The result in words."""
        found = []
        if self.pictures is not None:
            auc, low, high, p_value, _ = self.pictures
            told = "they look different" if p_value < SIGNIFICANCE else "no difference was found"
            found.append(
                f"Pictures: a linear classifier separates the cohorts with an AUC of {auc:.3f} ({low:.3f} to "
                f"{high:.3f}; .5 is chance; p = {p_value:.3f}): {told}."
            )
        notable = [one for one in self.shifts if one.notable]
        named = ", ".join(f"{one.name} ({one.strength:.2f})" for one in notable) or "none"
        found.append(f"Quantities that differ beyond chance, largest difference first: {named}.")
        if any(one.kind == "label" and one.notable for one in notable):
            found.append(
                "The labels have other frequencies, so predictive values and calibrated probabilities of the first "
                "cohort do not hold in the second."
            )
        return [*found, *self.notes]


def report_shift(first: Scan, second: Scan, *, seed: int = 0) -> ShiftReport:
    """Compare two scanned cohorts.

    Args:
        first: the reference, such as the training data.
        second: the cohort that is compared with it.
        seed: of the images drawn for each patient, and of the folds.
    """
    notes = []
    if set(first.cohort.labels) != set(second.cohort.labels):
        labels = " and ".join(", ".join(scanned.cohort.labels) for scanned in (first, second))
        notes.append(f"Labels were not compared, since the cohorts have different ones ({labels}).")
    pictures, thumbnails = None, None
    described = picture_descriptions(first, second)
    if described is None:
        notes.append("Pictures were not compared: one cohort has 2D images, the other volumes.")
    else:
        thumbnails = _mean_thumbnail(described[0]), _mean_thumbnail(described[1])
        try:
            pictures = separability(*described, groups=_patients(first, second), seed=seed)
        except EvaluationError as error:
            notes.append(f"Pictures were not compared. {error}")
    images = int(first.readable.sum()), int(second.readable.sum())
    names = first.cohort.name, second.cohort.name
    return ShiftReport(names, images, shifts(first, second, seed=seed), pictures, thumbnails, tuple(notes))


def write_shift(report: ShiftReport, folder: Path) -> list[Path]:
    """Write ``shift.json`` and ``shift.png``, and return what was written.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "shift.json", folder / "shift.png"]
    write_text(written[0], json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n")
    save_figure(shift_figure(report), written[1])
    return written


def shift_figure(report: ShiftReport) -> Figure:
    """Draw the differences of quantities, the scores of the classifier, and the mean picture of each cohort."""
    figure = new_figure(10, 7)
    grid = figure.add_gridspec(2, 3, height_ratios=(1.3, 1))
    _draw_strengths(figure.add_subplot(grid[0, :2]), report.shifts[:MOST_BARS])
    if report.pictures is not None:
        _draw_scores(figure.add_subplot(grid[0, 2]), report.pictures.score, report)
    if report.thumbnails is not None:
        first, second = (each[len(each) // 2] if each.ndim == 3 else each for each in report.thumbnails)
        extent = max(np.abs(first).max(), np.abs(second).max(), 1e-9)
        titles = (*(f"Mean picture of {name}" for name in _named(report)), "Second minus first")
        for column, (values, title) in enumerate(zip((first, second, second - first), titles, strict=True)):
            axes = figure.add_subplot(grid[1, column])
            drawn = axes.imshow(values, cmap="gray" if column < 2 else "PuOr", vmin=-extent, vmax=extent)
            axes.set_title(title, fontsize=9)
            axes.set_axis_off()
        figure.colorbar(drawn, ax=axes, shrink=0.8, label="difference, mean picture's units")
    return figure


def _draw_strengths(axes: Axes, quantities: Sequence[Shift]) -> None:
    places = np.arange(len(quantities))[::-1]
    colours = [COLOURS[1] if one.notable else GREY for one in quantities]
    axes.barh(places, [one.strength for one in quantities], color=colours, height=0.7)
    axes.set_yticks(places, [one.name for one in quantities], fontsize=8)
    axes.set_xlim(0, 1)
    dress(axes, "Difference of quantities (orange: beyond chance)", "0: none, 1: complete separation", "")


def _draw_scores(axes: Axes, score: np.ndarray, report: ShiftReport) -> None:
    low, high = np.percentile(score, (0.5, 99.5))
    bins = np.linspace(low, high, 31).tolist()
    parts = (score[: report.images[0]], score[report.images[0] :])
    for part, name, colour, hatch in zip(parts, _named(report), COLOURS, (None, "////"), strict=False):
        axes.hist(part, bins, density=True, alpha=0.6, color=colour, hatch=hatch, label=name)
    axes.set_yticks([])
    dress(axes, "Score of the classifier", "like the first          like the second", "")
    axes.legend(frameon=False, fontsize=8)


def _named(report: ShiftReport) -> tuple[str, str]:
    """Names that differ even where a cohort is compared with another part of itself."""
    return f"the first, {report.names[0]}", f"the second, {report.names[1]}"


def _mean_thumbnail(described: np.ndarray) -> np.ndarray:
    num_cells = described.shape[1] - len(FIGURES)
    shape = next((cells,) * rank for rank, cells in CELLS.items() if cells**rank == num_cells)
    return np.asarray(described[:, :num_cells].mean(axis=0).reshape(shape))


def _patients(first: Scan, second: Scan) -> np.ndarray | None:
    """The patients of the readable images of both; ``None`` where all are unknown."""
    known = pd.concat([scanned.patients[scanned.readable] for scanned in (first, second)], ignore_index=True)
    return known.to_numpy(dtype=object) if known.notna().any() else None
