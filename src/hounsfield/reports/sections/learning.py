"""What the sections on training share: the diagnosis, the learning curves and the epoch that was kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.reports.figures import learning_curves
from hounsfield.reports.sections.content import Block, Callout, Drawing, Paragraph, Points, Table, number
from hounsfield.reports.svg import svg_of
from hounsfield.runs import RunRecord

MEANINGS = {
    "overfitting": "the network performs better on training images than on new ones",
    "underfitting": "the network has not yet fitted its training images",
    "balanced": "the network performs alike on training and validation images",
}


def diagnosis_blocks(found: Mapping[str, Any], text: str) -> Iterator[Block]:
    """The verdict over its figures in words, what the plan does already, and what to try next."""
    verdict = str(found["verdict"])
    yield Callout(
        "warning" if verdict == "overfitting" else "note", f"{verdict.capitalize()}: {MEANINGS[verdict]}", text
    )
    yield Paragraph(f"Measures against overfitting in the plan: {'; '.join(found['already'])}.")
    yield Paragraph("What to try next, judged on validation images:")
    yield Points(tuple(str(remedy["what"]) for remedy in found["remedies"]))


def loss_drawing(history: pd.DataFrame, trained_on: str) -> Drawing:
    """The losses of each network against the epoch; ``trained_on`` says what the training loss was measured on."""
    best = history.sort_values("val_loss").groupby("member").first() if "member" in history else history
    rows = [
        (f"network {member}", str(int(row["epoch"])), number(row["loss"]), number(row["val_loss"]))
        for member, row in best.iterrows()
    ]
    return Drawing(
        svg_of(learning_curves(history), "learning", "Learning curves"),
        f"Loss against epoch. The training loss is measured on {trained_on}, so it can be higher than the validation "
        "loss; the epoch with the lowest validation loss is kept.",
        Table("", ("", "best epoch", "training loss", "validation loss"), tuple(rows)),
    )


def figure_drawing(history: pd.DataFrame, names: Sequence[str], text: str, figure: str) -> Drawing:
    """Losses and figures against the epoch, and the epoch that was kept.

    Args:
        history: of the training.
        names: columns that may have chosen the epoch, the first that has values did.
        text: what is drawn.
        figure: what the chosen column is called.
    """
    chosen = next((name for name in names if name in history and history[name].notna().any()), None)
    kept = "" if chosen is None else f" The epoch with the highest {figure} on validation images is kept."
    curves = svg_of(learning_curves(history), "learning", "Learning curves")
    return Drawing(curves, f"{text}, against the epoch.{kept}", _epoch_table(history, chosen), wide=True)


def suggestions(run: RunRecord) -> Iterator[Points]:
    """The lines of the diagnosis; the log gives a command with each, and a page needs no path of this machine."""
    lines = [str(line).strip().partition(": hounsfield")[0] for line in run.event("diagnosis").get("lines", ())]
    if lines:
        yield Points(tuple(lines))


def _epoch_table(history: pd.DataFrame, chosen: str | None) -> Table:
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
