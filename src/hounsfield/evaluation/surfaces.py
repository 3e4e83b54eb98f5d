"""Surfaces of masks in mm: elements with their areas, and how far the surfaces of two masks lie apart.

A surface runs between voxel centres. Each cell of 2×2×2 voxels that it crosses is one element: it lies at the cell's
centre and has the area of the surface within the cell, as in Nikolov et al. 2021, "Clinically applicable segmentation
of head and neck anatomy for radiotherapy", appendix. Where voxels alone are counted, an oblique surface has fewer
elements per mm² than one along the axes, and thin slices count more than thick ones. In 2D cells are 2×2 pixels and
areas are lengths.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from hounsfield.evaluation.outcomes import Booleans, Floats
from hounsfield.masks import region_window

# A corner of a cell, or twice the middle of one of its edges, as whole numbers.
Place = tuple[int, ...]
# Two distances that differ by rounding alone are equal.
ROUNDING = 1e-9


class Surface(NamedTuple):
    """The elements of a surface: places (n, rank) in mm from the array's first voxel, and areas (n,) in mm² or mm."""

    places: Floats
    areas: Floats


class Distances(NamedTuple):
    """How far the elements of a surface lie from another one, nearest first: (n,) in mm, with their areas (n,)."""

    distances: Floats
    areas: Floats

    def quantile(self, share: float) -> float:
        """The distance within which this share of the area lies; ``nan`` without an element."""
        if not len(self.areas):
            return math.nan
        total = np.cumsum(self.areas)
        index = int(np.searchsorted(total, share * total[-1] * (1 - ROUNDING)))
        return float(self.distances[min(index, len(total) - 1)])

    def area_within(self, tolerance: float) -> float:
        """The area at most this far away."""
        return float(self.areas[self.distances <= tolerance * (1 + ROUNDING)].sum())


def surface(mask: Booleans, spacing: Sequence[float]) -> Surface:
    """The surface of a mask of rank 2 or 3; beyond the array all is background.

    Args:
        mask: the voxels.
        spacing: mm from one voxel to the next along each axis.
    """
    bits = np.pad(mask, 1).astype(np.uint8)
    codes = np.zeros(tuple(length - 1 for length in bits.shape), np.uint8)
    for bit, corner in enumerate(_corners(mask.ndim)):
        window = tuple(slice(start, start + length) for start, length in zip(corner, codes.shape, strict=True))
        codes |= bits[window] << np.uint8(bit)
    full = 2 ** len(_corners(mask.ndim)) - 1
    crossed = np.nonzero((codes != 0) & (codes != full))
    areas = np.array(cell_areas(tuple(map(float, spacing))))[codes[crossed]]
    # Cell k lies between voxels k − 1 and k.
    return Surface(np.asarray((np.stack(crossed, axis=1) - 0.5) * np.asarray(spacing), np.float64), areas)


def surface_distances(true: Booleans, predicted: Booleans, spacing: Sequence[float]) -> tuple[Distances, Distances]:
    """From each element of the true surface to the nearest of the predicted one, and the other way round.

    Args:
        true: mask of rank 2 or 3 with at least one voxel.
        predicted: likewise.
        spacing: mm along each axis.
    """
    window = region_window(true | predicted)
    first, second = (surface(mask[window], spacing) for mask in (true, predicted))
    return _distances(first, second), _distances(second, first)


def _distances(start: Surface, end: Surface) -> Distances:
    found = np.asarray(cKDTree(end.places).query(start.places)[0], np.float64)
    order = np.argsort(found, kind="stable")
    return Distances(found[order], start.areas[order])


def _corners(rank: int) -> list[Place]:
    return list(product((0, 1), repeat=rank))


@functools.lru_cache(maxsize=64)
def cell_areas(spacing: tuple[float, ...]) -> tuple[float, ...]:
    """The area (2D: length) of the surface within a cell, by which of its corners are foreground.

    The surface cuts edges between foreground and background in the middle (Lorensen, Cline 1987, "Marching cubes").
    On a face whose opposite corners alone are foreground these are separated. Each loop of cuts carries the
    triangulation of the smallest area, so that a mirrored or rotated mask has the same area.

    Args:
        spacing: mm along each of 2 or 3 axes.

    Returns:
        16 or 256 areas; bit k of the index is the corner k of ``itertools.product((0, 1), repeat=rank)``.
    """
    corners = _corners(len(spacing))
    scale = np.asarray(spacing) / 2
    areas = []
    for code in range(2 ** len(corners)):
        held = {corner for bit, corner in enumerate(corners) if code >> bit & 1}
        segments = [segment for face in _faces(len(spacing)) for segment in _segments(face, held)]
        if len(spacing) == 2:
            areas.append(sum(float(np.linalg.norm((np.array(b) - a) * scale)) for a, b in segments))
        else:
            areas.append(sum(_least_area([np.array(place) * scale for place in loop]) for loop in _loops(segments)))
    return tuple(areas)


def _faces(rank: int) -> list[list[Place]]:
    """The corners of each face of a cell, in the order of a walk around it."""
    walk = [(0, 0), (0, 1), (1, 1), (1, 0)]
    if rank == 2:
        return [list(walk)]
    return [[(*step[:axis], side, *step[axis:]) for step in walk] for axis in range(rank) for side in (0, 1)]


def _segments(face: list[Place], held: set[Place]) -> Iterator[tuple[Place, Place]]:
    """The lines in which a surface crosses a face: one around each run of foreground corners."""

    def cut(index: int) -> Place:
        return tuple(a + b for a, b in zip(face[index % 4], face[(index + 1) % 4], strict=True))

    inside = [corner in held for corner in face]
    for start in range(4):
        if inside[start] and not inside[start - 1]:
            length = next(step for step in range(1, 4) if not inside[(start + step) % 4])
            yield cut(start - 1), cut(start + length - 1)


def _loops(segments: list[tuple[Place, Place]]) -> Iterator[list[Place]]:
    """The closed lines that segments make; each place is an end of two of them."""
    left = list(segments)
    while left:
        loop = list(left.pop())
        while loop[-1] != loop[0]:
            index = next(index for index, segment in enumerate(left) if loop[-1] in segment)
            first, second = left.pop(index)
            loop.append(second if first == loop[-1] else first)
        yield loop[:-1]


def _least_area(loop: list[Floats]) -> float:
    """The area of the triangulation of a closed line that has the smallest one."""

    @functools.cache
    def between(start: int, end: int) -> float:
        if end - start < 2:
            return 0.0
        return min(
            between(start, middle) + between(middle, end) + _triangle(loop[start], loop[middle], loop[end])
            for middle in range(start + 1, end)
        )

    return between(0, len(loop) - 1)


def _triangle(first: Floats, second: Floats, third: Floats) -> float:
    return float(np.linalg.norm(np.cross(second - first, third - first))) / 2
