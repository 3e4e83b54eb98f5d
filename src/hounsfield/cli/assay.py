"""``hounsfield assay``: particles of a vaccine or another preparation, counted and typed, with their concentration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.errors import UsageError

if TYPE_CHECKING:
    from hounsfield.tasks import Family
    from hounsfield.testing.assay import CountedFields

FAMILIES: tuple[Family, ...] = ("boxes",)


def command(
    run: Annotated[Path, typer.Argument(help="A run of a detector that finds the particles.")],
    fields: Annotated[
        Path,
        typer.Argument(
            help="A table of fields: image and specimen; as far as known grid, dilution (4 for one part in four), "
            "instrument and pixel_nm."
        ),
    ],
    *,
    share: Annotated[str | None, typer.Option(help="The label whose share is wanted, such as full.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label that counts as a particle; by default all.")] = None,
    blank: Annotated[list[str] | None, typer.Option(help="A specimen without particles.")] = None,
    standard: Annotated[
        str | None, typer.Option(metavar="SPECIMEN=VALUE", help="A specimen of known concentration.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Nominal coverage of the intervals.", min=0.5, max=0.999)] = 0.95,
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the report.", show_default="assay-TABLE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Find, type and count particles in fields of view, and report shares and concentrations with intervals.

    With the columns for them also linearity of dilutions, detection limit, repeatability and agreement of instruments.
    """
    from hounsfield.bundle import Bundle
    from hounsfield.cli.backend import announce_engine
    from hounsfield.cli.console import check_folder, print_json, progress_bars, say
    from hounsfield.cli.options import require_family
    from hounsfield.reports.assay import write_assay
    from hounsfield.testing.assay import assay_fields

    require_family("assay", run, Bundle.load(run).family, FAMILIES)
    folder = output or Path(f"assay-{fields.stem}")
    # Among the results is a table of fields.
    check_folder(folder, [str(fields)])
    announce_engine("auto")
    with progress_bars() as progress:
        found = assay_fields(
            run,
            fields,
            labels=label or (),
            kind=share,
            blanks=blank or (),
            standard=_standard(standard),
            confidence=confidence,
            progress=progress,
        )
    for note in found.notes:
        say(note)
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)
    for path in write_assay(found, fields.name, folder):
        say(f"wrote {path}")


def _standard(text: str | None) -> tuple[str, float] | None:
    if text is None:
        return None
    name, _, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not name or not 0 < number < float("inf"):
        raise UsageError(f"The standard is '{text}'; expected SPECIMEN=VALUE, such as LOT-7=2.5e12.")
    return name, number


def _print(found: CountedFields) -> None:
    from rich.table import Table

    from hounsfield.cli.console import out
    from hounsfield.reports.assay import as_share, told

    assay = found.assay
    columns = ["specimen", "fields", f"per {assay.unit}", *([f"share of {assay.kind}"] if assay.kind else [])]
    calibrated = any(one.calibrated for one in assay.specimens)
    table = Table(*columns, *(["calibrated"] if calibrated else []))
    for one in assay.specimens:
        cells = [one.specimen, str(one.fields), told(one.concentration_by_grid or one.concentration)]
        if assay.kind:
            cells.append(told(one.share_corrected or one.share_by_grid or one.share, as_share))
        table.add_row(*cells, *([told(one.calibrated)] if calibrated else []))
    out.print(table)
    if assay.slope:
        out.print(f"Slope of the dilutions: {told(assay.slope)}; 1 is proportional.")
    if assay.detection:
        out.print(f"Detection limit: {assay.detection.limit:.3g} per {assay.unit} in {assay.detection.fields} fields.")
    for pair in assay.agreement:
        out.print(f"{pair.instruments[1]} finds {told(pair.ratio)} times as many as {pair.instruments[0]}.")
