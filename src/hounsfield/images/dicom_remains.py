"""What a DICOM pixel element holds beside its pixels, cut away: the pixels themselves stay bit for bit.

That is bytes after the last pixel, bits outside the stored ones (old overlays stand there), and in compressed frames
comments, application segments, and what follows their end. Colour is left alone: the segments of JFIF, of Adobe and of
HP's JPEG-LS say how it is stored.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import UID, ExplicitVRBigEndian, RLELossless

from hounsfield.errors import ImageError
from hounsfield.images.dicom_encapsulated import JPEG, JPEG_2000

FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
LAYOUT = ("Rows", "Columns", "BitsAllocated")
# A basic offset table counts in 32 bits.
LARGEST_BASIC = 2**32 - 2**20

# ITU-T T.81 table B.1. Application segments that decide on colour are told by what they begin with.
START_OF_SCAN, END_OF_IMAGE, COMMENT, FIRST_APPLICATION, LAST_APPLICATION = 0xDA, 0xD9, 0xFE, 0xE0, 0xEF
# Here with their bytes: what else a segment holds (JFIF's thumbnail) goes.
COLOUR_SEGMENTS = {b"JFIF\0": 12, b"Adobe": 12, b"mrfx": 5}
# Extensions and reserved markers; 0xF7 and 0xF8 are JPEG-LS's.
RESERVED = frozenset({*range(0x80, 0xC0), 0xC8, *range(0xF0, 0xF7), *range(0xF9, 0xFE)})
# A marker inside a scan: data has a zero after 0xFF in JPEG, and a byte below 0x80 in JPEG-LS (T.87 A.1); 0xD0 to 0xD7
# restart the decoder.
MARKER_IN_SCAN = re.compile(rb"\xff+[\x80-\xcf\xd8-\xfe]")
# ITU-T T.800 annex A.
START_2000, COMMENT_2000, TILE_2000, DATA_2000, END_2000 = b"\xff\x4f\xff\x51", 0xFF64, 0xFF90, 0xFF93, b"\xff\xd9"


def without_remains(dataset: Dataset, syntax: UID) -> None:
    """Cut a data set's pixel element, in place.

    Raises:
        ImageError: the header does not say how many bytes the pixels take, or a compressed frame cannot be followed.
    """
    for keyword, bits in FLOATS.items():
        if keyword in dataset:
            dataset[keyword].value = _cut(dataset[keyword].value, _count(dataset) * bits // 8)
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        dataset.pop(keyword, None)
    if "PixelData" not in dataset:
        return
    element = dataset["PixelData"]
    if syntax.is_encapsulated:
        element.value, *tables = _encapsulated(dataset, element.value, syntax)
        for keyword, table in zip(("ExtendedOffsetTable", "ExtendedOffsetTableLengths"), tables, strict=False):
            setattr(dataset, keyword, table)
        return
    swapped = syntax == ExplicitVRBigEndian
    length = _native_bytes(dataset, len(element.value))
    # Bytes of a big-endian word stand in the other order, so that the last one may stand behind the filling one.
    content = _cut(element.value, length + length % 2 if swapped else length)
    element.value = _without_unused_bits(dataset, content, ">" if swapped else "<")


def _number(dataset: Dataset, keyword: str, default: int = 0) -> int:
    value = dataset.get(keyword)
    return int(value) if value is not None and value != "" else default


def _count(dataset: Dataset) -> int:
    """The number of values that a header declares."""
    sides = [_number(dataset, "Rows"), _number(dataset, "Columns"), _number(dataset, "NumberOfFrames", 1)]
    if min(sides) < 1:
        raise ImageError(
            f"The object declares {sides[0]} rows, {sides[1]} columns and {sides[2]} frames, so nobody can say where "
            "its pixels end and other data begins: each must be a positive number. Export it again from its source."
        )
    return sides[0] * sides[1] * sides[2] * _number(dataset, "SamplesPerPixel", 1)


def _native_bytes(dataset: Dataset, actual: int) -> int:
    count, bits = _count(dataset), _number(dataset, "BitsAllocated")
    if bits not in {1, 8, 16, 32, 64}:
        raise ImageError(
            f"The object declares {bits} bits a sample, so nobody can say where its pixels end: expected 1, 8, 16, 32 "
            "or 64. Export it again from its source."
        )
    if bits > 1:
        subsampled = dataset.get("PhotometricInterpretation") == "YBR_FULL_422"
        return count * bits // 8 * 2 // 3 if subsampled else count * bits // 8
    # Single bits run on from frame to frame by the standard; some writers begin each frame at a byte.
    frames = _number(dataset, "NumberOfFrames", 1)
    by_frame = frames * -(-count // frames // 8)
    return by_frame if by_frame <= actual <= by_frame + 1 else -(-count // 8)


def _cut(content: bytes, length: int) -> bytes:
    return content if len(content) < length else content[:length] + b"\0" * (length % 2)


def _without_unused_bits(dataset: Dataset, content: bytes, order: str) -> bytes:
    allocated = _number(dataset, "BitsAllocated")
    stored = _number(dataset, "BitsStored", allocated)
    above = allocated - _number(dataset, "HighBit", stored - 1) - 1
    below = allocated - stored - above
    if allocated == 1 or (above <= 0 and below <= 0) or above < 0 or below < 0 or stored < 1:
        return content
    width = allocated // 8
    values = np.frombuffer(content, f"{order}u{width}", count=len(content) // width)
    used = values >> below & (2**stored - 1)
    if dataset.get("PixelRepresentation") == 1:
        # The sign is repeated above the stored bits by most writers, and by no few left out.
        negative = used >> (stored - 1) & 1
        extended = used | (2 ** (allocated - below) - 2**stored) * negative.astype(values.dtype)
        kept: Any = np.where(values >> below == used, used, extended)
    else:
        kept = used
    kept = (kept << below).astype(values.dtype)
    return content if np.array_equal(kept, values) else kept.tobytes() + content[len(values) * width :]


def _encapsulated(dataset: Dataset, content: bytes, syntax: UID) -> tuple[bytes, ...]:
    cleaner = _cleaner(dataset, syntax)
    if cleaner is None:
        return (content,)
    num_frames = _number(dataset, "NumberOfFrames", 1)
    frames = []
    for frame in generate_frames(content, number_of_frames=num_frames):
        cleaned = cleaner(frame)
        frames.append(cleaned + b"\0" * (len(cleaned) % 2))
        if len(frames) == num_frames:
            break
    if len(frames) < num_frames:
        raise ImageError(
            f"The object declares {num_frames} frames and holds {len(frames)}: it is truncated, or its header is "
            "wrong. Copy it again from its source."
        )
    if sum(map(len, frames)) < LARGEST_BASIC:
        return (encapsulate(frames),)
    extended: tuple[bytes, ...] = encapsulate_extended(frames)
    return extended


def _cleaner(dataset: Dataset, syntax: UID) -> Callable[[bytes], bytes] | None:
    """What cleans one frame of a syntax; ``None`` for films, whose streams are left whole."""
    if syntax in JPEG:
        return clean_jpeg
    if syntax in JPEG_2000:
        return clean_jpeg_2000
    if syntax == RLELossless:
        # A plane has a byte of every sample; single bits stand eight to a byte.
        pixels = _number(dataset, "Rows") * _number(dataset, "Columns")
        plane_bytes = -(-pixels // 8) if _number(dataset, "BitsAllocated") == 1 else pixels
        return lambda frame: clean_rle(frame, plane_bytes)
    return None


def clean_jpeg(frame: bytes) -> bytes:
    """A JPEG or JPEG-LS picture without comments, foreign application segments, and what follows its end."""
    start = frame.find(b"\xff\xd8")
    if start < 0:
        raise _cannot_follow("JPEG")
    kept, position = [b"\xff\xd8"], start + 2
    while position + 2 <= len(frame):
        while frame[position : position + 2] == b"\xff\xff":
            position += 1
        marker = frame[position + 1]
        if frame[position] != 0xFF or marker < 0x80:
            raise _cannot_follow("JPEG")
        if marker == END_OF_IMAGE:
            return b"".join([*kept, b"\xff\xd9"])
        end = position + 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
        if marker == START_OF_SCAN:
            found = MARKER_IN_SCAN.search(frame, end)
            end = found.start() if found else len(frame)
        kept.append(_without_foreign(marker, frame[position:end]))
        position = end
    raise _cannot_follow("JPEG")


def _without_foreign(marker: int, segment: bytes) -> bytes:
    """A marker segment, or what of it says how colour is stored; nothing of a comment."""
    if marker == COMMENT or marker in RESERVED:
        return b""
    if not FIRST_APPLICATION <= marker <= LAST_APPLICATION:
        return segment
    for name, length in COLOUR_SEGMENTS.items():
        if segment.startswith(name, 4):
            content = segment[4 : 4 + length] + (b"\0\0" if name == b"JFIF\0" else b"")
            return segment[:2] + struct.pack(">H", len(content) + 2) + content
    return b""


def clean_jpeg_2000(frame: bytes) -> bytes:
    """A JPEG 2000 codestream without comments, boxes around it, and what follows its end."""
    position = frame.find(START_2000)
    if position < 0:
        raise _cannot_follow("JPEG 2000")
    kept, position = [frame[position : position + 2]], position + 2
    try:
        header, position = _segments_2000(frame, position, TILE_2000)
        kept.append(header)
        while frame[position : position + 2] == b"\xff\x90":
            part, position = _tile_part(frame, position)
            kept.append(part)
    except struct.error as error:
        raise _cannot_follow("JPEG 2000") from error
    return b"".join([*kept, END_2000])


def _segments_2000(frame: bytes, position: int, last: int) -> tuple[bytes, int]:
    """The marker segments up to the marker ``last`` without comments, and where that one stands."""
    kept: list[bytes] = []
    while True:
        marker, length = struct.unpack_from(">HH", frame, position)
        if marker == last:
            return b"".join(kept), position
        if marker < 0xFF00:
            raise _cannot_follow("JPEG 2000")
        if marker != COMMENT_2000:
            kept.append(frame[position : position + 2 + length])
        position += 2 + length


def _tile_part(frame: bytes, position: int) -> tuple[bytes, int]:
    """A tile-part without comments, its length put right (T.800 A.4.2), and where the next one begins."""
    (length,) = struct.unpack_from(">I", frame, position + 6)
    end = position + length if length else frame.rfind(END_2000)
    header, data = _segments_2000(frame, position + 12, DATA_2000)
    body = header + frame[data:end]
    start = bytearray(frame[position : position + 12])
    if length:
        struct.pack_into(">I", start, 6, 12 + len(body))
    return bytes(start) + body, end


def clean_rle(frame: bytes, plane_bytes: int) -> bytes:
    """The planes of an RLE frame (PS3.5 annex G), each cut where it is complete."""
    if len(frame) < 64:
        raise _cannot_follow("RLE")
    count, *offsets = struct.unpack_from("<16I", frame)
    if not 1 <= count <= 15:
        raise _cannot_follow("RLE")
    offsets = offsets[:count]
    planes = []
    for start, end in zip(offsets, [*offsets[1:], len(frame)], strict=True):
        plane = frame[start : _packed_end(frame, start, end, plane_bytes)]
        planes.append(plane + b"\0" * (len(plane) % 2))
    places = [64 + sum(map(len, planes[:index])) for index in range(count)]
    return struct.pack("<16I", count, *places, *[0] * (15 - count)) + b"".join(planes)


def _packed_end(frame: bytes, position: int, end: int, missing: int) -> int:
    """Where PackBits has given a number of bytes (PS3.5 section G.3.1)."""
    while missing > 0 and position < end:
        control = frame[position]
        if control < 128:
            missing -= control + 1
            position += control + 2
        else:
            missing -= 257 - control if control > 128 else 0
            position += 2 if control > 128 else 1
    if missing > 0 or position > end:
        raise _cannot_follow("RLE")
    return position


def _cannot_follow(kind: str) -> ImageError:
    return ImageError(
        f"A compressed frame is no whole {kind} picture, so nobody can say what else it holds. Expected an intact "
        "frame; decompress the object with the tool that wrote it, or copy it again from its source."
    )
