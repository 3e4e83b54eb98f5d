"""What a cohort looks like in a few figures: the planner decides by them, and ``inspect`` prints them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.cohorts.box_figures import BoxFigures, box_figures
from hounsfield.cohorts.cohort import SPLITS, Cohort
from hounsfield.cohorts.distribution import Distribution
from hounsfield.cohorts.mask_figures import MaskFigures, mask_figures
from hounsfield.cohorts.quality import faulty_images, quality_reference
from hounsfield.cohorts.scan import Scan, scan
from hounsfield.cohorts.targets import TARGETS
from hounsfield.cohorts.targets.labels import UNASSIGNED, assigned_splits
from hounsfield.errors import CohortError
from hounsfield.images.orientation import turned_shape
from hounsfield.progress import Progress, silent
from hounsfield.quality import QualityReference

# An image counts as clipped when more than this share of its values stands at its maximum: a detector or an export
# that ran out of range. Air and background at the minimum are normal and are not counted.
CLIPPED_SHARE = 0.05


@dataclass(frozen=True)
class Sizes:
    """Sizes of volumes, or of what is cut out of them, once they are turned to the canonical orientation.

    Attributes:
        shapes: spatial shape → volumes, most frequent first.
        median_shape: the median length of each axis.
    """

    shapes: dict[tuple[int, ...], int]
    median_shape: tuple[int, ...]


@dataclass(frozen=True)
class LungFigures:
    """Lungs in the CT volumes of a cohort.

    Attributes:
        sizes: of the boxes around the lungs, of volumes in which they were found.
        extent: the median share of a volume's height that the lungs take.
    """

    sizes: Sizes
    extent: float


@dataclass(frozen=True)
class Fingerprint:
    """Figures of a cohort; those on pixels are over the images that could be read.

    Attributes:
        name: the cohort's name.
        kind: the kind of data it came from.
        task: ``binary``, ``multi-class``, ``multi-label`` or ``detection``.
        labels: in class order.
        num_images: rows of the table.
        num_readable: rows whose image could be read.
        num_samples: of images that are judged together; as many as rows where each is judged by itself.
        most_views: images of the largest sample.
        channel_names: of images that are put together of several files or volumes.
        quality: what tells faulty images among those like these; ``None`` of fewer than 50.
        faulty: fault → references of images that have it beside the others.
        num_resampled: images of which a channel was brought onto the grid of the first.
        num_patients: distinct patients, ``None`` where no row names one.
        num_studies: distinct studies, ``None`` where no header names one.
        splits: split → rows; rows without a split are under ``unassigned``.
        balance: split → label → samples; one with several labels counts under each.
        rank: 2 or 3, of most images.
        ranks: rank → images.
        shapes: spatial shape → images, most frequent first.
        min_shape: the smallest length of each axis, among the images of ``rank``.
        median_shape: the median length of each axis, likewise.
        max_shape: the greatest length of each axis, likewise.
        spacing: one distribution per axis in mm, ``None`` where no image of ``rank`` has a spacing.
        num_spacing: images with a known spacing.
        orientations: three letters for (slice, row, column) → images.
        modality: the most frequent DICOM code, ``None`` where unknown.
        modalities: DICOM code → images.
        channels: of most images.
        channel_counts: channels → images.
        num_grey: images whose channels all carry one picture, single-channel ones included.
        dtypes: pixel type → images.
        bits: stored bits → images.
        minimum: each image's smallest finite value.
        maximum: each image's greatest finite value.
        mean: each image's mean.
        deviation: each image's standard deviation.
        low: each image's percentile 1.
        high: each image's percentile 99.
        constant: references of images of a single value.
        clipped: references of images with more than 5 % of their values at their maximum.
        not_finite: references of images that hold NaN or infinity.
        bad: (reference, reason) of every image that could not be read.
        boxes: of a detection cohort, the figures of its boxes.
        masks: of a segmentation cohort, the figures of its masks.
        turned: of volumes whose orientation is known, the sizes in the order of the axes that networks see.
        lungs: of CT volumes in which lungs were found.
    """

    name: str
    kind: str
    task: str
    labels: tuple[str, ...]
    num_images: int
    num_readable: int
    num_patients: int | None
    num_studies: int | None
    splits: dict[str, int]
    balance: dict[str, dict[str, int]]
    rank: int
    ranks: dict[int, int]
    shapes: dict[tuple[int, ...], int]
    min_shape: tuple[int, ...]
    median_shape: tuple[int, ...]
    max_shape: tuple[int, ...]
    spacing: tuple[Distribution, ...] | None
    num_spacing: int
    orientations: dict[str, int]
    modality: str | None
    modalities: dict[str, int]
    channels: int
    channel_counts: dict[int, int]
    num_grey: int
    dtypes: dict[str, int]
    bits: dict[int, int]
    minimum: Distribution
    maximum: Distribution
    mean: Distribution
    deviation: Distribution
    low: Distribution
    high: Distribution
    constant: tuple[str, ...]
    clipped: tuple[str, ...]
    not_finite: tuple[str, ...]
    bad: tuple[tuple[str, str], ...]
    boxes: BoxFigures | None = None
    masks: MaskFigures | None = None
    turned: Sizes | None = None
    lungs: LungFigures | None = None
    num_samples: int = 0
    most_views: int = 1
    channel_names: tuple[str, ...] = ()
    num_resampled: int = 0
    quality: QualityReference | None = field(default=None, compare=False, repr=False)
    faulty: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: shapes are written ``rows×columns``, NaN becomes ``None``."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(dataclasses.replace(self, quality=None)))
        told = None if self.quality is None else {"found": self.quality.found, "not told": self.quality.missed}
        return plain | {"quality": told}


def fingerprint(cohort: Cohort, *, scanned: Scan | None = None, progress: Progress = silent) -> Fingerprint:
    """Describe a cohort, in one pass over its images.

    Args:
        cohort: any cohort; splits may be missing.
        scanned: the pass, where it was made already for another check of the same cohort.
        progress: receives a report every few images.

    Raises:
        CohortError: the cohort is empty, or none of its images can be read.
    """
    scanned = scanned if scanned is not None else scan(cohort, progress=progress)
    table = scanned.table[scanned.readable]
    if table.empty:
        raise CohortError(_nothing_readable(cohort, scanned))
    samples = cohort.samples()
    quality = quality_reference(scanned)
    references = cohort.table["image"].astype(str).to_numpy()
    faulty = {fault: tuple(references[list(rows)]) for fault, rows in faulty_images(scanned, quality).items()}
    counts: dict[str, Any] = {
        "splits": _split_counts(cohort),
        "balance": TARGETS[cohort.family].balance(cohort.subset(samples) if cohort.has_views else cohort),
        "ranks": _counts(table["shape"].map(len)),
        "shapes": _counts(table["shape"]),
        "orientations": _counts(table["orientation"]),
        "modalities": _counts(table["modality"]),
        "channel_counts": _counts(table["channels"]),
        "dtypes": _counts(table["dtype"]),
        "bits": _counts(table["bits"].map(int, na_action="ignore")),
    }
    studies = int(table["study"].nunique())
    patients = int(scanned.patients.nunique())
    return Fingerprint(
        name=cohort.name,
        kind=cohort.kind,
        task=cohort.task,
        labels=cohort.labels,
        num_images=len(cohort),
        num_readable=len(table),
        num_patients=patients or None,
        num_studies=studies or None,
        modality=next(iter(counts["modalities"]), None),
        channels=next(iter(counts["channel_counts"])),
        num_grey=int(table["grey"].sum()),
        bad=scanned.bad,
        boxes=box_figures(cohort),
        masks=mask_figures(cohort),
        turned=_turned(table[table["orientation"].notna() & (table["shape"].map(len) == 3)], "shape"),
        lungs=_lungs(table),
        num_samples=len(samples),
        channel_names=cohort.channels,
        num_resampled=int(table["resampled"].sum()),
        quality=quality,
        faulty=faulty,
        most_views=int(cohort.table["sample"].value_counts().max()),
        **counts,
        **_geometry(table, next(iter(counts["ranks"]))),
        **_distributions(table),
        **_suspicious(scanned),
    )


def _nothing_readable(cohort: Cohort, scanned: Scan) -> str:
    if not len(cohort):
        return f"The cohort '{cohort.name}' has no rows: expected at least one image. Check the folder or the table."
    reference, reason = scanned.bad[0]
    return (
        f"None of the {len(cohort):,} images of the cohort '{cohort.name}' can be read. The first is '{reference}': "
        f"{reason}"
    )


def _counts(values: pd.Series[Any]) -> dict[Any, int]:
    """Value → how often, most frequent first and equal counts in the order of the values."""
    counted = values.dropna().value_counts()
    pairs = [(value, int(count)) for value, count in counted.items()]
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def _split_counts(cohort: Cohort) -> dict[str, int]:
    splits = assigned_splits(cohort)
    return {split: int(count) for split in (*SPLITS, UNASSIGNED) if (count := (splits == split).sum())}


def _geometry(table: pd.DataFrame, rank: int) -> dict[str, Any]:
    """Sizes and spacing over the images of one rank."""
    same = table[table["shape"].map(len) == rank]
    shapes = np.array(same["shape"].tolist())
    spacings = same["spacing"].dropna().tolist()
    return {
        "rank": rank,
        "min_shape": tuple(int(length) for length in shapes.min(axis=0)),
        "median_shape": tuple(int(length) for length in np.median(shapes, axis=0)),
        "max_shape": tuple(int(length) for length in shapes.max(axis=0)),
        "spacing": tuple(Distribution.of(axis) for axis in zip(*spacings, strict=True)) if spacings else None,
        "num_spacing": int(table["spacing"].notna().sum()),
    }


def _turned(table: pd.DataFrame, column: str) -> Sizes | None:
    """The sizes in a column after a turn of each volume, as far as its orientation is known."""
    if table.empty:
        return None
    shapes = pd.Series(
        [
            turned_shape(shape, orientation) if isinstance(orientation, str) else shape
            for shape, orientation in zip(table[column], table["orientation"], strict=True)
        ]
    )
    return Sizes(_counts(shapes), tuple(int(length) for length in np.median(np.array(shapes.tolist()), axis=0)))


def _lungs(table: pd.DataFrame) -> LungFigures | None:
    found = table[table["lung_shape"].notna()]
    sizes = _turned(found, "lung_shape")
    return LungFigures(sizes, float(found["lung_extent"].median())) if sizes else None


def _distributions(table: pd.DataFrame) -> dict[str, Any]:
    names = ("minimum", "maximum", "mean", "deviation", "low", "high")
    return {name: Distribution.of(table[name]) for name in names}


def _suspicious(scanned: Scan) -> dict[str, Any]:
    """References of images that are constant, clipped, or not finite."""
    table = scanned.table
    constant = table["minimum"] == table["maximum"]
    two_valued = table["at_minimum"] + table["at_maximum"] > 0.999
    clipped = (table["at_maximum"] > CLIPPED_SHARE) & ~constant & ~two_valued
    chosen = {"constant": constant, "clipped": clipped, "not_finite": table["not_finite"] > 0}
    references = scanned.cohort.table["image"].astype(str).to_numpy()
    return {name: tuple(references[rows.to_numpy()]) for name, rows in chosen.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            "×".join(map(str, key)) if isinstance(key, tuple) else str(key): _plain(item) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
