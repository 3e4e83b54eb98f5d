"""Masks of labels as integers: what is marked where, in how many parts, how large, and in which box.

A **label map** is uint8 (spatial …, 1): 0 is background, ``i + 1`` the i-th label, ``IGNORE`` not known. Where labels
overlap there is one channel for each label: uint8 (spatial …, labels) of 0, 1 and ``IGNORE``. The spatial axes are
(rows, columns) or (slices, rows, columns).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# Of a pixel of which it is not known what it is: neither trained on nor judged.
IGNORE = 255
# As many labels as a label map can tell apart.
MAX_LABELS = 254
CUBIC_MILLIMETRES_PER_ML = 1000.0

Mask = npt.NDArray[np.uint8]
Region = npt.NDArray[np.bool_]


def region_of(mask: Mask, label: int, *, overlapping: bool = False) -> Region:
    """Where one label is: (spatial …).

    Args:
        mask: (spatial …, 1), or (spatial …, labels) where labels overlap.
        label: its index, from 0.
        overlapping: whether each label has a channel of its own.
    """
    return np.asarray(mask[..., label] == 1 if overlapping else mask[..., 0] == label + 1)


def known_region(mask: Mask, label: int = 0, *, overlapping: bool = False) -> Region:
    """Where it is known whether the label is there: (spatial …); without overlap the same for all labels."""
    return np.asarray(mask[..., label if overlapping else 0] != IGNORE)


def judged_regions(true: Mask, predicted: Mask, label: int, *, overlapping: bool = False) -> tuple[Region, Region]:
    """Where a label is, and where it is predicted of what is known: (spatial …) each."""
    first, second = (region_of(each, label, overlapping=overlapping) for each in (true, predicted))
    return first, second & known_region(true, label, overlapping=overlapping)


def dice(first: Region, second: Region) -> float:
    """2|A∩B| / (|A| + |B|); ``nan`` where both are empty."""
    total = int(first.sum() + second.sum())
    return 2 * int((first & second).sum()) / total if total else math.nan


def one_hot(mask: Mask, num_labels: int, *, overlapping: bool = False) -> npt.NDArray[np.uint8]:
    """Zeros and ones for networks; where nothing is known all are 0.

    Returns:
        (spatial …, labels + 1), the background first; where labels overlap (spatial …, labels), without background.
    """
    if overlapping:
        return np.asarray(mask == 1, np.uint8)
    return np.asarray(mask[..., :1] == np.arange(num_labels + 1), np.uint8)


def pixel_counts(mask: Mask, num_labels: int, *, overlapping: bool = False) -> npt.NDArray[np.int64]:
    """How many pixels or voxels each label has: (labels,)."""
    if overlapping:
        return np.asarray((mask == 1).sum(axis=tuple(range(mask.ndim - 1))), np.int64)
    counts = np.zeros(256, np.int64)
    # Row by row or slice by slice: of all pixels at once NumPy would make eight bytes each.
    for part in mask:
        counts += np.bincount(part.ravel(), minlength=256)
    return counts[1 : num_labels + 1]


def pixel_volume(spacing: Sequence[float]) -> float:
    """The volume of a voxel in ml, or of a 2D image the area of a pixel in mm².

    Args:
        spacing: mm along each spatial axis.
    """
    return math.prod(spacing) / (CUBIC_MILLIMETRES_PER_ML if len(spacing) == 3 else 1.0)


def size_unit(rank: int, spacing: Sequence[float] | None) -> str:
    """In what :func:`label_sizes` counts."""
    if spacing is None:
        return "pixels" if rank == 2 else "voxels"
    return "mm²" if rank == 2 else "ml"


def label_sizes(
    mask: Mask, num_labels: int, spacing: Sequence[float] | None, *, overlapping: bool = False
) -> npt.NDArray[np.float64]:
    """The volume of each label in ml, in 2D its area in mm², and without a spacing its pixels: (labels,)."""
    counts = pixel_counts(mask, num_labels, overlapping=overlapping).astype(np.float64)
    return counts * (1.0 if spacing is None else pixel_volume(spacing))


def components(region: Region) -> tuple[npt.NDArray[np.int32], int]:
    """Number the connected parts of a region from 1; parts that touch by a corner are one.

    Returns:
        (spatial …) int32 with 0 outside, and how many parts there are.
    """
    ndimage: Any = importlib.import_module("scipy.ndimage")
    parts, count = ndimage.label(region, structure=np.ones((3,) * region.ndim, bool))
    return np.asarray(parts, np.int32), int(count)


def largest_component(region: Region) -> Region:
    """The largest connected part of a region, the first of equally large ones; an empty region stays empty."""
    parts, count = components(region)
    if count < 2:
        return region
    return np.asarray(parts == 1 + np.bincount(parts.ravel())[1:].argmax())


def region_boxes(region: Region, *, separate: bool = False) -> npt.NDArray[np.int64]:
    """Boxes (n, 2·rank), half-open in pixels: around the region, or around each connected part of it."""
    ndimage: Any = importlib.import_module("scipy.ndimage")
    parts = components(region)[0] if separate else region.astype(np.uint8)
    boxes = [[axis.start for axis in window] + [axis.stop for axis in window] for window in ndimage.find_objects(parts)]
    return np.array(boxes, np.int64).reshape(-1, 2 * region.ndim)


def region_window(region: Region) -> tuple[slice, ...]:
    """The smallest window that holds a region, which has at least one pixel."""
    starts, ends = np.split(region_boxes(region)[0], 2)
    return tuple(map(slice, starts.tolist(), ends.tolist()))


def run_lengths(region: Region) -> list[int]:
    """COCO's run lengths of a region (rows, columns): down the columns, of pixels outside first."""
    edges = np.flatnonzero(np.diff(region.T.ravel().astype(np.int8), prepend=0, append=0))
    runs: list[int] = np.diff(edges, prepend=0, append=region.size).tolist()
    return runs if runs[-1] or len(runs) == 1 else runs[:-1]


def filled_polygons(contours: Sequence[npt.NDArray[np.floating]], shape: tuple[int, int]) -> Region:
    """The pixels whose centre lies inside an odd number of closed contours, so that a contour within one is a hole.

    Args:
        contours: (points, 2) each, as (row, column) in pixels, the centre of the first pixel at (0, 0).
        shape: (rows, columns).

    Returns:
        (rows, columns). A centre on a contour counts as inside at the top and the left side, so that contours that
        share a side share no pixel.
    """
    turns = np.zeros((shape[0], shape[1] + 1), np.int32)
    for contour in contours:
        start = np.asarray(contour, np.float64)
        end = np.roll(start, -1, axis=0)
        down = (start[:, 0] <= end[:, 0])[:, np.newaxis]
        upper, lower = np.where(down, start, end), np.where(down, end, start)
        first = np.clip(np.ceil(upper[:, 0]), 0, shape[0]).astype(np.int64)
        last = np.clip(np.ceil(lower[:, 0]), 0, shape[0]).astype(np.int64)
        # Each side once for each row of centres that it crosses.
        counts = last - first
        crossed = np.repeat(np.arange(len(start)), counts)
        rows = np.arange(len(crossed)) - np.repeat(np.cumsum(counts) - counts, counts) + first[crossed]
        share = (rows - upper[crossed, 0]) / (lower[crossed, 0] - upper[crossed, 0])
        columns = upper[crossed, 1] + share * (lower[crossed, 1] - upper[crossed, 1])
        np.add.at(turns, (rows, np.clip(np.ceil(columns), 0, shape[1]).astype(np.int64)), 1)
    return np.asarray(np.cumsum(turns[:, :-1], axis=1) % 2 == 1)
