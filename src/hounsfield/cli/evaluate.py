"""``hounsfield evaluate``: metrics with intervals of a run, or of anyone's table of predictions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from hounsfield.cli.console import out, print_json, say
from hounsfield.errors import UsageError

if TYPE_CHECKING:
    from hounsfield.evaluation.assessment import Assessment


def command(  # noqa: PLR0917 - Typer takes every option as a parameter
    target: Annotated[
        Path, typer.Argument(metavar="RUN_OR_PREDICTIONS", help="A run folder, or a table of predictions.")
    ],
    data: Annotated[str | None, typer.Argument(help="Other data to test a run on; by default its test split.")] = None,
    output: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for metrics.json and the figures.")] = None,
    threshold: Annotated[float | None, typer.Option(help="A probability above it is a yes.", min=0, max=1)] = None,
    task: Annotated[str | None, typer.Option(help="Of a table: binary, multi-class or multi-label.")] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.", min=100)] = 2000,
    confidence: Annotated[float, typer.Option(help="Nominal coverage of the intervals.", min=0.5, max=0.999)] = 0.95,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the machine-readable form.")] = False,
) -> None:
    """Measure a run on its test split or on other data, or evaluate a table of predictions."""
    options: dict[str, Any] = {"num_replicates": replicates, "confidence": confidence, "seed": seed}
    if target.is_dir():
        if task is not None:
            raise UsageError("The option --task is for tables of predictions; a run knows its task. Leave it out.")
        from hounsfield.training import evaluate_run

        assessment = evaluate_run(target, data, threshold=threshold, **options)
    else:
        if data is not None:
            raise UsageError(
                f"{target} is no run folder, so it cannot be tested on {data}. Give a run, or the table alone."
            )
        assessment = _assess_table(target, task, threshold, options)
    _report(assessment, confidence, as_json=as_json)
    if output is not None:
        _write(assessment, output)


def _assess_table(path: Path, task: str | None, threshold: float | None, options: dict[str, Any]) -> Assessment:
    from hounsfield.evaluation.answers import Task
    from hounsfield.evaluation.assessment import assess
    from hounsfield.evaluation.predictions import read_predictions

    known = {name: name for name in get_args(Task)}
    if task is not None and task not in known:
        raise UsageError(f"The task '{task}' is not known; expected {', '.join(known)}.")
    read = read_predictions(path, task=known[task] if task else None, threshold=threshold)
    return assess(read.answers, threshold=read.threshold, groups=read.groups, notes=read.notes, **options)


def _report(assessment: Assessment, confidence: float, *, as_json: bool) -> None:
    for note in assessment.notes:
        say(note)
    if as_json:
        print_json(assessment.to_dict())
        return
    from rich.table import Table

    from hounsfield.evaluation.metrics import METRICS

    table = Table("", "value", f"{confidence:.0%} interval", "n", "")
    for name, estimate in assessment.estimates.items():
        title = METRICS[name].title if name in METRICS else name
        interval = f"{estimate.low:.3f} to {estimate.high:.3f}" if math.isfinite(estimate.low) else "–"
        value = f"{estimate.value:.3f}" if math.isfinite(estimate.value) else "undefined"
        table.add_row(title, value, interval, f"{estimate.n:,}", estimate.note)
    out.print(table)


def _write(assessment: Assessment, folder: Path) -> None:
    from hounsfield.reports.evaluation import write_assessment

    for path in write_assessment(assessment, folder):
        say(f"wrote {path}")
