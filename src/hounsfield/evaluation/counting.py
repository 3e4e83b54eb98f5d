"""How well the number of findings in an image tells the number of its objects, over a test and for a new image.

Bias and limits of agreement are those of Bland and Altman (Lancet 1986).
"""

from __future__ import annotations

import numpy as np

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.conformal import finite_sample_quantile
from hounsfield.evaluation.outcomes import Floats, Integers

COUNT_FIGURES = ("count_bias", "count_mae", "count_low", "count_high")
# 95 % of normally distributed differences lie within so many standard deviations of their mean.
LIMIT = 1.96
ROUNDING = 1e-9
# How often an interval of a count holds the true count where nothing else is said.
COVERAGE = 0.9


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


def count_intervals(
    true_counts: Integers, found_counts: Integers, found: Integers, *, coverage: float = COVERAGE
) -> tuple[Floats, Floats]:
    """Between which counts the true number of objects of new images lies, by split-conformal prediction.

    The misfit of a validation image is |true − found| / √(found + 1): counts spread like their square root. A new
    image's interval is what has a misfit of at most their finite-sample quantile, so it holds the true count with the
    promised probability or more, over images that are exchangeable with those of validation (Lei et al., "Distribution-
    free predictive inference for regression", 2018, section 5.2). Nothing is promised for one image, nor for images of
    another kind.

    Args:
        true_counts: (n,) objects of the validation images.
        found_counts: (n,) findings in them, at the same threshold as in new images.
        found: (m,) findings in new images.
        coverage: strictly between 0 and 1.

    Returns:
        The least and the largest whole number, (m,) each; the largest is infinite where too few validation images are
        there to promise anything (fewer than 9 for .9).

    Raises:
        EvaluationError: the coverage is out of range.
    """
    if not 0 < coverage < 1:
        raise EvaluationError(f"The coverage is {coverage:g}; expected a share strictly between 0 and 1, such as 0.9.")
    differences = np.abs(np.asarray(true_counts, np.float64) - found_counts)
    width = finite_sample_quantile(differences / np.sqrt(np.asarray(found_counts) + 1.0), coverage)
    centre = np.asarray(found, np.float64)
    reach = width * np.sqrt(centre + 1)
    # A count at the very end is inside, also after rounding.
    return np.maximum(np.ceil(centre - reach - ROUNDING), 0), np.floor(centre + reach + ROUNDING)
