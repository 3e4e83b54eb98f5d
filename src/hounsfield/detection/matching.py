"""Which true box each reference box is matched to, and which references are trained on.

Ren et al., "Faster R-CNN", 2015 (arXiv:1506.01497), sections 3.1.2 and 3.1.3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops

from hounsfield import boxes as geometry


class Matches(NamedTuple):
    """For each reference (batch, n): the index of its true box, their IoU, and whether it is positive or negative.

    A reference that is neither is ignored in training.
    """

    truth: Any
    overlap: Any
    positive: Any
    negative: Any


def match(
    references: Any,
    truths: Any,
    present: Any,
    *,
    positive_from: float,
    negative_below: float,
    keep_best: bool = False,
) -> Matches:
    """Match references to the true boxes of their images.

    Args:
        references: (batch or 1, n, 2·rank) anchors or proposals.
        truths: (batch, m, 2·rank) true boxes, padded.
        present: (batch, m) booleans, false for padding.
        positive_from: a reference is positive from this IoU with its best true box.
        negative_below: and negative below this one.
        keep_best: also take the reference with the largest IoU of each true box as positive, so that each has one.
    """
    overlaps = geometry.pairwise_iou(references, truths, namespace=ops)
    known = ops.expand_dims(present, 1)
    overlaps = ops.where(known, overlaps, ops.zeros_like(overlaps))
    if keep_best:
        best = ops.max(overlaps, axis=1, keepdims=True)
        # Raised above all others, so that it is matched to the true box for which it is the best.
        chosen = ops.logical_and(overlaps >= best, best > 0)
        ranked = ops.where(chosen, overlaps + 1, overlaps)
    else:
        ranked = overlaps
    truth = ops.argmax(ranked, axis=-1)
    reached = ops.max(ranked, axis=-1)
    forced = reached > 1 if keep_best else ops.zeros_like(reached, dtype="bool")
    overlap = ops.where(forced, reached - 1, reached)
    positive = ops.logical_or(forced, overlap >= positive_from)
    positive = ops.logical_and(positive, overlap > 0)
    negative = ops.logical_and(overlap < negative_below, ops.logical_not(positive))
    return Matches(truth, overlap, positive, negative)


class Sample(NamedTuple):
    """(batch, count): which references were drawn, which of them are positive, and which slots are filled at all."""

    indices: Any
    positive: Any
    filled: Any


def balanced_sample(positive: Any, negative: Any, draws: Any, *, count: int, max_positive: int) -> Sample:
    """Draw up to ``max_positive`` positives and fill up with negatives.

    Args:
        positive: (batch, n) booleans.
        negative: (batch, n) booleans, nowhere true together with ``positive``.
        draws: (batch, n) uniform random numbers from 0 to 1: the randomness is the caller's.
        count: slots per image; where there are too few examples, slots stay empty. At most n.
        max_positive: of the slots.
    """
    lots = ops.where(positive, draws, -ops.ones_like(draws))
    last = ops.top_k(lots, max_positive)[0][:, -1:]
    chosen = ops.logical_and(positive, lots >= last)
    # Drawn positives come before all negatives, and those before what is ignored.
    priority = ops.where(chosen, draws + 2, ops.where(negative, draws + 0.5, -ops.ones_like(draws)))
    values, indices = ops.top_k(priority, count)
    return Sample(indices, values >= 2, values > 0)
