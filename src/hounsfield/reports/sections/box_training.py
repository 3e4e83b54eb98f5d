"""The section on the training of a detector: curves and anchors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.reports.figures import learning_curves
from hounsfield.reports.sections.content import Block, Drawing, Paragraph, Points, Section, Table, number
from hounsfield.reports.svg import svg_of
from hounsfield.runs import BoxRun

# What chooses the epoch, of those that a history may have.
CHOSEN_BY = ("val_ap", "val_ap50")


def training_section(run: BoxRun) -> Section:
    """Loss and average precision against the epoch, and the anchors that fit the boxes."""
    return Section("training", "Training and anchors", tuple(_blocks(run)))


def _blocks(run: BoxRun) -> Iterator[Block]:
    history = run.history
    chosen = chosen_measure(history, CHOSEN_BY)
    kept = "" if chosen is None else " The epoch with the highest average precision on validation images is kept."
    yield Drawing(
        svg_of(learning_curves(history), "learning", "Learning curves"),
        f"Loss on training images and average precision on validation images, against the epoch.{kept}",
        epoch_table(history, chosen),
        wide=True,
    )
    # The log gives a command with each suggestion; a page needs no path of this machine.
    diagnosed = [str(line).strip().partition(": hounsfield")[0] for line in run.event("diagnosis").get("lines", ())]
    if diagnosed:
        yield Points(tuple(diagnosed))
    if run.bundle.settings:
        yield Paragraph(f"Anchors: {run.plan.reasons.get('anchors', 'set by hand')}.")
        yield _anchor_table(run.bundle.settings)


def chosen_measure(history: pd.DataFrame, names: Sequence[str]) -> str | None:
    """The first of some columns that a history has values of."""
    return next((name for name in names if name in history and history[name].notna().any()), None)


def epoch_table(history: pd.DataFrame, chosen: str | None) -> Table:
    """First and last epoch, and that with the highest value of the chosen column."""
    shown = [name for name in map(str, history.columns) if name not in {"epoch", "member", "seconds"}]
    rows = {"first": 0, "last": len(history) - 1}
    if chosen is not None:
        rows["kept"] = int(np.nanargmax(history[chosen].to_numpy(np.float64)))
    numbers = history["epoch"] if "epoch" in history else pd.Series(range(1, len(history) + 1))
    cells = [
        (f"{name}: {int(numbers.iloc[row])}", *(_cell(history[column].iloc[row]) for column in shown))
        for name, row in sorted(rows.items(), key=lambda item: item[1])
    ]
    return Table("", ("epoch", *(name.replace("_", " ") for name in shown)), tuple(cells))


def _cell(value: Any) -> str:
    return number(float(value)) if isinstance(value, (int, float, np.number)) else str(value)


def _anchor_table(detector: Any) -> Table:
    strides, levels = detector["strides"], detector["anchors"]
    rows = [
        (f"{number}", f"{stride}", ", ".join("×".join(f"{side:g}" for side in shape) for shape in shapes) or "none")
        for number, (stride, shapes) in enumerate(zip(strides, levels, strict=False), start=1)
    ]
    return Table(
        "Anchors",
        ("pyramid level", "stride in pixels", "anchors in pixels of the network's input"),
        tuple(rows),
        "The shapes at each position of a level from which boxes are refined, fitted to the training boxes.",
        wordy=True,
    )
