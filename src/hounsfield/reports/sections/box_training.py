"""The section on the training of a detector: curves and anchors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hounsfield.reports.sections.content import Block, Paragraph, Section, Table
from hounsfield.reports.sections.learning import figure_drawing, suggestions
from hounsfield.runs import BoxRun


def training_section(run: BoxRun) -> Section:
    """Loss and average precision against the epoch, and the anchors that fit the boxes."""
    return Section("training", "Training and anchors", tuple(_blocks(run)))


def _blocks(run: BoxRun) -> Iterator[Block]:
    text = "Loss on training images and average precision on validation images"
    yield figure_drawing(run.history, ("val_ap", "val_ap50"), text, "average precision")
    yield from suggestions(run)
    if run.bundle.settings:
        yield Paragraph(f"Anchors: {run.plan.reasons.get('anchors', 'set by hand')}.")
        yield _anchor_table(run.bundle.settings)


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
