"""The section on the training of a regressor: did it overfit, and what would help."""

from __future__ import annotations

from collections.abc import Iterator

from hounsfield.reports.sections.content import Block, Section, number
from hounsfield.reports.sections.learning import diagnosis_blocks, loss_drawing
from hounsfield.runs.values import ValueRun


def training_section(run: ValueRun) -> Section:
    """Learning curves, and the gap between training and validation."""
    return Section("training", "Training and overfitting", tuple(_blocks(run)))


def _blocks(run: ValueRun) -> Iterator[Block]:
    found = run.event("diagnosis")
    if found:
        text = (
            f"As a share of the loss of predicting the mean, the loss of the final network is "
            f"{number(found['train_loss'])} on training images without augmentation and {number(found['val_loss'])} on "
            f"validation images, a gap of {found['gap']:+.3f}. A gap below 0.08 is within the variation between seeds."
        )
        yield from diagnosis_blocks(found, text)
    yield loss_drawing(run.history, "augmented images")
