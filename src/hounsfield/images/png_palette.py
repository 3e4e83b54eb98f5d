"""PNG files with a palette, whose pixels are indices and not colours: label maps are kept so.

OpenCV gives the colours of a palette and cannot write one; PNG specification (third edition), sections 4.4, 7 and 9.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.label_names import Labels, colour_of, labels_of_text, text_of

MAGIC = b"\x89PNG\r\n\x1a\n"
PALETTE = 3  # the colour type
KEYWORD = b"Labels"
Indices = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PalettePicture:
    """Pixels of a file with a palette.

    Attributes:
        indices: (rows, columns).
        labels: names of the indices, where the file has them.
    """

    indices: Indices
    labels: Labels


def write_palette(indices: Indices, labels: Labels, path: Path) -> None:
    """Write indices with a palette of 256 colours, index 0 black, and their names as text.

    Args:
        indices: (rows, columns).
        labels: index and name.
        path: the file, written in place.
    """
    rows, columns = indices.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), indices], axis=1)
    palette = bytes(part for value in range(256) for part in colour_of(value))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, PALETTE, 0, 0, 0)), (b"PLTE", palette)]
    if labels:
        # International text: keyword, not compressed, no language, no translation.
        chunks.append((b"iTXt", KEYWORD + b"\0\0\0\0\0" + text_of(labels).encode()))
    chunks += [(b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")]
    with path.open("wb") as file:
        file.write(MAGIC)
        for kind, content in chunks:
            file.write(struct.pack(">I", len(content)) + kind + content)
            file.write(struct.pack(">I", zlib.crc32(kind + content)))


def read_palette(path: Path, max_pixels: int) -> PalettePicture | None:
    """The indices of a PNG file with a palette; ``None`` for any other file.

    Raises:
        ImageError: the file is damaged, interlaced, or declares more than ``max_pixels`` pixels.
    """
    with path.open("rb") as file:
        if not file.read(26).startswith(MAGIC):
            return None
        file.seek(0)
        head = file.read(33)
        if len(head) < 33 or head[25] != PALETTE:
            return None
        columns, rows, depth, _, _, _, interlaced = struct.unpack_from(">IIBBBBB", head, 16)
        if interlaced or depth not in {1, 2, 4, 8} or not 0 < rows * columns <= max_pixels:
            raise ImageError(f"{path} is a PNG with a palette that is interlaced or too large. Save it again.")
        content = head + file.read(2 * rows * columns + 2**24)
    chunks = list(_chunks(content))
    packed = b"".join(data for kind, data in chunks if kind == b"IDAT")
    width = -(-columns * depth // 8)
    try:
        raw = zlib.decompressobj().decompress(packed, rows * (width + 1))
    except zlib.error as error:
        raise ImageError(f"{path} is damaged: its pixels cannot be decoded. Copy it again from its source.") from error
    if len(raw) < rows * (width + 1):
        raise ImageError(f"{path} ends too early for its {rows} × {columns} pixels. Copy it again from its source.")
    lines = _unfiltered(np.frombuffer(raw, np.uint8).reshape(rows, width + 1), path)
    indices = lines if depth == 8 else _unpacked(lines, depth)
    texts = [data.partition(b"\0")[2] for kind, data in chunks if kind == b"iTXt" and data.startswith(KEYWORD + b"\0")]
    labels = labels_of_text(texts[0][4:].decode("utf-8", "replace")) if texts else ()
    return PalettePicture(np.ascontiguousarray(indices[:, :columns]), labels)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    position, kind = len(MAGIC), b""
    while kind != b"IEND" and position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        yield kind, content[position + 8 : position + 8 + length]
        position += length + 12


def _unfiltered(lines: Indices, path: Path) -> Indices:
    """The bytes of each line without the filter that its first byte names (section 9.2), of one byte per pixel."""
    result = np.zeros((lines.shape[0], lines.shape[1] - 1), np.uint8)
    above = np.zeros(lines.shape[1] - 1, np.uint8)
    for row, line in enumerate(lines):
        kind, data = int(line[0]), line[1:]
        if kind == 0:
            above = data
        elif kind == 1:
            above = np.cumsum(data, dtype=np.uint64).astype(np.uint8)
        elif kind == 2:
            above = data + above
        elif kind in {3, 4}:
            above = _with_neighbours(data, above, paeth=kind == 4)
        else:
            raise ImageError(f"{path} is damaged: line {row} has the filter {kind}. Copy it again from its source.")
        result[row] = above
    return result


def _with_neighbours(data: Indices, above: Indices, *, paeth: bool) -> Indices:
    """Lines whose filter looks at the pixel to the left and the line above, pixel by pixel."""
    line, upper = data.tolist(), above.tolist()
    left = corner = 0
    for column, value in enumerate(line):
        over = upper[column]
        if paeth:
            guess = left + over - corner
            distances = abs(guess - left), abs(guess - over), abs(guess - corner)
            predicted = (left, over, corner)[distances.index(min(distances))]
        else:
            predicted = (left + over) // 2
        left, corner = (value + predicted) % 256, over
        line[column] = left
    return np.array(line, np.uint8)


def _unpacked(lines: Indices, depth: int) -> Indices:
    """Indices of less than a byte, the leftmost in the highest bits."""
    shifts = np.arange(8 - depth, -1, -depth, dtype=np.uint8)
    parts = (lines[:, :, np.newaxis] >> shifts) & np.uint8(2**depth - 1)
    return np.asarray(parts.reshape(lines.shape[0], -1), np.uint8)
