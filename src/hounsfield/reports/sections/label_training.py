"""The section on the training of a network for labels: did it overfit, and what would help."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from hounsfield.evaluation.ablation import Ablation
from hounsfield.evaluation.learning_curve import Forecast, LearningCurve
from hounsfield.reports.sections.content import (
    Block,
    Callout,
    Drawing,
    Points,
    Section,
    Table,
    number,
)
from hounsfield.reports.sections.learning import diagnosis_blocks, loss_drawing
from hounsfield.reports.subgroups import ablation_figure, learning_curve_figure
from hounsfield.reports.svg import svg_of
from hounsfield.runs import LabelRun

# What further commands find out about a training: addition -> what, and by which command.
FURTHER = {
    "ablation": ("what each measure against overfitting contributes", "hounsfield ablate RUN"),
    "learning_curve": ("what more patients would add", "hounsfield forecast RUN"),
}


def training_section(run: LabelRun) -> Section:
    """Learning curves, the gap between training and validation, and whether more data would help."""
    return Section("training", "Training and overfitting", tuple(_training_blocks(run)))


def _training_blocks(run: LabelRun) -> Iterator[Block]:
    found = run.event("diagnosis")
    if found:
        text = (
            f"The log loss of the final network is {number(found['train_loss'])} on training images without "
            f"augmentation and {number(found['val_loss'])} on validation images, a gap of {found['gap']:+.3f}; that of "
            f"predicting the label frequencies is {number(found['chance_loss'])}. A gap below 0.08 is within the "
            "variation between seeds."
        )
        yield from diagnosis_blocks(found, text)
    yield loss_drawing(run.history, "augmented images with smoothed labels")
    ablation = run.additions.get("ablation")
    if ablation:
        yield _remedies(Ablation.from_dict(ablation))
        yield Points(tuple(str(line) for line in ablation["lines"]))
    curve = run.additions.get("learning_curve")
    if curve:
        yield _data_curve(curve)
        yield Points(tuple(str(line) for line in curve["lines"]))
    missing = [f"{what}: {command}" for name, (what, command) in FURTHER.items() if name not in run.additions]
    if missing:
        told = "; ".join(missing)
        yield Callout("note", "Not examined yet", f"{told[0].upper()}{told[1:]}. Then make the report again.")


def _remedies(found: Ablation) -> Drawing:
    rows = [
        (
            f"without {each.remedy}",
            *(
                f"{each.without[name]:.3f}, {change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
                for name, change in each.changes.items()
            ),
            each.verdict,
        )
        for each in found.bought
    ]
    planned = ("as planned", *(number(found.planned[name]) for name in found.bought[0].changes), "")
    return Drawing(
        svg_of(ablation_figure(found), "remedies", "Change of the log loss without each measure"),
        "What does each measure against overfitting contribute? Trainings without it, on the same validation images.",
        Table("", ("", "log loss and change", "AUC and change", "verdict"), (planned, *rows)),
    )


def _data_curve(found: dict[str, Any]) -> Drawing:
    known = {field.name for field in fields(LearningCurve)}
    forecasts = tuple(Forecast(**forecast) for forecast in found["forecasts"])
    values = {name: value for name, value in found.items() if name in known}
    curve = LearningCurve(**(values | {"forecasts": forecasts}))
    rows = [
        (f"{size:,}", number(error), f"{number(low)} to {number(high)}", "measured")
        for size, error, low, high in zip(curve.sizes, curve.errors, curve.lows, curve.highs, strict=True)
    ]
    rows += [
        (f"{one.size:,}", number(one.error), f"{number(one.low)} to {number(one.high)}", "predicted")
        for one in forecasts
    ]
    return Drawing(
        svg_of(learning_curve_figure(curve), "data", "Error against the number of training images"),
        "Would more data help? Error against training size, and its extrapolation.",
        Table("", (f"training {curve.unit}", curve.title, "95 % interval", ""), tuple(rows)),
    )
