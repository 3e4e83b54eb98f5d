"""The section on the training of a segmenter."""

from __future__ import annotations

from hounsfield.reports.sections.content import Section
from hounsfield.reports.sections.learning import figure_drawing, suggestions
from hounsfield.runs.masks import MaskRun


def training_section(run: MaskRun) -> Section:
    """Loss and Dice against the epoch, and whether the network overfits."""
    text = "Loss on patches of training images, and figures on validation images"
    drawing = figure_drawing(run.history, ("val_dice",), text, "Dice")
    return Section("training", "Training and overfitting", (drawing, *suggestions(run)))
