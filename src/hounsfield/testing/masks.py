"""Testing segmenters: masks are compared on the grid of the image as it was read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort, MaskStore, read_mask
from hounsfield.errors import UsageError
from hounsfield.evaluation.mask_uncertainty import MaskUncertainty
from hounsfield.evaluation.novelty import Novelty
from hounsfield.evaluation.packed_masks import PackedPair
from hounsfield.evaluation.segmentation import TOLERANCE, compare_label_maps
from hounsfield.evaluation.segmentation_assessment import SegmentationAssessment, assess_masks
from hounsfield.evaluation.segmentation_tables import holds_cases, read_cases
from hounsfield.evaluation.value_groups import Compared, ValueGroups, compare_means
from hounsfield.inference.masks import COVERAGE, Segmenter, largest_only
from hounsfield.masks import dice, judged_regions, largest_component, pixel_volume, size_unit
from hounsfield.preprocessing import Pipeline
from hounsfield.progress import Progress
from hounsfield.testing.base import Degraded, TestSource
from hounsfield.testing.uncertainty import count_unlike

OPTIONS: frozenset[str] = frozenset({"tolerance"})
AUDIT_OPTIONS: frozenset[str] = frozenset()
TABLE_OPTIONS: frozenset[str] = frozenset()
DEGRADED: Degraded | None = None
TABLE = "table of compared masks"
# What groups of patients are compared by, and the difference below which a gap is not reported.
COMPARED = {"dice": "mean Dice", "nsd": "mean surface Dice"}
LEAST_GAP = 0.02
# The largest component alone is kept where that gains so much Dice on the mean over validation images.
LEAST_GAIN = 1e-3
# The share of a true mask that its largest component holds, on the mean over images, from which on it is in one piece:
# annotations have stray pixels.
ONE_PIECE = 0.99


@dataclass(frozen=True, eq=False)
class RawMasks:
    """What a segmenter makes of some rows of a store, beside the true masks.

    Attributes:
        rows: (n,) numbers of the store's rows.
        names: of the images.
        labels: in class order.
        pairs: the masks of each row, on the grid of the image as read.
        descriptions: what novelty is judged by, (n, …) each.
        expected: (n, labels) the Dice that the network expects.
        uncertainty: (n, labels) of the pixels of each mask.
        patients: (n,) whose images these are; of an unknown patient "row" and its number.
    """

    rows: np.ndarray
    names: tuple[str, ...]
    labels: tuple[str, ...]
    pairs: tuple[PackedPair, ...]
    descriptions: Mapping[str, np.ndarray]
    expected: np.ndarray
    uncertainty: np.ndarray
    patients: np.ndarray

    @classmethod
    def join(cls, parts: Sequence[RawMasks]) -> RawMasks:
        """Several raw outcomes as one, in the order of their rows."""
        order = np.argsort(np.concatenate([part.rows for part in parts]), kind="stable")
        arrays = ("rows", "expected", "uncertainty", "patients")
        joined = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in arrays}
        described = {
            name: np.concatenate([part.descriptions[name] for part in parts])[order] for name in parts[0].descriptions
        }
        names = [name for part in parts for name in part.names]
        pairs = [pair for part in parts for pair in part.pairs]
        return cls(
            names=tuple(names[place] for place in order),
            pairs=tuple(pairs[place] for place in order),
            labels=parts[0].labels,
            descriptions=described,
            **joined,
        )

    @property
    def features(self) -> np.ndarray:
        """(n, features)."""
        return self.descriptions["features"]

    @property
    def overlapping(self) -> bool:
        """Whether masks have a channel for each label."""
        return self.pairs[0].shape[-1] == len(self.labels) > 1

    @property
    def unit(self) -> str:
        """Of sizes: ml or mm² where every image has a spacing."""
        rank = len(self.pairs[0].shape) - 1
        known = all(pair.spacing is not None for pair in self.pairs)
        return size_unit(rank, self.pairs[0].spacing if known else None)

    @cached_property
    def cases(self) -> pd.DataFrame:
        """Image by image one row per label, in class order: see ``compared``."""
        return self.compared(TOLERANCE)

    def compared(self, tolerance: float) -> pd.DataFrame:
        """Every figure of every image and label, with sizes and what the network expects.

        Args:
            tolerance: of surface Dice, in mm, or in pixels of images without a spacing.
        """
        known = self.unit in {"ml", "mm²"}
        rows = []
        for number, (name, pair) in enumerate(zip(self.names, self.pairs, strict=True)):
            spacing = pair.spacing or (1.0,) * (len(pair.shape) - 1)
            found = compare_label_maps(*pair.masks(), spacing, labels=self.labels, tolerance=tolerance)
            scale = pixel_volume(spacing) if known else 1.0
            for index, label in enumerate(self.labels):
                figures = dict(found[index])
                sizes = {f"size_{each}": scale * figures.pop(each) for each in ("true", "predicted")}
                told = {"expected": self.expected[number, index], "uncertainty": self.uncertainty[number, index]}
                rows.append({"image": name, "label": label} | figures | sizes | told)
        return pd.DataFrame(rows)

    def cleaned(self, labels: Sequence[str]) -> RawMasks:
        """The same with the largest component alone of some labels; what the network expects is as before."""
        if not labels:
            return self
        pairs = []
        for pair in self.pairs:
            true, predicted = pair.masks()
            cut = largest_only(predicted.copy(), self.labels, labels, overlapping=self.overlapping)
            pairs.append(PackedPair.of(true, cut, pair.spacing))
        return replace(self, pairs=tuple(pairs))


def check(bundle: Bundle, options: Mapping[str, Any]) -> None:  # noqa: ARG001 - every bundle takes the same
    """Refuse a threshold that decides nothing; see ``FamilyTest``."""
    if options.get("threshold") is not None:
        raise UsageError(
            "A segmenter is tested as it predicts, with the thresholds of its bundle. Leave the threshold out."
        )


def build_store(cohort: Cohort, pipeline: Pipeline, progress: Progress) -> MaskStore:
    """Images of any shape with their masks; see ``FamilyTest``."""
    return MaskStore.build(cohort, pipeline, progress=progress)


def predict(predictor: Segmenter, store: MaskStore, rows: np.ndarray, progress: Progress, name: str) -> RawMasks:
    """Outline the structures in rows of a store, as predictions of their files would; see ``FamilyTest``."""
    pairs, described, expected, uncertainty = [], [], [], []
    for number, row in enumerate(rows.tolist(), start=1):
        pixels, image = store.image(row), store.cohort.read(row)
        mask, found = predictor.outline(pixels, store.change(row), image.shape)
        true = np.asarray(read_mask(store.cohort, row, image).pixels)
        pairs.append(PackedPair.of(true, mask, image.spacing))
        described.append(predictor.describe(pixels, found.features))
        expected.append(found.expected)
        uncertainty.append(found.uncertainty)
        progress(f"outlining structures in {name} images", number, len(rows))
    images = store.cohort.table["image"].iloc[rows].astype(str)
    patients = store.cohort.table["patient"].iloc[rows]
    descriptions = {name: np.concatenate([each[name] for each in described]) for name in described[0]}
    known = np.where(patients.isna(), [f"row {row}" for row in rows], patients.astype(str))
    arrays = (np.stack(expected), np.stack(uncertainty), known)
    return RawMasks(rows, tuple(images), predictor.bundle.labels, tuple(pairs), descriptions, *arrays)


def assess(cohort: Cohort, raw: RawMasks, bundle: Bundle, **options: Any) -> SegmentationAssessment:
    """Measure masks, with the table of the images for a comparison of groups; see ``FamilyTest``."""
    told, tolerance = options.pop("notes", ()), options.pop("tolerance", None)
    options.pop("threshold", None)
    rows = cohort.table.iloc[raw.rows].reset_index(drop=True)
    groups = rows["patient"].to_numpy() if rows["patient"].notna().all() else None
    usual = tolerance in {None, TOLERANCE}
    assessed = assess_masks(
        raw.cases if usual else raw.compared(tolerance),
        labels=bundle.labels,
        unit=raw.unit,
        tolerance=TOLERANCE if usual else tolerance,
        groups=groups,
        **options,
    )
    return replace(assessed, table=rows, pairs=raw.pairs, notes=(*told, *_empty_notes(assessed)))


def _empty_notes(assessed: SegmentationAssessment) -> list[str]:
    """How often there was nothing to compare, or one of both masks was empty."""
    true, predicted = assessed.of_cases("size_true") > 0, assessed.of_cases("size_predicted") > 0
    lines = []
    for index, label in enumerate(assessed.labels):
        neither, one = (~true & ~predicted)[:, index], (true ^ predicted)[:, index]
        counts = [
            f"{int(rows.sum()):,} {text}"
            for rows, text in (
                (neither, "without it, and nothing drawn: no value"),
                (one & true[:, index], "missed entirely: Dice 0, infinite distance"),
                (one & predicted[:, index], "without it, but drawn: Dice 0, infinite distance"),
            )
            if rows.any()
        ]
        if counts:
            lines.append(f"{label}: of {len(true):,} images {'; '.join(counts)}.")
    return lines


def table(cohort: Cohort, raw: RawMasks, bundle: Bundle) -> pd.DataFrame:
    """One row per image and label: figures, sizes, predicted Dice with its interval; see ``FamilyTest``."""
    count, kept = len(raw.labels), bundle.kept(MaskUncertainty)
    known = cohort.table.iloc[raw.rows][["split", "patient"]].loc[lambda part: part.index.repeat(count)]
    found = raw.cases.assign(unit=raw.unit, tolerance=TOLERANCE)
    if kept is not None:
        dice = [kept.predicted_dice(row % count, value, COVERAGE) for row, value in enumerate(found["expected"])]
        ends = np.array([(math.nan,) * 3 if each is None else each for each in dice])
        found[["dice_predicted", "dice_low", "dice_high"]] = ends
    if bundle.novelty is not None:
        ratios = bundle.novelty.ratios(raw.descriptions)
        found["ood_score"] = np.repeat(np.maximum.reduce(list(ratios.values())), count)
    rounded = found.map(lambda value: float(f"{value:.7g}") if isinstance(value, float) else value)
    return pd.concat([rounded, known.reset_index(drop=True)], axis=1)


def audit(
    assessment: SegmentationAssessment,
    *,
    seed: int,  # noqa: ARG001 - nothing is drawn
    confidence: float,
    given: Mapping[str, Any],  # noqa: ARG001 - there is no such option
    source: TestSource | None,  # noqa: ARG001 - the table is enough
) -> ValueGroups:
    """The groups that the columns of the table make, by the mean over the labels of an image; see ``FamilyTest``."""
    columns = {name: assessment.of_images(name) for name in COMPARED}
    compared = Compared(columns, COMPARED, assessment.groups)
    least = dict.fromkeys(COMPARED, LEAST_GAP)
    described = assessment.table if assessment.table is not None else pd.DataFrame({"image": assessment.images})
    return compare_means(described, compared, least=least, confidence=confidence)


def reads(path: Path, options: Mapping[str, Any]) -> bool:
    """A table with the figures of each image and label; see ``FamilyTest``."""
    return not {"truth", "task"} & set(options) and holds_cases(path)


def assess_table(path: Path, *, threshold: float | None = None, **options: Any) -> SegmentationAssessment:
    """Anyone's compared masks; see ``FamilyTest``."""
    if threshold is not None:
        raise UsageError("A table of compared masks has no threshold. Remove --threshold.")
    read, told = read_cases(path), options.pop("notes", ())
    assessed = assess_masks(
        read.cases, labels=read.labels, unit=read.unit, tolerance=read.tolerance, groups=read.groups, **options
    )
    return replace(assessed, table=read.table, notes=(*read.notes, *told, *_empty_notes(assessed)))


def notes(bundle: Bundle, raw: RawMasks, what: str) -> list[str]:
    """How many images are out of distribution; see ``FamilyTest``."""
    return count_unlike(bundle.novelty, raw.descriptions, what)


def helped_by_largest_component(raw: RawMasks) -> list[str]:
    """The labels whose masks are better without components beside the largest one, on the mean over images.

    Only of labels whose true masks are in one piece: where there are several lesions or cells, a weak network may gain
    on a few images from leaving all but one of them out.
    """
    helped = []
    for index, label in enumerate(raw.labels):
        gains, pieces = [], []
        for pair in raw.pairs:
            true, predicted = pair.masks()
            cut = largest_only(predicted.copy(), raw.labels, [label], overlapping=raw.overlapping)
            region, found = judged_regions(true, predicted, index, overlapping=raw.overlapping)
            kept = judged_regions(true, cut, index, overlapping=raw.overlapping)[1]
            if region.any() or found.any():
                gains.append(float(np.nan_to_num(dice(region, kept))) - dice(region, found))
            if region.any():
                pieces.append(largest_component(region).sum() / region.sum())
        if pieces and float(np.mean(pieces)) >= ONE_PIECE and float(np.mean(gains)) > LEAST_GAIN:
            helped.append(label)
    return helped


def kept(raw: RawMasks, novelty: Novelty | None = None) -> MaskUncertainty:
    """What a bundle keeps of images that its networks were not trained on."""
    return MaskUncertainty.of(raw.cases, raw.patients, raw.unit, novelty)
