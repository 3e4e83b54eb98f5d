"""The identity of an image's pixels, whatever file they came from."""

from __future__ import annotations

import hashlib

import numpy as np

from hounsfield.images.image import Image


def pixel_digest(image: Image) -> str:
    """Hash the decoded pixels, so that two files with the same picture have the same digest.

    The type (its byte order set aside), the shape and every value enter the BLAKE2b hash (RFC 7693) of 128 bits;
    names, compression, spacing and metadata do not.

    Args:
        image: any image; its pixels are (rows, columns, channels) or (slices, rows, columns, channels).

    Returns:
        32 hexadecimal digits.
    """
    pixels = image.pixels
    little = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    digest = hashlib.blake2b(f"{little.dtype.str} {little.shape} ".encode(), digest_size=16)
    digest.update(little.data)
    return digest.hexdigest()
