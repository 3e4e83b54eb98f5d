"""Reference boxes at every position of a feature pyramid, and boxes as offsets from them.

Ren et al., "Faster R-CNN", 2015 (arXiv:1506.01497), section 3.1.1 and equation 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from hounsfield import boxes as geometry

# The sides of one level's anchors in pixels of the input; empty where the level has none.
Shapes = Sequence[Sequence[float]]
# Sides are at most this many times those of the reference: exp() of a wild logit stays finite.
LARGEST_LOG_RATIO = math.log(1000 / 16)
# Sides count as at least this many pixels, so that no logarithm of zero is taken.
SMALLEST_SIDE = 1e-3


def feature_shape(input_shape: Sequence[int], stride: int) -> tuple[int, ...]:
    """The size of a feature map after "same" convolutions with this total stride."""
    return tuple(-(-length // stride) for length in input_shape)


def anchor_grid(
    input_shape: Sequence[int], strides: Sequence[int], shapes: Sequence[Shapes]
) -> npt.NDArray[np.float32]:
    """All anchors of a pyramid, level by level, position by position, shape by shape.

    Args:
        input_shape: spatial lengths of the network's input.
        strides: of each level, in pixels of the input.
        shapes: (levels, anchors, rank) the sides of the anchors of each level, in pixels of the input.

    Returns:
        (anchors, 2·rank) boxes, which may reach beyond the image.
    """
    levels = [
        _level_grid(feature_shape(input_shape, stride), stride, level)
        for stride, level in zip(strides, shapes, strict=True)
        if len(level)
    ]
    return np.concatenate(levels)


def _level_grid(positions: tuple[int, ...], stride: int, shapes: Shapes) -> npt.NDArray[np.float32]:
    axes = [(np.arange(count, dtype=np.float32) + 0.5) * stride for count in positions]
    centres = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 1, len(positions))
    half = np.asarray(shapes, np.float32)[np.newaxis] / 2
    return np.concatenate([centres - half, centres + half], axis=-1).reshape(-1, 2 * len(positions))


def encode(boxes: Any, references: Any) -> Any:
    """Offsets that lead from references to boxes.

    Args:
        boxes: (…, 2·rank).
        references: (…, 2·rank), of a shape that broadcasts.

    Returns:
        (…, 2·rank): shifts of the centre in sides of the reference, then logarithms of the ratios of sides.
    """
    rank = geometry.rank_of(boxes)
    target = geometry.to_centres(boxes, namespace=ops)
    source = geometry.to_centres(references, namespace=ops)
    sides = ops.maximum(source[..., rank:], SMALLEST_SIDE)
    shifts = (target[..., :rank] - source[..., :rank]) / sides
    ratios = ops.log(ops.maximum(target[..., rank:], SMALLEST_SIDE) / sides)
    return ops.concatenate([shifts, ratios], axis=-1)


def decode(offsets: Any, references: Any) -> Any:
    """Boxes from offsets and references: the inverse of :func:`encode`."""
    rank = geometry.rank_of(references)
    source = geometry.to_centres(references, namespace=ops)
    sides = ops.maximum(source[..., rank:], SMALLEST_SIDE)
    centres = source[..., :rank] + offsets[..., :rank] * sides
    lengths = sides * ops.exp(ops.minimum(offsets[..., rank:], LARGEST_LOG_RATIO))
    return geometry.from_centres(ops.concatenate([centres, lengths], axis=-1), namespace=ops)
