"""Non-maximum suppression in fixed shapes: the result of greedy suppression, without a loop over boxes."""

from __future__ import annotations

from typing import Any

from keras import ops

from hounsfield import boxes as geometry


def keep_mask(boxes: Any, present: Any, *, threshold: float, classes: Any = None) -> Any:
    """Which boxes greedy non-maximum suppression keeps.

    A box is removed if an earlier box that is kept overlaps it by more than the threshold. The rule is applied to all
    boxes at once, repeatedly until nothing changes; each round settles at least one more box, and there are as many
    rounds as the longest chain of boxes in which each suppresses the next (Zheng et al., "Cluster-NMS", 2020,
    arXiv:2005.03572, prove that the result is the greedy one).

    Args:
        boxes: (batch, n, 2·rank), best first.
        present: (batch, n) booleans, false for padding.
        threshold: IoU above which the later box is removed.
        classes: (batch, n) integers; boxes of different classes do not suppress each other.

    Returns:
        (batch, n) booleans.
    """
    overlaps = geometry.pairwise_iou(boxes, boxes, namespace=ops) > threshold
    if classes is not None:
        same = ops.equal(ops.expand_dims(classes, 2), ops.expand_dims(classes, 1))
        overlaps = ops.logical_and(overlaps, same)
    order = ops.arange(boxes.shape[1])
    earlier = ops.expand_dims(order, 1) < ops.expand_dims(order, 0)
    suppresses = ops.cast(ops.logical_and(overlaps, earlier), "float32")
    present = ops.cast(present, "float32")

    def changed(kept: Any, before: Any) -> Any:
        return ops.any(ops.not_equal(kept, before))

    def settle(kept: Any, _: Any) -> tuple[Any, Any]:
        hit = ops.squeeze(ops.matmul(ops.expand_dims(kept, 1), suppresses), 1)
        return present * ops.cast(ops.equal(hit, 0), "float32"), kept

    kept, _ = ops.while_loop(changed, settle, (present, ops.zeros_like(present) - 1))
    return kept > 0


def best_kept(boxes: Any, scores: Any, *, threshold: float, count: int, classes: Any = None) -> tuple[Any, Any]:
    """The indices of the boxes that suppression keeps, best first, padded to ``count``.

    Args:
        boxes: (batch, n, 2·rank), best first.
        scores: (batch, n), descending; below 0 for padding.
        threshold: IoU above which the later box is removed.
        count: how many to return; at most n.
        classes: as for :func:`keep_mask`.

    Returns:
        Indices (batch, count), and (batch, count) booleans that are false for padding.
    """
    present = scores >= 0
    kept = keep_mask(boxes, present, threshold=threshold, classes=classes)
    values, indices = ops.top_k(ops.where(kept, scores, -ops.ones_like(scores)), count)
    return indices, values >= 0
