"""``hounsfield explain``: where in each image the evidence lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hounsfield.cli.console import check_folder, picture_name, print_json, progress_bars, say
from hounsfield.cli.options import require_family
from hounsfield.cli.results import ENGINE_HELP, conclude, reasons

if TYPE_CHECKING:
    from hounsfield.explanation import Explanation
    from hounsfield.inference import BadImage

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
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Draw heat maps over images: where the evidence for a label lies."""
    from hounsfield.bundle import Bundle
    from hounsfield.explanation import FAMILIES, Explainer
    from hounsfield.inference import BadImage

    check_folder(output, inputs)
    bundle = Bundle.load(run)
    require_family("explain", run, bundle.family, FAMILIES)
    _announce_keras(method, engine)
    explainer = Explainer(bundle, method, layer=layer, label=label, engine=engine)
    say(f"Engine: {explainer.predictor.engine.description}")
    say(f"Method: {explainer.method.description}")
    rows: list[dict[str, Any]] = []
    bad: list[BadImage] = []
    taken: set[str] = set()
    with progress_bars() as bars:
        for result in explainer.stream(inputs, progress=bars):
            if isinstance(result, BadImage):
                say(f"Bad image: {result}")
                bad.append(result)
            else:
                rows.append(_write(result, output, picture_name(result.image, taken), maps))
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


def _write(found: Explanation, folder: Path, name: str, maps: str) -> dict[str, Any]:
    from hounsfield.images import write_image
    from hounsfield.reports.figures import save_figure
    from hounsfield.reports.overlays import overlay_figure

    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"{name}.png"
    save_figure(overlay_figure(found, title=f"{Path(found.image).name}{found.of_several}"), picture)
    row = {
        **({"sample": found.prediction.image, "weight": round(found.view.weight, 6)} if found.view else {}),
        "image": found.image,
        "prediction": found.prediction.label,
        "label": found.label,
        **found.prediction.degree(found.label),
        "peak": "×".join(map(str, found.peak)),
        "picture": str(picture),
    }
    if maps != "none":
        path = folder / f"{name}.{maps}"
        write_image(found.original.replace(pixels=found.heat[..., None]), path)
        row["map"] = str(path)
    return row


def _print(rows: list[dict[str, Any]]) -> None:
    import sys

    from hounsfield.inference.tables import write_csv

    write_csv(sys.stdout, list(rows[0]), rows)
