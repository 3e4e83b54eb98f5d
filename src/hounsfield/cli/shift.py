"""``hounsfield inspect A --against B``: how the second cohort differs from the first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hounsfield.cohorts.scan import Scan
    from hounsfield.reports.shift import ShiftReport

# Quantities in the printed table.
MOST_ROWS = 15


def compare(first: Scan, second: Scan, output: Path | None, *, as_json: bool) -> None:
    """Print how two cohorts differ, and write ``shift.json`` and ``shift.png`` if a folder is given."""
    from hounsfield.cli.console import out, print_json, say
    from hounsfield.reports.shift import report_shift, write_shift

    report = report_shift(first, second)
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
        for line in report.lines():
            out.print(line)
    if output is not None or not as_json:
        folder = output or Path(f"shift-{_file_name(report.names[0])}-{_file_name(report.names[1])}")
        for path in write_shift(report, folder):
            say(f"wrote {path}")


def _print(report: ShiftReport) -> None:
    from rich.table import Table

    from hounsfield.cli.console import out

    sizes = [f"{name} ({count:,})" for name, count in zip(report.names, report.images, strict=True)]
    table = Table("", *sizes, "difference", "p", title="Differences, largest first", title_justify="left")
    for one in report.shifts[:MOST_ROWS]:
        p_value = "< .001" if one.p_value < 0.001 else f"{one.p_value:.3f}"
        mark = "*" if one.notable else ""
        table.add_row(one.name, _told(one.first), _told(one.second), f"{one.strength:.2f}{mark}", p_value)
    out.print(table)


def _told(summary: dict[str, float]) -> str:
    """Quartiles of a quantity, or the most frequent levels with their shares."""
    if set(summary) == {"25%", "50%", "75%"}:
        return ", ".join(f"{value:,.4g}" for value in summary.values())
    levels = sorted(((level, share) for level, share in summary.items() if share > 0), key=lambda item: -item[1])
    return ", ".join(f"{level} {share:.0%}" for level, share in levels[:3]) + (", …" if len(levels) > 3 else "")


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
