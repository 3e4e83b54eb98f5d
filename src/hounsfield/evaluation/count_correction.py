"""Shares of a kind corrected for what a detector takes for another kind, misses, or makes up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import nnls

from hounsfield.evaluation.field_rates import Figure

Floats = npt.NDArray[np.float64]
# So many objects of each kind, found as they are, are added to those of validation: a kind that validation hardly has
# is taken as found rather than as anything.
PRIOR = 10.0
REPLICATES = 300


class CountCorrection:
    """What a detector finds of each kind for an object of each kind, from the counts of validation images.

    The findings of an image are its objects times a matrix without negative entries, by least squares; the objects of
    new images are what, times the matrix, comes nearest to their findings. As with the correction of a prevalence for
    sensitivity and specificity (Rogan and Gladen 1978), this holds where the detector errs as it did in validation, and
    whatever the mixture is.

    Args:
        true_counts: (n, K) objects of validation images.
        found_counts: (n, K) findings in them.
    """

    def __init__(self, true_counts: npt.NDArray[np.integer], found_counts: npt.NDArray[np.integer]) -> None:
        self.true = np.asarray(true_counts, np.float64)
        self.found = np.asarray(found_counts, np.float64)
        self.matrix = _fitted(self.true, self.found)

    def share(
        self, weights: pd.DataFrame, kind: int, units: pd.Series, *, confidence: float, seed: int = 0
    ) -> Figure | None:
        """The corrected share of a kind, with an interval for the scatter of both the units and the validation images.

        Args:
            weights: (fields, K) of one specimen, as found.
            kind: whose share is wanted.
            units: the independent unit of each field: itself, or its grid.
            confidence: nominal coverage of the percentile bootstrap interval.
            seed: of the bootstrap.

        Returns:
            ``None`` where nothing was found, or there are fewer than two units.
        """
        sums = weights.groupby(units).sum().to_numpy(np.float64)
        if len(sums) < 2 or not sums.any():
            return None
        generator = np.random.default_rng(seed)
        drawn = []
        for _ in range(REPLICATES):
            images = generator.integers(len(self.true), size=len(self.true))
            fields = generator.integers(len(sums), size=len(sums))
            drawn.append(_share(sums[fields], _fitted(self.true[images], self.found[images]), kind))
        value = _share(sums, self.matrix, kind)
        # Resampled units scatter by (m − 1)/m too little.
        spread = value + (np.array(drawn) - value) * np.sqrt(len(sums) / (len(sums) - 1))
        low, high = np.nanquantile(spread, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Figure(value, float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1)))


def _fitted(true: Floats, found: Floats) -> Floats:
    count = true.shape[1]
    design = np.vstack([true, np.sqrt(PRIOR) * np.eye(count)])
    columns = np.vstack([found, np.sqrt(PRIOR) * np.eye(count)])
    return np.stack([nnls(design, columns[:, kind])[0] for kind in range(count)], axis=1)


def _share(sums: Floats, matrix: Floats, kind: int) -> float:
    objects = nnls(matrix.T, sums.sum(axis=0))[0]
    return float(objects[kind] / objects.sum()) if objects.sum() > 0 else np.nan
