"""Counting the particles in the fields of a table with a detector, for an assay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.cohorts.table_files import read_table
from hounsfield.containers import read_parquet
from hounsfield.errors import CohortError, UsageError
from hounsfield.evaluation.assay import Assay, analyse_fields
from hounsfield.evaluation.count_correction import CountCorrection
from hounsfield.evaluation.detection_uncertainty import DetectionUncertainty
from hounsfield.inference import Detector
from hounsfield.inference.prediction import BadImage
from hounsfield.integrity import digest
from hounsfield.progress import Progress, silent
from hounsfield.runs.folder import run_of

# What a column of the table of fields may be called.
NAMES = {
    "image": ("image",),
    "specimen": ("specimen", "patient", "preparation", "lot"),
    "instrument": ("instrument", "microscope"),
    "grid": ("grid",),
    "dilution": ("dilution",),
    "pixel_nm": ("pixel_nm",),
}
# Beyond this distance a field is unlike those of training, and its counts are not used.
LIMIT = 1.0
NUM_NAMED = 5
SQUARE_NM = 1e6  # in a square micrometre
# Findings that come this near to the border of a field, in pixels, may be parts of particles.
RIM = 3
# Of a kind that is found less often than this, counts are not to be relied on.
LEAST_FOUND = 0.5
TRAINED = ("train", "validation")


@dataclass(frozen=True, eq=False)
class CountedFields:
    """The fields of a table with what a detector counted.

    Attributes:
        fields: one row per field: the columns of the table, ``area`` in µm² where it is known, ``count_LABEL`` of
            whole particles, ``weight_LABEL``, see ``whole``, ``cut``, how many the border cuts, ``ood_score``, and
            ``refused``, the reason why its counts are not used, empty otherwise.
        assay: of those that are used.
        recovery: label → findings over true objects in the validation images of the training; without those of which
            it had none.
        notes: what was left out.
    """

    fields: pd.DataFrame
    assay: Assay
    recovery: dict[str, float]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        refused = self.fields[self.fields["refused"] != ""]
        return {
            "assay": self.assay.to_dict(),
            "recovery_on_validation": self.recovery,
            "refused": dict(zip(refused["image"], refused["refused"], strict=True)),
            "notes": list(self.notes),
        }


def assay_fields(
    run: Path,
    table: Path,
    *,
    labels: Sequence[str] = (),
    kind: str | None = None,
    blanks: Sequence[str] = (),
    standard: tuple[str, float] | None = None,
    confidence: float = 0.95,
    progress: Progress = silent,
) -> CountedFields:
    """Count in every field of a table and compute the assay.

    Fields of specimens that the detector was trained or chosen on are left out, since it finds more there; those that
    cannot be read, or lie beyond the bundle's limit of distance, are refused.

    Args:
        run: of a detector.
        table: one row per field, or several with the same design, as where each names a particle; ``image`` is
            relative to the table.
        labels: that are particles; by default all of the detector's.
        kind: whose share is wanted.
        blanks: specimens without particles.
        standard: a specimen and its known concentration.
        confidence: nominal coverage of the intervals.
        progress: told of the fields.

    Raises:
        CohortError: the table lacks a column, or has a value that is none.
        UsageError: a label is not known, or no field is left.
    """
    detector = Detector(run)
    unknown = sorted({*labels, *([kind] if kind else [])} - set(detector.bundle.labels))
    if unknown:
        offered = ", ".join(detector.bundle.labels)
        raise UsageError(f"The detector does not know {', '.join(unknown)}: expected labels of {offered}.")
    fields, notes = _without_known(_design(table), run)
    counted = _counted(fields, detector, table.parent, progress)
    used = counted[counted["refused"] == ""]
    if used.empty:
        first = counted["refused"].iloc[0].rstrip(".")
        raise UsageError(f"All {len(counted):,} fields were refused. The first: {first}.")
    if len(used) < len(counted):
        notes = [*notes, f"{len(counted) - len(used):,} of {len(counted):,} fields were refused; fields.csv says why."]
    if detector.bundle.novelty is None:
        notes = [*notes, "The detector has no limit of distance from its training images: no field was refused by it."]
    particles = tuple(labels) or detector.bundle.labels
    kept = detector.bundle.kept(DetectionUncertainty)
    kept = kept if kept is not None and len(kept.counts_true) else None
    if kind is not None and kept is None:
        notes = [*notes, "Shares are of what was found: the detector has no validation counts to correct them by."]
    assay = analyse_fields(
        used,
        particles,
        kind=kind,
        blanks=blanks,
        standard=standard,
        correction=_correction(detector.bundle, kept, particles) if kept else None,
        confidence=confidence,
    )
    recovery = _recovery(detector.bundle, kept) if kept else {}
    weak = [label for label in particles if recovery.get(label, 1.0) < LEAST_FOUND]
    told = [
        f"For 100 objects '{label}' in its validation images the detector found {100 * recovery[label]:.0f}: do not "
        "rely on its counts of them."
        for label in weak
    ]
    return CountedFields(counted, assay, recovery, (*notes, *told))


def _design(path: Path) -> pd.DataFrame:
    """The fields with their specimens and conditions, checked."""
    table = read_table(path)
    found = {
        name: next(column for column in columns if column in table.columns)
        for name, columns in NAMES.items()
        if set(columns) & set(table.columns)
    }
    for name in ("image", "specimen"):
        if name not in found:
            raise CohortError(
                f"The table {path} has the columns {', '.join(map(str, table.columns))}: expected one called "
                f"{' or '.join(NAMES[name])}. Rename or add it."
            )
    # Names of Parquet may be numbers, and "LOT-1 " is no other specimen than "LOT-1".
    texts = {
        name: table[column].map(lambda value: str(value).strip(), na_action="ignore") for name, column in found.items()
    }
    fields = pd.DataFrame(texts).drop_duplicates()
    twice = fields["image"][fields["image"].duplicated()]
    if len(twice):
        raise CohortError(
            f"The table {path} gives {twice.iloc[0]} in two ways: expected one specimen and one condition for a field."
        )
    for name in fields.columns.drop(["dilution", "pixel_nm"], errors="ignore"):
        _require(path, found[name], fields["image"], fields[name].notna() & (fields[name].astype(str) != ""), "a name")
    for name, least in (("dilution", 1.0), ("pixel_nm", 0.0)):
        if name in fields:
            numbers = pd.to_numeric(fields[name], errors="coerce")
            right = np.isfinite(numbers) & (numbers >= least if least else numbers > 0)
            wanted = "a factor of 1 or more, such as 4 for one part in four" if least else "nanometres above 0"
            _require(path, found[name], fields["image"], right, wanted)
            fields[name] = numbers
    _require_distinct(path, fields["image"].tolist())
    return fields.reset_index(drop=True)


def _require_distinct(path: Path, images: Sequence[str]) -> None:
    """Refuse a field that the table has twice, under two paths or as a copy: intervals would be too narrow."""
    seen: dict[str, str] = {}
    for image in images:
        place = (path.parent / image).resolve()
        try:
            key = digest(place)
        except OSError:
            # One image of a file of several, or what will be refused as it cannot be read.
            key = str(place)
        if key in seen:
            raise CohortError(
                f"The table {path} has one field twice, as {seen[key]} and as {image}, and its particles would be "
                "counted twice. Leave one of them."
            )
        seen[key] = image


def _require(path: Path, column: str, images: pd.Series, right: pd.Series, wanted: str) -> None:
    if wrong := images[~right].tolist():
        named = ", ".join(map(str, wrong[:NUM_NAMED]))
        raise CohortError(
            f"The column '{column}' of {path} holds no usable value for {len(wrong):,} fields ({named}): expected "
            f"{wanted}. Fill it."
        )


def _without_known(fields: pd.DataFrame, run: Path) -> tuple[pd.DataFrame, list[str]]:
    """Without specimens that the training saw, where the run knows them."""
    known_rows = run_of(run) / "cohort.parquet"
    if not known_rows.is_file():
        return fields, ["Whether the detector was trained on some of these specimens is not known."]
    cohort = read_parquet(known_rows)
    seen = set(cohort.loc[cohort["split"].isin(TRAINED), "patient"].dropna().astype(str))
    known = fields["specimen"].astype(str).isin(seen)
    if known.all():
        raise UsageError(
            f"The detector was trained on all {fields['specimen'].nunique():,} specimens of the table, and would count "
            "them better than new ones. Give a table of other specimens."
        )
    if not known.any():
        return fields, []
    told = f"{fields['specimen'][known].nunique():,} specimens with {known.sum():,} fields were left out: the detector "
    return fields[~known].reset_index(drop=True), [f"{told}was trained or chosen on them."]


def _counted(fields: pd.DataFrame, detector: Detector, folder: Path, progress: Progress) -> pd.DataFrame:
    """With the counts of each field, and the area of those whose pixels have a known size."""
    counted: list[dict[str, Any]] = []
    sizes, total = [], len(fields)
    paths = [str(folder / image) for image in fields["image"].astype(str)]

    for found in detector.stream(paths):
        progress("counting", len(counted), total)
        if isinstance(found, BadImage):
            counted.append({"refused": found.reason})
            sizes.append(np.nan)
            continue
        score, reasons = found.ood_score, "; ".join(found.flags)
        far = score is not None and score > LIMIT
        refused = f"unlike the training images ({reasons or 'out of distribution'})" if far else ""
        counts = dict.fromkeys((f"{what}_{label}" for label in found.counts for what in ("count", "weight")), 0.0)
        weights = whole(found.boxes, found.shape)
        for label, weight in zip(found.labels, weights.tolist(), strict=True):
            counts[f"count_{label}"] += weight > 0
            counts[f"weight_{label}"] += weight
        counted.append({**counts, "cut": int((weights == 0).sum()), "ood_score": score, "refused": refused})
        sizes.append(float(np.prod(found.shape)))
    if len(counted) != total:
        raise CohortError(
            f"The {total:,} files of the table hold {len(counted):,} images: expected one field a file. Choose "
            "one of a file of several with PATH[N]."
        )
    table = pd.concat([fields, pd.DataFrame(counted)], axis=1)
    if "pixel_nm" in fields:
        table["area"] = np.array(sizes) * fields["pixel_nm"] ** 2 / SQUARE_NM
    return table


def whole(boxes: npt.NDArray[np.floating], shape: Sequence[int]) -> npt.NDArray[np.float64]:
    """How many particles each finding stands for; 0 for those at the border.

    A particle is less likely to lie in a field as a whole the larger it is, so each is weighted by the area of the
    field over the area in which its middle may lie (Miles 1974; Lantuéjoul 1978). Their sum is free of bias, whatever
    part of a particle at the border a detector still finds.

    Args:
        boxes: (n, 4), half-open, y0, x0, y1, x1 in pixels.
        shape: rows and columns of the field.
    """
    size = np.array(shape, np.float64)
    low, high = np.asarray(boxes, np.float64).reshape(-1, 2, 2).swapaxes(0, 1)
    inside = ((low >= RIM) & (high <= size - RIM)).all(axis=1)
    room = np.prod(np.maximum(size - 2 * RIM - (high - low), 1), axis=1)
    return np.asarray(np.where(inside, size.prod() / room, 0.0))


def _correction(bundle: Bundle, kept: DetectionUncertainty, labels: Sequence[str]) -> CountCorrection:
    columns = [bundle.labels.index(label) for label in labels]
    return CountCorrection(kept.counts_true[:, columns], kept.counts_found[:, columns])


def _recovery(bundle: Bundle, kept: DetectionUncertainty) -> dict[str, float]:
    true, found = kept.counts_true.sum(axis=0), kept.counts_found.sum(axis=0)
    return {label: float(found[place] / true[place]) for place, label in enumerate(bundle.labels) if true[place]}
