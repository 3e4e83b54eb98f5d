"""COCO's average precision for boxes of any rank, for many weighted replicates at a time."""

from __future__ import annotations

import numpy as np

from hounsfield.evaluation.detection_matching import ClassMatches
from hounsfield.evaluation.outcomes import Booleans, Floats

# COCO averages the precision at these recalls.
RECALLS = np.linspace(0.0, 1.0, int(np.round(1.0 / 0.01)) + 1)
SMALLEST = float(np.spacing(1))
# Values held at once for a chunk of replicates.
CHUNK_ELEMENTS = 2_000_000


def average_precisions(matches: ClassMatches, weights: Floats) -> Floats:
    """The average precision of one class at each size and threshold in each replicate.

    Precision is interpolated to the best at this or a higher recall and averaged over 101 recalls
    (``COCOeval.accumulate``). ``nan`` where no object of the size has any weight.

    Args:
        matches: of the class.
        weights: (n, R), how often each image counts.

    Returns:
        (S, T, R).
    """
    num_sizes, num_thresholds, num_found = matches.hits.shape
    num_replicates = weights.shape[1]
    result = np.empty((num_sizes, num_thresholds, num_replicates))
    chunk = max(1, CHUNK_ELEMENTS // max(num_found, 1))
    for start in range(0, num_replicates, chunk):
        part = slice(start, start + chunk)
        truths = matches.num_truths.astype(np.float64) @ weights[:, part]
        counted = weights[matches.images, part]
        for size in range(num_sizes):
            for threshold in range(num_thresholds):
                hits, ignored = matches.hits[size, threshold], matches.ignored[size, threshold]
                result[size, threshold, part] = _interpolated(hits, ignored, counted, truths[size])
    return result


def _interpolated(hits: Booleans, ignored: Booleans, counted: Floats, truths: Floats) -> Floats:
    """(R,) from the (D, R) weights of the findings and the (R,) weight of the objects.

    Only findings that hit can raise the precision at a recall, so those between are summed and not looked at singly.
    """
    positions = np.flatnonzero(hits & ~ignored)
    undefined = truths <= 0
    if not len(positions):
        return np.where(undefined, np.nan, 0.0)
    kept = np.flatnonzero(~ignored[: positions[-1] + 1])
    starts = np.append(0, np.searchsorted(kept, positions)[:-1] + 1)
    called = np.cumsum(np.add.reduceat(counted[kept], starts, axis=0), axis=0)
    found = np.cumsum(counted[positions], axis=0)
    precision = np.maximum.accumulate((found / (called + SMALLEST))[::-1], axis=0)[::-1]
    recall = found / np.where(undefined, 1.0, truths)
    reached = np.searchsorted(RECALLS, recall.ravel(), side="right").reshape(recall.shape)
    steps = np.diff(reached, axis=0, prepend=0)
    return np.where(undefined, np.nan, np.einsum("pr,pr->r", precision, steps) / len(RECALLS))
