"""Figures of how performance falls with image quality, and of what such images look like."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hounsfield.atomic import write_text
from hounsfield.images import Image
from hounsfield.preprocessing.corruption import CORRUPTIONS, SEVERITIES, corrupted
from hounsfield.reports.figures import COLOURS, DASHES, GREY, dress, new_figure, save_figure
from hounsfield.runs.manifest import adding

# Files of earlier versions do not name their figures.
EARLIER = {"auc": {"title": "AUC", "share": True}, "accuracy": {"title": "Accuracy", "share": True}}
COLUMNS = 4


def shown_figures(report: Mapping[str, Any]) -> dict[str, str]:
    """Name and title of the figures of a ``robustness.json``, the main one first."""
    return {name: each["title"] for name, each in report.get("figures", EARLIER).items() if _is_known(report, name)}


def panels(report: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Name and title of the lines of each figure: "robustness" with the main one, "robustness_shares" with shares.

    Where the main figure is a share, or there are no others, there is one figure.
    """
    titles, shares = shown_figures(report), {}
    for name, each in report.get("figures", EARLIER).items():
        if each["share"] and name in titles:
            shares[name] = titles.pop(name)
    return {"robustness": titles, "robustness_shares": shares} if titles else {"robustness": shares}


def robustness_figures(report: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw the figures of ``panels`` with their intervals against severity, one panel per corruption.

    Args:
        report: the content of ``robustness.json``.
    """
    drawn = panels(report)
    last = len(drawn) - 1
    return {name: _panels(report, lines, shares=number == last) for number, (name, lines) in enumerate(drawn.items())}


def _is_known(report: Mapping[str, Any], name: str) -> bool:
    """Whether a figure was measured; some are of degraded images alone."""
    first = next(iter(report["corruptions"].values()))["severities"][0]
    return name in report["clean"] or name in first


def _panels(report: Mapping[str, Any], lines: Mapping[str, str], *, shares: bool) -> Figure:
    """One panel per corruption; ``shares``: the lines lie between 0 and 1, as the share out of distribution does."""
    corruptions = report["corruptions"]
    columns = min(COLUMNS, len(corruptions))
    rows = math.ceil(len(corruptions) / columns)
    figure = new_figure(2.7 * columns, 2.7 * rows)
    first: Axes | None = None
    for number, curve in enumerate(corruptions.values()):
        axes = figure.add_subplot(rows, columns, number + 1, sharey=first)
        first = first or axes
        _draw_curves(axes, [report["clean"], *curve["severities"]], lines, shares=shares)
        dress(axes, curve["title"], "Severity" if number >= len(corruptions) - columns else "", "")
        axes.set_xticks((0, *SEVERITIES))
    if first is not None:
        figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncol=3, frameon=False, fontsize=8)
    return figure


def write_robustness(report: Mapping[str, Any], example: Image, folder: Path) -> list[Path]:
    """Write ``robustness.json``, and its figures into ``figures``; return what was written.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {**robustness_figures(report), "corruptions": corruption_figure(example)}
    written = [folder / "robustness.json", *(folder / "figures" / f"{name}.png" for name in figures)]
    with adding(folder, written):
        write_text(written[0], json.dumps(report, indent=2, ensure_ascii=False) + "\n")
        for path, figure in zip(written[1:], figures.values(), strict=True):
            save_figure(figure, path)
    return written


def _draw_curves(
    axes: Axes, conditions: Sequence[Mapping[str, Any]], lines: Mapping[str, str], *, shares: bool
) -> None:
    for number, (name, title) in enumerate(lines.items()):
        places = np.array([place for place, condition in enumerate(conditions) if name in condition])
        value, low, high = (
            np.array([conditions[place][name][end] for place in places], dtype=float)
            for end in ("value", "low", "high")
        )
        axes.fill_between(places, low, high, color=COLOURS[number], alpha=0.15, linewidth=0)
        axes.plot(places, value, DASHES[number], color=COLOURS[number], marker="o", markersize=3, label=title)
    if not shares:
        axes.axhline(0, color=GREY, linewidth=0.8)
        return
    unlike = np.array([condition["ood_score"] for condition in conditions], dtype=float)
    if np.isfinite(unlike).all():
        axes.plot(range(len(unlike)), unlike, DASHES[3], color=GREY, label="share flagged as out of distribution")
    axes.set_ylim(-0.02, 1.02)


def corruption_figure(image: Image, *, seed: int = 0) -> Figure:
    """Draw an image (of a volume a slice) under every corruption, one row each: the original, then severity 1 to 5."""
    names = [name for name, corruption in CORRUPTIONS.items() if image.rank in corruption.ranks]
    limits = np.percentile(image.pixels, (0.5, 99.5))
    figure = new_figure(1.5 * (len(SEVERITIES) + 1), 1.6 * len(names))
    for row, name in enumerate(names):
        for severity in (0, *SEVERITIES):
            axes = figure.add_subplot(len(names), len(SEVERITIES) + 1, row * (len(SEVERITIES) + 1) + severity + 1)
            shown = corrupted(image, name, severity, seed=seed) if severity else image
            axes.imshow(_picture(shown, *limits), cmap="gray", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            if severity == 0:
                axes.set_ylabel(CORRUPTIONS[name].title, fontsize=8)
            if row == 0:
                axes.set_title(f"severity {severity}" if severity else "original", fontsize=8)
    return figure


def _picture(image: Image, low: float, high: float) -> npt.NDArray[np.float64]:
    """One slice on the scale of the original image, so that lost contrast is visible."""
    pixels = image.pixels[len(image.pixels) // 2] if image.rank == 3 else image.pixels
    pixels = pixels if pixels.shape[-1] == 3 else pixels[..., 0]
    return np.clip((pixels.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
