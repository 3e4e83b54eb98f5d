"""Images degraded on purpose, as they are in practice, to see when a network fails.

After Hendrycks, Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations": five
severities each. Strengths are relative to the image (its range of values, its size), so that they mean the same for 28
pixels and for 2,000, for 8 bits and for Hounsfield units.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import UsageError
from hounsfield.images.colour import is_grey
from hounsfield.images.image import Image
from hounsfield.preprocessing.enhancement import slice_by_slice
from hounsfield.preprocessing.interpolation import to_type
from hounsfield.preprocessing.statistics import percentiles

SEVERITIES = (1, 2, 3, 4, 5)
# Strengths of noise and contrast are relative to the range between these percentiles, so that a hot pixel or a metal
# marker does not set the scale.
RANGE = (0.5, 99.5)

Pixels = NDArray[Any]
# Pixels in float32, strength, generator -> pixels in float32.
Change = Callable[[NDArray[np.float32], float, np.random.Generator], NDArray[np.float32]]


@dataclass(frozen=True)
class Corruption:
    """One kind of degradation.

    Attributes:
        title: in figures.
        unit: of the strengths.
        strengths: one per severity.
        change: degrades float32 pixels; the result gets the image's own type.
        ranks: 2 and 3, or 3 alone.
    """

    title: str
    unit: str
    strengths: tuple[float, float, float, float, float]
    change: Change
    ranks: tuple[int, ...] = (2, 3)


def corrupted(image: Image, name: str, severity: int, *, seed: int = 0) -> Image:
    """The degraded image.

    Args:
        image: 2D or a volume, which is blurred, compressed and rotated slice by slice.
        name: in ``CORRUPTIONS``.
        severity: 1 (barely visible) to 5 (barely usable).
        seed: of noise, directions and positions; the same seed gives the same image.

    Raises:
        UsageError: no such corruption or severity, or none for images of this rank.
    """
    if name not in CORRUPTIONS or severity not in SEVERITIES:
        raise UsageError(
            f"There is no corruption '{name}' of severity {severity}: expected one of {', '.join(CORRUPTIONS)} of "
            "severity 1 to 5."
        )
    corruption = CORRUPTIONS[name]
    if image.rank not in corruption.ranks:
        raise UsageError(f"The corruption '{name}' is for volumes, and this image has rank {image.rank}. Leave it out.")
    generator = np.random.default_rng((seed, severity, zlib.crc32(name.encode())))
    pixels = corruption.change(image.pixels.astype(np.float32), corruption.strengths[severity - 1], generator)
    # The affine of a cropped image no longer holds.
    moved = pixels.shape != image.pixels.shape
    return image.replace(pixels=to_type(pixels, image.pixels.dtype), affine=None if moved else image.affine)


def corruption_names(rank: int) -> tuple[str, ...]:
    """The corruptions for images of a rank."""
    return tuple(name for name, corruption in CORRUPTIONS.items() if rank in corruption.ranks)


def _noise(pixels: NDArray[np.float32], strength: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Gaussian, with one standard deviation everywhere: few photons, a weak coil."""
    low, high = percentiles(pixels, RANGE)
    # A grey image in three channels stays grey.
    shape = (*pixels.shape[:-1], 1) if is_grey(pixels) else pixels.shape
    added = generator.standard_normal(shape, np.float32) * np.float32(strength * (high - low))
    return np.clip(pixels + added, pixels.min(), pixels.max())


def _blur(pixels: NDArray[np.float32], strength: float, _: np.random.Generator) -> NDArray[np.float32]:
    """Gaussian: motion, a large focal spot, an image enlarged on its way."""
    sigma = strength * min(pixels.shape[-3:-1])

    def blurred(part: Pixels) -> Pixels:
        smooth = cv2.GaussianBlur(part, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(smooth).reshape(part.shape)

    return slice_by_slice(blurred, pixels)


def _contrast(pixels: NDArray[np.float32], strength: float, _: np.random.Generator) -> NDArray[np.float32]:
    """Values moved towards their mean; an integer type then has fewer levels."""
    mean = np.float32(pixels.mean(dtype=np.float64))
    return mean + (pixels - mean) * np.float32(strength)


def _gamma(pixels: NDArray[np.float32], strength: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Too dark or too bright: the range of values raised to a power or to its inverse."""
    low, high = percentiles(pixels, RANGE)
    if high <= low:
        return pixels
    power = np.float32(strength if generator.random() < 0.5 else 1 / strength)
    share = np.clip((pixels - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(np.float32(low) + np.power(share, power) * np.float32(high - low))


def _jpeg(pixels: NDArray[np.float32], strength: float, _: np.random.Generator) -> NDArray[np.float32]:
    """Saved as a JPEG of this quality, in 8 bits of its range of values."""
    low, high = float(pixels.min()), float(pixels.max())
    if high <= low:
        return pixels
    levels = np.rint((pixels - low) * np.float32(255 / (high - low))).astype(np.uint8)

    def recoded(part: Pixels) -> Pixels:
        if part.shape[-1] not in (1, 3):
            return np.concatenate([recoded(part[..., [channel]]) for channel in range(part.shape[-1])], axis=-1)
        # OpenCV takes and gives blue, green, red: reversed both ways, so that JPEG sees the true colours.
        _, encoded = cv2.imencode(".jpg", part[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(strength)])
        flag = cv2.IMREAD_COLOR if part.shape[-1] == 3 else cv2.IMREAD_GRAYSCALE
        return np.asarray(cv2.imdecode(encoded, flag)).reshape(part.shape)[..., ::-1]

    return slice_by_slice(recoded, levels).astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)


def _rotation(pixels: NDArray[np.float32], strength: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Rotated about the centre, in either direction; pixels from outside get the minimum."""
    rows, columns = pixels.shape[-3:-1]
    angle = strength if generator.random() < 0.5 else -strength
    matrix = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), angle, 1)
    fill = (float(pixels.min()),) * 4

    def rotated(part: Pixels) -> Pixels:
        channels = [
            cv2.warpAffine(np.ascontiguousarray(part[..., channel]), matrix, (columns, rows), borderValue=fill)
            for channel in range(part.shape[-1])
        ]
        return np.stack(channels, axis=-1)

    return slice_by_slice(rotated, pixels)


def _crop(pixels: NDArray[np.float32], strength: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """A part of the field of view is missing: rows and columns are cropped, more on one side than on the other."""
    for axis in (pixels.ndim - 3, pixels.ndim - 2):
        length = pixels.shape[axis]
        kept = max(1, round(length * (1 - strength)))
        start = int(generator.integers(0, length - kept + 1))
        pixels = np.take(pixels, np.arange(start, start + kept), axis=axis)
    return pixels


def _missing_slices(
    pixels: NDArray[np.float32], strength: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Missing slices: randomly chosen slices are filled with the minimum."""
    count = len(pixels)
    lost = generator.choice(count, size=min(count - 1, max(1, round(strength * count))), replace=False)
    result = pixels.copy()
    result[lost] = pixels.min()
    return result


CORRUPTIONS: dict[str, Corruption] = {
    "noise": Corruption("Noise", "standard deviation, share of the range", (0.02, 0.05, 0.08, 0.12, 0.18), _noise),
    "blur": Corruption("Blur", "sigma, share of the shorter side", (0.008, 0.015, 0.022, 0.03, 0.04), _blur),
    "contrast": Corruption("Low contrast", "share of the contrast left", (0.6, 0.4, 0.25, 0.15, 0.08), _contrast),
    "gamma": Corruption("Gamma", "power or its inverse", (1.2, 1.5, 1.9, 2.4, 3.0), _gamma),
    "jpeg": Corruption("JPEG", "quality", (60, 35, 20, 10, 5), _jpeg),
    "rotation": Corruption("Rotation", "degrees", (3, 6, 10, 15, 22), _rotation),
    "crop": Corruption("Cropping", "share cropped from each axis", (0.05, 0.1, 0.15, 0.2, 0.3), _crop),
    "missing_slices": Corruption("Missing slices", "share of them", (0.05, 0.1, 0.2, 0.3, 0.45), _missing_slices, (3,)),
}
