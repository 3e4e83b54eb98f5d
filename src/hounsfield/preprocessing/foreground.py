"""Separates the patient from air or black borders."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.preprocessing.statistics import extremes, is_constant, percentiles


def grey(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the mean over channels, shape = the spatial axes; one channel is passed through without a copy."""
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels.mean(axis=-1, dtype=np.float32)


def otsu_threshold(values: NDArray[Any]) -> float | None:
    """Return Otsu's threshold between dark and bright, or ``None`` for a constant image.

    Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9 (1979): the cut of a
    256-bin histogram with the largest variance between classes.
    """
    low, high = extremes(values)
    if is_constant(low, high):
        return None
    levels = ((values - np.float32(low)) * np.float32(255.999 / (high - low))).astype(np.uint8)
    counts = np.bincount(levels.ravel(), minlength=256).astype(np.float64)
    below = counts.cumsum()
    above = below[-1] - below
    moment = (counts * np.arange(256)).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        separation = below * above * (moment / below - (moment[-1] - moment) / above) ** 2
    separation = np.nan_to_num(separation[:-1])
    # Between two separate modes many cuts are equally good: the middle one is farthest from both.
    cut = float(np.flatnonzero(separation >= separation.max() * (1 - 1e-9)).mean())
    return low + (cut + 1) * (high - low) / 255.999


def foreground_mask(pixels: NDArray[Any], threshold: float | None = None) -> NDArray[Any]:
    """Return where the image is above ``threshold`` (Otsu's where none is given), over the spatial axes.

    An image without foreground (constant, or all below the threshold) counts as foreground everywhere.
    """
    values = grey(pixels)
    if threshold is None:
        threshold = otsu_threshold(values)
    if threshold is None:
        return np.ones(values.shape, dtype=bool)
    mask = np.asarray(values > threshold)
    return mask if mask.any() else np.ones(values.shape, dtype=bool)


def background_threshold(pixels: NDArray[Any]) -> float | None:
    """Return a value between air and the faintest tissue, or ``None`` for a constant image.

    Otsu's threshold separates bone from soft tissue in a radiograph; a quarter of the way to it from the first
    percentile excludes only what is hardly brighter than air.
    """
    values = grey(pixels)
    otsu = otsu_threshold(values)
    if otsu is None:
        return None
    (darkest,) = percentiles(values, (1,))
    return darkest + 0.25 * (otsu - darkest)


def foreground_box(mask: NDArray[Any]) -> tuple[tuple[int, int], ...]:
    """Return (first, last + 1) of the foreground along each axis, specks left out.

    A connected part of fewer than a twentieth of the pixels of the largest part is a speck: noise or a marker.
    """
    ndimage = importlib.import_module("scipy.ndimage")
    parts, count = ndimage.label(mask)
    if count > 1:
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        mask = (sizes >= sizes.max() / 20)[parts]
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple((int(axis.start), int(axis.stop)) for axis in box)
