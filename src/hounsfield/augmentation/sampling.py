"""Reading a batch of images between its grid points, by rank, on every backend."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from keras import ops


def centred_grid(spatial_shape: tuple[int, ...]) -> np.ndarray:
    """Index coordinates of every pixel, measured from the image's centre: float32 (pixels, rank)."""
    axes = [np.arange(size, dtype=np.float32) - (size - 1) / 2 for size in spatial_shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(spatial_shape))


def sample_linearly(images: Any, coordinates: Any) -> Any:
    r"""Linear interpolation with mirrored borders.

    Args:
        images: (batch, \*spatial, channels), float.
        coordinates: (batch, pixels, rank) in index units from the first pixel's centre; positions
            outside are read from the image mirrored at its border pixels.

    Returns:
        A tensor of the images' shape, pixel p of which is the image read at ``coordinates[:, p]``.
    """
    spatial_shape = tuple(images.shape[1:-1])
    num_pixels = int(np.prod(spatial_shape))
    flat = ops.reshape(images, (-1, images.shape[-1]))
    first = ops.expand_dims(ops.arange(ops.shape(images)[0], dtype="int32") * num_pixels, -1)
    lower_index, upper_index, fraction = [], [], []
    for axis, size in enumerate(spatial_shape):
        stride = int(np.prod(spatial_shape[axis + 1 :]))
        position = _mirror(coordinates[..., axis], size)
        lower = ops.clip(ops.floor(position), 0, max(size - 2, 0))
        fraction.append(position - lower)
        lower_index.append(ops.cast(lower, "int32") * stride)
        upper_index.append(lower_index[-1] + (stride if size > 1 else 0))
    total = 0.0
    for corner in itertools.product((0, 1), repeat=len(spatial_shape)):
        index, weight = first, 1.0
        for axis, upper in enumerate(corner):
            index = index + (upper_index[axis] if upper else lower_index[axis])
            weight = weight * (fraction[axis] if upper else 1.0 - fraction[axis])
        total = total + ops.expand_dims(weight, -1) * ops.take(flat, index, axis=0)
    return ops.reshape(total, ops.shape(images))


def _mirror(position: Any, size: int) -> Any:
    if size == 1:
        return ops.zeros_like(position)
    last = size - 1
    return last - ops.abs(ops.mod(position, 2 * last) - last)


def linear_upsampling(coarse: int, fine: int) -> np.ndarray:
    """The matrix (fine, coarse) that interpolates ``coarse`` values linearly at ``fine`` equally spaced places."""
    position = np.linspace(0, coarse - 1, fine, dtype=np.float32)
    weights: np.ndarray = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(coarse, dtype=np.float32)))
    return weights
