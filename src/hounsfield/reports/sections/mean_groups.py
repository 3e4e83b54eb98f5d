"""The section on subgroups of families whose groups are compared by means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hounsfield.reports.sections.content import Block, Callout, Drawing, Points, Section, Table, number, with_interval
from hounsfield.reports.sections.data import has_groups
from hounsfield.reports.sections.drawings import forest_figure
from hounsfield.reports.sections.groups import MOST_GROUPS, NO_GROUPS, NOT_LOOKED
from hounsfield.reports.svg import svg_of
from hounsfield.reports.value_figures import PANELS, panel_titles
from hounsfield.runs import RunRecord


def groups_section(run: RunRecord) -> Section:
    """For which groups of patients the model performs worse."""
    found = run.additions.get("bias")
    command = f"hounsfield evaluate {run.testable}"
    if found and found["attributes"]:
        return Section("subgroups", "Subgroups", tuple(_group_blocks(found)))
    known = has_groups(run)
    title, text = ("Not examined yet", NOT_LOOKED) if known else ("No groups to compare", NO_GROUPS)
    return Section("subgroups", "Subgroups", (Callout("note", title, text.format(command=command)),))


def _group_blocks(found: Mapping[str, Any]) -> Iterator[Block]:
    # Runs of earlier versions name no titles.
    panels = panel_titles(found["titles"]) if "titles" in found else PANELS
    yield Points(tuple(str(line).strip() for line in found["lines"]))
    rows = [(f"{group['group']} ({group['patients']:,})", group["figures"]) for group in _with_all(found)]
    differing = {finding["group"] for finding in found["findings"]}
    marked = frozenset(name for name, _ in rows if name.rpartition(" (")[0] in differing)
    cells = [
        (name, *(with_interval(figures[key]) for key in panels), next(iter(figures.values())).get("note", ""))
        for name, figures in rows
    ]
    yield Drawing(
        svg_of(forest_figure(rows[:MOST_GROUPS], panels, marked), "subgroups", "Performance by group"),
        f"{' and '.join(panels.values())} by group with 95 % intervals; the number of patients in brackets. Diamond: "
        "differs beyond chance. Grey circle: too small to judge.",
        Table("", ("group (patients)", *panels.values(), ""), tuple(cells)),
        wide=True,
    )
    gaps = found["gaps"][:10]
    if gaps:
        yield Table(
            "Most significant differences",
            ("group", "figure", "in group", "others", "difference", "adjusted p"),
            tuple(_gap_row(gap, panels) for gap in gaps),
            f"Of {len(found['gaps']):,} comparisons, adjusted by {found['correction']}; significant below "
            f"{found['significance']:g}.",
        )


def _with_all(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [found["overall"], *found["groups"]]


def _gap_row(gap: Mapping[str, Any], panels: Mapping[str, str]) -> tuple[str, ...]:
    difference = with_interval({"value": gap["value"], "low": gap["low"], "high": gap["high"]})
    sure = "below 0.0001" if gap["adjusted"] < 1e-4 else f"{gap['adjusted']:.4f}"
    return (gap["group"], panels[gap["metric"]], number(gap["inside"]), number(gap["outside"]), difference, sure)
