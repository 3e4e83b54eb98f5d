"""What is measured of a picture as it was read: a small copy of it, saturation, sharpness, intensity.

Of a large image every second, third … sample is measured, of a volume a few slices: a fraction of what reading takes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# Samples along the shorter axis, from so many to less than twice as many of larger images; slices of a volume.
SIDE, SLICES = 128, 8
# Of the small copy, along each axis.
PICTURE = 32
# Smaller images have no fine structure that could be compared.
LEAST_SIDE = 8
# Within this share of the range a value stands at its end: compression moves saturated values a little.
END = 1 / 64
# Of the range; keeps the logarithm of a picture without structure finite.
SMALLEST = 1e-3
# What OpenCV computes with directly.
DIRECT = frozenset({"uint8", "uint16", "int16", "float32"})
# Channels that OpenCV resizes together.
FEW_CHANNELS = 4


class Measures(NamedTuple):
    """What is known of one picture.

    Attributes:
        picture: (32, 32) uint8, the mean over channels from black at its minimum to white at its maximum; ``None`` of
            a volume.
        saturated: share of the values that stand at the maximum, and at the minimum.
        sharpness: logarithm of the root mean square difference of neighbours over that of samples two apart, and of
            those over four apart: 0 of noise, −log 2 of a blurred picture.
        mean: of the values.
        deviation: their standard deviation.
    """

    picture: NDArray[np.uint8] | None
    saturated: tuple[float, float]
    sharpness: tuple[float, float]
    mean: float
    deviation: float


def measure(pixels: NDArray[Any], rank: int) -> Measures | None:
    """Measure an image, or a volume in a few of its slices.

    Args:
        pixels: (rows, columns, channels) or (slices, rows, columns, channels), of any real type.
        rank: 2 or 3.

    Returns:
        ``None`` of an image of one value, with values that are not finite, or of less than 8 pixels a side.
    """
    planes = sampled(pixels, rank)
    if planes is None:
        return None
    ends = ends_of(planes)
    saturation = saturated(planes, ends)
    if saturation is None:
        return None
    picture = small_picture(planes[0]) if rank == 2 else None
    return Measures(picture, saturation, sharpness(planes, ends), *_mean_and_deviation(planes))


def sampled(pixels: NDArray[Any], rank: int) -> NDArray[Any] | None:
    """(planes, rows, columns, channels) contiguous samples in a type of OpenCV's; ``None`` where there are too few."""
    planes = pixels[np.newaxis] if rank == 2 else pixels[:: max(1, -(-len(pixels) // SLICES))]
    shorter = min(planes.shape[1:3])
    if shorter < LEAST_SIDE or not planes.size:
        return None
    step = max(1, shorter // SIDE)
    wanted = pixels.dtype if pixels.dtype.name in DIRECT else np.float32
    chosen = planes[:, ::step, ::step]
    if not 1 < chosen.shape[-1] <= FEW_CHANNELS:
        return np.ascontiguousarray(chosen, dtype=wanted)
    # One channel after the other: a few values at a time take several times as long.
    found = np.empty(chosen.shape, wanted)
    for channel in range(chosen.shape[-1]):
        found[..., channel] = chosen[..., channel]
    return found


def ends_of(planes: NDArray[Any]) -> tuple[float, float]:
    """The minimum and the maximum of the samples."""
    low, high = cv2.minMaxLoc(_flat(planes))[:2]
    return low, high


def saturated(planes: NDArray[Any], ends: tuple[float, float]) -> tuple[float, float] | None:
    """The share of the samples at the maximum and at the minimum; ``None`` where these are one, or not finite."""
    flat = _flat(planes)
    low, high = ends
    width = (high - low) * END
    if not 0 < width < math.inf or (flat.dtype.kind == "f" and not cv2.checkRange(flat)[0]):
        return None
    # OpenCV would round the limits of whole numbers to the nearest.
    near_high, near_low = high - width, low + width
    if flat.dtype.kind != "f":
        near_high, near_low = math.ceil(near_high), math.floor(near_low)
    counts = (cv2.countNonZero(cv2.inRange(flat, *limits)) for limits in ((near_high, high), (low, near_low)))
    top, bottom = (count / flat.size for count in counts)
    return top, bottom


def sharpness(planes: NDArray[Any], ends: tuple[float, float]) -> tuple[float, float]:
    """How fine the structure of a picture is; see ``Measures``."""
    low, high = ends
    one, two, four = (_differences(planes, lag) + (high - low) * SMALLEST for lag in (1, 2, 4))
    return math.log(one / two), math.log(two / four)


def small_picture(plane: NDArray[Any]) -> NDArray[np.uint8]:
    """(32, 32) area means of (rows, columns, channels), from black to white."""
    if plane.shape[-1] > FEW_CHANNELS:
        plane = plane.mean(axis=-1, dtype=np.float32, keepdims=True)
    is_larger = min(plane.shape[:2]) >= PICTURE
    small = cv2.resize(plane, (PICTURE, PICTURE), interpolation=cv2.INTER_AREA if is_larger else cv2.INTER_LINEAR)
    if small.ndim == 3:
        small = small.mean(axis=-1, dtype=np.float32)
    return np.asarray(cv2.normalize(small, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U))


def _flat(planes: NDArray[Any]) -> NDArray[Any]:
    """Every sample as one matrix, rows below each other."""
    return planes.reshape(planes.shape[0] * planes.shape[1], -1)


def _differences(planes: NDArray[Any], lag: int) -> float:
    """The root mean square difference of samples so far apart, along rows and along columns."""
    total, count = 0.0, 0
    number, rows, columns, channels = planes.shape
    # Each plane as a matrix's row, and each row of each plane: OpenCV takes all of them at once.
    for flat, step in (
        (planes.reshape(number, -1), lag * columns * channels),
        (planes.reshape(number * rows, -1), lag * channels),
    ):
        total += cv2.norm(flat[:, step:], flat[:, :-step], cv2.NORM_L2SQR)
        count += flat.size - step * len(flat)
    return math.sqrt(total / count)


def _mean_and_deviation(planes: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation, from sums as OpenCV's ``meanStdDev``, which is slow for 16 bits."""
    flat = _flat(planes)
    mean = cv2.sumElems(flat)[0] / flat.size
    return mean, math.sqrt(max(cv2.norm(flat, cv2.NORM_L2SQR) / flat.size - mean**2, 0.0))
