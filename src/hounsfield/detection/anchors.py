"""Reference boxes at every position of a feature pyramid (Ren et al., "Faster R-CNN", 2015, section 3.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# The sides of one level's anchors in pixels of the input; empty where the level has none.
Shapes = Sequence[Sequence[float]]


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
