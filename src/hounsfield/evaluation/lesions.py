"""Which separate structures of a mask were found: lesions of the truth against those of the prediction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hounsfield.evaluation.outcomes import Booleans, Floats, Integers
from hounsfield.masks import components, region_window

# From this IoU on a predicted lesion is the true one, as small lesions are rarely outlined exactly.
FOUND = 0.1
# Above this IoU a lesion has one match at most, whatever the order (Kirillov et al. 2019, "Panoptic segmentation").
SAME = 0.5


class Overlaps(NamedTuple):
    """Pairs of lesions that share voxels, the largest IoU first: numbers from 0 and IoUs, all (pairs,)."""

    true: Integers
    predicted: Integers
    iou: Floats


def match_lesions(true: Booleans, predicted: Booleans) -> dict[str, float]:
    """Counts of one case, to be summed over cases: lesions are components that touch by faces, edges or corners.

    Returns:
        ``lesions_true`` and ``lesions_predicted``; ``lesions_found``, pairs with an IoU of at least .1, each lesion
        in one at most; ``lesions_same``, pairs with an IoU above .5, and ``lesions_iou``, the sum of their IoUs.
    """
    counts, overlaps = _overlaps(true, predicted)
    same = overlaps.iou[overlaps.iou > SAME]
    return {
        "lesions_true": float(counts[0]),
        "lesions_predicted": float(counts[1]),
        "lesions_found": float(_pairs(overlaps)),
        "lesions_same": float(len(same)),
        "lesions_iou": float(same.sum()),
    }


def _overlaps(true: Booleans, predicted: Booleans) -> tuple[tuple[int, int], Overlaps]:
    both = true | predicted
    if both.any():
        window = region_window(both)
        true, predicted = true[window], predicted[window]
    (first, num_true), (second, num_predicted) = (components(mask) for mask in (true, predicted))
    sizes = [
        np.bincount(each.ravel(), minlength=count + 1) for each, count in ((first, num_true), (second, num_predicted))
    ]
    both = true & predicted
    pairs, shared = np.unique(np.stack([first[both], second[both]]), axis=1, return_counts=True)
    union = sizes[0][pairs[0]] + sizes[1][pairs[1]] - shared
    iou = shared / union
    order = np.argsort(-iou, kind="stable")
    return (num_true, num_predicted), Overlaps(pairs[0][order] - 1, pairs[1][order] - 1, iou[order])


def _pairs(overlaps: Overlaps) -> int:
    """How many pairs there are when the best are taken first and no lesion twice."""
    taken: tuple[set[int], set[int]] = (set(), set())
    for first, second, iou in zip(*(each.tolist() for each in overlaps), strict=True):
        if iou >= FOUND and first not in taken[0] and second not in taken[1]:
            taken[0].add(first)
            taken[1].add(second)
    return len(taken[0])
