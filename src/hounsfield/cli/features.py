"""``hounsfield features``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.console import print_json, progress_bars, say
from hounsfield.cli.results import ENGINE_HELP, conclude, good_results, reasons

if TYPE_CHECKING:
    from hounsfield.inference import BadImage


def command(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or of a bundle.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders of images, or .npy arrays.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Write the vectors here: .npz, .csv or .parquet.")],
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print count, bad images and engine as JSON.")] = False,
) -> None:
    """Write the feature vectors of images: what the network sees in them before it decides."""
    from hounsfield.cli.backend import announce_engine
    from hounsfield.inference import open_predictor
    from hounsfield.inference.tables import FEATURE_SUFFIXES, check_table_path, write_features

    check_table_path(output, FEATURE_SUFFIXES)
    announce_engine(engine)
    predictor = open_predictor(run, engine)
    say(f"Engine: {predictor.engine.description}")
    bad: list[BadImage] = []
    with progress_bars() as bars:
        good = write_features(output, good_results(predictor.stream(inputs, progress=bars), bad))
    if as_json:
        print_json({"engine": predictor.engine.description, "count": good, "file": str(output), "bad": reasons(bad)})
    conclude(good, bad, output)
