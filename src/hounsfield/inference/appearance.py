"""A few plain figures of a picture, for telling what the network's features may overlook.

A network sees what it needs for its labels: an image of noise, an inverted film or another organ can have features
like those of a patient. The picture itself tells: where it is bright, how its values are distributed, and how much
changes from sample to sample at each scale.
"""

from __future__ import annotations

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
    rank, count = grey.ndim - 1, len(grey)
    scales = list(_scales(grey))
    small = next((each for each in scales if max(each.shape[1:]) <= SORTED_SIDE[rank]), scales[-1])
    thumbnails = _reduced(small, tuple(min(length, CELLS[rank]) for length in small.shape[1:]))
    values = np.sort(small.reshape(count, -1), axis=1)
    places = (np.array(SHARES) * (values.shape[1] - 1)).round().astype(np.intp)
    spreads = np.stack([grey.reshape(count, -1).std(axis=1), *map(_changes, scales)], axis=1)
    parts = (thumbnails.reshape(count, -1), values[:, places], np.log(spreads + SMALLEST))
    return np.concatenate(parts, axis=1, dtype=np.float32)


def _scales(grey: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    r"""Images (n, \*spatial), and each half of them."""
    yield grey
    while min(grey.shape[1:]) >= 2 * LEAST_SIDE:
        grey = _reduced(grey, tuple(length // 2 for length in grey.shape[1:]))
        yield grey


def _reduced(grey: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    r"""Images (n, \*spatial) averaged down to ``shape`` each."""
    if len(shape) == 3:
        return area_reduced(grey, (len(grey), *shape))
    # Both axes at once, which for one small image takes a third of the time.
    return np.stack([cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA) for image in grey])


def _changes(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(n,): the root mean square difference of neighbours, its squares summed over the axes."""
    squares = np.zeros(len(grey), np.float32)
    for axis in range(1, grey.ndim):
        difference = np.diff(grey, axis=axis).reshape(len(grey), -1)
        squares += np.einsum("nv,nv->n", difference, difference) / max(difference.shape[1], 1)
    return np.sqrt(squares)
