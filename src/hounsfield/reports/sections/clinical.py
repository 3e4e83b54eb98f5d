"""The section on what the image adds to clinical columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hounsfield.reports.sections.content import (
    Callout,
    Paragraph,
    Section,
    Table,
    interval,
    listed,
    number,
    with_interval,
)
from hounsfield.reports.sections.data import attributes
from hounsfield.runs import RunRecord
from hounsfield.testing.clinical import METRIC_TITLES

TITLE = "Does the image add anything?"


def clinical_section(run: RunRecord) -> tuple[Section, ...]:
    """Models of clinical columns, of the output and of both; none where the data has no columns to compare with."""
    found = run.additions.get("clinical")
    known = attributes(run.cohort)
    if found is None and not known:
        return ()
    if found is None:
        named = ",".join(known[:3])
        told = f"Run hounsfield evaluate {run.testable} --clinical {named}, then make the report again."
        return (Section("clinical", TITLE, (Callout("note", "Not examined yet", told),)),)
    rows = [row for each in found["contributions"] for row in _rows(each)]
    first = found["contributions"][0]
    about = (
        f"Logistic or ridge regression of {listed(found['columns'])}, of the model's output, and of both; fitted on "
        f"{first['fitted_on']:,} validation cases, judged on {first['cases']:,} {run.split} cases. Where an interval "
        "does not hold 0, the one adds to the other."
    )
    columns = ("", "metric", "clinical columns", "output", "both", "the image adds", "the columns add")
    return (Section("clinical", TITLE, (Paragraph(about), Table("", columns, tuple(rows)))),)


def _rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for metric, figures in found["figures"].items():
        gaps = found["differences"][metric]
        told = (f"{number(gaps[name]['value'])} ({interval(gaps[name]['low'], gaps[name]['high'])})" for name in gaps)
        rows.append((str(found["name"]), METRIC_TITLES[metric], *map(with_interval, figures.values()), *told))
    return rows
