"""The report of an audit: one HTML page with pictures, a montage, and the figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from hounsfield.atomic import write_text
from hounsfield.cohorts.audit import Audit
from hounsfield.cohorts.changes import KINDS
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.distribution import Distribution
from hounsfield.cohorts.mask_figures import mask_sizes
from hounsfield.cohorts.masks import read_mask
from hounsfield.cohorts.quality import faulty_images
from hounsfield.cohorts.scan import Scan
from hounsfield.drawing.boxed import boxed, by_class, class_colour
from hounsfield.drawing.outlines import Outline, outlined
from hounsfield.drawing.pictures import data_address, preview
from hounsfield.errors import ImageError, require
from hounsfield.images.image import Image
from hounsfield.images.reading import slice_of
from hounsfield.masks import region_of
from hounsfield.progress import Progress, silent
from hounsfield.reports.figures import montage, save_figure
from hounsfield.tasks import for_each_label
from hounsfield.version import __version__

if TYPE_CHECKING:
    # Estimating costs needs Keras; the page itself does not.
    from hounsfield.plans.costs import Cost

# The pictures of a group by row.
Pictures = dict[int, NDArray[np.uint8]]

TASK = "drawing pictures"
TEMPLATES = Path(__file__).parent / "templates"
PICTURE_SIDE = 128
# Boxes need larger pictures.
BOXED_SIDE = 320
PICTURES_A_LABEL = 8
MOST_LABELS = 12
GROUPS_SHOWN = 12
PICTURES_A_GROUP = 4
FAULTY_SHOWN = 16
# Files named in the page; the JSON file has all.
NAMES_SHOWN = 40
BINS = 24


@dataclass(frozen=True)
class InspectionFiles:
    """Where the parts of a report were written."""

    page: Path
    montage: Path
    data: Path


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: its name, its text, and its length as a percentage of the longest."""

    name: str
    text: str
    percent: float


def write_inspection(
    audit: Audit, scanned: Scan, folder: Path, *, costs: Sequence[Cost] = (), progress: Progress = silent
) -> InspectionFiles:
    """Write ``inspection.html``, ``montage.png`` and ``inspection.json``, replacing those of an earlier report.

    No patient is named: the page counts patients, and shows the references of images as in the table.

    Args:
        audit: what was found.
        scanned: the pass over the images that the audit is from.
        folder: made when it is not there.
        costs: the expected costs of a training, by effort.
        progress: called for each picture.

    Raises:
        MissingDependency: Jinja2 is not installed.
    """
    jinja2 = require("jinja2", "the HTML report of an inspection")
    cohort = scanned.cohort
    examples = example_rows(scanned)
    groups = {name: list(rows) for name, rows in _pictured_groups(audit)}
    faulty = {
        f"{fault} images": list(rows[:FAULTY_SHOWN])
        for fault, rows in faulty_images(scanned, audit.fingerprint.quality).items()
    }
    pictures = _previews(cohort, examples | groups | faulty, progress)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    page = environment.get_template("inspection.html").render(
        audit=audit,
        costs=costs,
        figures=audit.fingerprint,
        cohort=cohort,
        version=__version__,
        tiles=_tiles(audit),
        balance=_balance(audit),
        charts=_charts(audit),
        histograms=_histograms(scanned),
        examples=_labelled(examples, cohort, pictures),
        legend=_legend(cohort),
        groups=_labelled(groups, cohort, pictures),
        faulty=_labelled(faulty, cohort, pictures),
        risks=[one for one in audit.shortcuts if one.label is None or one.at_risk][:NAMES_SHOWN],
        bad=audit.fingerprint.bad[:NAMES_SHOWN],
    )
    files = InspectionFiles(folder / "inspection.html", folder / "montage.png", folder / "inspection.json")
    folder.mkdir(parents=True, exist_ok=True)
    found = audit.to_dict() | {"costs": [asdict(cost) for cost in costs]}
    write_text(files.data, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    shown = [
        (label, pictures[label][row]) for label, rows in examples.items() for row in rows if row in pictures[label]
    ]
    save_figure(_montage(cohort, [picture for _, picture in shown], [label for label, _ in shown]), files.montage)
    write_text(files.page, page)
    return files


def example_rows(scanned: Scan) -> dict[str, list[int]]:
    """A few readable rows of each label, spread over the table, so that they come from many patients."""
    cohort = scanned.cohort
    targets = np.nan_to_num(cohort.targets())
    columns = for_each_label(targets, cohort.task)
    chosen = {}
    for position, label in enumerate(cohort.labels[:MOST_LABELS]):
        rows = np.flatnonzero(scanned.readable & (columns[:, position] > 0))
        evenly = np.linspace(0, max(len(rows) - 1, 0), min(PICTURES_A_LABEL, len(rows)))
        chosen[label] = [int(rows[round(at)]) for at in evenly]
    return chosen


def _legend(cohort: Cohort) -> list[tuple[str, str]]:
    """The colour of each class's boxes or outlines; empty where there are none."""
    return [(label, class_colour(number)) for number, label in enumerate(cohort.labels)] if _is_marked(cohort) else []


def _is_marked(cohort: Cohort) -> bool:
    return cohort.has_boxes or cohort.masks is not None


def _montage(cohort: Cohort, pictures: list[NDArray[np.uint8]], titles: list[str]) -> Figure:
    figure = montage(pictures, titles, 6 if _is_marked(cohort) else 8, stretch=not _is_marked(cohort))
    handles = [Line2D([], [], color=colour, label=label) for label, colour in _legend(cohort)]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    return figure


def _pictured_groups(audit: Audit) -> Iterable[tuple[str, tuple[int, ...]]]:
    """The groups of duplicates that are most worth looking at, most serious first."""
    leaking = {leak.rows for leak in audit.leaks if leak.kind != "patient"}
    ranked = sorted(
        audit.duplicates, key=lambda group: (group not in audit.contradictions, group.rows not in leaking, group.exact)
    )
    for number, group in enumerate(ranked[:GROUPS_SHOWN], start=1):
        kinds = [kind for kind in KINDS if any(kind in change.kinds for change in group.changes)]
        marks = ["exact duplicates" if group.exact else f"near-duplicates: {', '.join(kinds)}"]
        marks += ["different labels"] * (group in audit.contradictions)
        marks += ["in two splits"] * (group.rows in leaking)
        yield f"{number}. {', '.join(marks)} ({len(group.rows):,} images)", group.rows[:PICTURES_A_GROUP]


def _previews(cohort: Cohort, groups: Mapping[str, list[int]], progress: Progress) -> dict[str, Pictures]:
    """The pictures of each group by row; each image is read once."""
    rows = sorted({row for each in groups.values() for row in each})
    pictures: dict[str, Pictures] = {name: {} for name in groups}
    for done, (row, item) in enumerate(zip(rows, cohort.stream(rows), strict=True), start=1):
        if not isinstance(item, ImageError):
            shown_in = [name for name, each in groups.items() if row in each]
            for name, picture in zip(shown_in, _drawn(cohort, row, item, shown_in), strict=True):
                pictures[name][row] = picture
        progress(TASK, done, len(rows))
    return pictures


def _drawn(cohort: Cohort, row: int, image: Image, groups: Sequence[str]) -> list[NDArray[np.uint8]]:
    """The image with what is marked in it, for each group that it stands for: a label of masks chooses the slice."""
    if cohort.masks is not None:
        mask = read_mask(cohort, row, image).pixels
        regions = [region_of(mask, label, overlapping=cohort.overlapping) for label in range(len(cohort.labels))]
        labels = {label: number for number, label in enumerate(cohort.labels)}
        return [_outlined(image, regions, labels.get(name)) for name in groups]
    boxes = by_class(*cohort.boxes(row)) if cohort.has_boxes else None
    picture = preview(image, PICTURE_SIDE) if boxes is None else boxed(image, boxes, side=BOXED_SIDE)
    return [picture] * len(groups)


def _outlined(image: Image, regions: list[NDArray[np.bool_]], label: int | None) -> NDArray[np.uint8]:
    """An image with its masks; of a volume the slice with most of a label, or where all labels are seen best."""
    if image.rank == 3:
        extents = np.array([region.sum(axis=(1, 2)) for region in regions], np.float64)
        shares = extents / np.maximum(extents.max(axis=1, keepdims=True), 1)
        number = int((shares.sum(axis=0) if label is None else extents[label]).argmax())
        image, regions = slice_of(image, number), [region[number] for region in regions]
    outlines = [Outline(region, class_colour(label)) for label, region in enumerate(regions) if region.any()]
    return outlined(image, outlines, side=BOXED_SIDE)


def _labelled(
    groups: Mapping[str, list[int]], cohort: Cohort, pictures: Mapping[str, Pictures]
) -> list[tuple[str, list[dict[str, str]]]]:
    """The pictures of each group, with their captions."""
    table = cohort.table
    splits = table["split"].astype(object).where(table["split"].notna(), "")
    return [
        (
            name,
            [
                {
                    "address": data_address(pictures[name][row]),
                    "reference": str(table["image"].iloc[row]),
                    "label": str(table["label"].iloc[row]),
                    "split": str(splits.iloc[row]),
                }
                for row in rows
                if row in pictures[name]
            ],
        )
        for name, rows in groups.items()
    ]


def _tiles(audit: Audit) -> list[tuple[str, str]]:
    figures = audit.fingerprint
    smallest, largest = ("×".join(map(str, shape)) for shape in (figures.min_shape, figures.max_shape))
    boxes = [] if figures.boxes is None else [("objects", f"{figures.boxes.num_boxes:,}")]
    return [
        ("images", f"{figures.num_images:,}"),
        *boxes,
        ("patients", "unknown" if figures.num_patients is None else f"{figures.num_patients:,}"),
        ("studies", "unknown" if figures.num_studies is None else f"{figures.num_studies:,}"),
        ("unreadable", f"{len(figures.bad):,}"),
        ("modality", figures.modality or "unknown"),
        ("size", smallest if smallest == largest else f"{smallest} to {largest}"),
        ("channels", " or ".join(str(count) for count in figures.channel_counts)),
        ("values", " or ".join(figures.dtypes)),
    ]


def _balance(audit: Audit) -> list[tuple[str, list[Bar]]]:
    return [(split, _bars(counts)) for split, counts in audit.fingerprint.balance.items()]


def _charts(audit: Audit) -> list[tuple[str, list[Bar]]]:
    """The counts of every property of the images that is known."""
    figures = audit.fingerprint
    objects = figures.boxes.counts if figures.boxes is not None else {}
    counts: dict[str, dict[Any, int]] = {
        **{f"Objects, {split}": values for split, values in objects.items()},
        "Size": {"×".join(map(str, shape)): count for shape, count in figures.shapes.items()},
        "Modality": figures.modalities,
        "Orientation": figures.orientations,
        "Channels": figures.channel_counts,
        "Value type": figures.dtypes,
        "Stored bits": figures.bits,
    }
    return [(name, _bars(values, most=6)) for name, values in counts.items() if values]


def _bars(counts: dict[Any, int], most: int = 40) -> list[Bar]:
    total, longest = max(sum(counts.values()), 1), max(counts.values(), default=1) or 1
    shown = list(counts.items())[:most]
    bars = [Bar(str(name), f"{count:,} ({count / total:.0%})", 100 * count / longest) for name, count in shown]
    rest = total - sum(count for _, count in shown)
    others = [Bar(f"{len(counts) - most:,} others", f"{rest:,} ({rest / total:.0%})", min(100.0, 100 * rest / longest))]
    return bars + (others if len(counts) > most else [])


def _histograms(scanned: Scan) -> list[dict[str, Any]]:
    """The distribution over images of each statistic of their values, of their spacing and of their size."""
    table = scanned.table[scanned.readable]
    columns: dict[str, pd.Series[Any]] = {
        "Mean": table["mean"],
        "Standard deviation": table["deviation"],
        "Percentile 1": table["low"],
        "Percentile 99": table["high"],
        "Rows": table["shape"].map(lambda shape: shape[-2]),
        "Columns": table["shape"].map(lambda shape: shape[-1]),
        "Spacing of columns (mm)": table["spacing"].map(lambda spacing: spacing[-1], na_action="ignore"),
    }
    columns |= _box_columns(scanned.cohort)
    columns |= _mask_columns(scanned.cohort)
    return [_histogram(name, values) for name, values in columns.items() if values.min() < values.max()]


def _box_columns(cohort: Cohort) -> dict[str, pd.Series[Any]]:
    """Objects per image and the sides of boxes, where a cohort has any."""
    if cohort.box_table is None:
        return {}
    table = cohort.box_table
    axes = {"Rows": ("y0", "y1"), "Columns": ("x0", "x1")} | ({"Slices": ("z0", "z1")} if cohort.box_rank == 3 else {})
    lengths = {f"{name} of a box": table[end] - table[start] for name, (start, end) in axes.items()}
    return {"Objects per image": pd.Series(cohort.box_counts().sum(axis=1)), **lengths}


def _mask_columns(cohort: Cohort) -> dict[str, pd.Series[Any]]:
    """How much of each label an image has, of those that have any, where a cohort has masks."""
    if cohort.masks is None:
        return {}
    sizes, unit = mask_sizes(cohort)
    return {
        f"{label} ({unit})": pd.Series(column[column > 0])
        for label, column in zip(cohort.labels[:MOST_LABELS], sizes.T, strict=False)
        if (column > 0).any()
    }


def _histogram(name: str, values: pd.Series[Any]) -> dict[str, Any]:
    numbers = values.dropna().to_numpy(dtype=np.float64)
    counts, edges = np.histogram(numbers[np.isfinite(numbers)], bins=BINS)
    heights = 100 * counts / counts.max()
    points = Distribution.of(numbers)
    return {
        "name": name,
        "heights": [round(float(height), 2) for height in heights],
        "low": _number(float(edges[0])),
        "high": _number(float(edges[-1])),
        "median": _number(points.median),
        "middle": 100 * (points.median - float(edges[0])) / float(edges[-1] - edges[0]),
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
