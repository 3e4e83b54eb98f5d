"""Small pictures of an image, by which its copies are recognised: re-encoded and resized ones, and augmented ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hounsfield.images.reduction import area_reduced, area_reduced_axis

# Cells along each axis of the thumbnail, by rank: 256 cells of a slice, 1,728 of a volume.
CELLS = {2: 16, 3: 12}
# What a small change of brightness or gamma does to a thumbnail (measured: at most 0.046 for gamma 0.9 on
# brain MRI, where different slices of one study lie 0.083 apart and more).
LEAST_TOLERANCE = 0.06
# Above this, distinct low-resolution images of one class begin to look alike (measured: 0.29 on 28-pixel radiographs).
GREATEST_TOLERANCE = 0.22
# Other encoders and resampling filters than the ones tried here may change a picture somewhat more.
MARGIN = 1.25
TRIAL_SIDE = 256
TRIAL_QUALITY = 50
# Longer side of the picture that augmented copies are recognised by, and its JPEG quality: about 5 kilobytes.
PICTURE_SIDE = 128
PICTURE_QUALITY = 95
# Images of fewer pixels a side have too few keypoints to tell one from another.
LEAST_PICTURED = 64
# Percent of the pixels that may be darker than black, and brighter than white.
CLIPPED = 0.5


class Signature(NamedTuple):
    """What copies of an image are recognised by.

    Attributes:
        thumbnail: the mean of each cell of a fixed grid as int8, up to a factor.
        tolerance: how far from the thumbnail that of a re-encoded or resized copy may lie.
        picture: a grey JPEG of at most ``PICTURE_SIDE`` pixels a side, by which augmented copies are recognised;
            ``None`` for a volume or an image of less than ``LEAST_PICTURED`` pixels.
    """

    thumbnail: bytes
    tolerance: float
    picture: bytes | None


def signature(pixels: NDArray[Any]) -> Signature | None:
    """Reduce an image to a thumbnail and a small picture, and try out how far re-encoding and halving move it.

    The thumbnail is the mean of each cell of a fixed grid, over the channels, with mean 0 and variance 1 over the
    grid, so that size, compression, brightness and contrast hardly change it. The tolerance is measured on the very
    image: the distance (see ``duplicates``) to the thumbnail of its half-size copy and, in 2D, of its JPEG copy of
    quality 50. A 28-pixel image loses far more to either than a radiograph of 2,000 pixels.

    Args:
        pixels: (rows, columns, channels) or (slices, rows, columns, channels), any real type.

    Returns:
        The signature, or ``None`` for an image without contrast, which resembles nothing.
    """
    grey = _cells(pixels, _trial_shape(pixels.shape[:-1]))
    thumbnail = _standardised(grey)
    if thumbnail is None:
        return None
    copies = [area_reduced(grey, tuple(max(1, length // 2) for length in grey.shape))]
    if grey.ndim == 2:
        copies.append(_recompressed(grey))
    changes = [
        float(np.linalg.norm(other - thumbnail)) for copy in copies if (other := _standardised(copy)) is not None
    ]
    tolerance = min(max(LEAST_TOLERANCE, MARGIN * max(changes, default=0.0)), GREATEST_TOLERANCE)
    # A small bright object on an empty ground reaches many deviations, so the greatest value sets the scale.
    scaled = np.rint(thumbnail * (127.0 / float(np.abs(thumbnail).max())))
    picture = _small_picture(grey, pixels.shape[:-1])
    return Signature(scaled.astype(np.int8).tobytes(), tolerance, picture)


def _trial_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Bound the work: no axis longer than a multiple of the grid that is far above its resolution."""
    limit = TRIAL_SIDE if len(shape) == 2 else TRIAL_SIDE // 4
    return tuple(min(length, limit) for length in shape)


def _cells(pixels: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Average channels and area down to ``shape``, slice by slice so that a volume is never copied whole."""
    if pixels.ndim == 4:
        slices = np.stack([_cells(one, shape[1:]) for one in pixels])
        return area_reduced_axis(slices, 0, shape[0])
    grey = pixels[..., 0] if pixels.shape[-1] == 1 else pixels.mean(axis=-1, dtype=np.float32)
    grey = np.asarray(np.nan_to_num(grey.astype(np.float32, copy=False), posinf=0.0, neginf=0.0))
    return grey if grey.shape == shape else area_reduced(grey, shape)


def _standardised(grey: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The thumbnail as a vector of mean 0 and length 1, or ``None`` where every cell is alike."""
    cells = area_reduced(grey, (CELLS[grey.ndim],) * grey.ndim).ravel()
    centred = cells - cells.mean()
    length = float(np.linalg.norm(centred))
    if length <= 1e-6 * max(1.0, float(np.abs(cells).max())) * np.sqrt(cells.size):
        return None
    result: NDArray[np.float32] = centred / length
    return result


def _recompressed(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = float(grey.min()), float(grey.max())
    bytes_ = np.rint((grey - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)
    encoded = cv2.imencode(".jpg", bytes_, [cv2.IMWRITE_JPEG_QUALITY, TRIAL_QUALITY])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), dtype=np.float32)


def _small_picture(grey: NDArray[np.float32], shape: tuple[int, ...]) -> bytes | None:
    """The picture for ``copies``, with the sides in the proportion of the image's ``shape``."""
    if len(shape) != 2 or min(shape) < LEAST_PICTURED:
        return None
    factor = PICTURE_SIDE / max(shape)
    rows, columns = (max(1, round(length * factor)) for length in shape)
    small = area_reduced(grey, (rows, columns)) if factor < 1 else cv2.resize(grey, (columns, rows))
    low, high = np.percentile(small, (CLIPPED, 100 - CLIPPED))
    if not high > low:
        return None
    stretched = np.rint(np.clip((small - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)
    return cv2.imencode(".jpg", stretched, [cv2.IMWRITE_JPEG_QUALITY, PICTURE_QUALITY])[1].tobytes()
