"""Steps that make structures easier to see: contrast, brightness, noise."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from hounsfield.images.image import Image
from hounsfield.preprocessing.interpolation import along_axis, gaussian_matrix, to_type
from hounsfield.preprocessing.statistics import extremes, is_constant
from hounsfield.preprocessing.step import Step, with_intensities


class Clahe(Step):
    """Contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994) by OpenCV.

    The histogram of each of ``tiles`` × ``tiles`` regions is equalised, clipped at ``clip_limit`` times its mean.
    Colour keeps its hue: only the lightness of CIELAB changes. A volume is equalised slice by slice. It works in
    256 levels from the image's minimum to its maximum (the 256 values of an 8-bit image), so put ``window`` or
    ``percentile`` before it where outliers stretch the range. 8-bit images stay 8-bit, others become float32 in
    their own range; a constant image is left unchanged.
    """

    name: Literal["clahe"] = "clahe"
    clip_limit: PositiveFloat = 2.0
    tiles: int = Field(default=8, ge=1, le=256)

    def _apply(self, image: Image) -> Image:
        if is_constant(*extremes(image.pixels)):
            return image
        levels, restore = _in_256_levels(image.pixels)
        equaliser = cv2.createCLAHE(clipLimit=self.clip_limit, tileGridSize=(self.tiles, self.tiles))

        def equalise(pixels: NDArray[Any]) -> NDArray[Any]:
            if pixels.shape[-1] != 3:
                return np.stack([equaliser.apply(channel) for channel in np.moveaxis(pixels, -1, 0)], axis=-1)
            lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
            lab[..., 0] = equaliser.apply(lab[..., 0])
            return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))

        return with_intensities(image, restore(slice_by_slice(equalise, levels)))


class Gamma(Step):
    """Raise intensities to the power ``gamma``: below 1 brightens, above 1 darkens.

    Intensities are scaled from the image's minimum (0) to its maximum (1), and both are kept. 8-bit images stay
    8-bit, others become float32; a constant image is left unchanged.
    """

    name: Literal["gamma"] = "gamma"
    gamma: PositiveFloat

    def _apply(self, image: Image) -> Image:
        low, high = extremes(image.pixels)
        if is_constant(low, high):
            return image
        if image.pixels.dtype == np.uint8:
            level = np.clip((np.arange(256) - low) / (high - low), 0, 1)
            table = np.rint(level**self.gamma * (high - low) + low).astype(np.uint8)
            return with_intensities(image, table[image.pixels])
        pixels = np.subtract(image.pixels, np.float32(low), dtype=np.float32)
        pixels *= np.float32(1 / (high - low))
        np.power(np.clip(pixels, 0, 1, out=pixels), np.float32(self.gamma), out=pixels)
        pixels *= np.float32(high - low)
        pixels += np.float32(low)
        return with_intensities(image, pixels)


class Denoise(Step):
    """Reduce noise; 8-bit images stay 8-bit, others become float32.

    ``strength`` is for ``"median"`` the radius of the window in pixels (rounded, at least 1), for ``"gaussian"``
    the standard deviation in pixels. ``"bilateral"`` (Tomasi & Manduchi, ICCV 1998) and ``"non_local_means"``
    (Buades et al., CVPR 2005) keep edges; there ``strength`` is the noise to remove in units of 2 % of the image's
    range. These two work slice by slice on volumes, the others along all axes.
    """

    name: Literal["denoise"] = "denoise"
    method: Literal["median", "gaussian", "bilateral", "non_local_means"] = "median"
    strength: float = Field(default=1.0, gt=0, le=20)

    def _apply(self, image: Image) -> Image:
        smooth: dict[str, Callable[[NDArray[Any], float], NDArray[Any]]] = {
            "median": _median,
            "gaussian": _gaussian,
            "bilateral": _bilateral,
            "non_local_means": _non_local_means,
        }
        pixels = image.pixels if image.pixels.dtype == np.uint8 else image.pixels.astype(np.float32)
        return image.replace(pixels=smooth[self.method](pixels, self.strength))


def slice_by_slice(operation: Callable[[NDArray[Any]], NDArray[Any]], pixels: NDArray[Any]) -> NDArray[Any]:
    """Return ``operation`` of a slice (rows, columns, channels), or of each slice of a volume."""
    if pixels.ndim == 3:
        return operation(np.ascontiguousarray(pixels))
    return np.stack([operation(np.ascontiguousarray(part)) for part in pixels])


def _in_256_levels(pixels: NDArray[Any]) -> tuple[NDArray[np.uint8], Callable[[NDArray[Any]], NDArray[Any]]]:
    """Return the pixels in 8 bits, and the function back to their own range."""
    if pixels.dtype == np.uint8:
        return pixels, lambda levels: levels
    low, high = extremes(pixels)
    step = (high - low) / 255
    levels = np.rint((pixels - np.float32(low)) * np.float32(1 / step)).astype(np.uint8)
    return levels, lambda result: result.astype(np.float32) * np.float32(step) + np.float32(low)


def _median(pixels: NDArray[Any], strength: float) -> NDArray[Any]:
    width = 2 * max(1, round(strength)) + 1
    if pixels.ndim == 3 and pixels.shape[-1] <= 4 and (width <= 5 or pixels.dtype == np.uint8):
        return np.asarray(cv2.medianBlur(pixels, width)).reshape(pixels.shape)
    window = (width,) * (pixels.ndim - 1) + (1,)
    ndimage = importlib.import_module("scipy.ndimage")
    return np.asarray(ndimage.median_filter(pixels, size=window, mode="nearest"))


def _gaussian(pixels: NDArray[Any], strength: float) -> NDArray[Any]:
    result = pixels.astype(np.float32)
    if pixels.ndim == 3:
        width = 2 * max(1, math.ceil(4 * strength)) + 1
        blurred = cv2.GaussianBlur(result, (width, width), strength, borderType=cv2.BORDER_REPLICATE)
        return to_type(np.asarray(blurred).reshape(pixels.shape), pixels.dtype)
    for axis in range(pixels.ndim - 1):
        result = along_axis(gaussian_matrix(pixels.shape[axis], strength), result, axis)
    return to_type(result, pixels.dtype)


def _bilateral(pixels: NDArray[Any], strength: float) -> NDArray[Any]:
    intensity = 0.02 * strength * _range_of(pixels)

    def smooth(part: NDArray[Any]) -> NDArray[Any]:
        if part.shape[-1] == 3:
            return np.asarray(cv2.bilateralFilter(part, 9, intensity, 3.0, borderType=cv2.BORDER_REPLICATE))
        channels = [
            cv2.bilateralFilter(np.ascontiguousarray(channel), 9, intensity, 3.0, borderType=cv2.BORDER_REPLICATE)
            for channel in np.moveaxis(part, -1, 0)
        ]
        return np.stack(channels, axis=-1)

    return slice_by_slice(smooth, pixels) if intensity else pixels


def _non_local_means(pixels: NDArray[Any], strength: float) -> NDArray[Any]:
    if not _range_of(pixels):
        return pixels
    if pixels.dtype == np.uint8:
        height = 0.02 * strength * _range_of(pixels)
        return slice_by_slice(lambda part: _non_local_means_of(part, height, cv2.NORM_L2), pixels)
    # OpenCV's filter takes integers; the rounding to 16 bits is far below any noise.
    low, step = pixels.min(), _range_of(pixels) / 65535
    levels = np.rint((pixels - low) / np.float32(step)).astype(np.uint16)
    smooth = slice_by_slice(lambda part: _non_local_means_of(part, 0.02 * strength * 65535, cv2.NORM_L1), levels)
    return np.asarray(smooth.astype(np.float32) * np.float32(step) + low)


def _non_local_means_of(part: NDArray[Any], height: float, norm: int) -> NDArray[Any]:
    channels = [
        cv2.fastNlMeansDenoising(np.ascontiguousarray(channel), h=[height], normType=norm)
        for channel in np.moveaxis(part, -1, 0)
    ]
    return np.stack(channels, axis=-1)


def _range_of(pixels: NDArray[Any]) -> float:
    low, high = extremes(pixels)
    return high - low
