"""The losses of the two stages on masked samples of fixed size; each is finite whatever the sample holds."""

from __future__ import annotations

from typing import Any

from keras import ops

from hounsfield import boxes as geometry
from hounsfield.shares import total


def masked_mean(values: Any, mask: Any) -> Any:
    """The mean of the values of the whole batch where the mask is true; 0 where it is true nowhere."""
    weights = ops.cast(mask, values.dtype)
    summed, count = ops.unstack(total(ops.stack([ops.sum(values * weights), ops.sum(weights)])))
    return summed / ops.maximum(count, 1)


def objectness_loss(logits: Any, positive: Any, filled: Any) -> Any:
    """Binary cross-entropy over sampled anchors (Ren et al., 2015, equation 1).

    Args:
        logits: (batch, count).
        positive: (batch, count) booleans.
        filled: (batch, count) booleans, false for slots without a sample.
    """
    truth = ops.cast(positive, logits.dtype)
    return masked_mean(ops.softplus(logits) - truth * logits, filled)


def classification_loss(logits: Any, classes: Any, filled: Any) -> Any:
    """Cross-entropy over sampled regions.

    Args:
        logits: (batch, count, classes + 1), the background first.
        classes: (batch, count) integers from 0, the background, to the number of classes.
        filled: (batch, count) booleans.
    """
    truth = ops.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
    return masked_mean(-ops.sum(truth * ops.log_softmax(logits, axis=-1), axis=-1), filled)


def mask_loss(logits: Any, masks: Any, classes: Any, positive: Any) -> Any:
    """Binary cross-entropy of a region's mask, of its own class alone (He et al., 2017, section 3).

    Args:
        logits: (batch, count, rows, columns, classes).
        masks: (batch, count, rows, columns) of 0 and 1.
        classes: (batch, count) integers from 1, 0 for the background.
        positive: (batch, count) booleans: only these count.
    """
    own = ops.one_hot(classes - 1, logits.shape[-1], dtype=logits.dtype)
    values = ops.sum(logits * ops.expand_dims(ops.expand_dims(own, 2), 2), axis=-1)
    losses = ops.mean(ops.softplus(values) - masks * values, axis=(2, 3))
    return masked_mean(losses, positive)


def smooth_l1(offsets: Any, targets: Any, positive: Any, *, beta: float = 1 / 9) -> Any:
    """Smooth L1 of offsets, summed over coordinates (Girshick, "Fast R-CNN", 2015, equation 3).

    Args:
        offsets: (batch, count, 2·rank).
        targets: (batch, count, 2·rank).
        positive: (batch, count) booleans: only these count.
        beta: error above which the loss is linear.
    """
    error = ops.abs(ops.where(ops.expand_dims(positive, -1), offsets - targets, ops.zeros_like(offsets)))
    loss = ops.where(error < beta, 0.5 * error * error / beta, error - 0.5 * beta)
    return masked_mean(ops.sum(loss, axis=-1), positive)


def generalised_iou_loss(boxes: Any, targets: Any, positive: Any) -> Any:
    """1 − GIoU of boxes (Rezatofighi et al., 2019, algorithm 2).

    Args:
        boxes: (batch, count, 2·rank).
        targets: (batch, count, 2·rank).
        positive: (batch, count) booleans: only these count.
    """
    return masked_mean(1 - geometry.generalised_iou(boxes, targets, namespace=ops), positive)
