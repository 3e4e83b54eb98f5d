"""From the grid that a method works on to the pixels of the image as it was read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float32]
# Evidence is read at the scale of a finding, not of a pixel: standard deviation as a share of the longest side.
SMOOTHING = 0.04


def summed(maps: Sequence[Floats], *, keep: Literal["sum", "mean"] = "sum") -> Floats:
    r"""The sum of maps that span the same, on the finest of their grids; a cell's value is shared out by area.

    Args:
        maps: each (\*grid), of one rank; networks of one ensemble may have grids of their own.
        keep: whether the sum or the mean over the grid is that of all maps.
    """
    finest = tuple(map(max, zip(*(each.shape for each in maps), strict=True)))
    factors = [np.float32(math.prod(finest) / each.size if keep == "mean" else 1) for each in maps]
    spread = [factor * _spread(each, finest) for factor, each in zip(factors, maps, strict=True)]
    return np.asarray(np.sum(spread, axis=0))


def _spread(grid: Floats, shape: tuple[int, ...]) -> Floats:
    for axis, (have, wanted) in enumerate(zip(grid.shape, shape, strict=True)):
        if have != wanted:
            coarse, fine = (np.linspace(0, 1, count + 1) for count in (have, wanted))
            upper, lower = np.minimum.outer(fine[1:], coarse[1:]), np.maximum.outer(fine[:-1], coarse[:-1])
            shares = (np.maximum(upper - lower, 0) * have).astype(np.float32)
            grid = np.moveaxis(np.tensordot(shares, grid, (1, axis)), 0, axis)
    return grid


def place(
    grid: Floats, seen: tuple[int, ...], shape: tuple[int, ...], matrix: npt.NDArray[np.float64] | None = None
) -> Floats:
    """Put a map that spans the network's input onto the image that this input was made of.

    Cells of the grid are taken for equal parts of the input, smoothed by ``SMOOTHING`` and interpolated by cubic
    B-splines, which draw smooth maps from coarse ones and never overshoot.

    Args:
        grid: values over the network's input, of any resolution.
        seen: the spatial shape of the network's input.
        shape: the spatial shape of the result.
        matrix: 4×4, from (slice, row, column, 1) indices of the input to those of the result, as ``GridChange`` has
            it; ``None``: the result spans the same as the input.

    Returns:
        float32 of ``shape``; 0 beyond what the network's input spans, because preprocessing cut it away.
    """
    rank = len(shape)
    size, cells = (np.array(lengths, np.float64) for lengths in (seen, grid.shape))
    inverse = _stretched(seen, shape) if matrix is None else np.linalg.inv(matrix)
    axes, shift = inverse[3 - rank : 3, 3 - rank : 3], inverse[3 - rank : 3, 3]
    smooth = ndimage.gaussian_filter(grid.astype(np.float64), SMOOTHING * size.max() * cells / size, mode="nearest")
    # Index j of the input lies at (j + .5) · cells / size − .5 of the grid: both begin at the edge of a first pixel.
    placed = ndimage.affine_transform(
        smooth,
        (cells / size)[:, np.newaxis] * axes,
        (shift + 0.5) * cells / size - 0.5,
        shape,
        order=3,
        prefilter=False,
        mode="nearest",
    )
    return np.asarray(np.where(_inside(axes, shift, size, shape), placed, 0), np.float32)


def _stretched(seen: tuple[int, ...], shape: tuple[int, ...]) -> npt.NDArray[np.floating]:
    """4×4 from the indices of a grid of ``shape`` to those of one of ``seen`` over the same extent."""
    matrix = np.eye(4)
    for axis, (have, wanted) in enumerate(zip(seen, shape, strict=True), start=3 - len(shape)):
        matrix[axis, axis] = have / wanted
        matrix[axis, 3] = (have / wanted - 1) / 2
    return matrix


def _inside(
    axes: npt.NDArray[np.floating],
    shift: npt.NDArray[np.floating],
    size: npt.NDArray[np.floating],
    shape: tuple[int, ...],
) -> npt.NDArray[np.bool_]:
    """Where the pixels of the result lie within the network's input; axes run along axes, so each by itself."""
    inside = np.ones((1,) * len(shape), bool)
    for axis in range(len(shape)):
        source = int(np.abs(axes[:, axis]).argmax())
        position = axes[source, axis] * np.arange(shape[axis]) + shift[source]
        within = (position >= -0.5) & (position <= size[source] - 0.5)
        inside = inside & within.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    return np.broadcast_to(inside, shape)
