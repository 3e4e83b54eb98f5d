"""Pixels moved between two grids whose axes are parallel: by the nearest pixel, or linearly and slab by slab."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hounsfield.preprocessing.interpolation import along_axis, kernel_matrix

# Of a pixel: positions that lie so close to a pixel's centre are that pixel's.
CLOSE = 1e-6
# Values of a slab that is interpolated at once.
SLAB_VALUES = 2**23


@dataclass(frozen=True)
class AxisPlace:
    """Where the pixels along one axis of a new grid lie on the old one.

    Attributes:
        axis: of the old grid.
        start: index of the new axis' first pixel along it.
        scale: old pixels from one new pixel to the next; negative for a flipped axis.
    """

    axis: int
    start: float
    scale: float

    def positions(self, size: int) -> NDArray[np.float64]:
        """Old indices of ``size`` new pixels."""
        return self.start + self.scale * np.arange(size, dtype=np.float64)


def axis_places(matrix: NDArray[np.float64], rank: int) -> list[AxisPlace]:
    """The places of the axes of a new grid, in their order.

    Args:
        matrix: 4×4; takes (slice, row, column, 1) indices of the new grid to those of the old one, axes parallel to
            axes; for slices the slice index is left aside.
        rank: 2 or 3.
    """
    block, shift = matrix[3 - rank : 3, 3 - rank : 3], matrix[3 - rank : 3, 3]
    places = []
    for new in range(rank):
        old = int(np.abs(block[:, new]).argmax())
        places.append(AxisPlace(old, _snapped(float(shift[old])), _snapped(float(block[old, new]))))
    if sorted(place.axis for place in places) != list(range(rank)):
        raise ValueError(f"The axes of two grids are not parallel: {matrix.tolist()}")
    return places


def _snapped(value: float) -> float:
    """The multiple of a half that a value is equal to but for rounding, else the value."""
    near = round(2 * value) / 2
    return near if abs(near - value) < CLOSE else value


def moved_nearest(
    values: NDArray[np.generic], places: Sequence[AxisPlace], shape: Sequence[int], *, fill: float, reach: float = 0.0
) -> NDArray[np.generic]:
    """The nearest old pixel for each new one; halves go up.

    Args:
        values: (old spatial …, channels).
        places: of the new axes.
        shape: of the new grid.
        fill: what stands where the old grid has no pixel.
        reach: old pixels beyond the border to which the last one is repeated.
    """
    turned = values.transpose([place.axis for place in places] + [len(places)])
    indices, outside = [], []
    for place, size, length in zip(places, shape, turned.shape[:-1], strict=True):
        positions = place.positions(size)
        index = np.floor(positions + 0.5 + CLOSE).astype(np.int64)
        limit = 0.5 + reach + CLOSE
        outside.append((positions < -limit) | (positions > length - 1 + limit))
        indices.append(np.clip(index, 0, length - 1))
    moved = turned[np.ix_(*indices)]
    for axis, rows in enumerate(outside):
        if rows.any():
            moved[(slice(None),) * axis + (rows,)] = fill
    return np.ascontiguousarray(moved)


def moved_linear(
    values: NDArray[np.floating], places: Sequence[AxisPlace], shape: Sequence[int], *, reach: float = 0.0
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Values between the old pixels, interpolated linearly, in slabs along the first new axis.

    Where the old grid has no pixel values are NaN; the old array may be memory-mapped.

    Args:
        values: (old spatial …, channels).
        places: of the new axes.
        shape: of the new grid.
        reach: old pixels beyond the border to which the last one is repeated.

    Yields:
        The rows of the first new axis, and (rows, other new axes …, channels).
    """
    first, *others = places
    per_row = int(np.prod(shape[1:])) * values.shape[-1]
    step = max(1, SLAB_VALUES // max(per_row, 1))
    length = values.shape[first.axis]
    for begin in range(0, shape[0], step):
        rows = slice(begin, min(begin + step, shape[0]))
        positions = first.positions(shape[0])[rows]
        low = int(np.clip(np.floor(positions.min()), 0, length - 1))
        high = int(np.clip(np.floor(positions.max()) + 2, low + 1, length))
        part = values[(slice(None),) * first.axis + (slice(low, high),)].astype(np.float32)
        matrix = kernel_matrix(high - low, len(positions), float(positions[0]) - low, first.scale, "linear")
        part = along_axis(matrix, part, first.axis)
        for place, size in zip(others, shape[1:], strict=True):
            if (place.start, place.scale, size) != (0, 1, part.shape[place.axis]):
                matrix = kernel_matrix(part.shape[place.axis], size, place.start, place.scale, "linear")
                part = along_axis(matrix, part, place.axis)
        part = np.ascontiguousarray(part.transpose([place.axis for place in places] + [len(places)]))
        slab_shape = (len(positions), *shape[1:])
        for axis, (place, size) in enumerate(zip(places, shape, strict=True)):
            where = positions if axis == 0 else place.positions(size)
            limit = 0.5 + reach + CLOSE
            outside = (where < -limit) | (where > values.shape[place.axis] - 1 + limit)
            if outside.any():
                part[(slice(None),) * axis + (outside,)] = np.nan
        yield rows, part.reshape(*slab_shape, values.shape[-1])
