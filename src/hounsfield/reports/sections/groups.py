"""The sections on subgroups of patients, and on images of lower quality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hounsfield.reports.robustness import panels, robustness_figures, shown_figures
from hounsfield.reports.sections.content import (
    Block,
    Callout,
    Drawing,
    Paragraph,
    Points,
    Section,
    Table,
    interval,
    listed,
    lowered,
    number,
    percent,
    with_interval,
)
from hounsfield.reports.sections.data import has_groups
from hounsfield.reports.sections.drawings import forest_figure
from hounsfield.reports.svg import svg_of
from hounsfield.runs import RunRecord

PANELS = {"auc": "AUC", "sensitivity": "Sensitivity", "specificity": "Specificity", "calibration": "Calibration"}
# A forest plot of more groups than this is unreadable; the table has them all.
MOST_GROUPS = 30
MOST_GAPS = 15
# Where no gap is beyond chance, the most significant few are enough.
FEW_GAPS = 5
NOT_LOOKED = "Run {command}, then make the report again."
NO_GROUPS = (
    "The data has no attribute that divides its images into groups. Add columns such as sex, age or site to its table, "
    "run {command}, and make the report again. If the data is not a table, train from a table that has them."
)


def subgroup_section(run: RunRecord) -> Section:
    """For which groups of patients the model performs worse."""
    found = run.additions.get("bias")
    command = f"hounsfield evaluate {run.testable}"
    without = Callout("note", "No groups to compare", NO_GROUPS.format(command=command))
    missing = _not_looked(command) if has_groups(run) else without
    return Section("subgroups", "Subgroups", tuple(_subgroup_blocks(found)) if found else (missing,))


def robustness_section(run: RunRecord) -> Section:
    """How performance falls with image quality."""
    found = run.additions.get("robustness")
    command = f"hounsfield robustness {run.testable}"
    blocks = tuple(_robustness_blocks(found)) if found else (_not_looked(command),)
    return Section("robustness", "Robustness", blocks)


def _not_looked(command: str) -> Callout:
    return Callout("note", "Not examined yet", NOT_LOOKED.format(command=command))


def _subgroup_blocks(found: Mapping[str, Any]) -> Iterator[Block]:
    removals = found.get("removals") or []
    lines = found["lines"][: len(found["lines"]) - len(removals)]
    yield Points(tuple(str(line).strip() for line in lines))
    groups = [group for group in found["groups"] if len(group["attributes"]) == 1]
    if groups:
        yield _forest(found, groups)
    most = MOST_GAPS if found["findings"] else FEW_GAPS
    gaps = [gap for gap in found["gaps"] if gap["inside"] is not None][:most]
    if gaps:
        yield _gap_table(found, gaps)
    if found.get("probes"):
        yield _probe_table(found["probes"])
    if removals:
        yield _removal_table(removals)


def _forest(found: Mapping[str, Any], groups: list[Mapping[str, Any]]) -> Drawing:
    overall = found["overall"]
    ending = "" if "auc" in overall["figures"] else "_" + _first_question(overall["figures"])
    panels = {name + ending: title for name, title in PANELS.items() if name + ending in overall["figures"]}
    rows = [(f"all ({overall['patients']:,})", overall["figures"])]
    rows += [(f"{group['group']} ({group['patients']:,})", group["figures"]) for group in groups]
    differing = {finding["group"] for finding in found["findings"]}
    marked = frozenset(name for name, _ in rows if name.rpartition(" (")[0] in differing)
    cells = [
        (name, *(with_interval(figures.get(key, {})) for key in panels), _judged(figures)) for name, figures in rows
    ]
    label = f" for {ending[1:]}" if ending else ""
    return Drawing(
        svg_of(forest_figure(rows[:MOST_GROUPS], panels, marked), "subgroups", "Performance by group"),
        f"Performance by group{label} with 95 % intervals; the number of patients in brackets. Diamond: differs beyond "
        f"chance. Grey circle: too small to judge. Calibration in the large: {_sign(found)}.",
        Table("", ("group (patients)", *panels.values(), ""), tuple(cells)),
        wide=True,
    )


def _sign(found: Mapping[str, Any]) -> str:
    """What calibration in the large is the difference of; audits of earlier versions had it the other way round."""
    return str(found.get("in_the_large", "mean probability minus observed share"))


def _first_question(figures: Mapping[str, Any]) -> str:
    return next(name for name in figures if name.startswith("auc_")).removeprefix("auc_")


def _judged(figures: Mapping[str, Any]) -> str:
    return "" if any(not estimate.get("note") for estimate in figures.values()) else "too small to judge"


def _gap_table(found: Mapping[str, Any], gaps: list[Mapping[str, Any]]) -> Table:
    rows = [
        (
            gap["group"],
            f"{gap['metric']} ({gap['question']})",
            number(gap["inside"]),
            f"{number(gap['outside'])} ({gap['against']})",
            f"{gap['value']:+.3f} ({interval(gap['low'], gap['high'])})",
            "below 0.0001" if gap["adjusted"] < 1e-4 else f"{gap['adjusted']:.4f}",
        )
        for gap in gaps
    ]
    return Table(
        "Most significant differences",
        ("group", "metric", "in group", "others", "difference", "adjusted p"),
        tuple(rows),
        f"Of {len(found['gaps']):,} comparisons, adjusted by {found['correction']}; significant below "
        f"{found['significance']:g}.",
    )


def _probe_table(probes: list[Mapping[str, Any]]) -> Table:
    rows = [
        (
            str(probe["attribute"]),
            with_interval(probe),
            number(probe.get("chance")),
            "yes" if probe["readable"] else "no",
            probe.get("note") or "",
        )
        for probe in probes
    ]
    return Table(
        "Attributes in the network's features",
        ("attribute", "AUC", "chance", "predictable", ""),
        tuple(rows),
        "Among images of one label. That an attribute can be predicted from the features does not mean that the "
        "network uses it; that it cannot be predicted speaks against its use.",
    )


def _removal_table(removals: list[Mapping[str, Any]]) -> Table:
    rows = [
        (
            str(removal["intervention"]),
            number(removal.get("auc")),
            _change(removal),
            percent(removal.get("flipped"), 1),
            "yes" if removal["matters"] else "no",
        )
        for removal in removals
    ]
    return Table(
        "Effect of removing parts of the images",
        ("intervention", "AUC", "change", "predictions changed", "matters"),
        tuple(rows),
    )


def _change(removal: Mapping[str, Any]) -> str:
    low, high = (removal.get(f"auc_change_{end}") for end in ("low", "high"))
    return f"{number(removal.get('auc_change'))} ({interval(low, high)})"


def _robustness_blocks(found: Mapping[str, Any]) -> Iterator[Block]:
    for note in found.get("notes", ()):
        yield Paragraph(str(note))
    titles, curves = shown_figures(found), found["corruptions"].values()
    rows = [("original", *_condition(found["clean"], titles))]
    for curve in curves:
        rows += [
            (f"{curve['title']}, severity {severity}", *_condition(condition, titles))
            for severity, condition in enumerate(curve["severities"], start=1)
        ]
    table: Table | None = Table("", ("images", *titles.values(), "flagged"), tuple(rows))
    drawn = robustness_figures(found)
    for name, lines in panels(found).items():
        text = _caption(found, lines)
        if name == list(drawn)[-1]:
            text += " Grey: the share of images that the model flags as out of distribution."
        yield Drawing(svg_of(drawn[name], name, "Performance against severity"), text, table, wide=True)
        table = None


def _caption(found: Mapping[str, Any], lines: Mapping[str, str]) -> str:
    names = listed(lowered(title) for title in lines.values())
    return (
        f"{names[:1].upper()}{names[1:]} on {found['images']:,} images of decreasing quality, from severity 1 (slight) "
        "to 5 (severe)."
    )


def _condition(condition: Mapping[str, Any], titles: Mapping[str, str]) -> tuple[str, ...]:
    return (*(with_interval(condition.get(name, {})) for name in titles), percent(condition["ood_score"]))
