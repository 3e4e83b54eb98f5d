"""``hounsfield monitor``: whether predictions over time drift away from validation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hounsfield.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from hounsfield.evaluation.monitoring import Monitoring
    from hounsfield.runs import LabelRun
    from hounsfield.runs.values import ValueRun

# Of the command, where there is an alarm.
ALARM = 3


def command(
    run: Annotated[
        Path, typer.Argument(help="The run whose predictions are watched; its validation gives the limits.")
    ],
    tables: Annotated[
        list[Path] | None,
        typer.Argument(help="Outputs of `hounsfield predict -o`, in the order of time or with a column time or date."),
    ] = None,
    *,
    service: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Instead of tables: the folder of a service, and its answers.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="With --service: the name of the model, if it has several.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Predictions of validation images, as predict writes them, instead of the run's own."),
    ] = None,
    readings: Annotated[
        Path | None, typer.Option(help="A table with image and truth: what readers said of the images later.")
    ] = None,
    run_length: Annotated[int, typer.Option(min=100, help="Images between two false alarms, on average.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the simulation of the limits.")] = 0,
    output: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for monitoring.json and .png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Watch scores, inputs, out-of-distribution images, abstentions and agreement with readers over time.

    One false alarm of all charts together is expected in --run-length images. Exit status 3: there is an alarm.
    """
    from hounsfield.cli.console import check_folder, out, print_json, say
    from hounsfield.evaluation.monitoring import monitor, read_stream, with_readings

    check_folder(output)
    if (service is None) == (not tables):
        raise UsageError("Give either tables of predictions, or --service DIR.")
    if model is not None and service is None:
        raise UsageError("--model names one of a service's models. Give --service DIR too, or leave it out.")
    stream = _served(service, model) if service is not None else read_stream(tables or [])
    if readings is not None:
        stream = with_readings(stream, read_stream([readings]))
    known = _reference(run, reference)
    found = monitor(known, stream, run_length=run_length, seed=seed)
    for note in found.notes:
        say(note)
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)
        told = [
            f"Alarm at image {each.number:,}{f' ({each.time})' if each.time else ''}: {each.chart}."
            for each in found.alarms
        ]
        for line in told or [f"No alarm in {len(found.paths):,} images."]:
            out.print(line)
    if output is not None:
        _write(found, output)
    if found.alarms:
        raise typer.Exit(ALARM)


def _reference(run: Path, given: Path | None) -> pd.DataFrame:
    """The predictions of validation images: those that are given, which must be the run's, or those that it keeps."""
    from hounsfield.bundle import Bundle
    from hounsfield.cli.options import require_family
    from hounsfield.evaluation.monitoring import outputs_of, read_stream
    from hounsfield.evaluation.predictions import PROBABILITY_PREFIX
    from hounsfield.evaluation.value_tables import VALUE_COLUMN
    from hounsfield.runs import read_run

    bundle = Bundle.load(run)
    require_family("monitor", run, bundle.family, ("labels", "values"))
    if given is not None:
        table = read_stream([given])
        found = {name.removeprefix(PROBABILITY_PREFIX) for name in outputs_of(table) if name != VALUE_COLUMN}
        if bundle.family == "labels" and found != set(bundle.labels):
            raise UsageError(
                f"{given} has probabilities of {', '.join(sorted(found)) or 'no label'}, and the labels of {run} are "
                f"{', '.join(bundle.labels)}. Give predictions of the same model with --reference."
            )
        return table
    table = cast("LabelRun | ValueRun", read_run(run)).table
    return table[table["split"] == "validation"].dropna(axis="columns", how="all").reset_index(drop=True)


def _served(folder: Path, model: str | None) -> pd.DataFrame:
    from hounsfield.serving.answers import answers_table

    return answers_table(folder, model)


def _print(found: Monitoring) -> None:
    from rich.table import Table

    from hounsfield.cli.console import out

    first = found.windows[0]
    names = [name for name in first if name not in ("first", "last", "from", "to", "alarms")]
    table = Table("images", *names, "alarms", title="Means and shares", title_justify="left")
    for row in found.windows:
        cells = ("–" if row[name] is None else f"{row[name]:.3g}" for name in names)
        table.add_row(f"{row['first']:,} to {row['last']:,}", *cells, str(row["alarms"]))
    out.print(table)


def _write(found: Monitoring, folder: Path) -> None:
    from hounsfield.atomic import write_json
    from hounsfield.cli.console import say
    from hounsfield.reports.figures import save_figure
    from hounsfield.reports.monitoring import monitoring_figure

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "monitoring.json", found.to_dict())
    save_figure(monitoring_figure(found), folder / "monitoring.png")
    for name in ("monitoring.json", "monitoring.png"):
        say(f"wrote {folder / name}")
