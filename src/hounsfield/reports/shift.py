"""A report of how one cohort differs from another: what a network trained on the first will meet in the second."""

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

# Quantities in the picture.
MOST_BARS = 14


@dataclass(frozen=True, eq=False)
class ShiftReport:
    """How a second cohort differs from a first.

    Attributes:
        names: of the two.
        images: readable images of each.
        shifts: every quantity that both have, strongest difference first.
        pictures: how well a classifier tells them apart by their pictures; ``None`` where it could not be tried.
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
        """What to take from it, in words."""
        found = []
        if self.pictures is not None:
            auc, low, high, p_value, _ = self.pictures
            told = "they look different" if p_value < SIGNIFICANCE else "no difference is seen"
            found.append(
                f"Pictures: a linear classifier tells the cohorts apart with an AUC of {auc:.3f} ({low:.3f} to "
                f"{high:.3f}; .5 is not at all; p = {p_value:.3f}): {told}."
            )
        notable = [one for one in self.shifts if one.notable]
        named = ", ".join(f"{one.name} ({one.strength:.2f})" for one in notable) or "none"
        found.append(f"Quantities that differ beyond chance, strongest first: {named}.")
        if any(one.kind == "label" and one.notable for one in notable):
            found.append(
                "The labels have other shares: predictive values, and calibrated probabilities, do not carry over as "
                "they are."
            )
        return [*found, *self.notes]


def report_shift(first: Scan, second: Scan, *, seed: int = 0) -> ShiftReport:
    """Compare two cohorts that were scanned.

    Args:
        first: what is known already, such as the training data.
        second: what is compared with it.
        seed: of the patients' images that are drawn, and of the folds.
    """
    notes = []
    if set(first.cohort.labels) != set(second.cohort.labels):
        labels = " and ".join(", ".join(scanned.cohort.labels) for scanned in (first, second))
        notes.append(f"The labels are not compared: they are not the same ({labels}).")
    pictures, thumbnails = None, None
    described = picture_descriptions(first, second)
    if described is None:
        notes.append("The pictures are not compared: the cohorts hold images of different rank.")
    else:
        thumbnails = _mean_thumbnail(described[0]), _mean_thumbnail(described[1])
        try:
            pictures = separability(*described, groups=_patients(first, second), seed=seed)
        except EvaluationError as error:
            notes.append(f"The pictures are not compared. {error}")
    images = int(first.readable.sum()), int(second.readable.sum())
    names = first.cohort.name, second.cohort.name
    return ShiftReport(names, images, shifts(first, second, seed=seed), pictures, thumbnails, tuple(notes))


def write_shift(report: ShiftReport, folder: Path) -> list[Path]:
    """Write ``shift.json`` and ``shift.png``, and say which files were written.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "shift.json", folder / "shift.png"]
    write_text(written[0], json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n")
    save_figure(shift_figure(report), written[1])
    return written


def shift_figure(report: ShiftReport) -> Figure:
    """Draw which quantities differ and how much, what the classifier says, and the mean picture of each cohort."""
    figure = new_figure(10, 7)
    grid = figure.add_gridspec(2, 3, height_ratios=(1.3, 1))
    _draw_strengths(figure.add_subplot(grid[0, :2]), report.shifts[:MOST_BARS])
    if report.pictures is not None:
        _draw_scores(figure.add_subplot(grid[0, 2]), report.pictures.score, report)
    if report.thumbnails is not None:
        first, second = (each[len(each) // 2] if each.ndim == 3 else each for each in report.thumbnails)
        extent = max(np.abs(first).max(), np.abs(second).max(), 1e-9)
        titles = (*(f"Mean picture of {name}" for name in _named(report)), "Second less first")
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
    dress(axes, "Difference of quantities (orange: beyond chance)", "0: none, 1: one image tells its cohort", "")


def _draw_scores(axes: Axes, score: np.ndarray, report: ShiftReport) -> None:
    low, high = np.percentile(score, (0.5, 99.5))
    bins = np.linspace(low, high, 31).tolist()
    parts = (score[: report.images[0]], score[report.images[0] :])
    for part, name, colour, hatch in zip(parts, _named(report), COLOURS, (None, "////"), strict=False):
        axes.hist(part, bins, density=True, alpha=0.6, color=colour, hatch=hatch, label=name)
    axes.set_yticks([])
    dress(axes, "What the classifier says", "like the first          like the second", "")
    axes.legend(frameon=False, fontsize=8)


def _named(report: ShiftReport) -> tuple[str, str]:
    """Names that differ also where one cohort is compared with another part of itself."""
    return f"the first, {report.names[0]}", f"the second, {report.names[1]}"


def _mean_thumbnail(described: np.ndarray) -> np.ndarray:
    num_cells = described.shape[1] - len(FIGURES)
    shape = next((cells,) * rank for rank, cells in CELLS.items() if cells**rank == num_cells)
    return np.asarray(described[:, :num_cells].mean(axis=0).reshape(shape))


def _patients(first: Scan, second: Scan) -> np.ndarray | None:
    """The patients of the readable images of both; ``None`` where none is known."""
    known = pd.concat([scanned.patients[scanned.readable] for scanned in (first, second)], ignore_index=True)
    return known.to_numpy(dtype=object) if known.notna().any() else None
