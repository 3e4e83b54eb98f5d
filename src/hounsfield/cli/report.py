"""``hounsfield report``: a finished run as one page, and a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    *,
    evidence: Annotated[bool, typer.Option(help="Show typical and worst cases, which needs the run's data.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the paths of the files and the answers to the checklists as JSON.")
    ] = False,
) -> None:
    """Write report.html and MODEL_CARD.md into a run: results, cases, limitations, the plan, checklists."""
    from hounsfield.cli.console import out, print_json, progress_bars, say
    from hounsfield.errors import MissingDependency
    from hounsfield.reports.run_report import write_report
    from hounsfield.reports.table import page_of
    from hounsfield.runs import read_run

    if evidence and page_of(read_run(run)).explains:
        from hounsfield.cli.backend import announce_backend

        try:
            announce_backend()
        except MissingDependency as error:
            say(f"Heat maps are made by occlusion, since Keras is not available. {error}")
    with progress_bars() as progress:
        report = write_report(run, evidence=evidence, progress=progress)
    if as_json:
        filled = {found.title.partition(":")[0]: [vars(row) for row in found.items] for found in report.checklists}
        print_json({"page": str(report.page), "card": str(report.card), "checklists": filled})
        return
    out.print(f"Report:     {report.page}\nModel card: {report.card}")
    for found in report.checklists:
        out.print(found.title)
