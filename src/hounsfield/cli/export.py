"""``hounsfield export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hounsfield.cli.console import print_json, say


def command(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or of a bundle.")],
    to: Annotated[str, typer.Option("--to", help="onnx, openvino, saved_model, or int8: a bundle in 8-bit integers.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file or folder to write; by default in the bundle, of int8 beside RUN."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write the network for another runtime; the preprocessing stays in the bundle's pipeline.json."""
    from hounsfield.bundle import Bundle
    from hounsfield.cli.backend import announce_backend
    from hounsfield.inference.export import export_bundle, needs_keras
    from hounsfield.runs.manifest import adding

    if to == "int8":
        _quantise(run, output, as_json=as_json)
        return
    bundle = Bundle.load(run)
    if needs_keras(bundle, to, output):
        announce_backend()
    with adding(run, [bundle.folder / "bundle.json"]):
        path = export_bundle(bundle, to, output)
    if note := bundle.form.export_note(bundle.settings):
        say(note)
    say(f"Input 'image': (batch, {', '.join(map(str, bundle.input_shape))}) float32, after the steps of pipeline.json.")
    if as_json:
        print_json({"to": to, "path": str(path)})
    else:
        typer.echo(str(path))


def _quantise(run: Path, output: Path | None, *, as_json: bool) -> None:
    """Write a bundle in 8-bit integers, if it decides the same."""
    import dataclasses

    from hounsfield.bundle import Bundle
    from hounsfield.cli.console import progress_bars
    from hounsfield.testing.box_quantisation import quantise_boxes
    from hounsfield.testing.mask_quantisation import quantise_masks
    from hounsfield.testing.quantisation import quantise

    place = run.resolve()
    folder = output or place.with_name(f"{place.name}-int8")
    with progress_bars() as progress:
        kinds: dict[str, Any] = {"masks": quantise_masks, "boxes": quantise_boxes}
        bundle, attempts = kinds.get(Bundle.load(run).family, quantise)(run, folder, progress=progress)
    for attempt in attempts:
        say(attempt.line())
    if as_json:
        found = [dataclasses.asdict(attempt) for attempt in attempts]
        print_json({"to": "int8", "path": str(folder), "identity": bundle.identity, "attempts": found})
    else:
        typer.echo(str(folder))
