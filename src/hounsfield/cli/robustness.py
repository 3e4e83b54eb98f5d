"""``hounsfield robustness``: how the figures of a run fall as its test images get worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hounsfield.testing.robustness import Robustness


def command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[str | None, typer.Argument(help="Other data to test on; by default its test split.")] = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for robustness.json and the figures; by default the run.")
    ] = None,
    images: Annotated[int, typer.Option(min=2, help="Images to use at most, taken at random.")] = 1000,
    confidence: Annotated[float, typer.Option(help="Nominal coverage of the intervals.", min=0.5, max=0.999)] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of the corruptions.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the machine-readable form.")] = False,
) -> None:
    """Test a run on images with noise, blur, compression and more, each in five severities; draw a curve for each."""
    from hounsfield.bundle import Bundle
    from hounsfield.cli.backend import announce_backend
    from hounsfield.cli.console import check_folder, out, print_json, progress_bars, say
    from hounsfield.errors import UsageError
    from hounsfield.reports.robustness import write_robustness

    # A detector is refused before a backend is loaded, which takes seconds.
    _ = Bundle.load(run).classifier_task
    if data is not None and output is None:
        raise UsageError("Figures of other data do not belong into the run. Name a folder for them with --out.")
    check_folder(output)
    announce_backend()
    from hounsfield.testing.robustness import evaluate_robustness

    with progress_bars() as progress:
        found = evaluate_robustness(run, data, max_images=images, seed=seed, confidence=confidence, progress=progress)
    report = found.to_dict()
    for note in found.notes:
        say(note)
    if as_json:
        print_json(report)
    else:
        _print(found)
        for line in found.lines():
            out.print(line)
    for path in write_robustness(report, found.example, output or run):
        say(f"wrote {path}")


def _print(found: Robustness) -> None:
    """AUC of each corruption and severity, those that lie below the clean figure beyond noise with a mark."""
    from rich.table import Table

    from hounsfield.cli.console import out
    from hounsfield.preprocessing.corruption import CORRUPTIONS, SEVERITIES

    clean = found.clean.estimates["auc"]
    told = f"{clean.value:.3f} ({clean.low:.3f} to {clean.high:.3f})"
    title = f"AUC by severity; {told} as the images are; * worse beyond noise"
    table = Table("", *map(str, SEVERITIES), title=title, title_justify="left")
    for name, conditions in found.curves.items():
        cells = [
            f"{each.estimates['auc'].value:.3f}{'*' if each.changes['auc'].high < 0 else ''}" for each in conditions
        ]
        table.add_row(CORRUPTIONS[name].title, *cells)
    out.print(table)
