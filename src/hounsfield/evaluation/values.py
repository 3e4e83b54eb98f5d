"""Figures of predicted values and grades: pure functions of arrays, weighted by case, many replicates at once.

Every function takes weights (n, R) and gives (R,): a column of ones is the figure itself, and a column of counts is a
bootstrap replicate (see ``intervals``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.outcomes import Floats

# Of a normal distribution 95 % lies within so many standard deviations.
LIMIT = 1.959963984540054
Figure = Callable[[Floats, Floats, Floats], Floats]


def _mean(values: Floats, weights: Floats) -> Floats:
    return np.asarray(values @ weights / weights.sum(axis=0))


def _centred(truth: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    """Both moved by the mean of the truth, so that squares of large values do not drown their differences."""
    middle = truth.mean()
    return truth - middle, predicted - middle


def mean_absolute_error(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """The mean of |predicted − truth|."""
    return _mean(np.abs(predicted - truth), weights)


def root_mean_squared_error(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """The root of the mean of (predicted − truth)²."""
    return np.sqrt(_mean((predicted - truth) ** 2, weights))


def median_absolute_error(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """The median of |predicted − truth|; of an even number of cases the mean of both middle ones."""
    errors = np.abs(predicted - truth)
    order = np.argsort(errors, kind="stable")
    total, half = np.cumsum(weights[order], axis=0), weights.sum(axis=0) / 2
    last = len(errors) - 1
    below = np.minimum((total < half - 1e-9).sum(axis=0), last)
    above = np.minimum((total < half + 1e-9).sum(axis=0), last)
    return np.asarray((errors[order][below] + errors[order][above]) / 2)


def determination(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """R²: one minus the squared errors as a share of the squared deviations of the truth from its mean."""
    truth, predicted = _centred(truth, predicted)
    mean = _mean(truth, weights)
    spread = _mean(truth**2, weights) - mean**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, 1 - _mean((predicted - truth) ** 2, weights) / spread, np.nan)


def concordance(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """The concordance correlation coefficient of Lin (1989): 2 cov / (var + var + difference of the means squared)."""
    truth, predicted = _centred(truth, predicted)
    first, second = _mean(truth, weights), _mean(predicted, weights)
    covariance = _mean(truth * predicted, weights) - first * second
    apart = _mean((predicted - truth) ** 2, weights)
    # E(p − t)² = var + var + (difference of the means)² − 2 cov.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(2 * covariance / (apart + 2 * covariance))


def mean_error(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """The bias of Bland and Altman (1986): the mean of predicted − truth."""
    return _mean(predicted - truth, weights)


def _limits(truth: Floats, predicted: Floats, weights: Floats, side: float) -> Floats:
    difference = predicted - truth
    mean, count = _mean(difference, weights), weights.sum(axis=0)
    variance = (_mean(difference**2, weights) - mean**2) * count / np.maximum(count - 1, 1)
    return np.asarray(mean + side * LIMIT * np.sqrt(np.maximum(variance, 0)))


def lower_limit(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """The lower 95 % limit of agreement (Bland, Altman 1986): bias − 1.96 standard deviations (n − 1)."""
    return _limits(truth, predicted, weights, -1.0)


def upper_limit(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """The upper 95 % limit of agreement; see ``lower_limit``."""
    return _limits(truth, predicted, weights, 1.0)


def quadratic_kappa(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Cohen's (1968) kappa with quadratic weights, from grades as their places from 0 on.

    One minus the mean squared distance of truth and prediction, as a share of the distance that they would have were
    they independent: var + var + (difference of the means)².
    """
    first, second = _mean(truth, weights), _mean(predicted, weights)
    chance = _mean(truth**2, weights) + _mean(predicted**2, weights) - 2 * first * second
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance > 1e-12, 1 - _mean((predicted - truth) ** 2, weights) / chance, np.nan)


def accuracy(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """The share of cases with the true grade."""
    return _mean((predicted == truth).astype(np.float64), weights)


def within_one(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """The share of cases at most one grade off."""
    return _mean((np.abs(predicted - truth) <= 1).astype(np.float64), weights)


# By task: name in ``metrics.json`` -> figure.
FIGURES: dict[str, dict[str, Figure]] = {
    "regression": {
        "mae": mean_absolute_error,
        "rmse": root_mean_squared_error,
        "median_error": median_absolute_error,
        "r2": determination,
        "concordance": concordance,
        "bias": mean_error,
        "loa_low": lower_limit,
        "loa_high": upper_limit,
    },
    "ordinal": {
        "kappa_quadratic": quadratic_kappa,
        "accuracy": accuracy,
        "within_one": within_one,
        "mae": mean_absolute_error,
        "bias": mean_error,
    },
}
TITLES: dict[str, str] = {
    "kappa_quadratic": "Quadratic kappa",
    "accuracy": "Accuracy",
    "within_one": "Accuracy within one grade",
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
    "median_error": "Median absolute error",
    "r2": "R²",
    "concordance": "Concordance (Lin)",
    "bias": "Bias (mean error)",
    "loa_low": "Lower 95 % limit of agreement",
    "loa_high": "Upper 95 % limit of agreement",
}


def figures(task: str, truth: Floats, predicted: Floats, weights: npt.NDArray[np.float64] | None = None) -> Floats:
    """All figures of a task, in the order of ``FIGURES``: (figures, R).

    Args:
        task: "regression", or "ordinal" with grades as their places.
        truth: (n,)
        predicted: (n,)
        weights: (n, R) of the cases; one column of ones where not given.
    """
    weights = np.ones((len(truth), 1)) if weights is None else weights
    return np.stack([figure(truth, predicted, weights) for figure in FIGURES[task].values()])
