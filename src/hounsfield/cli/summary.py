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
VALUE_SHOWN = (
    "r2",
    "concordance",
    "mae",
    "rmse",
    "median_error",
    "bias",
    "loa_low",
    "loa_high",
    "kappa_quadratic",
    "within_one",
)
DETECTION_SHOWN = (
    "ap",
    "ap50",
    "ap75",
    "luna16",
    "sensitivity_fp_1",
    "precision",
    "recall",
    "count_bias",
    "count_mae",
)


def print_run(run: Run) -> None:
    """Notes to standard error; metrics, diagnosis and places to standard output."""
    for note in run.notes:
        say(f"Note: {note}")
    for split, estimates in run.metrics.items():
        whole = next(name for name in ("accuracy", "mae", "ap") if name in estimates)
        objects = " objects" if whole == "ap" else ""
        print_estimates(f"{split} (n = {estimates[whole]['n']}{objects})", estimates)
    for line in (*run.diagnosis, *run.uncertainty):
        out.print(line)
    out.print(f"Run:      {run.folder}")
    out.print(f"Figures:  {run.folder / 'figures'}")
    out.print(f"Bundle:   {run.folder / 'bundle'}")


def print_estimates(title: str, estimates: dict[str, Any]) -> None:
    """A table of metrics with 95 % intervals."""
    table = Table("metric", "value", "95 % interval", title=title, title_justify="left")
    by_label = [name for name in estimates if name.startswith("ap50_")]
    for name in (*SHOWN, *DETECTION_SHOWN, *by_label) if "ap" in estimates else (*SHOWN, *VALUE_SHOWN):
        if name in estimates:
            found = estimates[name]
            low, high = (_number(found[end]) for end in ("low", "high"))
            table.add_row(
                name.replace("_", " "),
                _number(found["value"]),
                f"{low} to {high}" if found["low"] is not None else found["note"],
            )
    out.print(table)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
