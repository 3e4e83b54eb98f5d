"""Raster files: PNG, JPEG, WebP and BMP, decoded by OpenCV after their headers have been checked."""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.files import DEFLATE_LIMIT, open_file, read_all
from hounsfield.images.formats import JPEG_2000_MAGICS, TIFF_MAGICS
from hounsfield.images.image import Image, Metadata
from hounsfield.images.jpeg import jpeg_size
from hounsfield.images.limits import MAX_PIXELS
from hounsfield.images.volumes import chosen_volume

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
WEBP_MAGIC = b"RIFF"
BMP_MAGIC = b"BM"

# Module and function of the formats that have readers of their own.
TIFF_READER = ("hounsfield.images.tiff", "read_tiff")
JPEG_2000_READER = ("hounsfield.images.jpeg_2000", "read_jpeg_2000")
HEAD_BYTES = 12

# PNG colour type -> samples a pixel; those of palettes and of grey are single.
PNG_SAMPLES = {2: 3, 4: 2, 6: 4}
# OpenCV keeps the depth, gives 1 or 3 channels without alpha, and turns a JPEG as its EXIF orientation says.
DECODING = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR

# OpenCV writes what it thinks of damaged files to standard error by itself; here the ImageError says it.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_raster(path: Path, max_pixels: int = MAX_PIXELS, volume: int | None = None, level: int | None = None) -> Image:
    """Read a PNG, JPEG, WebP or BMP file in the type that it is stored in, or a TIFF or JPEG 2000 file by its reader.

    The content decides, not the suffix. All but TIFF are 2D images without geometry. Grey stays one channel; palettes
    and colours become three (red, green, blue); transparency is dropped.

    Args:
        path: the file.
        max_pixels: the most values (pixels × channels) that it may declare.
        volume: which image of a TIFF file that holds several, from 0.
        level: which level of a TIFF file that is a pyramid, from 0, the full size.

    Raises:
        ImageError: the file is damaged, of another kind, has several pictures, or declares more than ``max_pixels``
            values.
    """
    with open_file(path) as stream:
        head = stream.read(HEAD_BYTES)
        content = b"" if head.startswith((*TIFF_MAGICS, *JPEG_2000_MAGICS)) else read_all(stream, path, max_pixels)
    if head.startswith(TIFF_MAGICS):
        return _reader(*TIFF_READER)(path, max_pixels, volume, level)
    chosen_volume(["one picture"], volume, path)
    if level:
        raise ImageError(f"{path} has one level, and level {level} was asked for: they count from 0. Leave it out.")
    if head.startswith(JPEG_2000_MAGICS):
        return _reader(*JPEG_2000_READER)(path, max_pixels)
    _check_size(content, path, max_pixels)
    try:
        pixels = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), DECODING)
    except (cv2.error, MemoryError) as error:
        raise _damaged(path, "its pixels cannot be decoded") from error
    if pixels is None:
        raise _damaged(path, "its pixels cannot be decoded")
    pixels = _channels_last(pixels, content)
    return Image(pixels=pixels, metadata=Metadata(bits=pixels.dtype.itemsize * 8))


def _reader(module: str, function: str) -> Callable[..., Image]:
    """The reader of a format that loads packages of its own."""
    return cast("Callable[..., Image]", getattr(importlib.import_module(module), function))


def _channels_last(pixels: npt.NDArray[Any], content: bytes) -> npt.NDArray[Any]:
    if pixels.ndim == 2:
        return pixels[..., np.newaxis]
    if content.startswith(PNG_MAGIC) and content[25] == 4:  # PNG colour type 4: grey with transparency
        return np.ascontiguousarray(pixels[..., :1])
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


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
            f"{path} is not PNG, JPEG, JPEG 2000, WebP, TIFF or BMP by its first bytes. If it is of another format, "
            "give it that format's suffix."
        )
    if rows < 1 or columns < 1 or rows * columns * samples > max_pixels:
        raise ImageError(
            f"{path} declares {rows} × {columns} pixels of {samples} values, which is none or more than "
            f"the limit of {max_pixels} values. Raise --max-pixels if the file is to be trusted."
        )
    if content.startswith(PNG_MAGIC) and _png_is_short(content):
        raise _damaged(path, f"it ends too early for the {rows} × {columns} pixels that it declares")


def _png_size(content: bytes) -> tuple[int, int, int]:
    """Size from IHDR, after the checksum of every chunk up to IEND has been tried (PNG specification, section 5)."""
    columns, rows, _, colour = struct.unpack_from(">IIBB", content, 16)
    view = memoryview(content)
    for kind, position, length in _png_chunks(content):
        (checksum,) = struct.unpack_from(">I", content, position + 8 + length)
        if zlib.crc32(view[position + 4 : position + 8 + length]) != checksum:
            raise ValueError(f"the checksum of its part {kind!r} is wrong")
        if kind == b"acTL" and struct.unpack_from(">I", content, position + 8)[0] > 1:
            raise ValueError("it is an animation; save each picture as a file")
    return rows, columns, 1 if colour in (0, 4) else 3


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, position, length) of each chunk up to IEND."""
    position, kind = len(PNG_MAGIC), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, position)
        yield kind, position, length
        position += length + 12


def _png_is_short(content: bytes) -> bool:
    """Whether the compressed rows of a PNG cannot hold as many pixels as it declares."""
    columns, rows, depth, colour = struct.unpack_from(">IIBB", content, 16)
    available = sum(length for kind, _, length in _png_chunks(content) if kind == b"IDAT")
    return bool(rows * columns * depth * PNG_SAMPLES.get(colour, 1) > 8 * available * DEFLATE_LIMIT)


def _jpeg_size(content: bytes) -> tuple[int, int, int]:
    rows, columns, samples = jpeg_size(content)
    return rows, columns, 1 if samples == 1 else 3


def _webp_size(content: bytes) -> tuple[int, int, int]:
    """Size from the first chunk (RFC 9649, sections 2.5 to 2.7); animations are refused."""
    if struct.unpack_from("<I", content, 4)[0] + 8 > len(content):
        raise ValueError("it ends too early")
    kind = content[12:16]
    if kind == b"VP8X":
        if content[20] & 0x02:
            raise ValueError("it is an animation; save each picture as a file")
        columns, rows = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", content, 21)
        columns, rows = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    else:
        columns, rows = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 26))
    return rows, columns, 3


def _bmp_size(content: bytes) -> tuple[int, int, int]:
    columns, rows = struct.unpack_from("<ii", content, 18)
    return abs(rows), columns, 3


def _damaged(path: Path, reason: str) -> ImageError:
    return ImageError(f"{path} cannot be read as an image: {reason}. Copy or export it again from its source.")


# First bytes -> what reads the declared (rows, columns, samples).
HEADERS: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], tuple[int, int, int]]], ...] = (
    (PNG_MAGIC, _png_size),
    (JPEG_MAGIC, _jpeg_size),
    (WEBP_MAGIC, _webp_size),
    (BMP_MAGIC, _bmp_size),
)
