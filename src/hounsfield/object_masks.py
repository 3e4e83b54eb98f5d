"""Masks of single objects: kept small, sampled within their boxes for networks, and put back onto images.

A **box mask** is the mask of one object sampled on a square grid of its box, as Mask R-CNN learns and predicts it (He
et al., 2017, arXiv:1703.06870, section 3). It stays the same when an image is moved or scaled, and its box with it.
Images only, not volumes.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from hounsfield.boxes import intersections
from hounsfield.masks import Region

# Positions along each side of a box at which true masks are sampled for training.
SIDE = 56
# The head of a mask as bytes: its first row and column, its rows and columns.
HEAD = struct.Struct("<iiII")
# Rows and columns of a mask, at most.
LARGEST = 2**20

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ObjectMask:
    """The pixels of one object in an image.

    Attributes:
        start: row and column of the first pixel of the part that is kept, which may lie outside the image.
        shape: rows and columns of this part; none of an empty mask.
        bits: of its pixels, packed and compressed.
    """

    start: tuple[int, int]
    shape: tuple[int, int]
    bits: bytes

    @classmethod
    def of(cls, region: Region, start: Sequence[int] = (0, 0)) -> Self:
        """Keep the part of a region (rows, columns), which begins at a pixel of the image, that is not empty."""
        rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return cls((int(start[0]), int(start[1])), (0, 0), b"")
        part = region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        bits = zlib.compress(np.packbits(part).tobytes(), 1)
        return cls((int(start[0] + rows[0]), int(start[1] + columns[0])), part.shape, bits)

    @property
    def region(self) -> Region:
        """The part that is kept, (rows, columns)."""
        count = math.prod(self.shape)
        if not count:
            return np.zeros(self.shape, bool)
        packed = np.frombuffer(zlib.decompress(self.bits), np.uint8)
        return np.unpackbits(packed, count=count).astype(bool).reshape(self.shape)

    @property
    def area(self) -> int:
        """Pixels."""
        return int(self.region.sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The smallest box around it, half-open."""
        return (*self.start, self.start[0] + self.shape[0], self.start[1] + self.shape[1])

    def on(self, shape: Sequence[int]) -> Region:
        """The mask on an image of this shape; what lies outside the image is left out."""
        whole = np.zeros((shape[0], shape[1]), bool)
        first = [max(0, at) for at in self.start]
        last = [min(at + length, limit) for at, length, limit in zip(self.start, self.shape, shape, strict=True)]
        inside = tuple(slice(one, max(one, two)) for one, two in zip(first, last, strict=True))
        moved = tuple(slice(part.start - at, part.stop - at) for part, at in zip(inside, self.start, strict=True))
        whole[inside] = self.region[moved]
        return whole

    def inside(self, shape: Sequence[int]) -> Self:
        """What of it lies inside an image of this shape."""
        if min(self.start) >= 0 and all(end <= limit for end, limit in zip(self.box[2:], shape, strict=True)):
            return self
        return self.of(self.on(shape))

    def to_bytes(self) -> bytes:
        """For a column of a table."""
        return HEAD.pack(*self.start, *self.shape) + self.bits

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """What ``to_bytes`` gave.

        Raises:
            ValueError: it is something else.
        """
        try:
            row, column, rows, columns = HEAD.unpack_from(stored)
        except struct.error as error:
            raise ValueError("the mask of an object is cut short") from error
        if max(rows, columns) > LARGEST:
            raise ValueError(f"the mask of an object has {rows:,} rows and {columns:,} columns")
        return cls((row, column), (rows, columns), stored[HEAD.size :])


def box_masks(masks: Sequence[ObjectMask], boxes: npt.NDArray[np.floating], side: int = SIDE) -> npt.NDArray[np.uint8]:
    """Masks sampled within boxes (n, 4) of their image: (n, side, side) of 0 and 1."""
    found = np.zeros((len(masks), side, side), np.uint8)
    share = (np.arange(side) + 0.5) / side
    for number, (mask, box) in enumerate(zip(masks, np.asarray(boxes, np.float64), strict=True)):
        if not mask.bits:
            continue
        places = [
            np.floor(box[axis] + share * (box[2 + axis] - box[axis])).astype(np.int64) - mask.start[axis]
            for axis in (0, 1)
        ]
        known = [(at >= 0) & (at < length) for at, length in zip(places, mask.shape, strict=True)]
        rows, columns = (np.where(inside, at, 0) for inside, at in zip(known, places, strict=True))
        found[number] = mask.region[np.ix_(rows, columns)] & known[0][:, np.newaxis] & known[1]
    return found


def reframed(values: Floats, boxes: npt.NDArray[np.floating], others: npt.NDArray[np.floating]) -> Floats:
    """Box masks of boxes (n, 4), sampled anew within other boxes (n, 4): (n, side, side), 0 outside the first."""
    side = values.shape[-1]
    share = (np.arange(side) + 0.5) / side
    sampled = [
        _weights(others[:, axis, np.newaxis] + share * (others[:, 2 + axis] - others[:, axis])[:, np.newaxis], part)
        for axis, part in enumerate(((boxes[:, 0], boxes[:, 2], side), (boxes[:, 1], boxes[:, 3], side)))
    ]
    rows, columns = sampled
    return np.asarray(rows @ values @ columns.transpose(0, 2, 1), np.float32)


def pasted(values: Floats, boxes: npt.NDArray[np.floating], *, threshold: float = 0.5) -> list[ObjectMask]:
    """Box masks (n, side, side), probabilities, as masks on the image: where they are at least the threshold.

    A pixel belongs to an object if the value at its centre, interpolated linearly, is large enough.

    Args:
        values: from 0 to 1.
        boxes: (n, 4) in pixels of the image.
        threshold: of a value.
    """
    masks = []
    for value, box in zip(values, np.asarray(boxes, np.float64), strict=True):
        first, last = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
        rows, columns = (
            _weights(
                np.arange(first[axis], last[axis])[np.newaxis] + 0.5,
                (box[np.newaxis, axis], box[np.newaxis, 2 + axis], value.shape[axis]),
            )[0]
            for axis in (0, 1)
        )
        masks.append(ObjectMask.of(rows @ value @ columns.T >= threshold, first.tolist()))
    return masks


def _weights(
    places: npt.NDArray[np.float64], along: tuple[npt.NDArray[np.floating], npt.NDArray[np.floating], int]
) -> Floats:
    """(n, places, side): how much each position of a box counts at places (n, p) of the image, none outside."""
    start, end, side = along
    length = np.maximum(end - start, 1e-6)[:, np.newaxis]
    inside = (places >= start[:, np.newaxis]) & (places <= end[:, np.newaxis])
    at = np.clip((places - start[:, np.newaxis]) / length * side - 0.5, 0, side - 1)
    weights = np.maximum(1 - np.abs(at[..., np.newaxis] - np.arange(side)), 0)
    return np.asarray(weights * inside[..., np.newaxis], np.float32)


def mask_overlaps(found: Sequence[ObjectMask], objects: Sequence[ObjectMask]) -> npt.NDArray[np.float64]:
    """Intersection over union of each mask with each of the others, (found, objects); 0 where both are empty."""
    overlaps = np.zeros((len(found), len(objects)))
    one, two = (np.array([mask.box for mask in masks], float).reshape(-1, 4) for masks in (found, objects))
    regions, others = ([mask.region for mask in masks] for masks in (found, objects))
    near = intersections(one[:, np.newaxis], two[np.newaxis]) > 0
    for row, column in np.argwhere(near).tolist():
        low = np.maximum(one[row, :2], two[column, :2]).astype(int)
        high = np.minimum(one[row, 2:], two[column, 2:]).astype(int)
        parts = [
            region[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, mask.start, strict=True))]
            for region, mask in ((regions[row], found[row]), (others[column], objects[column]))
        ]
        shared = int((parts[0] & parts[1]).sum())
        overlaps[row, column] = shared / (int(regions[row].sum()) + int(others[column].sum()) - shared)
    return overlaps
