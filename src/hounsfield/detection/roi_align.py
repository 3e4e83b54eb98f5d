"""RoI align: a grid of fixed size from the features under each box, by exact interpolation.

He et al., "Mask R-CNN", 2017 (arXiv:1703.06870), section 3: no coordinate is rounded, each bin is the mean of the
linear interpolations at regular points inside it. Lin et al., "Feature pyramid networks", 2017 (arXiv:1612.03144),
equation 1: each box is read from the level that suits its size.

The points of a box form a grid, and linear interpolation is a product over the axes. So the mean in a bin is a product
of one matrix per axis, and RoI align a chain of matrix products, without gather and scatter, which are slow on CPUs and
poorly supported in exported networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from hounsfield import boxes as geometry

# Positions of a feature map that a bin should span: FPN's 224 pixels on a stride of 16, in seven bins.
POSITIONS_A_BIN = 2


def pyramid_level(boxes: Any, strides: Sequence[int], bins: int) -> Any:
    """The number of the level that each box is read from: (…), int32 (Lin et al., 2017, equation 1)."""
    rank = geometry.rank_of(boxes)
    volume = ops.maximum(geometry.volumes(boxes, namespace=ops), 1e-6)
    octave = ops.log(volume) / (rank * math.log(2)) - math.log2(POSITIONS_A_BIN * bins * strides[0])
    # The logarithm of a power of two may fall short of a whole number by its rounding.
    return ops.cast(ops.clip(ops.floor(octave + 1e-5), 0, len(strides) - 1), "int32")


def roi_align(features: Sequence[Any], boxes: Any, strides: Sequence[int], *, bins: int, points: int = 2) -> Any:
    r"""Sample a grid of values under each box.

    Position i of a level with stride s stands for the input's coordinate (i + ½)·s. Beyond the outermost positions the
    border value is repeated.

    Args:
        features: a pyramid, finest level first: (batch, \*positions, channels) each, float32 or better.
        boxes: (batch, n, 2·rank) in pixels of the input.
        strides: of the levels, each twice the one before.
        bins: along each axis.
        points: sampled in each bin along each axis.

    Returns:
        (batch, n, \*bins, channels).
    """
    level = pyramid_level(boxes, strides, bins)
    total = None
    for number, (feature, stride) in enumerate(zip(features, strides, strict=True)):
        chosen = ops.cast(ops.equal(level, number), feature.dtype)
        read = _read(feature, boxes / stride, chosen, bins, points)
        total = read if total is None else total + read
    return total


def mask_align(masks: Any, boxes: Any, others: Any, *, bins: int, points: int = 2) -> Any:
    """What of the masks of objects lies in other boxes: (batch, n, bins, bins), the share of each bin.

    Args:
        masks: (batch, n, side, side) of the objects within their boxes, see ``hounsfield.object_masks``.
        boxes: (batch, n, 4) of the objects.
        others: (batch, n, 4) the boxes in which the masks are wanted.
        bins: along each axis.
        points: sampled in each bin along each axis.
    """
    side = masks.shape[-1]
    lengths = ops.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)
    # With a border of zeros, since beyond the outermost position the border value is repeated.
    padded = ops.pad(masks, ((0, 0), (0, 0), (1, 1), (1, 1)))
    starts, ends = ((others[..., part] - boxes[..., :2]) / lengths * side + 1 for part in (slice(2), slice(2, 4)))
    rows, columns = (
        interpolation(starts[..., axis], ends[..., axis], side + 2, bins=bins, points=points) for axis in (0, 1)
    )
    return ops.matmul(ops.matmul(rows, padded), ops.transpose(columns, (0, 1, 3, 2)))


def _read(feature: Any, boxes: Any, chosen: Any, bins: int, points: int) -> Any:
    """The grids of one level; zeros where ``chosen`` (batch, n) is zero."""
    rank, count = geometry.rank_of(boxes), boxes.shape[1]
    *lengths, channels = map(int, feature.shape[1:])
    values = feature
    for axis, length in enumerate(lengths):
        weights = interpolation(boxes[..., axis], boxes[..., rank + axis], length, bins=bins, points=points)
        behind = math.prod(lengths[axis + 1 :]) * channels
        if axis == 0:
            weights = weights * ops.expand_dims(ops.expand_dims(chosen, -1), -1)
            weights = ops.reshape(weights, (-1, count * bins, length))
            values = ops.matmul(weights, ops.reshape(values, (-1, length, behind)))
        else:
            weights = ops.reshape(weights, (-1, 1, bins, length))
            values = ops.matmul(weights, ops.reshape(values, (-1, bins**axis, length, behind)))
    return ops.reshape(values, (-1, count, *[bins] * rank, channels))


def interpolation(start: Any, end: Any, length: int, *, bins: int, points: int) -> Any:
    """The weight of each position of an axis in each bin.

    Args:
        start: (batch, n) where boxes start, in positions; position i covers i to i + 1.
        end: (batch, n) where they end.
        length: positions along the axis.
        bins: into which a box is divided.
        points: sampled in each bin.

    Returns:
        (batch, n, bins, length), each row of which sums to 1.
    """
    share = (ops.arange(bins * points, dtype=start.dtype) + 0.5) / (bins * points)
    places = ops.expand_dims(start, -1) + ops.expand_dims(end - start, -1) * share - 0.5
    places = ops.expand_dims(ops.clip(places, 0, length - 1), -1)
    weights = ops.maximum(1 - ops.abs(places - ops.arange(length, dtype=start.dtype)), 0)
    return ops.mean(ops.reshape(weights, (-1, start.shape[1], bins, points, length)), axis=3)
