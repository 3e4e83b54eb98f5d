"""Geometry of boxes in 2D and 3D, by one code, on NumPy arrays and on the tensors of ``keras.ops`` alike.

A box is ``(y0, x0, y1, x1)`` or ``(z0, y0, x0, z1, y1, x1)`` in pixels, half-open: its first pixel is inside, its last
coordinate is one past the last pixel inside, so a side is an end less a start. Boxes stand in the last axis of an
array; its length, 4 or 6, tells the rank. Coordinates are signed and may have fractions. A box whose end lies before
its start counts as empty.

Every function of arrays takes ``namespace``: ``numpy``, which is the default, or ``keras.ops``, with tensors of the
backend that runs. Compute in float32 or better: bfloat16 has three digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# The columns of a box in tables, by rank.
COLUMNS: dict[int, tuple[str, ...]] = {2: ("y0", "x0", "y1", "x1"), 3: ("z0", "y0", "x0", "z1", "y1", "x1")}
# An array of the namespace at hand: NumPy's, or a tensor of a Keras backend.
Array = Any


def rank_of(boxes: Array) -> int:
    """2 or 3, by the length of the last axis.

    Raises:
        ValueError: that length is neither 4 nor 6.
    """
    length = boxes.shape[-1]
    if length not in (4, 6):
        raise ValueError(f"Boxes have 4 coordinates in 2D and 6 in 3D in their last axis. Got {length} instead.")
    return int(length) // 2


def sides(boxes: Array, *, namespace: Any = np) -> Array:
    """The lengths of the sides, (…, rank), in the axis order of the pixels; 0 where an end lies before its start."""
    rank = rank_of(boxes)
    return namespace.maximum(boxes[..., rank:] - boxes[..., :rank], 0)


def volumes(boxes: Array, *, namespace: Any = np) -> Array:
    """The areas of boxes in 2D, their volumes in 3D, (…), in pixels or voxels."""
    lengths = sides(boxes, namespace=namespace)
    volume = lengths[..., 0]
    for axis in range(1, rank_of(boxes)):
        volume = volume * lengths[..., axis]
    return volume


def intersections(first: Array, second: Array, *, namespace: Any = np) -> Array:
    """The area or volume that boxes share, element by element.

    Args:
        first: (…, 2·rank) boxes.
        second: boxes of the same rank, of a shape that broadcasts with the first.
        namespace: ``numpy`` or ``keras.ops``.
    """
    shared, rank = None, rank_of(first)
    for axis in range(rank):
        end = namespace.minimum(first[..., rank + axis], second[..., rank + axis])
        length = namespace.maximum(end - namespace.maximum(first[..., axis], second[..., axis]), 0)
        shared = length if shared is None else shared * length
    return shared


def iou(first: Array, second: Array, *, namespace: Any = np) -> Array:
    """Intersection over union, element by element, from 0 to 1; 0 where both boxes are empty.

    Args:
        first: (…, 2·rank) boxes.
        second: boxes of the same rank, of a shape that broadcasts with the first.
        namespace: ``numpy`` or ``keras.ops``.
    """
    shared, union = _shared_and_union(first, second, namespace)
    return _ratio(shared, union, namespace)


def generalised_iou(first: Array, second: Array, *, namespace: Any = np) -> Array:
    """Generalised intersection over union, element by element, from −1 to 1.

    IoU less the part of the smallest box around both that neither covers (Rezatofighi et al., CVPR 2019, algorithm 1);
    unlike IoU it has a slope where boxes do not touch. 0 where the box around both is empty.

    Args:
        first: (…, 2·rank) boxes.
        second: boxes of the same rank, of a shape that broadcasts with the first.
        namespace: ``numpy`` or ``keras.ops``.
    """
    rank = rank_of(first)
    shared, union = _shared_and_union(first, second, namespace)
    hull = None
    for axis in range(rank):
        end = namespace.maximum(first[..., rank + axis], second[..., rank + axis])
        length = namespace.maximum(end - namespace.minimum(first[..., axis], second[..., axis]), 0)
        hull = length if hull is None else hull * length
    return _ratio(shared, union, namespace) - _ratio(hull - union, hull, namespace)


def pairwise_iou(first: Array, second: Array, *, namespace: Any = np) -> Array:
    """Intersection over union of each of (…, n, 2·rank) with each of (…, m, 2·rank) boxes: (…, n, m)."""
    return iou(first[..., :, None, :], second[..., None, :, :], namespace=namespace)


def _shared_and_union(first: Array, second: Array, namespace: Any) -> tuple[Array, Array]:
    shared = intersections(first, second, namespace=namespace)
    union = volumes(first, namespace=namespace) + volumes(second, namespace=namespace) - shared
    return shared, union


def _ratio(part: Array, whole: Array, namespace: Any) -> Array:
    """``part / whole``, 0 where the whole is 0; no slope is infinite there either."""
    positive = whole > 0
    safe = namespace.where(positive, whole, namespace.ones_like(whole))
    return namespace.where(positive, part / safe, namespace.zeros_like(safe))


def clipped(boxes: Array, shape: Sequence[float] | Array, *, namespace: Any = np) -> Array:
    """The parts of boxes that lie inside an image; a box outside becomes an empty one on the border.

    Args:
        boxes: (…, 2·rank).
        shape: rows and columns, or slices, rows and columns, of the image; or an array (…, rank) of them in the type of
            the boxes that broadcasts with the boxes' starts.
        namespace: ``numpy`` or ``keras.ops``.
    """
    limits = _by_axis(shape) * 2
    parts = [
        namespace.minimum(namespace.maximum(boxes[..., column], 0), limits[column]) for column in range(len(limits))
    ]
    return namespace.stack(parts, axis=-1)


def are_valid(boxes: Array, *, smallest: float = 0.0, namespace: Any = np) -> Array:
    """Whether every coordinate is finite and every side longer than ``smallest``: booleans (…)."""
    rank = rank_of(boxes)
    longer = namespace.all(boxes[..., rank:] - boxes[..., :rank] > smallest, axis=-1)
    return namespace.logical_and(namespace.all(namespace.isfinite(boxes), axis=-1), longer)


def to_centres(boxes: Array, *, namespace: Any = np) -> Array:
    """(centre…, side…) of each box in the axis order of the pixels, such as (cy, cx, height, width)."""
    rank = rank_of(boxes)
    starts, ends = boxes[..., :rank], boxes[..., rank:]
    return namespace.concatenate([(starts + ends) * 0.5, ends - starts], axis=-1)


def from_centres(values: Array, *, namespace: Any = np) -> Array:
    """Boxes from (centre…, side…) in the axis order of the pixels: the way back of ``to_centres``."""
    rank = rank_of(values)
    centres, half = values[..., :rank], values[..., rank:] * 0.5
    return namespace.concatenate([centres - half, centres + half], axis=-1)


def reversed_axes(boxes: Array, *, namespace: Any = np) -> Array:
    """Boxes with x before y before z, (x0, y0, x1, y1), from (y0, x0, y1, x1); and the other way round."""
    rank = rank_of(boxes)
    parts = [namespace.flip(boxes[..., :rank], axis=-1), namespace.flip(boxes[..., rank:], axis=-1)]
    return namespace.concatenate(parts, axis=-1)


def from_xywh(values: Array, *, namespace: Any = np) -> Array:
    """Boxes from COCO's (x, y, width, height) of least corner and sides, or (x, y, z, width, height, depth)."""
    rank = rank_of(values)
    starts = namespace.flip(values[..., :rank], axis=-1)
    return namespace.concatenate([starts, starts + namespace.flip(values[..., rank:], axis=-1)], axis=-1)


def to_xywh(boxes: Array, *, namespace: Any = np) -> Array:
    """COCO's (x, y, width, height), or (x, y, z, width, height, depth), of boxes."""
    rank = rank_of(boxes)
    starts = boxes[..., :rank]
    parts = [namespace.flip(starts, axis=-1), namespace.flip(boxes[..., rank:] - starts, axis=-1)]
    return namespace.concatenate(parts, axis=-1)


def scaled(boxes: Array, factors: Sequence[float] | Array, *, namespace: Any = np) -> Array:
    """Boxes of an image after it was resized.

    Args:
        boxes: (…, 2·rank).
        factors: new size over old size of each axis, in the axis order of the pixels; or an array (…, rank) of them.
        namespace: ``numpy`` or ``keras.ops``.
    """
    steps = _by_axis(factors) * 2
    return namespace.stack([boxes[..., column] * steps[column] for column in range(len(steps))], axis=-1)


def shifted(boxes: Array, offsets: Sequence[float] | Array, *, namespace: Any = np) -> Array:
    """Boxes moved by so many pixels along each axis; ``offsets`` as the factors of ``scaled``."""
    steps = _by_axis(offsets) * 2
    return namespace.stack([boxes[..., column] + steps[column] for column in range(len(steps))], axis=-1)


def _by_axis(values: Sequence[float] | Array) -> list[Array]:
    """One number or array an axis; plain numbers leave the type of what they meet as it is."""
    if isinstance(values, Sequence):
        return [float(value) for value in values]
    return [values[..., axis] for axis in range(values.shape[-1])]
