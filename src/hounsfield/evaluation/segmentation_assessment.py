"""All that one test says of a segmenter, in the form that files, tables and reports share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.classification import NOWHERE, UNVARIED, Estimate, estimates_to_dict, few_patients
from hounsfield.evaluation.intervals import (
    Clusters,
    Interval,
    bca_interval,
    bootstrap,
    jackknife,
    logit_interval,
    make_clusters,
    vary,
)
from hounsfield.evaluation.outcomes import Booleans, Floats
from hounsfield.evaluation.packed_masks import PackedPair
from hounsfield.evaluation.proportions import clustered_proportion
from hounsfield.evaluation.segmentation import TOLERANCE
from hounsfield.evaluation.segmentation_figures import FIGURES, label_columns
from hounsfield.tasks import Family

# What ``assess_masks`` needs of each image and label, beside ``image`` and ``label``.
CASE_COLUMNS = (
    *("dice", "iou", "nsd", "hd95", "assd", "size_true", "size_predicted"),
    *("lesions_true", "lesions_predicted", "lesions_found", "lesions_iou"),
)
INFINITE = "in half of the cases or more one of both masks is empty: the median distance is infinite"
OPEN = "no interval: one of both masks is empty so often that the upper end may be infinite"
NO_CASE = "no case to measure it on"


@dataclass(frozen=True, eq=False)
class SegmentationAssessment:
    """The outcome of one test of segmentation.

    Attributes:
        cases: one row per image and label: ``image``, ``label`` and ``CASE_COLUMNS``.
        labels: in class order.
        estimates: every figure with its interval: the mean over labels under its name, that of a label as
            ``NAME_LABEL``.
        unit: of sizes: "ml", "mm²", "voxels" or "pixels".
        tolerance: of surface Dice, in mm, or in pixels where the spacing is not known.
        patients: how many there are; ``None`` where unknown.
        notes: what was detected, decided or left out.
        groups: (images,) the patient of each image; ``None`` where unknown.
        table: one row per image with what else is known of it, where the caller adds it.
        pairs: the masks of each image, where the caller adds them.
        split: the name under which ``metrics.json`` holds the figures.
    """

    family: ClassVar[Family] = "masks"
    cases: pd.DataFrame
    labels: tuple[str, ...]
    estimates: Mapping[str, Estimate]
    unit: str
    tolerance: float
    patients: int | None
    notes: tuple[str, ...] = ()
    groups: npt.NDArray[Any] | None = None
    table: pd.DataFrame | None = None
    pairs: tuple[PackedPair, ...] = ()
    split: str = "test"

    @property
    def images(self) -> list[str]:
        """The images in the order of the cases."""
        return list(dict.fromkeys(self.cases["image"]))

    def title(self, name: str) -> str:
        """What a figure is called where people read it."""
        return segmentation_title(name, self.labels, self.unit, self.tolerance)

    def of_cases(self, name: str) -> Floats:
        """(images, labels) a column of the cases."""
        return self.cases[name].to_numpy(np.float64).reshape(-1, len(self.labels))

    def of_images(self, name: str) -> Floats:
        """(images,) a column of the cases as the mean over the labels that have a value; ``nan`` where none has."""
        values = self.of_cases(name)
        known = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(known, values, 0).sum(axis=1) / known.sum(axis=1))

    def to_dict(self) -> dict[str, Any]:
        """The figures as ``metrics.json`` has them, and beside them what they were made from."""
        return {
            self.split: estimates_to_dict(dict(self.estimates)),
            "task": "segmentation",
            "labels": list(self.labels),
            "tolerance": self.tolerance,
            "unit": self.unit,
            "cases": len(self.images),
            "patients": self.patients,
            "notes": list(self.notes),
        }


def segmentation_title(name: str, labels: Sequence[str], unit: str, tolerance: float) -> str:
    """The title of a figure, that of one label with its name behind it."""
    stems = {name: (name, "")} if name in FIGURES else {}
    stems |= {of_label(stem, label): (stem, f": {label}") for label in labels for stem in FIGURES}
    if name not in stems:
        return name
    stem, ending = stems[name]
    at = f" at {tolerance_text(tolerance, unit)}" if stem == "nsd" else ""
    units = {"": "", "length": f", {length_unit(unit)}", "size": f", {unit}"}
    return f"{FIGURES[stem].title}{at}{units[FIGURES[stem].unit]}{ending}"


def length_unit(unit: str) -> str:
    """The unit of lengths where sizes have this one."""
    return "mm" if unit in {"ml", "mm²"} else unit


def tolerance_text(tolerance: float, unit: str) -> str:
    """The tolerance of surface Dice with its unit: "1 mm", "1 pixel", "2 voxels"."""
    length = length_unit(unit)
    return f"{tolerance:g} {length.removesuffix('s') if tolerance == 1 else length}"


def of_label(name: str, label: str) -> str:
    """The name of a figure of one label: ``dice_LABEL``; ``dice_label_LABEL`` where that is a figure's own name."""
    joined = f"{name}_{label}"
    return joined if joined not in FIGURES else f"{name}_label_{label}"


def assess_masks(
    cases: pd.DataFrame,
    *,
    labels: Sequence[str],
    unit: str,
    tolerance: float = TOLERANCE,
    groups: npt.ArrayLike | None = None,
    num_replicates: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> SegmentationAssessment:
    """Every figure of ``FIGURES`` for each label and as the mean over labels, with intervals by patient.

    Args:
        cases: image by image one row per label, in class order, with ``CASE_COLUMNS``.
        labels: in class order.
        unit: of ``size_true`` and ``size_predicted``.
        tolerance: with which ``nsd`` was measured.
        groups: (images,) patients; ``None`` where unknown: then every image is a patient of its own.
        num_replicates: bootstrap replicates.
        seed: of the bootstrap.
        confidence: nominal coverage of the intervals.

    Raises:
        EvaluationError: there is no case, or the rows are not those of each label in turn.
    """
    missing = [name for name in ("image", "label", *CASE_COLUMNS) if name not in cases]
    if missing or not len(cases) or list(cases["label"]) != list(labels) * (len(cases) // max(len(labels), 1)):
        raise EvaluationError(
            f"There are {len(cases):,} rows of cases"
            + (f" without {', '.join(missing)}" if missing else "")
            + f"; expected for each image one row per label in the order {', '.join(labels)}."
        )
    columns = [
        label_columns({name: cases[name].to_numpy(np.float64)[index :: len(labels)] for name in CASE_COLUMNS})
        for index in range(len(labels))
    ]
    present = np.stack([each["size_true"] > 0 for each in columns], axis=1)
    clusters = make_clusters(present, groups)
    judge = _Judge(columns, present, clusters, num_replicates, seed, confidence)
    estimates = {name: judge.estimate(name, range(len(labels))) for name, figure in FIGURES.items() if figure.mean}
    for index, label in enumerate(labels):
        estimates |= {of_label(name, label): judge.estimate(name, [index]) for name in FIGURES}
    known = None if groups is None else np.asarray(groups)
    patients = None if groups is None else len(clusters)
    return SegmentationAssessment(cases, tuple(labels), estimates, unit, tolerance, patients, groups=known)


class _Judge:
    """Figures of labels with their intervals, from replicates that all of them share."""

    def __init__(
        self,
        columns: list[dict[str, Floats]],
        present: Booleans,
        clusters: Clusters,
        num_replicates: int,
        seed: int,
        confidence: float,
    ) -> None:
        self._columns, self._clusters, self._confidence = columns, clusters, confidence
        self._num_replicates = num_replicates
        self._drawn: dict[tuple[str, int], Floats] = {}
        self._left_out: dict[tuple[str, int], Floats] = {}
        self._keys = [(name, index) for index in range(len(columns)) for name in FIGURES]
        if len(clusters) > 1:
            drawn = bootstrap(self._all, clusters, present, num_replicates=num_replicates, seed=seed)
            left_out = jackknife(self._all, clusters, seed=seed)
            self._drawn = dict(zip(self._keys, drawn, strict=True))
            self._left_out = dict(zip(self._keys, left_out, strict=True))

    def _all(self, weights: Floats) -> Floats:
        return np.stack([FIGURES[name].weighted(self._columns[index], weights) for name, index in self._keys])

    def estimate(self, name: str, labels: Sequence[int]) -> Estimate:
        """A figure of one label, or the mean over those of several labels that have a value."""
        figure, ones = FIGURES[name], np.ones((len(self._clusters.of_case), 1))
        values = {index: float(figure.weighted(self._columns[index], ones)[0]) for index in labels}
        used = [index for index, value in values.items() if not math.isnan(value)]
        count = int(np.any([figure.defined(self._columns[index]) for index in labels], axis=0).sum())
        if not used:
            return Estimate(math.nan, math.nan, math.nan, 0, note=NO_CASE)
        value = float(np.mean([values[index] for index in used]))
        if not math.isfinite(value):
            return Estimate(math.nan, math.nan, math.nan, count, note=INFINITE)
        interval, method = self._interval(name, used, value)
        if math.isinf(interval.high):
            return Estimate(value, math.nan, math.nan, count, note=OPEN)
        if not math.isfinite(interval.low):
            return Estimate(value, math.nan, math.nan, count, note=UNVARIED)
        note = "" if len(used) == len(labels) else f"of {len(used)} of {len(labels)} labels"
        rests = np.any([figure.defined(self._columns[index]) for index in used], axis=0)
        note = note or few_patients(len(np.unique(self._clusters.of_case[rests])))
        return Estimate(value, min(interval.low, value), max(interval.high, value), count, method, note)

    def _interval(self, name: str, labels: list[int], value: float) -> tuple[Interval, str]:
        kind = FIGURES[name].kind
        if kind == "share" and len(labels) == 1:
            column = self._columns[labels[0]][name]
            hits, known = column == 1, ~np.isnan(column)
            return clustered_proportion(hits, known, self._clusters, confidence=self._confidence), "Wilson"
        if not self._drawn:
            return NOWHERE, ""
        drawn = np.mean([self._drawn[name, index] for index in labels], axis=0)
        if not (vary(drawn) or np.isinf(drawn).any()):
            return NOWHERE, ""
        method = f"bootstrap by patient, {self._num_replicates:,} replicates"
        if kind == "median":
            # Not between two of them, one of which may be infinite.
            tails = ((1 - self._confidence) / 2, (1 + self._confidence) / 2)
            ends = np.quantile(drawn[~np.isnan(drawn)], tails, method="inverted_cdf")
            return Interval(*map(float, ends)), f"percentile {method}"
        left_out = np.mean([self._left_out[name, index] for index in labels], axis=0)
        if kind == "overlap" and 0 < value < 1:
            return logit_interval(value, left_out, confidence=self._confidence), "Student's t by patient, logit scale"
        return bca_interval(value, drawn, left_out, confidence=self._confidence), f"BCa {method}"
