"""What a finished training prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from hounsfield.cli.console import out, say

if TYPE_CHECKING:
    from hounsfield.training import Run

SHOWN = (
    "auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "kappa",
    "brier",
)


def print_run(run: Run) -> None:
    """Notes and diagnosis to standard error, metrics and places to standard output."""
    for note in run.notes:
        say(f"Note: {note}")
    for split, estimates in run.metrics.items():
        print_estimates(f"{split} (n = {estimates['accuracy']['n']})", estimates)
    for line in (*run.diagnosis, *run.doubt):
        out.print(line, markup=False)
    out.print(f"Run:      {run.folder}", markup=False)
    out.print(f"Figures:  {run.folder / 'figures'}", markup=False)
    out.print(f"Bundle:   {run.folder / 'bundle'}", markup=False)


def print_estimates(title: str, estimates: dict[str, Any]) -> None:
    """A table of metrics with 95 % intervals."""
    table = Table("metric", "value", "95 % interval", title=title, title_justify="left")
    for name in SHOWN:
        if name in estimates:
            found = estimates[name]
            low, high = (_number(found[end]) for end in ("low", "high"))
            table.add_row(name.replace("_", " "), _number(found["value"]), f"{low} to {high}")
    out.print(table)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
