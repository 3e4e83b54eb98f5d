"""``hounsfield inspect``: what is in a cohort, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.data_options import with_request
from hounsfield.cli.workers import RayAddress, crew_for_calls, delegated

if TYPE_CHECKING:
    from hounsfield.cohorts.audit import Audit
    from hounsfield.cohorts.box_figures import BoxFigures
    from hounsfield.cohorts.fingerprint import Fingerprint
    from hounsfield.cohorts.mask_figures import MaskFigures
    from hounsfield.cohorts.request import DataRequest
    from hounsfield.cohorts.scan import Scan
    from hounsfield.plans.costs import Cost
    from hounsfield.progress import Progress
    from hounsfield.reports.inspection import InspectionFiles


# So many unreadable images are named; the JSON has them all.
NUM_NAMED = 5


@with_request()
def command(
    *,
    request: DataRequest,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder of the page and the montage. [default: inspection-NAME]"),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print everything as JSON; write pictures only if -o is given."),
    ] = False,
    cost: Annotated[
        bool, typer.Option("--cost/--no-cost", help="Estimate time, memory and disk of a training on this machine.")
    ] = True,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Read the images in so many processes.")
    ] = None,
    ray: RayAddress = None,
    against: Annotated[
        str | None, typer.Option(metavar="DATA", help="Compare DATA with these other data instead.")
    ] = None,
) -> None:
    """Check DATA before training: balance, geometry, unreadable files, duplicates, leaks, shortcuts."""
    from hounsfield.cli.console import check_folder, out, print_json, progress_bars, say
    from hounsfield.cli.shift import compare
    from hounsfield.cohorts import load_request
    from hounsfield.cohorts.audit import audit
    from hounsfield.cohorts.scan import scan

    check_folder(output)
    with progress_bars() as progress, delegated(crew_for_calls(workers, ray)):
        cohort = load_request(request, progress=progress)
        for note in cohort.notes:
            say(f"Note: {note}")
        scanned = scan(cohort, progress=progress)
        if against is not None:
            # A folder of images belongs to its own table.
            there = dataclasses.replace(request, data=against, images=None)
            other = load_request(there, progress=progress)
            compare(scanned, scan(other, progress=progress), output, as_json=as_json)
            return
        found = audit(cohort, scanned=scanned)
        costs = _costs(found, scanned) if cost else ()
        wanted = output is not None or not as_json
        files = _write(found, scanned, output, costs, progress) if wanted else None
    if as_json:
        reading = {"kind": cohort.kind, "task": cohort.task, "notes": list(cohort.notes)}
        print_json({"reading": reading} | found.to_dict() | {"costs": [dataclasses.asdict(one) for one in costs]})
        return
    _print(found)
    if costs:
        _print_costs(costs)
    if files is not None:
        out.print(f"Page:     {files.page}\nMontage:  {files.montage}\nFigures:  {files.data}")


def _costs(found: Audit, scanned: Scan) -> tuple[Cost, ...]:
    """The expected costs of a training; none where no backend is installed, or there is nothing to learn."""
    from hounsfield.cli.backend import announce_backend
    from hounsfield.cli.console import say
    from hounsfield.errors import MissingDependency

    try:
        announce_backend()
    except MissingDependency as error:
        say(f"The costs of a training are not estimated. {error}")
        return ()
    from hounsfield.errors import CohortError
    from hounsfield.planning import PLANNERS, Facts
    from hounsfield.planning.costs import training_costs
    from hounsfield.tasks import family_of

    cohort = scanned.cohort
    try:
        truth = PLANNERS[family_of(cohort.task)].measure(cohort, scanned)
    except CohortError:
        return ()
    return training_costs(Facts(found.fingerprint, truth), cohort.task)


def _write(
    found: Audit, scanned: Scan, output: Path | None, costs: tuple[Cost, ...], progress: Progress
) -> InspectionFiles | None:
    from hounsfield.cli.console import say
    from hounsfield.errors import MissingDependency
    from hounsfield.reports.inspection import write_inspection

    folder = output or Path(f"inspection-{_file_name(found.fingerprint.name)}")
    try:
        return write_inspection(found, scanned, folder, costs=costs, progress=progress)
    except MissingDependency as error:
        # The printed table needs no extra; the page is only required if it was asked for.
        if output is not None:
            raise
        say(f"No page is written. {error}")
        return None


def _file_name(name: str) -> str:
    """The name with characters replaced that are awkward in a path."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)


def _print(found: Audit) -> None:
    from rich.table import Table
    from rich.text import Text

    from hounsfield.cli.console import out

    figures = found.fingerprint
    facts = Table(
        "", "", title=f"{figures.name} ({figures.kind}, {figures.task})", title_justify="left", show_header=False
    )
    for name, value in _facts(found):
        facts.add_row(name, Text(value))
    out.print(facts)
    balance = Table("split", *figures.labels, "images", title="Balance", title_justify="left")
    for split, counts in figures.balance.items():
        balance.add_row(split, *(f"{count:,}" for count in counts.values()), f"{figures.splits[split]:,}")
    out.print(balance)
    if figures.boxes is not None:
        _print_boxes(figures.boxes)
    if figures.masks is not None:
        _print_masks(figures.masks)
    for finding in found.findings:
        out.print(f"{finding.severity}: {finding.title}. {finding.text}")
    for reference, reason in figures.bad[:NUM_NAMED]:
        out.print(f"unreadable: {reference}: {reason}")
    if len(figures.bad) > NUM_NAMED:
        out.print(f"unreadable: {len(figures.bad) - NUM_NAMED:,} more, which inspection.json and --json list.")
    if not found.findings:
        out.print("Nothing needs attention.")


def _print_boxes(boxes: BoxFigures) -> None:
    from rich.table import Table

    from hounsfield.cli.console import out

    labels = list(boxes.sides)
    objects = Table("split", *labels, title="Objects", title_justify="left")
    for split, counts in boxes.counts.items():
        objects.add_row(split, *(f"{counts[label]:,}" for label in labels))
    per_side = {
        label: ["–" if axis.median != axis.median else f"{axis.low:.0f} to {axis.high:.0f}" for axis in axes]
        for label, axes in boxes.sides.items()
    }
    objects.add_row("sides in pixels (5–95 %)", *(" × ".join(per_side[label]) for label in labels))
    out.print(objects)
    each = boxes.per_image
    out.print(
        f"Objects per image: {each.minimum:g} to {each.maximum:g}, median {each.median:g}; {boxes.negatives:,} images "
        "have none."
    )


def _print_masks(masks: MaskFigures) -> None:
    from rich.table import Table

    from hounsfield.cli.console import out

    labels = Table("label", "images", f"{masks.unit} (5–95 %)", "median", "share of the image", title="Masks")
    labels.title_justify = "left"
    for label, sizes in masks.sizes.items():
        low, middle, high = (_size(value) for value in (sizes.low, sizes.median, sizes.high))
        labels.add_row(label, f"{masks.images[label]:,}", f"{low} to {high}", middle, f"{masks.shares[label]:.2g}")
    out.print(labels)
    said = [f"{masks.negatives:,} images have nothing marked."]
    if masks.overlapping:
        said.append("Labels overlap.")
    if masks.ignored:
        said.append(f"{masks.ignored:.1%} of all pixels are unlabelled.")
    if masks.moved:
        said.append(f"{masks.moved:,} masks lie on another grid than their image.")
    out.print(" ".join(said))


def _size(value: float) -> str:
    """A volume in the digits that matter."""
    return "–" if math.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _print_costs(costs: tuple[Cost, ...]) -> None:
    from rich.table import Table

    from hounsfield.cli.console import out

    table = Table(
        "effort", "time", "memory", "disk", title="Training on this machine takes at most", title_justify="left"
    )
    for cost in costs:
        table.add_row(cost.effort, *cost.words())
    out.print(table)


def _facts(found: Audit) -> list[tuple[str, str]]:
    figures = found.fingerprint
    exact = sum(group.exact for group in found.duplicates)
    sizes = ["×".join(map(str, shape)) for shape in (figures.min_shape, figures.median_shape, figures.max_shape)]
    values = (figures.minimum.minimum, figures.mean.median, figures.maximum.maximum)
    spacing = [f"{axis.minimum:g}, {axis.median:g}, {axis.maximum:g}" for axis in figures.spacing or ()]
    return [
        ("images", f"{figures.num_images:,}, {len(figures.bad):,} unreadable"),
        ("patients", "unknown" if figures.num_patients is None else f"{figures.num_patients:,}"),
        ("studies", "unknown" if figures.num_studies is None else f"{figures.num_studies:,}"),
        ("modality", _counted(figures.modalities)),
        ("size (smallest, median, largest)", ", ".join(sizes)),
        ("spacing in mm (by axis: smallest, median, largest)", "; ".join(spacing) or "unknown"),
        ("orientation", _counted(figures.orientations)),
        ("channels", f"{_counted(figures.channel_counts)}; {figures.num_grey:,} images are grey"),
        ("values", f"{_counted(figures.dtypes)}; stored bits {_counted(figures.bits)}"),
        ("values (minimum, median of means, maximum)", ", ".join(f"{value:,.5g}" for value in values)),
        (
            "constant, clipped, not finite",
            f"{len(figures.constant):,}, {len(figures.clipped):,}, {len(figures.not_finite):,}",
        ),
        ("faulty beside the others", _faulty(figures)),
        ("duplicate groups", f"{exact:,} exact, {len(found.duplicates) - exact:,} near"),
    ]


def _faulty(figures: Fingerprint) -> str:
    if figures.quality is None:
        return "not looked for in fewer than 50 images"
    found = _counted({fault: len(images) for fault, images in figures.faulty.items()}) if figures.faulty else "none"
    missed = figures.quality.missed
    return found + (f"; not told among images like these: {', '.join(missed)}" if missed else "")


def _counted(counts: dict[str, int] | dict[int, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items()) or "unknown"
