"""A few plain figures of a picture, for telling what the network's features may overlook.

A network sees what it needs for its labels: an image of noise, an inverted film or another organ can have features
like those of a patient. The picture itself tells: where it is bright, how its values are distributed, and how much
changes from sample to sample at each scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from hounsfield.images.reduction import area_reduced

# Cells along each axis of the thumbnail, by rank: 64 in all.
CELLS = {2: 8, 3: 4}
# Scales are halved while the shorter side keeps so many samples.
LEAST_SIDE = 7
# Values are sorted at a scale of at most so many samples along an axis, by rank.
SORTED_SIDE = {2: 32, 3: 16}
SHARES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
# Where nothing changes, its logarithm is that of this.
SMALLEST = 1e-3


def appearances(batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    r"""Describe prepared images (n, \*spatial, channels): (n, figures), the same figures for one shape.

    A thumbnail of 8×8 or 4×4×4 cells, seven quantiles, the logarithm of the standard deviation, and the logarithm of
    the root mean square difference of neighbours, at full size and at each half of it.
    """
    grey = batch[..., 0] if batch.shape[-1] == 1 else batch.mean(axis=-1)
    return np.array([_appearance(image) for image in grey])


def layout(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Where a prepared image (spatial …, channels) is bright: its means over 8×8 or 4×4×4 cells, whatever its size."""
    grey = pixels[..., 0] if pixels.shape[-1] == 1 else pixels.mean(axis=-1)
    return np.ascontiguousarray(area_reduced(grey, (CELLS[grey.ndim],) * grey.ndim))


def _appearance(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The figures of one image; by OpenCV, whose calls take less time than NumPy's where there is little to do."""
    rank, scales = grey.ndim, list(_scales(grey))
    small = next((each for each in scales if max(each.shape) <= SORTED_SIDE[rank]), scales[-1])
    thumbnail = area_reduced(small, tuple(min(length, CELLS[rank]) for length in small.shape))
    values = small.flatten()
    values.sort()
    quantiles = values[[round(share * (len(values) - 1)) for share in SHARES]]
    deviation = cv2.meanStdDev(grey.reshape(1, -1))[1].item()
    spreads = [math.log(spread + SMALLEST) for spread in (deviation, *map(_changes, scales))]
    return np.concatenate((thumbnail.ravel(), quantiles, spreads), dtype=np.float32)


def _scales(grey: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    """The image, and each half of it."""
    yield grey
    while min(grey.shape) >= 2 * LEAST_SIDE:
        grey = area_reduced(grey, tuple(length // 2 for length in grey.shape))
        yield grey


def _changes(grey: npt.NDArray[np.float32]) -> float:
    """The root mean square difference of neighbours, its squares summed over the axes."""
    squares = 0.0
    for axis in range(grey.ndim):
        before = (slice(None),) * axis
        later, earlier = grey[(*before, slice(1, None))], grey[(*before, slice(None, -1))]
        if later.size:
            squares += cv2.norm(later, earlier, cv2.NORM_L2SQR) / later.size
    return math.sqrt(squares)
