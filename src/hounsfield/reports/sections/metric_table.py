"""The table of figures with intervals that stands at the head of the results."""

from __future__ import annotations

from collections.abc import Mapping

from hounsfield.reports.sections.content import Table, with_interval
from hounsfield.reports.sections.wording import of_patients
from hounsfield.runs import RunRecord

# Where curves are read off for their tables.
CURVE_POINTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def on_what(run: RunRecord) -> str:
    """What the figures were measured on, and what their intervals mean."""
    return (
        f"{run.num_cases:,} {run.split} images{of_patients(run)}. In 95 of 100 such studies the interval would contain "
        "the true value; intervals are by patient where patients are known."
    )


def metric_table(run: RunRecord, titles: Mapping[str, str], chosen: str) -> Table:
    """Each metric of the run that has a title, on the split that is shown and on validation.

    Args:
        run: the run.
        titles: metric → title, in order.
        chosen: what validation images chose.
    """
    splits = list(dict.fromkeys(split for split in (run.split, "validation") if split in run.metrics))
    rows = []
    for name, title in titles.items():
        if name in run.estimates:
            cells = [with_interval(run.metrics[split].get(name, {})) for split in splits]
            rows.append((title, *cells, f"{run.estimates[name]['n']:,}", run.estimates[name].get("note", "")))
    return Table(
        "Figures with 95 % intervals",
        ("metric", *splits, f"n ({run.split})", ""),
        tuple(rows),
        f"Validation images chose {chosen}, so their figures are somewhat too good.{_in_turn(run)}",
    )


def _in_turn(run: RunRecord) -> str:
    """How many images the validation figures are of, where folds leave each out of one training."""
    most = max((found.get("n", 0) for found in run.metrics.get("validation", {}).values()), default=0)
    if run.num_networks < 2 or most <= len(run.rows("validation")):
        return ""
    return (
        f" They are of {most:,} images, training images among them: each is predicted by the networks that were not "
        "trained on it."
    )
