"""``hounsfield robustness``: how the figures of a run fall as its test images get worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.data_options import OtherData, require_data, with_request

if TYPE_CHECKING:
    from hounsfield.cohorts.request import DataRequest
    from hounsfield.testing.robustness import Robustness


@with_request(data=OtherData)
def command(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    *,
    request: DataRequest | None,
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for robustness.json and the figures; by default the run.")
    ] = None,
    max_images: Annotated[
        int, typer.Option(min=2, help="Largest number of images; of more, so many are drawn at random.")
    ] = 1000,
    confidence: Annotated[float, typer.Option(help="Nominal coverage of the intervals.", min=0.5, max=0.999)] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the corruptions.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Test on images with noise, blur, compression and more, each in five severities; draw the curves."""
    from hounsfield.bundle import Bundle
    from hounsfield.cli.backend import announce_engine
    from hounsfield.cli.console import check_folder, out, print_json, progress_bars, say
    from hounsfield.cli.options import require_family
    from hounsfield.errors import UsageError
    from hounsfield.reports.robustness import write_robustness
    from hounsfield.testing import TESTS
    from hounsfield.testing.robustness import evaluate_robustness

    require_data(request)
    tested = [family for family, each in TESTS.items() if each.DEGRADED is not None]
    require_family("robustness", run, Bundle.load(run).family, tested)
    if request is not None and output is None:
        raise UsageError("Figures of other data do not belong in the run. Name a folder for them with --out.")
    check_folder(output)
    announce_engine("auto")
    with progress_bars() as progress:
        found = evaluate_robustness(
            run, request, max_images=max_images, seed=seed, confidence=confidence, progress=progress
        )
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
    """The main figure of each corruption and severity, with a mark where it is significantly worse than without."""
    from rich.table import Table

    from hounsfield.cli.console import out
    from hounsfield.preprocessing.corruption import CORRUPTIONS, SEVERITIES

    name, shown = found.main, found.shown[found.main]
    digits = ".3f" if shown.share else ".4g"
    clean = found.clean.estimates[name]
    told = f"{clean.value:{digits}} ({clean.low:{digits}} to {clean.high:{digits}})"
    title = f"{shown.title} by severity; {told} on unchanged images; * significantly {shown.worse}"
    table = Table("", *map(str, SEVERITIES), title=title, title_justify="left")
    for corruption, conditions in found.curves.items():
        cells = [
            f"{each.estimates[name].value:{digits}}{'*' if found.is_harmed(name, each) else ''}" for each in conditions
        ]
        table.add_row(CORRUPTIONS[corruption].title, *cells)
    out.print(table)
