"""``hounsfield features``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from hounsfield.cli.console import print_json, progress_bars, say
from hounsfield.cli.results import ENGINE_HELP, conclude, good_results, reasons
from hounsfield.cli.workers import Crew, RayAddress, Table, TimeLimit, WorkerMemory, Workers, check_output, make_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hounsfield.inference import BadImage, BasePredictor


def command(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or of a bundle.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders of images, or .npy arrays.")],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="Write the vectors here: .npz, .csv or .parquet; with --workers or --ray .csv, .parquet, or shards to "
            "this folder or s3:// URL.",
        ),
    ],
    *,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "auto",
    workers: Workers = None,
    ray: RayAddress = None,
    time_limit: TimeLimit = None,
    worker_memory: WorkerMemory = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print count, bad images and engine as JSON.")] = False,
) -> None:
    """Write the feature vectors of images: what the network sees in them before it decides."""
    from hounsfield.cli.backend import announce_engine
    from hounsfield.inference import open_predictor
    from hounsfield.inference.tables import FEATURE_SUFFIXES, check_table_path, write_features

    crew = Crew(workers, ray, time_limit, worker_memory)
    crew.check()
    if crew.is_wanted:
        check_output(output, inputs, FEATURE_SUFFIXES[1:], masks=False)
    else:
        check_table_path(Path(output), FEATURE_SUFFIXES)
    announce_engine(engine)
    predictor = open_predictor(run, engine)
    say(f"Engine: {predictor.engine.description}")
    if crew.is_wanted:
        _in_crew(predictor, inputs, Asked(output, engine, as_json), crew)
        return
    bad: list[BadImage] = []
    with progress_bars() as bars:
        good = write_features(output, good_results(predictor.stream(inputs, progress=bars), bad))
    if as_json:
        print_json({"engine": predictor.engine.description, "count": good, "file": output, "bad": reasons(bad)})
    conclude(good, bad, Path(output))


class Asked(NamedTuple):
    """The output, by which engine, and whether it is told as JSON."""

    output: str
    engine: str
    as_json: bool


def _in_crew(predictor: BasePredictor[Any], inputs: list[str], asked: Asked, crew: Crew) -> None:
    from hounsfield.distributed import FeatureWork
    from hounsfield.distributed.predicting import BundleCopy
    from hounsfield.inference.tables import write_feature_rows

    parts = list(predictor.parts(inputs))
    copy = BundleCopy.of(predictor.bundle)
    work = FeatureWork(copy, asked.engine, alone=len(parts) == 1)

    def write(rows: Iterable[dict[str, Any]]) -> int:
        return write_feature_rows(asked.output, rows)

    table = Table(
        "features", asked.output, None, write, {"bundle": copy.identity, "engine": asked.engine}, asked.as_json
    )
    whole = make_table(table, crew, work, parts)
    conclude(whole.images, whole.bad, Path(asked.output))
