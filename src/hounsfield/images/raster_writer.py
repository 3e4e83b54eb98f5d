"""Pictures as PNG and TIFF, encoded by OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import ImageError
from hounsfield.images.image import Image
from hounsfield.images.png_palette import write_palette
from hounsfield.images.unwritable import unwritable


def _flat_pixels(image: Image, kind: str) -> NDArray[Any]:
    """A 2D image in the order of OpenCV."""
    if image.rank != 2 or image.channels not in {1, 3}:
        raise unwritable(image, kind, "one 2D image of 1 or 3 channels")
    return image.pixels[..., ::-1] if image.channels == 3 else image.pixels


def _encode(suffix: str, pixels: NDArray[Any], path: Path) -> None:
    done, content = cv2.imencode(suffix, np.ascontiguousarray(pixels))
    if not done:
        raise ImageError(f"OpenCV could not encode pixels of shape {pixels.shape} and type {pixels.dtype} as {suffix}.")
    path.write_bytes(content.tobytes())


def write_png(image: Image, path: Path) -> None:
    """Write a 2D image of whole numbers from 0 to 65535; a label map of 8 bits with its colours and names."""
    pixels = _flat_pixels(image, "A PNG")
    if image.metadata.labels and pixels.dtype == np.uint8 and image.channels == 1:
        write_palette(np.ascontiguousarray(pixels[..., 0]), image.metadata.labels, path)
        return
    if pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 65535:
        raise unwritable(image, "A PNG", "whole numbers from 0 to 65535")
    _encode(".png", pixels.astype(np.uint8 if pixels.dtype.itemsize == 1 else np.uint16), path)


def write_tiff(image: Image, path: Path) -> None:
    """Write a 2D image of integers of up to 32 bits with a sign, or of floats."""
    pixels = _flat_pixels(image, "A TIFF")
    if pixels.dtype.name not in {"uint8", "int8", "uint16", "int16", "int32", "float32", "float64"}:
        raise unwritable(image, "A TIFF", "integers of up to 32 bits with a sign, or floats")
    _encode(".tif", pixels, path)
