"""``hounsfield explain``: where in each image the evidence lies."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hounsfield.cli.console import check_folder, picture_name, print_json, progress_bars, say
from hounsfield.cli.options import require_family
from hounsfield.cli.results import ENGINE_HELP, conclude, reasons
from hounsfield.cli.workers import Crew, RayAddress, TimeLimit, WorkerMemory, Workers, told_parts

if TYPE_CHECKING:
    from hounsfield.distributed.explaining import ExplanationWork
    from hounsfield.explanation import Explainer
    from hounsfield.inference import BadImage

    # Rows of the table, and bad images.
    Found = tuple[list[dict[str, Any]], list[BadImage]]

METHOD_HELP = "grad_cam, activation, integrated_gradients, occlusion, or auto: grad_cam where Keras is installed."


def command(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or of a bundle.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders of images, or .npy arrays.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the pictures, made if need be.")],
    *,
    method: Annotated[str, typer.Option(help=METHOD_HELP)] = "auto",
    layer: Annotated[
        Literal["fine", "last"],
        typer.Option(help="Which feature maps activation and grad_cam use; 'last' as published."),
    ] = "fine",
    label: Annotated[
        str | None,
        typer.Option(help="Show the evidence for this label; by default the positive or the most probable one."),
    ] = None,
    maps: Annotated[
        Literal["none", "npy", "nii.gz"], typer.Option(help="Also write the evidence at each pixel, in this format.")
    ] = "none",
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "auto",
    workers: Workers = None,
    ray: RayAddress = None,
    time_limit: TimeLimit = None,
    worker_memory: WorkerMemory = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Draw heat maps over images: where the evidence for a label lies."""
    from hounsfield.bundle import Bundle
    from hounsfield.explanation import FAMILIES, Explainer

    crew = Crew(workers, ray, time_limit, worker_memory)
    crew.check()
    check_folder(output, inputs)
    bundle = Bundle.load(run)
    require_family("explain", run, bundle.family, FAMILIES)
    _announce_keras(method, engine)
    explainer = Explainer(bundle, method, layer=layer, label=label, engine=engine)
    say(f"Engine: {explainer.predictor.engine.description}")
    say(f"Method: {explainer.method.description}")
    if crew.is_wanted:
        from hounsfield.distributed.explaining import ExplanationWork
        from hounsfield.distributed.predicting import BundleCopy

        work = ExplanationWork(BundleCopy.of(bundle), engine, method, layer, label, maps)
        rows, bad = _by_workers(explainer, work, inputs, output, crew)
    else:
        rows, bad = _explained(explainer, inputs, output, maps)
    if as_json:
        print_json({"method": explainer.method.description, "explanations": rows, "bad": reasons(bad)})
    elif rows:
        _print(rows)
    conclude(len(rows), bad, output)


def _announce_keras(method: str, engine: str) -> None:
    """Methods that look inside the network need Keras; without it "auto" takes occlusion."""
    from hounsfield.cli.backend import announce_backend, announce_engine
    from hounsfield.errors import MissingDependency

    if method == "occlusion":
        announce_engine(engine)
        return
    try:
        announce_backend()
    except MissingDependency:
        if method != "auto":
            raise


def _explained(explainer: Explainer, inputs: list[str], folder: Path, maps: str) -> Found:
    """What this process explains."""
    from hounsfield.inference import BadImage
    from hounsfield.reports.explanations import write_explanation

    rows: list[dict[str, Any]] = []
    bad: list[BadImage] = []
    taken: set[str] = set()
    with progress_bars() as bars:
        for result in explainer.stream(inputs, progress=bars):
            if isinstance(result, BadImage):
                say(f"Bad image: {result}")
                bad.append(result)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                rows.append(write_explanation(result, folder, picture_name(result.image, taken), maps))
    return rows, bad


def _by_workers(explainer: Explainer, work: ExplanationWork, inputs: list[str], folder: Path, crew: Crew) -> Found:
    """What workers explain, under the names that one process would give."""
    from hounsfield.atomic import scratch_folder
    from hounsfield.distributed.explaining import numbered
    from hounsfield.distributed.work import Part
    from hounsfield.inference.fitting import DifferenceLog

    rows: list[dict[str, Any]] = []
    taken: set[str] = set()
    parts = [[item] for item in numbered(explainer.items(inputs))]
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder / "parts") as scratch, crew.open(replace(work, folder=scratch.absolute())) as pool:
        whole = Part()
        for part in told_parts(pool, parts):
            rows += [_named(row, folder, picture_name(row["image"], taken)) for row in part.rows]
            part.rows = []
            whole.add(part)
    log = DifferenceLog(explainer.bundle.source_range)
    log.add(whole.differences)
    log.conclude()
    if not rows:
        # As if none had been explained.
        with suppress(OSError):
            folder.rmdir()
    return rows, whole.bad


def _named(row: dict[str, Any], folder: Path, name: str) -> dict[str, Any]:
    """Give the files of a row their names."""
    for key in {"picture", "map"} & row.keys():
        made = Path(row[key])
        final = folder / f"{name}{'.nii.gz' if made.name.endswith('.nii.gz') else made.suffix}"
        made.replace(final)
        row[key] = str(final)
    return row


def _print(rows: list[dict[str, Any]]) -> None:
    import sys

    from hounsfield.inference.tables import write_csv

    write_csv(sys.stdout, list(rows[0]), rows)
