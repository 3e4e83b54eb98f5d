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
MASK_SHOWN = (
    "dice",
    "nsd",
    "hd95",
    "assd",
    "missed",
    "false",
    "size_error",
    "lesion_sensitivity",
    "lesion_f1",
    "pq",
)
# A figure that every run of a family has -> its further figures, and the prefix of those of one label that are shown.
OF_FAMILIES = {"ap": (DETECTION_SHOWN, "ap50_"), "dice": (MASK_SHOWN, "dice_")}


def print_run(run: Run) -> None:
    """Notes to standard error; metrics, diagnosis and places to standard output."""
    for note in run.notes:
        say(f"Note: {note}")
    for split, estimates in run.metrics.items():
        whole = next(name for name in ("accuracy", "mae", "ap", "dice") if name in estimates)
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
    shown, prefix = next((each for name, each in OF_FAMILIES.items() if name in estimates), (VALUE_SHOWN, ""))
    by_label = [name for name in estimates if prefix and name.startswith(prefix)]
    for name in (*SHOWN, *shown, *by_label):
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
