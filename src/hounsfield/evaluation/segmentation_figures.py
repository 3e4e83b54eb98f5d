"""Figures of a segmentation test: of one label over all its cases, weighted by case, many replicates at once.

Every figure takes the columns of one label, (n,) each, and weights (n, R), and gives (R,), as in ``values``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hounsfield.evaluation import values
from hounsfield.evaluation.outcomes import Booleans, Floats

Columns = Mapping[str, Floats]
Weighted = Callable[[Columns, Floats], Floats]
# How intervals are found: of means and ratios by BCa, of overlaps, which lie between 0 and 1, by Student's t on the
# logit scale, of medians by percentiles, of shares of cases by Wilson.
Kind = Literal["mean", "overlap", "median", "share", "ratio"]


@dataclass(frozen=True)
class Figure:
    """One figure of a label.

    Attributes:
        title: for tables.
        kind: how its interval is found.
        weighted: columns and weights (n, R) to (R,).
        defined: columns to (n,), which cases it rests on.
        mean: whether the mean over labels is a figure too; sizes of different labels are not averaged.
        unit: "length" of distances, "size" of volumes and areas.
    """

    title: str
    kind: Kind
    weighted: Weighted
    defined: Callable[[Columns], Booleans]
    mean: bool = True
    unit: Literal["", "length", "size"] = ""


def _averaged(name: str) -> Weighted:
    def weighted(columns: Columns, weights: Floats) -> Floats:
        known = ~np.isnan(columns[name])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(columns[name][known] @ weights[known] / weights[known].sum(axis=0))

    return weighted


def _median(name: str) -> Weighted:
    """The weighted median; a missed structure is infinitely far, so it counts and spoils nothing else."""

    def weighted(columns: Columns, weights: Floats) -> Floats:
        known = ~np.isnan(columns[name])
        if not known.any():
            return np.full(weights.shape[1], np.nan)
        order = np.argsort(columns[name][known], kind="stable")
        found, total = columns[name][known][order], np.cumsum(weights[known][order], axis=0)
        half, last = total[-1] / 2, len(found) - 1
        below = np.minimum((total < half - 1e-9).sum(axis=0), last)
        above = np.minimum((total < half + 1e-9).sum(axis=0), last)
        middle = (found[below] + found[above]) / 2
        return np.asarray(np.where(total[-1] > 0, middle, np.nan))

    return weighted


def _ratio(above: Callable[[Columns], Floats], below: Callable[[Columns], Floats]) -> Weighted:
    def weighted(columns: Columns, weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(above(columns) @ weights / (below(columns) @ weights))

    return weighted


def _of_sizes(figure: values.Figure) -> Weighted:
    return lambda columns, weights: figure(columns["size_true"], columns["size_predicted"], weights)


def _has(name: str) -> Callable[[Columns], Booleans]:
    return lambda columns: ~np.isnan(columns[name])


def _all(columns: Columns) -> Booleans:
    return np.ones(len(columns["dice"]), bool)


def _of(name: str) -> Callable[[Columns], Floats]:
    return lambda columns: columns[name]


def _twice(name: str) -> Callable[[Columns], Floats]:
    return lambda columns: 2 * columns[name]


def _some(name: str) -> Callable[[Columns], Booleans]:
    return lambda columns: columns[name] > 0


def _lesions(columns: Columns) -> Floats:
    return np.asarray(columns["lesions_true"] + columns["lesions_predicted"])


def _any_lesion(columns: Columns) -> Booleans:
    return np.asarray(_lesions(columns) > 0)


# Name in ``metrics.json`` -> figure, in the order of tables; ``missed``, ``false`` and ``size_error`` are made by
# ``label_columns``.
FIGURES: dict[str, Figure] = {
    "dice": Figure("Dice", "overlap", _averaged("dice"), _has("dice")),
    "iou": Figure("IoU", "overlap", _averaged("iou"), _has("iou")),
    "nsd": Figure("Surface Dice", "overlap", _averaged("nsd"), _has("nsd")),
    "hd95": Figure("HD95 (median)", "median", _median("hd95"), _has("hd95"), unit="length"),
    "assd": Figure("Surface distance (median)", "median", _median("assd"), _has("assd"), unit="length"),
    "missed": Figure("Missed entirely, of images with it", "share", _averaged("missed"), _has("missed")),
    "false": Figure("Drawn, of images without it", "share", _averaged("false"), _has("false")),
    "size_error": Figure("Relative size error", "mean", _averaged("size_error"), _has("size_error")),
    "lesion_sensitivity": Figure(
        "Lesion sensitivity", "ratio", _ratio(_of("lesions_found"), _of("lesions_true")), _some("lesions_true")
    ),
    "lesion_precision": Figure(
        "Lesion precision", "ratio", _ratio(_of("lesions_found"), _of("lesions_predicted")), _some("lesions_predicted")
    ),
    "lesion_f1": Figure("Lesion F1", "ratio", _ratio(_twice("lesions_found"), _lesions), _any_lesion),
    "pq": Figure("Panoptic quality", "ratio", _ratio(_twice("lesions_iou"), _lesions), _any_lesion),
    "size_bias": Figure("Size bias", "mean", _of_sizes(values.mean_error), _all, mean=False, unit="size"),
    "loa_low": Figure("Lower limit of agreement", "mean", _of_sizes(values.lower_limit), _all, mean=False, unit="size"),
    "loa_high": Figure(
        "Upper limit of agreement", "mean", _of_sizes(values.upper_limit), _all, mean=False, unit="size"
    ),
}
TITLES = {name: figure.title for name, figure in FIGURES.items()}


def label_columns(columns: Columns) -> dict[str, Floats]:
    """The columns of one label with those that follow from them: ``missed``, ``false`` and ``size_error``."""
    true, predicted, overlap = columns["size_true"], columns["size_predicted"], columns["dice"]
    nothing = np.full(len(true), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(predicted - true) / true
    return {
        **columns,
        "missed": np.where(true > 0, (overlap == 0).astype(np.float64), nothing),
        "false": np.where(true == 0, (predicted > 0).astype(np.float64), nothing),
        "size_error": np.where(true > 0, relative, nothing),
    }
