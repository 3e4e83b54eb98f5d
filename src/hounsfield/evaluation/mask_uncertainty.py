"""What a segmenter's bundle keeps of images that it was not trained on: how good masks are, how wrong volumes are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.conformal import finite_sample_quantile
from hounsfield.evaluation.novelty import Novelty
from hounsfield.evaluation.outcomes import Booleans, Floats, Integers

if TYPE_CHECKING:
    import pandas as pd

# Of a label with fewer cases than this, those of all labels tell how far predictions can be trusted.
ENOUGH = 20
# Added to what is missing from a Dice of 1, so that a perfect prediction does not promise a perfect mask.
SLACK = 0.02
# The error of a volume grows with the surface: with the power 2/3 of the volume.
POWER = 2 / 3
# A line needs a spread of expected values; it is drawn towards the diagonal by so many cases of it.
PRIOR_CASES = 5.0
# Cases that a line needs.
FEWEST = 3
# Of the cases, what is kept.
COLUMNS = ("expected", "dice", "size_true", "size_predicted")


class Predicted(NamedTuple):
    """A value with the ends of its interval."""

    value: float
    low: float
    high: float


class _Fit(NamedTuple):
    """A line from the expected to the true Dice, and its misfit on each case when fitted without it."""

    start: float
    slope: float
    misfit: Floats


@dataclass(frozen=True, eq=False)
class MaskUncertainty:
    """How the masks of images that the network was not trained on agreed with the true ones.

    Attributes:
        label: (n,) the label of each case, by its index; a case is one label of one image.
        expected: (n,) the Dice that the network expects of itself, from its probabilities; ``nan`` of an empty mask.
        dice: (n,) the true one; ``nan`` where both masks are empty.
        size_true: (n,) volumes.
        size_predicted: (n,) likewise.
        unit: of volumes: "ml", "mm²", "voxels" or "pixels".
        novelty: tells images that are out of distribution; ``None`` where it was not fitted.
    """

    label: Integers
    expected: Floats
    dice: Floats
    size_true: Floats
    size_predicted: Floats
    unit: str
    novelty: Novelty | None = None

    @classmethod
    def of(cls, cases: pd.DataFrame, num_labels: int, unit: str, novelty: Novelty | None = None) -> Self:
        """Keep what is needed of cases: image by image one row per label, in class order."""
        columns: Any = {name: cases[name].to_numpy(np.float64) for name in COLUMNS}
        return cls(label=np.arange(len(cases)) % num_labels, unit=unit, novelty=novelty, **columns)

    def predicted_dice(self, label: int, expected: float, coverage: float) -> Predicted | None:
        """The Dice of a mask whose truth is not known, and the interval that holds it with this probability.

        The interval is split conformal, from the errors that the line makes on each case when fitted without it,
        relative to what is missing from 1: poor masks are predicted less exactly.

        Args:
            label: by index.
            expected: what the network expects.
            coverage: strictly between 0 and 1.

        Returns:
            ``None`` where the mask is empty, or fewer than three cases are known.
        """
        if not math.isfinite(expected):
            return None
        if label not in self._fits:
            self._fits[label] = self._fit(label)
        fit = self._fits[label]
        if fit is None:
            return None
        value = float(np.clip(fit.start + fit.slope * expected, 0, 1))
        half = finite_sample_quantile(fit.misfit, coverage) * (1 + SLACK - value)
        return Predicted(value, max(0.0, value - half), min(1.0, value + half))

    def _fit(self, label: int) -> _Fit | None:
        rows = self._rows(label, ~np.isnan(self.expected) & ~np.isnan(self.dice))
        if rows.sum() < FEWEST:
            return None
        known, dice = self.expected[rows], self.dice[rows]
        without = np.array([_line(np.delete(known, row), np.delete(dice, row)) for row in range(len(known))])
        fitted = np.clip(without[:, 0] + without[:, 1] * known, 0, 1)
        return _Fit(*_line(known, dice), np.abs(dice - fitted) / (1 + SLACK - fitted))

    def volume(self, label: int, predicted: float, coverage: float) -> Predicted:
        """A volume with the interval that holds the true one with this probability (split conformal).

        Args:
            label: by index.
            predicted: the volume of the mask.
            coverage: strictly between 0 and 1.
        """
        limit = finite_sample_quantile(np.abs(self._errors(label)), coverage) * self._scale(label, predicted)
        return Predicted(predicted, max(0.0, predicted - limit), predicted + limit)

    def change(self, label: int, before: float, after: float, coverage: float) -> Predicted:
        """How much a volume has changed between two images, with its interval.

        The errors of both volumes are taken to be independent, each like those of one case: the interval is from the
        differences of all pairs of cases. Where a network errs alike on both images, it is too wide.

        Args:
            label: by index.
            before: the volume of the first mask.
            after: that of the second.
            coverage: strictly between 0 and 1.
        """
        errors = self._errors(label)
        first, second = (errors * self._scale(label, size) for size in (before, after))
        pairs = np.abs(second[:, np.newaxis] - first)[~np.eye(len(errors), dtype=bool)]
        # The cases, not the pairs, are independent: of fewer than the coverage needs nothing is promised.
        share = math.ceil((len(errors) + 1) * coverage - 1e-9) / max(len(errors), 1)
        limit = float(np.quantile(pairs, share, method="inverted_cdf")) if share <= 1 and len(pairs) else math.inf
        return Predicted(after - before, after - before - limit, after - before + limit)

    def _errors(self, label: int) -> Floats:
        """Of a label, true minus predicted volume over the scale of the predicted one."""
        rows = self._rows(label, (self.size_true > 0) | (self.size_predicted > 0))
        scales = [
            self._scale(int(each), size) for each, size in zip(self.label[rows], self.size_predicted[rows], strict=True)
        ]
        return np.asarray((self.size_true - self.size_predicted)[rows] / np.array(scales), np.float64)

    def _scale(self, label: int, size: float) -> float:
        return float(max(size, self._least[label]) ** POWER)

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

    def _rows(self, label: int, usable: Booleans) -> Booleans:
        """The usable cases of a label, or of all labels where it has too few."""
        own = usable & (self.label == label)
        return own if own.sum() >= min(ENOUGH, usable.sum()) else usable

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays for a file."""
        arrays = {name: getattr(self, name) for name in ("label", *COLUMNS)} | {"unit": np.array(self.unit)}
        return arrays | (self.novelty.to_arrays() if self.novelty else {})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """What ``to_arrays`` gave; raises ``KeyError`` where an array is missing."""
        novelty = Novelty.from_arrays(arrays) if any(key.startswith("novelty/") for key in arrays) else None
        columns: Any = {name: arrays[name] for name in ("label", *COLUMNS)}
        return cls(unit=str(arrays["unit"]), novelty=novelty, **columns)


def _line(expected: Floats, dice: Floats) -> tuple[float, float]:
    """Start and slope of a line through (expected, dice), drawn towards the slope of 1 where there is little spread."""
    middle, level = float(expected.mean()), float(dice.mean())
    spread = float(np.sum((expected - middle) ** 2))
    prior = PRIOR_CASES * max(float(np.var(expected)), 1e-4)
    slope = (float(np.sum((expected - middle) * (dice - level))) + prior) / (spread + prior)
    return level - slope * middle, slope
