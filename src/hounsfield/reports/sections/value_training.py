"""The section on the training of a regressor: did it overfit, and what would help."""

from __future__ import annotations

from collections.abc import Iterator

from hounsfield.reports.figures import learning_curves
from hounsfield.reports.sections.content import Block, Callout, Drawing, Paragraph, Points, Section, Table, number
from hounsfield.reports.sections.label_training import MEANINGS
from hounsfield.reports.svg import svg_of
from hounsfield.runs.values import ValueRun


def training_section(run: ValueRun) -> Section:
    """Learning curves, and the gap between training and validation."""
    return Section("training", "Training and overfitting", tuple(_blocks(run)))


def _blocks(run: ValueRun) -> Iterator[Block]:
    found = run.event("diagnosis")
    if found:
        verdict = str(found["verdict"])
        yield Callout(
            "warning" if verdict == "overfitting" else "note",
            f"{verdict.capitalize()}: {MEANINGS[verdict]}",
            f"As a share of the loss of predicting the mean, the loss of the final network is "
            f"{number(found['train_loss'])} on training images without augmentation and {number(found['val_loss'])} on "
            f"validation images, a gap of {found['gap']:+.3f}. A gap below 0.08 is within the variation between seeds.",
        )
        yield Paragraph(f"Measures against overfitting in the plan: {'; '.join(found['already'])}.")
        yield Points(tuple(str(remedy["what"]) for remedy in found["remedies"]))
    best = run.history.sort_values("val_loss").groupby("member").first()
    rows = [
        (f"network {member}", str(int(row["epoch"])), number(row["loss"]), number(row["val_loss"]))
        for member, row in best.iterrows()
    ]
    yield Drawing(
        svg_of(learning_curves(run.history), "learning", "Learning curves"),
        "Loss against epoch. The training loss is measured on augmented images, so it can be higher than the "
        "validation loss; the epoch with the lowest validation loss is kept.",
        Table("", ("", "best epoch", "training loss", "validation loss"), tuple(rows)),
        wide=True,
    )
