"""Interpolation along one axis at a time, as sparse matrices: any rank, any number of channels, exact positions.

Output index ``j`` is at position ``start + scale * j`` of the input, both counted in pixel centres.
Beyond the first and last pixel the nearest one is repeated.
"""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

Interpolation = Literal["nearest", "linear", "cubic"]

Matrix: TypeAlias = "sparse.csr_array[np.float32]"


def nearest_indices(length: int, size: int, start: float, scale: float) -> NDArray[np.int64]:
    """Return the nearest of ``length`` input pixels for each of ``size`` output pixels; halves go up, as in ITK."""
    indices = np.floor(start + scale * np.arange(size) + 0.5).astype(np.int64)
    return np.asarray(np.clip(indices, 0, length - 1))


def kernel_matrix(length: int, size: int, start: float, scale: float, kind: Literal["linear", "cubic"]) -> Matrix:
    """Return the (size, length) matrix of linear or of cubic interpolation.

    The cubic kernel is that of Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans.
    ASSP 29 (1981), with OpenCV's a = -0.75, so that slices and volumes are interpolated alike.
    """
    position = start + scale * np.arange(size)
    first = np.floor(position).astype(np.int64)
    away = position - first
    if kind == "linear":
        taps = np.stack([1 - away, away])
        offsets = np.array([0, 1])
    else:
        offsets = np.array([-1, 0, 1, 2])
        distance = np.abs(away[np.newaxis, :] - offsets[:, np.newaxis])
        a = -0.75
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        taps = np.where(distance <= 1, near, far)
    columns = np.clip(first[np.newaxis, :] + offsets[:, np.newaxis], 0, length - 1)
    return _matrix(taps, columns, size, length)


def area_matrix(length: int, size: int) -> Matrix:
    """Return the (size, length) matrix that averages the input area covered by each output pixel."""
    scale = length / size
    num_taps = math.ceil(scale) + 1
    edges = np.arange(size) * scale
    columns = np.floor(edges).astype(np.int64)[np.newaxis, :] + np.arange(num_taps)[:, np.newaxis]
    overlap = np.minimum(columns + 1, edges + scale) - np.maximum(columns, edges)
    return _matrix(np.clip(overlap, 0, None) / scale, np.clip(columns, 0, length - 1), size, length)


def gaussian_matrix(length: int, sigma: float) -> Matrix:
    """Return the (length, length) matrix of a Gaussian blur of ``sigma`` pixels, truncated at four sigma."""
    radius = max(1, math.ceil(4 * sigma))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    columns = np.clip(np.arange(length)[np.newaxis, :] + offsets[:, np.newaxis], 0, length - 1)
    return _matrix(np.broadcast_to(weights[:, np.newaxis], columns.shape), columns, length, length)


def along_axis(matrix: Matrix, pixels: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return ``pixels`` with ``matrix`` applied along one axis."""
    moved = np.moveaxis(pixels, axis, 0)
    result = matrix @ np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
    return np.moveaxis(result.reshape(-1, *moved.shape[1:]), 0, axis)


def to_type(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return interpolated values in an integer type (rounded, clipped to its range), or in float32 for any other."""
    if dtype.kind not in "iu":
        return np.ascontiguousarray(values, dtype=np.float32)
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(np.rint(values), limits.min, limits.max)).astype(dtype)


def _matrix(taps: NDArray[np.float64], columns: NDArray[np.int64], size: int, length: int) -> Matrix:
    rows = np.broadcast_to(np.arange(size)[np.newaxis, :], columns.shape)
    # Taps beyond the border fall on the same column and are summed.
    entries = (taps.astype(np.float32).ravel(), (rows.ravel(), columns.ravel()))
    # Imported on use: most predictions do not need it, and the import takes longer than they do.
    scipy_sparse = importlib.import_module("scipy.sparse")
    matrix: Matrix = scipy_sparse.csr_array(scipy_sparse.coo_array(entries, shape=(size, length)))
    return matrix
