"""``hounsfield readings``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hounsfield.cli.console import print_json, say


def command(
    folder: Annotated[Path, typer.Argument(metavar="SERVICE", help="The folder of a service.")],
    run: Annotated[Path, typer.Argument(help="The run whose answers were read.")],
    out: Annotated[Path, typer.Argument(help="A new folder for the images and their table.")],
    model: Annotated[str | None, typer.Option(help="Its name in the service; by default that of its folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write what readers said of a model's answers as DATA for the next training."""
    from hounsfield.bundle import Bundle
    from hounsfield.errors import UsageError
    from hounsfield.serving.corrections import TABLE, export_readings
    from hounsfield.serving.database import DATABASE, Reader

    if not (folder / DATABASE).is_file():
        raise UsageError(f"{folder} is not the folder of a service: it has no {DATABASE}.")
    bundle, name = Bundle.load(run), model or run.resolve().name
    rank = len(bundle.input_shape) - 1
    records = Reader(folder / DATABASE)
    written = export_readings(folder, records, out, model=name, family=bundle.family, rank=rank)
    if as_json:
        print_json(asdict(written) | {"table": str(out / TABLE)})
        return
    say(f"Readings: {written.readings:,}, images: {written.images:,}, in {out / TABLE}")
    if written.left_out:
        say(f"Left out, since they say nothing of '{name}' that could be trained on: {written.left_out:,}")
