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
    """Write report.html into a run (results, cases, limitations, the plan), checklists, model facts, a model card."""
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
        filled = {found.name: [vars(row) for row in found.items] for found in report.checklists}
        paths = {"page": report.page, "lists": report.lists, "facts": report.facts, "card": report.card}
        print_json({name: str(path) for name, path in paths.items()} | {"checklists": filled})
        return
    out.print(f"Report:      {report.page}\nChecklists:  {report.lists}")
    out.print(f"Model facts: {report.facts}\nModel card:  {report.card}")
    for found in report.checklists:
        out.print(found.title)
