"""Raster files: PNG, JPEG, TIFF and BMP, decoded by OpenCV after their headers have been checked."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.image import Image, Metadata

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
TIFF_MAGICS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
BMP_MAGIC = b"BM"

# JPEG: markers that start a frame and so carry its size (ITU-T T.81, table B.1), without DHT, JPG and DAC.
JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# JPEG: markers without a length after them.
JPEG_BARE_MARKERS = frozenset(range(0xD0, 0xD9)) | {0x01}
# OpenCV keeps the depth, gives 1 or 3 channels without alpha, and turns a JPEG as its EXIF orientation says.
DECODING = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR

# OpenCV writes what it thinks of damaged files to standard error by itself; here the ImageError says it.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_raster(path: Path, max_pixels: int) -> Image:
    """Read a PNG, JPEG, TIFF or BMP file as a 2D image without geometry, in the type that it is stored in.

    Grey stays one channel; palettes and colours become three (red, green, blue); transparency is dropped.

    Raises:
        ImageError: the file is damaged, of another kind, has several pages, or declares more than ``max_pixels``
            values.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}. Check the path and its rights.") from error
    _check_size(content, path, max_pixels)
    try:
        pixels = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), DECODING)
    except (cv2.error, MemoryError) as error:
        raise _damaged(path, "its pixels cannot be decoded") from error
    if pixels is None:
        raise _damaged(path, "its pixels cannot be decoded")
    pixels = _channels_last(pixels, content)
    return Image(pixels=pixels, metadata=Metadata(bits=pixels.dtype.itemsize * 8))


def _channels_last(pixels: npt.NDArray[Any], content: bytes) -> npt.NDArray[Any]:
    if pixels.ndim == 2:
        return pixels[..., np.newaxis]
    if content.startswith(PNG_MAGIC) and content[25] == 4:  # PNG colour type 4: grey with transparency
        return np.ascontiguousarray(pixels[..., :1])
    return np.ascontiguousarray(pixels[..., ::-1])  # cvtColor refuses signed and 64-bit colours


def _check_size(content: bytes, path: Path, max_pixels: int) -> None:
    for magics, declared_size in HEADERS:
        if content.startswith(magics):
            try:
                rows, columns, samples = declared_size(content)
            except (struct.error, IndexError, ValueError, KeyError) as error:
                raise _damaged(path, str(error) if isinstance(error, ValueError) else "it ends too early") from error
            break
    else:
        raise ImageError(
            f"{path} is none of PNG, JPEG, TIFF and BMP by its first bytes. If it is of another format, give it that "
            "format's suffix."
        )
    if rows < 1 or columns < 1 or rows * columns * samples > max_pixels:
        raise ImageError(
            f"{path} declares {rows} × {columns} pixels of {samples} values, which is none or more than "
            f"the limit of {max_pixels} values. Raise max_pixels if the file is to be trusted."
        )


def _png_size(content: bytes) -> tuple[int, int, int]:
    """Size from IHDR, after the checksum of every chunk up to IEND has been tried (PNG specification, section 5)."""
    columns, rows = struct.unpack_from(">II", content, 16)
    position = len(PNG_MAGIC)
    view = memoryview(content)
    while True:
        length, kind = struct.unpack_from(">I4s", content, position)
        (checksum,) = struct.unpack_from(">I", content, position + 8 + length)
        if zlib.crc32(view[position + 4 : position + 8 + length]) != checksum:
            raise ValueError(f"the checksum of its part {kind!r} is wrong")
        if kind == b"IEND":
            return rows, columns, 1 if content[25] in (0, 4) else 3
        position += length + 12


def jpeg_size(content: bytes) -> tuple[int, int, int]:
    """Size from the frame header (ITU-T T.81, B.2.2), after the end-of-image marker has been found."""
    if content.rfind(b"\xff\xd9") < 0:
        raise ValueError("it ends before its end-of-image marker")
    position = 2
    while True:
        if content[position] != 0xFF:
            raise ValueError("its markers are out of place")
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in JPEG_BARE_MARKERS:
            position += 2
        elif marker in JPEG_FRAME_MARKERS:
            rows, columns, samples = struct.unpack_from(">HHB", content, position + 5)
            return rows, columns, 1 if samples == 1 else 3
        else:
            position += 2 + max(2, struct.unpack_from(">H", content, position + 2)[0])


def _tiff_size(content: bytes) -> tuple[int, int, int]:
    """Size from the first directory (TIFF 6.0, section 2; BigTIFF alike); several full pages are refused."""
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\x00", b"\x00+")
    count_format, entry_format, offset_format = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    entry_size = struct.calcsize(order + entry_format)
    (directory,) = struct.unpack_from(order + offset_format, content, 8 if big else 4)
    (num_entries,) = struct.unpack_from(order + count_format, content, directory)
    start = directory + struct.calcsize(order + count_format)
    tags: dict[int, int] = {}
    for index in range(num_entries):
        tag, kind, _, value = struct.unpack_from(order + entry_format, content, start + index * entry_size)
        if kind == 3:  # a 16-bit number stands at the front of its field
            (value,) = struct.unpack_from(order + "H", content, start + (index + 1) * entry_size - (8 if big else 4))
        tags[tag] = value
    (next_directory,) = struct.unpack_from(order + offset_format, content, start + num_entries * entry_size)
    if next_directory:
        raise ValueError("it has several pages; save each page as a file, or the stack as a volume")
    return tags[257], tags[256], 1 if tags.get(277, 1) < 3 and tags.get(262) != 3 else 3


def _bmp_size(content: bytes) -> tuple[int, int, int]:
    columns, rows = struct.unpack_from("<ii", content, 18)
    return abs(rows), columns, 3


def _damaged(path: Path, reason: str) -> ImageError:
    return ImageError(f"{path} cannot be read as an image: {reason}. Copy or export it again from its source.")


# First bytes -> what reads the declared (rows, columns, samples).
HEADERS: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], tuple[int, int, int]]], ...] = (
    (PNG_MAGIC, _png_size),
    (JPEG_MAGIC, jpeg_size),
    (TIFF_MAGICS, _tiff_size),
    (BMP_MAGIC, _bmp_size),
)
