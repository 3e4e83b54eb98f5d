"""How well the number of findings in an image tells the number of its objects (Bland and Altman, Lancet 1986)."""

from __future__ import annotations

import numpy as np

from hounsfield.evaluation.answers import Floats, Integers

COUNT_FIGURES = ("count_bias", "count_mae", "count_low", "count_high")
# 95 % of normally distributed differences lie within so many standard deviations of their mean.
LIMIT = 1.96


def counting_errors(true_counts: Integers, found_counts: Integers, weights: Floats) -> Floats:
    """Bias, mean absolute error and limits of agreement of counts, in each replicate.

    The limits are bias ± 1.96 standard deviations of the differences, found less true.

    Args:
        true_counts: (n,) objects an image.
        found_counts: (n,) findings an image.
        weights: (n, R), how often each image counts.

    Returns:
        (4, R): rows as ``COUNT_FIGURES``; limits are ``nan`` where fewer than two images count.
    """
    differences = (np.asarray(found_counts) - np.asarray(true_counts)).astype(np.float64)
    total = weights.sum(axis=0)
    total = np.where(total > 0, total, np.nan)
    bias = differences @ weights / total
    error = np.abs(differences) @ weights / total
    squares = np.einsum("nr,nr->r", weights, (differences[:, None] - bias) ** 2)
    deviation = np.sqrt(squares / np.where(total > 1, total - 1, np.nan))
    return np.stack([bias, error, bias - LIMIT * deviation, bias + LIMIT * deviation])
