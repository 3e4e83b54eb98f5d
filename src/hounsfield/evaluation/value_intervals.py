"""Intervals of values and runs of grades that hold the true one with a promised probability (split conformal)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.conformal import finite_sample_quantile
from hounsfield.evaluation.outcomes import Floats, Integers


@dataclass(frozen=True)
class ConformalRange:
    """How far from a prediction the truth may lie.

    The promise, coverage over new cases that are exchangeable with the calibration cases, holds whatever the network
    and the distribution (Vovk 2005; Lei et al. 2018, "Distribution-free predictive inference for regression").

    Attributes:
        coverage: what was asked for, such as .9.
        limit: the largest misfit within the range: of values |truth − prediction|, of grades that of ``misfits``.
            Infinite where too few cases were there to promise anything.
    """

    coverage: float
    limit: float

    @classmethod
    def fit(cls, misfit: Floats, coverage: float) -> Self:
        """Find the limit on cases that the network was not trained on.

        Args:
            misfit: (n,) of the truths.
            coverage: how often the range shall hold the true value, strictly between 0 and 1.

        Raises:
            EvaluationError: the coverage is out of range.
        """
        if not 0 < coverage < 1:
            raise EvaluationError(
                f"The coverage is {coverage:g}; expected a share strictly between 0 and 1, such as 0.9."
            )
        return cls(coverage, finite_sample_quantile(misfit, coverage))

    def values(self, predicted: Floats) -> tuple[Floats, Floats]:
        """(n,) the lower and the upper end around each value."""
        return predicted - self.limit, predicted + self.limit

    def grades(self, probabilities: Floats) -> tuple[Integers, Integers]:
        """(n,) the places of the lowest and the highest possible grade, from (n, K) probabilities."""
        possible = misfits(probabilities) <= self.limit
        last = possible.shape[1] - 1 - possible[:, ::-1].argmax(axis=1)
        return np.asarray(possible.argmax(axis=1)), np.asarray(last)


def misfits(probabilities: Floats) -> Floats:
    """How unexpected each grade is, (n, K): the probability of the run of grades that is chosen before it.

    From the most probable grade on, the run is extended to the more probable one of its two neighbours (Lu,
    Angelopoulos, Pomerantz 2022, "Improving trustworthiness of AI disease severity rating in medical imaging with
    ordinal conformal prediction sets"). So the grades below any limit are a run without gaps.
    """
    rows, (count, grades) = np.arange(len(probabilities)), probabilities.shape
    # Beyond the ends there is nothing to extend to.
    padded = np.concatenate([np.full((count, 1), -1.0), probabilities, np.full((count, 1), -1.0)], axis=1)
    low = high = probabilities.argmax(axis=1)
    mass = probabilities[rows, low]
    found = np.zeros_like(probabilities)
    for _ in range(grades - 1):
        down = padded[rows, low] >= padded[rows, high + 2]
        low, high = np.where(down, low - 1, low), np.where(down, high, high + 1)
        added = np.where(down, low, high)
        found[rows, added] = mass
        mass = mass + probabilities[rows, added]
    return found
