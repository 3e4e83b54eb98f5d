"""Compressed frames inside a DICOM pixel element: what they declare of themselves, checked before they are decoded."""

from __future__ import annotations

import copy
import struct
from collections.abc import Sequence
from pathlib import Path

from pydicom.encaps import encapsulate, generate_fragments, generate_frames, parse_basic_offsets
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from hounsfield.errors import ImageError
from hounsfield.images.dicom_file import inflate
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_layout import Layout
from hounsfield.images.jpeg import BARE_MARKERS, END_OF_IMAGE, FRAME_MARKERS, START_OF_CODESTREAM

# PS3.5 A.4.13: every frame is a deflated little-endian frame of its own. pydicom has no decoder for it.
DEFLATED_IMAGE_FRAME = UID("1.2.840.10008.1.2.8.1")
SEQUENTIAL_JPEG = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit})
JPEG = SEQUENTIAL_JPEG | {JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless}
JPEG_2000 = frozenset({JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL})
READABLE = JPEG | JPEG_2000 | {RLELossless}

# Markers that start a JPEG frame (ITU-T T.81 table B.1) or a JPEG-LS frame (T.87 C.1.1) and so carry its size.
JPEG_FRAMES = FRAME_MARKERS | {0xF7}
# Those of sequential JPEG: baseline and extended, with Huffman coding.
SEQUENTIAL_MARKERS = frozenset({0xC0, 0xC1})
# Adobe's marker, and the least length at which it names the transform (ITU-T T.872 section 6.5.3).
ADOBE_MARKER = 0xEE
ADOBE_LENGTH = 14
START_OF_SCAN = 0xDA
# PackBits turns two bytes into at most 128 (PS3.5 annex G.3.1).
RLE_EXPANSION = 64


def prepare_frames(
    header: Header, content: bytes | memoryview, layout: Layout, syntax: UID, path: Path
) -> bytes | None:
    """Hold every frame's own header against the file's, so that no decoder allocates what the file does not declare.

    Returns:
        The pixel element to decode instead, where frames had to be repaired.

    Raises:
        ImageError: frames are missing, truncated or of another size, or nothing here decodes the syntax.
    """
    if syntax not in READABLE:
        raise ImageError(
            f"{path} is compressed as {syntax.name} ({syntax}), which cannot be decoded here: expected an "
            "uncompressed, deflated, RLE, JPEG, JPEG-LS, JPEG 2000 or HTJ2K image. Convert it with the "
            "tool that wrote it."
        )
    frames = split_frames(header, content, layout.frames, path)
    if syntax == RLELossless:
        needed = layout.rows * layout.columns * layout.samples * layout.bits_allocated // 8
        if any(len(frame) * RLE_EXPANSION < needed for frame in frames):
            raise _truncated(path)
        return None
    for frame in frames:
        _check_codestream(frame, layout, syntax, path)
    if syntax not in SEQUENTIAL_JPEG:
        return None
    repaired = [_with_full_scans(frame) for frame in frames]
    return encapsulate(repaired) if repaired != frames else None


def split_frames(header: Header, content: bytes | memoryview, num_frames: int, path: Path) -> list[bytes]:
    """The compressed frames, as many as the file declares."""
    offsets, lengths = header.raw("ExtendedOffsetTable"), header.raw("ExtendedOffsetTableLengths")
    table = (bytes(offsets), bytes(lengths)) if offsets and lengths and len(offsets) == len(lengths) else None
    frames: list[bytes] = []
    for frame in generate_frames(bytes(content), number_of_frames=num_frames, extended_offsets=table):
        frames.append(frame)
        if len(frames) == num_frames:
            return frames
    raise ImageError(
        f"{path} declares {num_frames} frames and holds {len(frames)}: it is truncated, or its header is wrong. Copy "
        "it again from its source."
    )


def with_frames(
    header: Header, content: bytes | memoryview, chosen: Sequence[int], num_frames: int, path: Path
) -> tuple[Header, bytes]:
    """The header and the pixel element of a file that has only the chosen frames, in that order."""
    frames = split_frames(header, content, num_frames, path)
    dataset = copy.copy(header.dataset)
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.NumberOfFrames = len(chosen)
    dataset.PixelData = encapsulate([frames[index] for index in chosen])
    return Header(dataset), dataset.PixelData


def inflated_frames(
    header: Header, content: bytes | memoryview, num_frames: int, frame_bytes: int, path: Path
) -> bytes:
    """Frames of the Deflated Image Frame Compression syntax, one after the other."""
    frames = []
    for frame in split_frames(header, content, num_frames, path):
        inflated = inflate(frame, path, frame_bytes + 1)
        if len(inflated) < frame_bytes:
            raise _truncated(path)
        frames.append(inflated[:frame_bytes])
    return b"".join(frames)


def rle_bit_planes(header: Header, num_frames: int, frame_bytes: int) -> bytes:
    """Frames of single bits, packed in bytes and compressed as RLE, which pydicom decodes only as whole bytes."""
    dataset = copy.copy(header.dataset)
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 1, frame_bytes, num_frames
    values, _ = get_decoder(RLELossless).as_array(dataset, allow_excess_frames=False)
    return bytes(values.tobytes())


def _check_codestream(frame: bytes, layout: Layout, syntax: UID, path: Path) -> None:
    if frame.rfind(END_OF_IMAGE) < 0:
        raise _truncated(path)
    size = _jpeg_2000_size(frame) if syntax in JPEG_2000 else _jpeg_size(frame)
    if size is None:
        raise ImageError(
            f"{path} holds a frame that is no {syntax.name} picture, though the file says so. Export it again from its "
            "source."
        )
    if size != (layout.rows, layout.columns, layout.samples):
        raise ImageError(
            f"{path} declares {layout.rows} × {layout.columns} pixels of {layout.samples} samples, but a compressed "
            f"frame has {size[0]} × {size[1]} of {size[2]}: one of the two is wrong. Export it again from its source."
        )


def _truncated(path: Path) -> ImageError:
    return ImageError(f"{path} is truncated: a compressed frame has no end. Copy it again from its source.")


def _jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, samples) of a JPEG or JPEG-LS frame header (ITU-T T.81 B.2.2)."""
    for marker, position in _segments(frame):
        if marker in JPEG_FRAMES and position + 10 <= len(frame):
            rows, columns, samples = struct.unpack_from(">HHB", frame, position + 5)
            return rows, columns, samples
    return None


def _segments(frame: bytes) -> list[tuple[int, int]]:
    """(marker, position) of each segment up to the first scan."""
    segments = []
    position = frame.find(b"\xff\xd8") + 2
    while 2 <= position <= len(frame) - 4 and frame[position] == 0xFF:
        marker = frame[position + 1]
        segments.append((marker, position))
        if marker == START_OF_SCAN:
            break
        if marker == 0xFF:
            position += 1
        elif marker in BARE_MARKERS:
            position += 2
        else:
            position += 2 + max(2, int.from_bytes(frame[position + 2 : position + 4], "big"))
    return segments


def _jpeg_2000_size(frame: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, samples) of a JPEG 2000 codestream, also inside a JP2 wrapper (ITU-T T.800 A.5.1)."""
    start = frame.find(START_OF_CODESTREAM)
    if start < 0 or len(frame) < start + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", frame, start + 8)
    (samples,) = struct.unpack_from(">H", frame, start + 40)
    return bottom - top, right - left, samples


def _with_full_scans(frame: bytes) -> bytes:
    """Write the spectral selection 0 to 63 where a sequential JPEG lacks it.

    Nothing else is allowed there (ITU-T T.81, table B.3), yet an old encoder left it zero, which its decoder ignored
    and today's refuse. The scans of a progressive JPEG, which stands in some files under a sequential syntax, are as
    they should be.
    """
    is_sequential = False
    for marker, position in _segments(frame):
        is_sequential = is_sequential or marker in SEQUENTIAL_MARKERS
        if marker == START_OF_SCAN and is_sequential:
            end = position + 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
            return frame[: end - 3] + b"\x00\x3f\x00" + frame[end:]
    return frame


def jpeg_colours(frame: bytes) -> str | None:
    """The colour model that a JPEG of three components leaves no doubt about: ``RGB``, ``YBR_FULL`` or ``None``.

    Chroma is subsampled only where there is one; Adobe's marker names the transform.
    """
    for marker, position in _segments(frame):
        length = int.from_bytes(frame[position + 2 : position + 4], "big")
        if marker == ADOBE_MARKER and length >= ADOBE_LENGTH and frame[position + 4 : position + 9] == b"Adobe":
            return "YBR_FULL" if frame[position + 15] else "RGB"
    for marker, position in _segments(frame):
        if marker in JPEG_FRAMES and position + 19 <= len(frame) and frame[position + 9] == 3:
            sampling = {frame[position + 11 + 3 * component] for component in range(3)}
            return "YBR_FULL" if len(sampling) > 1 else None
    return None


def count_frames(header: Header, content: bytes | memoryview, syntax: UID) -> int:
    """How many frames a compressed pixel element holds, by its own tables and by where pictures begin."""
    lengths = header.raw("ExtendedOffsetTableLengths")
    element = bytes(content)
    offsets = parse_basic_offsets(element)
    if lengths or offsets:
        return max(len(lengths or b"") // 8, len(offsets))
    fragments = list(generate_fragments(element[8:]))
    start = START_OF_CODESTREAM[:2] if syntax in JPEG_2000 else b"\xff\xd8"
    return len(fragments) if syntax == RLELossless else sum(fragment.startswith(start) for fragment in fragments)


def has_signed_samples(header: Header, content: bytes | memoryview, layout: Layout, path: Path) -> bool:
    """Whether a JPEG 2000 codestream says that its samples are signed (ITU-T T.800 table A.11)."""
    frame = split_frames(header, content, layout.frames, path)[0]
    return bool(frame[frame.find(START_OF_CODESTREAM) + 42] & 0x80)


def lossless_selection(header: Header, content: bytes | memoryview, layout: Layout, path: Path) -> tuple[int, int]:
    """(precision, selection value of the predictor) of a lossless JPEG (ITU-T T.81 B.2.2 and B.2.3)."""
    precision = selection = 0
    frame = split_frames(header, content, layout.frames, path)[0]
    for marker, position in _segments(frame):
        if marker in JPEG_FRAMES:
            precision = frame[position + 4]
        if marker == START_OF_SCAN:
            selection = frame[position + 5 + 2 * frame[position + 4]]
    return precision, selection
