"""Anchors that suit the boxes of a cohort: the fewest that cover them, by k-means on the logarithms of their sides.

Redmon & Farhadi, "YOLO9000", 2017 (arXiv:1612.08242), section 2, fit anchors by k-means; here each level of the pyramid
has its own, and their number is the smallest that covers the boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# A level suits objects of 4 to 8 of its strides.
SMALLEST_STRIDES = 4
# An octave of sizes with a smaller share of the boxes gets no level of its own.
SMALLEST_SHARE = 0.01
ITERATIONS = 50


@dataclass(frozen=True)
class FittedAnchors:
    """Anchor shapes by level, and how well they fit.

    Attributes:
        shapes: (levels, anchors, rank) sides in pixels; levels that no box needs have none, all others the same number.
        coverage: share of the boxes that have an anchor of at least ``least_iou`` at their own centre.
        mean_iou: of boxes with the best anchor at their own centre.
    """

    shapes: tuple[tuple[tuple[float, ...], ...], ...]
    coverage: float
    mean_iou: float

    @property
    def num_shapes(self) -> int:
        """Anchors per position."""
        return max(map(len, self.shapes))


def fit_anchors(
    sides: npt.ArrayLike,
    strides: Sequence[int],
    *,
    least_iou: float = 0.6,
    coverage: float = 0.95,
    max_shapes: int = 4,
) -> FittedAnchors:
    """The fewest anchors that cover the boxes of a training set.

    Args:
        sides: (boxes, rank) lengths of the boxes, in pixels of the network's input; at least one box.
        strides: of the pyramid's levels, finest first, each twice the one before.
        least_iou: intersection over union from which an anchor covers a box that shares its centre.
        coverage: share of the boxes to be covered.
        max_shapes: largest number of anchors per position.
    """
    sides = np.maximum(np.asarray(sides, np.float64), 1.0)
    level = _levels(sides, strides)
    for count in range(1, max_shapes + 1):
        clusters = {number: _k_means(np.log(sides[level == number]), count) for number in np.unique(level).tolist()}
        overlap = _shape_iou(sides, np.exp(np.concatenate(list(clusters.values())))).max(1)
        if (overlap >= least_iou).mean() >= coverage:
            break
    shapes = tuple(
        tuple(
            tuple(round(float(side), 1) for side in shape) for shape in np.exp(clusters.get(number, np.empty((0, 1))))
        )
        for number in range(len(strides))
    )
    return FittedAnchors(shapes, float((overlap >= least_iou).mean()), float(overlap.mean()))


def _levels(sides: npt.NDArray[np.float64], strides: Sequence[int]) -> npt.NDArray[np.int64]:
    """The level of each box; rare sizes go to the nearest level with enough boxes."""
    size = np.exp(np.log(sides).mean(1))
    level = np.clip(np.floor(np.log2(size / (SMALLEST_STRIDES * strides[0]))), 0, len(strides) - 1).astype(np.int64)
    counts = np.bincount(level, minlength=len(strides))
    needed = np.flatnonzero(counts >= SMALLEST_SHARE * len(level))
    nearest = np.abs(np.arange(len(strides))[:, np.newaxis] - needed).argmin(1)
    chosen: npt.NDArray[np.int64] = needed[nearest[level]]
    return chosen


def _k_means(points: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Cluster centres, ordered along the first principal component, whose quantiles are the start."""
    centred = points - points.mean(0)
    component = np.linalg.svd(centred, full_matrices=False)[2][0]
    component *= np.sign(component.sum()) or 1.0
    along = centred @ component
    places = np.quantile(along, (np.arange(count) + 0.5) / count)
    centres: npt.NDArray[np.float64] = points.mean(0) + places[:, np.newaxis] * component
    for _ in range(ITERATIONS):
        nearest = ((points[:, np.newaxis] - centres) ** 2).sum(-1).argmin(1)
        moved = np.stack(
            [
                points[nearest == number].mean(0) if (nearest == number).any() else centres[number]
                for number in range(count)
            ]
        )
        if np.allclose(moved, centres):
            break
        centres = moved
    return centres


def _shape_iou(sides: npt.NDArray[np.float64], shapes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(boxes, shapes) intersection over union of boxes that share their centre."""
    shared = np.minimum(sides[:, np.newaxis], shapes).prod(-1)
    overlap: npt.NDArray[np.float64] = shared / (sides.prod(-1)[:, np.newaxis] + shapes.prod(-1) - shared)
    return overlap
