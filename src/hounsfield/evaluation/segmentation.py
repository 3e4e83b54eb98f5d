"""How well a mask agrees with the true one: pure functions of arrays, in mm.

What a figure is where a mask is empty is a rule of its own in ``METRICS``: where both are empty there is nothing to
measure, and the case has no value. Where one is empty, overlap is 0, and distances are infinite: a structure that was
missed is worse than any that was outlined badly, and is never left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.lesions import match_lesions
from hounsfield.evaluation.outcomes import Booleans
from hounsfield.evaluation.surfaces import surface_distances
from hounsfield.masks import judged_regions

# Of surface Dice, in mm; of the size of a voxel of most CT and MR images.
TOLERANCE = 1.0


@dataclass(frozen=True)
class Metric:
    """One figure of a case and label.

    Attributes:
        title: for tables.
        unit: "" for a share.
        best: what a perfect mask has.
        one_empty: its value where the true or the predicted mask is empty and the other is not; ``nan`` for none.
        text: what it is, with its source.
    """

    title: str
    unit: str
    best: float
    one_empty: float
    text: str


# Figures of the agreement of two masks; none has a value where both are empty.
METRICS: dict[str, Metric] = {
    "dice": Metric("Dice", "", 1, 0, "2|A∩B| / (|A| + |B|) (Dice 1945)"),
    "iou": Metric("IoU", "", 1, 0, "|A∩B| / |A∪B| (Jaccard 1912)"),
    "nsd": Metric("Surface Dice", "", 1, 0, "share of both surfaces within the tolerance of the other (Nikolov 2021)"),
    "hd95": Metric("HD95", "mm", 0, math.inf, "the larger of the two distances that hold 95 % of a surface"),
    "assd": Metric("Average surface distance", "mm", 0, math.inf, "mean distance of both surfaces from the other"),
}


def compare_masks(
    true: Booleans, predicted: Booleans, spacing: Sequence[float], *, tolerance: float = TOLERANCE
) -> dict[str, float]:
    """Every figure of ``METRICS`` for two masks of one structure.

    Args:
        true: mask of rank 2 or 3.
        predicted: mask of the same shape.
        spacing: mm along each axis; ones for pixels.
        tolerance: mm within which surfaces agree, for ``nsd``.

    Raises:
        EvaluationError: shapes or spacing do not fit each other, or a length is not positive and finite.
    """
    _check(true, predicted, spacing, tolerance)
    sizes, shared = (int(true.sum()), int(predicted.sum())), int((true & predicted).sum())
    if not any(sizes):
        return dict.fromkeys(METRICS, math.nan)
    if not all(sizes):
        return {name: metric.one_empty for name, metric in METRICS.items()}
    both = surface_distances(true, predicted, spacing)
    area = sum(float(each.areas.sum()) for each in both)
    return {
        "dice": 2 * shared / sum(sizes),
        "iou": shared / (sum(sizes) - shared),
        "nsd": min(1.0, sum(each.area_within(tolerance) for each in both) / area),
        "hd95": max(each.quantile(0.95) for each in both),
        "assd": sum(float(each.distances @ each.areas) for each in both) / area,
    }


def compare_label_maps(
    true: npt.NDArray[np.uint8],
    predicted: npt.NDArray[np.uint8],
    spacing: Sequence[float],
    *,
    labels: Sequence[str],
    tolerance: float = TOLERANCE,
) -> list[dict[str, float]]:
    """The figures of one case for each label: those of ``METRICS``, sizes, and counts of lesions.

    Args:
        true: (spatial…, 1) label map with 0 for background and i + 1 for label i, or (spatial…, labels) of zeros and
            ones where labels overlap; 255 where the truth is not known: there the prediction does not count.
        predicted: likewise, of the same shape.
        spacing: mm along each spatial axis.
        labels: in class order.
        tolerance: of surface Dice, in mm.

    Returns:
        For each label also ``true`` and ``predicted``, the sizes in voxels, and the counts of ``match_lesions``.

    Raises:
        EvaluationError: the arrays do not fit each other or the labels.
    """
    if true.shape != predicted.shape or true.shape[-1] not in {1, len(labels)}:
        raise EvaluationError(
            f"The true mask has the shape {true.shape} and the predicted one {predicted.shape}: expected the same, "
            f"with one channel, or one for each of the {len(labels)} labels. Bring both to one grid."
        )
    overlapping, found = true.shape[-1] == len(labels) > 1, []
    for index in range(len(labels)):
        first, second = judged_regions(true, predicted, index, overlapping=overlapping)
        figures = compare_masks(first, second, spacing, tolerance=tolerance)
        sizes = {"true": float(first.sum()), "predicted": float(second.sum())}
        found.append(figures | sizes | match_lesions(first, second))
    return found


def _check(true: Booleans, predicted: Booleans, spacing: Sequence[float], tolerance: float) -> None:
    if true.shape != predicted.shape or true.ndim not in {2, 3}:
        raise EvaluationError(
            f"The masks have the shapes {true.shape} and {predicted.shape}: expected two of the same shape with 2 or 3 "
            "axes. Resample one to the grid of the other."
        )
    if len(spacing) != true.ndim or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise EvaluationError(
            f"The spacing is {tuple(spacing)}: expected {true.ndim} positive lengths in mm, one for each axis. Give "
            "ones where it is not known; distances are in voxels then."
        )
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise EvaluationError(f"The tolerance is {tolerance} mm: expected 0 or more. Give the accepted distance.")
