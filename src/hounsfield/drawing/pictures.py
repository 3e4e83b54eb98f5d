"""Small pictures of images for a page: as a reader would display them, embedded in the page."""

from __future__ import annotations

import base64
import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hounsfield.images.image import Image, Metadata

JPEG_QUALITY = 85
# The range of a volume is that of so many of its values at least, slices left out evenly.
SAMPLED = 2**24
# Centre and width of the window of bytes.
BYTES = (127.5, 255.0)
# Okabe and Ito's, for eyes that see colours less.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def preview(image: Image, side: int) -> NDArray[np.uint8]:
    """An image for display: its window applied, its pixels square, its longer side ``side``.

    Of a volume the middle slice is shown; see :func:`displayed`.

    Returns:
        (rows, columns) or, for colour, (rows, columns, 3) as red, green, blue.
    """
    flat = Image(image.pixels[image.shape[0] // 2], metadata=image.metadata) if image.rank == 3 else image
    values = 255 * displayed(flat)
    rows, columns = _display_size(image, side)
    return np.asarray(np.rint(cv2.resize(values, (columns, rows), interpolation=cv2.INTER_AREA)), dtype=np.uint8)


def displayed(image: Image) -> NDArray[np.float32]:
    """The values of an image as displayed, from 0 (black) to 1 (white), in its own geometry.

    The first window of the header is used; without one, bytes are taken as they are and other values are shown from
    percentile 1 to 99.

    Returns:
        The spatial shape, and 3 channels behind it for colour.
    """
    values = _values(image)
    return _scaled(values, *_range(image, values))


def shown_slice(image: Image, number: int) -> Image:
    """One slice of a volume for display, in the range of the whole volume: uint8, with the spacing within the slice."""
    some = image.pixels[:: max(1, math.ceil(image.pixels.size / SAMPLED))]
    low, high = _range(image, _values(image.replace(pixels=some, affine=None)))
    shown = _scaled(_values(Image(image.pixels[number])), low, high)
    pixels = np.rint(255 * shown).astype(np.uint8)
    spacing = image.spacing[1:] if image.spacing else None
    # Whatever the slice holds, it is shown in this range.
    return Image(
        pixels if pixels.ndim == 3 else pixels[..., np.newaxis], spacing=spacing, metadata=Metadata(windows=(BYTES,))
    )


def _values(image: Image) -> NDArray[np.float32]:
    shown = image.pixels if image.channels == 3 else image.pixels[..., 0]
    return np.nan_to_num(shown.astype(np.float32), posinf=0.0, neginf=0.0)


def _scaled(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    return np.asarray(np.clip((values - low) / max(high - low, 1e-12), 0, 1), np.float32)


def _range(image: Image, values: NDArray[np.float32]) -> tuple[float, float]:
    if image.metadata.windows:
        center, width = image.metadata.windows[0]
        return center - width / 2, center + width / 2
    # The values of a label map or a mask are small, and would be black as they are.
    if image.pixels.dtype == np.uint8 and float(values.max()) > 32:
        return 0.0, 255.0
    low, high = (float(value) for value in np.percentile(values, (1, 99)))
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def _display_size(image: Image, side: int) -> tuple[int, int]:
    steps = image.spacing[-2:] if image.spacing else (1.0, 1.0)
    height, width = (length * step for length, step in zip(image.shape[-2:], steps, strict=True))
    scale = side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def data_address(picture: NDArray[Any]) -> str:
    """A picture as a ``data:`` URL, so that a page needs no other file."""
    ordered = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    encoded = cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
