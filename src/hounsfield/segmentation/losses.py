"""Soft Dice with cross-entropy, over what is known of each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from hounsfield.masks import IGNORE
from hounsfield.shares import total

# Pixels, so that a class that is predicted nowhere divides by something.
SMOOTHING = 1.0


class Truth(NamedTuple):
    """What is known of each pixel.

    Attributes:
        classes: (batch, spatial …, outputs) float32: the share of each class in the pixel.
        known: (batch, spatial …, 1 or outputs) float32: the share of the pixel of which it is known.
    """

    classes: Any
    known: Any


def truth_of(masks: Any, num_outputs: int, *, overlapping: bool) -> Truth:
    """The truth of masks (batch, spatial …, 1), or (batch, spatial …, labels) of 0 and 1; 255 where it is not known."""
    numbers = ops.cast(masks, "int32")
    known = ops.cast(numbers != IGNORE, "float32")
    if overlapping:
        return Truth(ops.cast(numbers == 1, "float32"), known)
    # What is not known is no class: all zeros.
    return Truth(ops.cast(numbers == ops.arange(num_outputs, dtype="int32"), "float32"), known)


def coarser(truth: Truth, reduction: Sequence[int]) -> Truth:
    """The truth of pixels each of which stands for several along each axis."""
    size = tuple(reduction)
    return Truth(ops.average_pool(truth.classes, size, size), ops.average_pool(truth.known, size, size))


def segmentation_loss(logits: Any, truth: Truth, *, overlapping: bool) -> Any:
    """Cross-entropy plus 1 − soft Dice: a number.

    The Dice is 2 Σpg / (Σp + Σg), with sums over all pixels of the batch (Milletari, Navab, Ahmadi, "V-Net", 2016,
    arXiv:1606.04797, with plain sums in the denominator as in Drozdzal et al., 2016), as a mean over the classes that
    the batch has, without background; one that it has not is left to the cross-entropy, since its Dice would be 0
    whatever is predicted.

    Args:
        logits: (batch, spatial …, outputs): of a softmax with the background first, or of a sigmoid each.
        truth: of the same pixels.
        overlapping: whether each output is a label of its own.
    """
    logits = ops.cast(logits, "float32")
    classes, known = truth
    if overlapping:
        probabilities = ops.sigmoid(logits)
        entropy = (ops.softplus(logits) - classes * logits) * known
    else:
        probabilities = ops.softmax(logits)
        # Pixels in part of no known class have so much less weight.
        entropy = -classes * ops.log_softmax(logits)
    axes = tuple(range(len(logits.shape) - 1))
    probabilities = probabilities * known
    sums = [ops.sum(each, axes) for each in (probabilities * classes, probabilities, classes)]
    sums += [ops.reshape(ops.sum(each), (1,)) for each in (entropy, known)]
    num_outputs = logits.shape[-1]
    # One message, where several processes share a batch.
    joined = total(ops.concatenate(sums))
    shared, predicted, true = (joined[first * num_outputs : (first + 1) * num_outputs] for first in range(3))
    entropy = joined[-2] / ops.maximum(joined[-1], 1.0)
    if not overlapping:
        shared, predicted, true = shared[1:], predicted[1:], true[1:]
    present = ops.cast(true > 0, "float32")
    dice = (2 * shared + SMOOTHING) / (predicted + true + SMOOTHING)
    missed = ops.sum(present * (1 - dice)) / ops.maximum(ops.sum(present), 1.0)
    return entropy + missed


def deep_supervision_loss(
    outputs: Sequence[Any], reductions: Sequence[Sequence[int]], masks: Any, *, overlapping: bool
) -> Any:
    """The loss of every supervised output, each with half the weight of the finer one before.

    Args:
        outputs: logits, the finest first.
        reductions: of each output; see ``Supervised``.
        masks: (batch, spatial …, 1 or labels) integers at the finest resolution.
        overlapping: whether each output is a label of its own.
    """
    fine = truth_of(masks, outputs[0].shape[-1], overlapping=overlapping)
    weights = [0.5**number for number in range(len(outputs))]
    total = 0.0
    for logits, reduction, weight in zip(outputs, reductions, weights, strict=True):
        truth = fine if max(reduction) == 1 else coarser(fine, reduction)
        total = total + weight / sum(weights) * segmentation_loss(logits, truth, overlapping=overlapping)
    return total
