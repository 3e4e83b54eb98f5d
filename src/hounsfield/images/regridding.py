"""Volumes whose slices are not on an even, upright grid, brought onto one: of tilted gantries, of uneven spacings."""

from __future__ import annotations

import importlib
import itertools
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hounsfield.images.image import Image

Affine = npt.NDArray[np.float64]


def straightened(volume: Image) -> Image:
    """Shift every slice along its plane so that the axes of a tilted stack are at right angles.

    The canvas grows so that nothing is lost; what no slice covers gets the lowest value of the volume. Values are
    interpolated linearly, those of label maps taken from the nearest pixel.
    """
    affine, spacing = volume.affine, volume.spacing
    if affine is None or spacing is None:
        return volume
    units = affine[:3, 1:3] / np.array(spacing[1:])
    normal = np.cross(units[:, 1], units[:, 0])
    shifts, low, high = tilt_shifts(affine, (spacing[-2], spacing[-1]), volume.shape[0])
    lowest = volume.pixels.min()
    size = tuple(extent + above - below for extent, below, above in zip(volume.shape[1:], low, high, strict=True))
    pixels = np.full((volume.shape[0], *size, volume.channels), lowest, dtype=volume.pixels.dtype)
    # Loaded for tilted stacks alone, which are rare: it takes as long as reading a series.
    shift = importlib.import_module("scipy.ndimage").shift
    order: Literal[0, 1] = 0 if volume.modality == "SEG" else 1
    for index, channel in itertools.product(range(volume.shape[0]), range(volume.channels)):
        canvas = np.full(size, lowest, dtype=volume.pixels.dtype)
        canvas[: volume.shape[1], : volume.shape[2]] = volume.pixels[index, :, :, channel]
        pixels[index, :, :, channel] = shift(canvas, shifts[index] - low, order=order, cval=float(lowest))
    straight = affine.copy()
    straight[:3, 0] = normal * float(normal @ affine[:3, 0])
    straight[:3, 3] += affine[:3, 1:3] @ low
    gap = math.sqrt(float(straight[:3, 0] @ straight[:3, 0]))
    return volume.replace(pixels=pixels, affine=straight, spacing=(gap, *spacing[1:]))


def tilt_shifts(
    affine: Affine, spacing: tuple[float, float], num_slices: int
) -> tuple[Affine, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How far the slices of a tilted stack are shifted along their plane so that its axes are at right angles.

    Args:
        affine: of the tilted stack.
        spacing: of (rows, columns) in mm.
        num_slices: of the stack.

    Returns:
        The shifts (slices, 2) in rows and columns, and by how many of each the canvas grows below and above: the first
        pixel of a slice comes to lie at its shift less the lower end.
    """
    units = affine[:3, 1:3] / np.array(spacing)
    drift = (units.T @ affine[:3, 0]) / np.array(spacing)
    # Without rounding, a shift by whole rows would move the first one out of the canvas by a billionth.
    shifts = np.round(np.arange(num_slices)[:, np.newaxis] * drift, 6)
    return shifts, np.floor(shifts.min(axis=0)).astype(int), np.ceil(shifts.max(axis=0)).astype(int)


def even_places(depths: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
    """The depths of an even grid over slices of these sorted depths, as fine as the finest of them, and its spacing."""
    gap = float(np.diff(depths).min())
    return depths[0] + gap * np.arange(int((depths[-1] - depths[0]) / gap + 1e-3) + 1), gap


def evened(
    pixels: npt.NDArray[Any], depths: npt.NDArray[np.float64], *, is_label_map: bool
) -> tuple[npt.NDArray[Any], float]:
    """Resample slices of uneven spacing along their normal to the smallest of their distances.

    Values are interpolated linearly between the two nearest slices, those of label maps taken from the nearest one. The
    grid begins at the first slice and ends at the last or before it.

    Args:
        pixels: (slices, rows, columns, channels).
        depths: of the slices in mm, sorted.
        is_label_map: whether values are labels.

    Returns:
        The slices of the grid, and their distance in mm.
    """
    places, gap = even_places(depths)
    above = np.clip(np.searchsorted(depths, places), 1, len(depths) - 1)
    share = np.clip((places - depths[above - 1]) / (depths[above] - depths[above - 1]), 0, 1)
    if is_label_map:
        return pixels[np.where(share < 0.5, above - 1, above)], gap
    result = np.empty((len(places), *pixels.shape[1:]), np.float32)
    for index, (upper, weight) in enumerate(zip(above, share, strict=True)):
        result[index] = pixels[upper - 1] * np.float32(1 - weight) + pixels[upper] * np.float32(weight)
    return result, gap
