"""``hounsfield recalibrate``: the probabilities and threshold of a classifier fitted to another place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.data_options import Data, with_request

if TYPE_CHECKING:
    from hounsfield.cohorts.request import DataRequest
    from hounsfield.evaluation.classification import Estimate
    from hounsfield.testing.recalibration import Recalibration

SHOWN = ("auc", "sensitivity", "specificity", "ppv", "npv", "brier", "ece")


@with_request(data=Data)
def command(
    run: Annotated[Path, typer.Argument(help="A run folder or a bundle.")],
    *,
    request: DataRequest,
    output: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new bundle.")],
    rule: Annotated[
        str,
        typer.Option(
            help="Threshold: keep (every decision), youden, sensitivity=0.95 or specificity=0.9, for example."
        ),
    ] = "keep",
    prevalence: Annotated[
        float | None,
        typer.Option(help="Share of the positive label at the place of use, if the cases were chosen by label."),
    ] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.", min=100)] = 2000,
    confidence: Annotated[float, typer.Option(help="Nominal coverage of the intervals.", min=0.5, max=0.999)] = 0.95,
    seed: Annotated[int, typer.Option(help="Random seed of folds and bootstrap.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fit the probabilities of a classifier to labelled local images; write the new bundle and print before and after.

    100 images and more are advised; the order of the images, and so the AUC, does not change.
    """
    from hounsfield.bundle import Bundle
    from hounsfield.cli.backend import announce_engine
    from hounsfield.cli.console import print_json, progress_bars, say
    from hounsfield.cli.options import require_family
    from hounsfield.testing.recalibration import FAMILIES, recalibrate

    require_family("recalibrate", run, Bundle.load(run).family, FAMILIES)
    announce_engine("auto")
    with progress_bars() as progress:
        found = recalibrate(
            run,
            request,
            output,
            rule=rule,
            prevalence=prevalence,
            num_replicates=replicates,
            seed=seed,
            confidence=confidence,
            progress=progress,
        )
    for note in found.notes:
        say(note)
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found, confidence)
    say(f"wrote {output}")


def _print(found: Recalibration, confidence: float) -> None:
    from rich.table import Table

    from hounsfield.cli.console import out
    from hounsfield.tasks import threshold_text

    table = Table("", "before", "after", title=f"Local images, {confidence:.0%} intervals", title_justify="left")
    sides = (found.before, found.after)
    for name in SHOWN:
        if all(name in side.estimates for side in sides):
            table.add_row(found.before.title(name), *(_cell(side.estimates[name]) for side in sides))
    out.print(table)
    for name, side in (("Before", found.before), ("After", found.after)):
        for verdict in side.calibration:
            out.print(f"{name}: {verdict.text()}")
    fitted = "; ".join(f"{label}: {kind}" for label, kind in found.fitted.items())
    out.print(
        f"Fitted {fitted}. After: each image by a fit that did not see its patient. Decision threshold "
        f"{threshold_text(found.bundle.threshold, found.bundle.labels, 4)}."
    )


def _cell(estimate: Estimate) -> str:
    from hounsfield.evaluation.rounding import rounded

    if not math.isfinite(estimate.value):
        return "undefined"
    ends = f" ({rounded(estimate.low)} to {rounded(estimate.high)})" if math.isfinite(estimate.low) else ""
    return f"{rounded(estimate.value)}{ends}"
