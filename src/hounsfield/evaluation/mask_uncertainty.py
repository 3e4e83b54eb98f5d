"""What a segmenter's bundle keeps of images that it was not trained on: how good masks are, how wrong volumes are."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.novelty import Novelty
from hounsfield.evaluation.outcomes import Booleans, Floats, Integers

if TYPE_CHECKING:
    import pandas as pd

# Added to what is missing from a Dice of 1, so that a perfect prediction does not promise a perfect mask.
SLACK = 0.02
# The error of a volume grows with the surface: with the power 2/3 of the volume.
POWER = 2 / 3
# A line needs a spread of expected values; it is drawn towards the diagonal by so many cases of it.
PRIOR_CASES = 5.0
# Patients that a label needs, for a line and for an interval.
FEWEST = 3
# Of the cases, what is kept.
COLUMNS = ("expected", "dice", "size_true", "size_predicted")


class Predicted(NamedTuple):
    """A value with the ends of its interval."""

    value: float
    low: float
    high: float


class _Errors(NamedTuple):
    """Errors of cases, and how much each counts: those of a patient count 1 together."""

    sizes: Floats
    weights: Floats
    num_patients: int


class _Fit(NamedTuple):
    """A line from the expected to the true Dice, and its misfit on each patient when fitted without that one."""

    start: float
    slope: float
    misfit: _Errors


@dataclass(frozen=True, eq=False)
class MaskUncertainty:
    """How the masks of images that the network was not trained on agreed with the true ones.

    Intervals are of one label, by what is known of this label. Cases of one patient are alike, so patients are
    counted and not cases: the intervals are those of hierarchical conformal prediction (Lee, Barber, Willett,
    "Distribution-free inference with hierarchical data", 2023, arXiv:2306.06342), which hold for any errors. They need
    :func:`enough_patients`. With fewer, down to three, errors are taken for normally distributed: Student's t of their
    root mean square over patients. With fewer still nothing is promised.

    Attributes:
        label: (n,) the label of each case, by its index; a case is one label of one image.
        expected: (n,) the Dice that the network expects of itself, from its probabilities; ``nan`` of an empty mask.
        dice: (n,) the true one; ``nan`` where both masks are empty.
        size_true: (n,) volumes.
        size_predicted: (n,) likewise.
        unit: of volumes: "ml", "mm²", "voxels" or "pixels".
        novelty: tells images that are out of distribution; ``None`` where it was not fitted.
        patient: (n,) whose image each case is, by numbers; ``None`` where each image is that of another patient.
    """

    label: Integers
    expected: Floats
    dice: Floats
    size_true: Floats
    size_predicted: Floats
    unit: str
    novelty: Novelty | None = None
    patient: Integers | None = None

    @classmethod
    def of(cls, cases: pd.DataFrame, patients: npt.NDArray[Any], unit: str, novelty: Novelty | None = None) -> Self:
        """Keep what is needed of cases: image by image one row per label, in class order.

        Args:
            cases: of all labels of all images.
            patients: (images,) names or numbers.
            unit: of volumes.
            novelty: see the class.
        """
        num_labels = len(cases) // max(len(patients), 1)
        columns: Any = {name: cases[name].to_numpy(np.float64) for name in COLUMNS}
        numbers = np.repeat(np.unique(patients, return_inverse=True)[1], num_labels)
        return cls(label=np.arange(len(cases)) % num_labels, unit=unit, novelty=novelty, patient=numbers, **columns)

    def describe(self, labels: Sequence[str], coverage: float) -> str:
        """What the intervals of labels, in class order, promise, and of which labels less or nothing."""
        counts = {label: self._errors(number).num_patients for number, label in enumerate(labels)}
        without = [label for label, count in counts.items() if count < FEWEST]
        if len(without) == len(counts):
            return f"Sizes come without intervals: validation holds each label in fewer than {FEWEST} patients."
        told = (
            f"Intervals of sizes and of predicted Dice hold the true value in {coverage:.0%} of images like those of "
            "validation, for each label."
        )
        enough = enough_patients(coverage)
        few = [f"{label} {count}" for label, count in counts.items() if FEWEST <= count < enough]
        if few:
            told += (
                f" Less reliable for want of validation patients ({', '.join(few)}; {enough} are needed): there they "
                "hold only as far as errors are normally distributed."
            )
        if without:
            told += f" None for {', '.join(without)}: fewer than {FEWEST} validation patients."
        return told

    def predicted_dice(self, label: int, expected: float, coverage: float) -> Predicted | None:
        """The Dice of a mask whose truth is not known, and the interval that holds it with this probability.

        The interval is from the errors that the line makes on each patient when fitted without that one, relative to
        what is missing from 1: poor masks are predicted less exactly.

        Args:
            label: by index.
            expected: what the network expects.
            coverage: strictly between 0 and 1.

        Returns:
            ``None`` where the mask is empty, or masks of fewer than three patients are known.
        """
        if not math.isfinite(expected):
            return None
        if label not in self._fits:
            self._fits[label] = self._fit(label)
        fit = self._fits[label]
        if fit is None:
            return None
        value = float(np.clip(fit.start + fit.slope * expected, 0, 1))
        half = _limit(fit.misfit, coverage) * (1 + SLACK - value)
        return Predicted(value, max(0.0, value - half), min(1.0, value + half))

    def _fit(self, label: int) -> _Fit | None:
        rows = (self.label == label) & ~np.isnan(self.expected) & ~np.isnan(self.dice)
        known, dice, patients = self.expected[rows], self.dice[rows], self.patient_numbers[rows]
        if len(np.unique(patients)) < FEWEST:
            return None
        fitted = np.zeros(len(known))
        for patient in np.unique(patients):
            out = patients == patient
            start, slope = _line(known[~out], dice[~out])
            fitted[out] = np.clip(start + slope * known[out], 0, 1)
        return _Fit(*_line(known, dice), _by_patient(np.abs(dice - fitted) / (1 + SLACK - fitted), patients))

    def volume(self, label: int, predicted: float, coverage: float) -> Predicted:
        """A volume with the interval that holds the true one with this probability.

        Args:
            label: by index.
            predicted: the volume of the mask.
            coverage: strictly between 0 and 1.
        """
        signed = self._errors(label)
        limit = _limit(signed._replace(sizes=np.abs(signed.sizes)), coverage) * self._scale(label, predicted)
        return Predicted(predicted, max(0.0, predicted - limit), predicted + limit)

    def change(self, label: int, before: float, after: float, coverage: float) -> Predicted:
        """How much a volume has changed between two images, with its interval.

        The errors of both volumes are taken to be independent, each like those of one case: the interval is from the
        differences of all pairs of cases of different patients. Where a network errs alike on both images, it is too
        wide.

        Args:
            label: by index.
            before: the volume of the first mask.
            after: that of the second.
            coverage: strictly between 0 and 1.
        """
        errors = self._errors(label)
        first, second = (errors.sizes * self._scale(label, size) for size in (before, after))
        patients = self.patient_numbers[self._sized(label)]
        apart = patients[:, np.newaxis] != patients
        # The patients, not the pairs, are independent: the promise is by how many of these there are.
        pairs = _Errors(
            np.abs(second[:, np.newaxis] - first)[apart],
            np.multiply.outer(errors.weights, errors.weights)[apart],
            errors.num_patients,
        )
        limit = _limit(pairs, coverage)
        return Predicted(after - before, after - before - limit, after - before + limit)

    def _errors(self, label: int) -> _Errors:
        """Of a label, true minus predicted volume over the scale of the predicted one."""
        rows = self._sized(label)
        scales = np.array([self._scale(label, size) for size in self.size_predicted[rows]])
        return _by_patient((self.size_true - self.size_predicted)[rows] / scales, self.patient_numbers[rows])

    def _sized(self, label: int) -> Booleans:
        """The cases of a label that have a true or a predicted volume."""
        return np.asarray((self.label == label) & ((self.size_true > 0) | (self.size_predicted > 0)))

    def _scale(self, label: int, size: float) -> float:
        return float(max(size, self._least.get(label, 1.0)) ** POWER)

    @cached_property
    def patient_numbers(self) -> Integers:
        """(n,) whose image each case is."""
        if self.patient is not None:
            return self.patient
        # Image by image one case per label.
        return np.arange(len(self.label)) // (int(self.label.max(initial=0)) + 1)

    @cached_property
    def _fits(self) -> dict[int, _Fit | None]:
        """What was fitted so far, by label."""
        return {}

    @cached_property
    def _least(self) -> dict[int, float]:
        """Of each label a small volume, below which errors no longer shrink: a tenth of the median true one."""
        found = {}
        for label in range(int(self.label.max(initial=0)) + 1):
            sizes = self.size_true[(self.label == label) & (self.size_true > 0)]
            found[label] = 0.1 * float(np.median(sizes)) if len(sizes) else 1.0
        return found

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays for a file."""
        arrays = {name: getattr(self, name) for name in ("label", *COLUMNS)}
        arrays |= {"unit": np.array(self.unit), "patient": self.patient_numbers}
        return arrays | (self.novelty.to_arrays() if self.novelty else {})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """What ``to_arrays`` gave; raises ``KeyError`` where an array is missing."""
        novelty = Novelty.from_arrays(arrays) if any(key.startswith("novelty/") for key in arrays) else None
        columns: Any = {name: arrays[name] for name in ("label", *COLUMNS)}
        # Bundles of earlier versions do not say whose images they were.
        return cls(unit=str(arrays["unit"]), novelty=novelty, patient=arrays.get("patient"), **columns)


def enough_patients(coverage: float) -> int:
    """From how many patients on an interval of this coverage holds whatever the errors are: nine for .9."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def _by_patient(values: Floats, patients: Integers) -> _Errors:
    _, numbers, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return _Errors(values, 1 / counts[numbers], len(counts))


def _limit(errors: _Errors, coverage: float) -> float:
    """What the error of a case of a new patient does not exceed with this probability; see the class."""
    values, weights, num_patients = errors
    if num_patients < FEWEST:
        return math.inf
    total = float(weights.sum())
    if num_patients < enough_patients(coverage):
        # A prediction has no need of it, and starts without.
        special: Any = importlib.import_module("scipy.special")
        spread = math.sqrt(float((weights * values**2).sum()) / total * (1 + 1 / num_patients))
        return float(special.stdtrit(num_patients - 1, (1 + coverage) / 2)) * spread
    # A new patient counts as much as each known one, with an error without bound.
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / total * num_patients / (num_patients + 1)
    return float(values[order][min(int(np.searchsorted(reached, coverage - 1e-9)), len(values) - 1)])


def _line(expected: Floats, dice: Floats) -> tuple[float, float]:
    """Start and slope of a line through (expected, dice), drawn towards the slope of 1 where there is little spread."""
    middle, level = float(expected.mean()), float(dice.mean())
    spread = float(np.sum((expected - middle) ** 2))
    prior = PRIOR_CASES * max(float(np.var(expected)), 1e-4)
    slope = (float(np.sum((expected - middle) * (dice - level))) + prior) / (spread + prior)
    return level - slope * middle, slope
