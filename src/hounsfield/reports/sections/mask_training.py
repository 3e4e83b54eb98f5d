"""The section on the training of a segmenter."""

from __future__ import annotations

from collections.abc import Iterator

from hounsfield.reports.figures import learning_curves
from hounsfield.reports.sections.box_training import chosen_measure, epoch_table
from hounsfield.reports.sections.content import Block, Drawing, Points, Section
from hounsfield.reports.svg import svg_of
from hounsfield.runs.masks import MaskRun

# What chooses the epoch, of those that a history may have.
CHOSEN_BY = ("val_dice",)


def training_section(run: MaskRun) -> Section:
    """Loss and Dice against the epoch, and whether the network overfits."""
    return Section("training", "Training and overfitting", tuple(_blocks(run)))


def _blocks(run: MaskRun) -> Iterator[Block]:
    chosen = chosen_measure(run.history, CHOSEN_BY)
    kept = "" if chosen is None else " The epoch with the highest Dice on validation images is kept."
    yield Drawing(
        svg_of(learning_curves(run.history), "learning", "Learning curves"),
        f"Loss on patches of training images, and figures on validation images, against the epoch.{kept}",
        epoch_table(run.history, chosen),
        wide=True,
    )
    # The log gives a command with each suggestion; a page needs no path of this machine.
    diagnosed = [str(line).strip().partition(": hounsfield")[0] for line in run.event("diagnosis").get("lines", ())]
    if diagnosed:
        yield Points(tuple(diagnosed))
