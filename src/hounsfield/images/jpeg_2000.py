"""JPEG 2000 files: ``.jp2`` and bare codestreams, decoded by OpenJPEG after their headers have been checked."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np

from hounsfield.errors import ImageError
from hounsfield.images.files import read_whole
from hounsfield.images.image import Image, Metadata
from hounsfield.images.jpeg import END_OF_IMAGE, START_OF_CODESTREAM, codestream_size
from hounsfield.images.limits import MAX_PIXELS

# Boxes of a JP2 file (ITU-T T.800, annex I): the one that holds others, the codestream, and what its channels mean.
HEADER, CODESTREAM, CHANNELS = b"jp2h", b"jp2c", b"cdef"
# Where a codestream says how many bits its first component has, less one, and above them whether they are signed.
DEPTH_AT = 42


def read_jpeg_2000(path: Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Read a JPEG 2000 file as a 2D image without geometry, in the range that its bits have.

    Grey is one channel and colours three (red, green, blue); what the file calls opacity is dropped; any other
    component is a channel of its own.

    Raises:
        ImageError: the file is damaged, truncated, or declares more than ``max_pixels`` values.
    """
    content = read_whole(path, max_pixels)
    try:
        boxes = dict(_boxes(content))
        codestream = boxes[CODESTREAM]
        rows, columns, samples = codestream_size(codestream)
    except (struct.error, KeyError, IndexError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it ends too early"
        raise _damaged(path, reason) from error
    if END_OF_IMAGE not in codestream[-64:]:
        raise _damaged(path, "it ends before its end-of-codestream marker")
    if rows < 1 or columns < 1 or rows * columns * max(samples, 3) > max_pixels:
        raise ImageError(
            f"{path} declares {rows} × {columns} pixels of {samples} values, which is none or more than the limit of "
            f"{max_pixels} values. Raise --max-pixels if the file is to be trusted."
        )
    try:
        pixels = np.asarray(imagecodecs.jpeg2k_decode(content))
    except (RuntimeError, ValueError, MemoryError, imagecodecs.Jpeg2kError) as error:
        raise _damaged(path, "its pixels cannot be decoded") from error
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    kept = [channel for channel in range(pixels.shape[-1]) if channel not in _opacity(boxes.get(CHANNELS, b""))]
    bits = (codestream[DEPTH_AT] & 0x7F) + 1
    return Image(pixels=np.ascontiguousarray(pixels[..., kept]), metadata=Metadata(bits=bits))


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of the boxes of a file and of its header; a bare codestream is a box by itself."""
    if content.startswith(START_OF_CODESTREAM):
        yield CODESTREAM, content
        return
    position, end = 0, len(content)
    while position + 8 <= end:
        length, kind = struct.unpack_from(">I4s", content, position)
        start = position + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", content, start)
            start += 8
        stop = end if length == 0 else position + length
        if not start <= stop <= end:
            raise ValueError("one of its parts is longer than the file")
        yield kind, content[start:stop]
        if kind == HEADER:
            yield from ((inner, found) for inner, found in _boxes(content[start:stop]) if inner == CHANNELS)
        if kind == CODESTREAM:
            return
        position = stop


def _opacity(definition: bytes) -> set[int]:
    """The channels that a definition (ITU-T T.800, I.5.3.6) calls opacity, multiplied into the colours or not."""
    entries = [struct.unpack_from(">HH", definition, at) for at in range(2, len(definition) - 5, 6)]
    return {channel for channel, kind in entries if kind in {1, 2}}


def _damaged(path: Path, reason: str) -> ImageError:
    return ImageError(f"{path} cannot be read as a JPEG 2000 image: {reason}. Export it again from its source.")
