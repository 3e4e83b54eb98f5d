"""From the bytes of a DICOM pixel element to stored values: checked against the header first, decoded afterwards."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLossless,
    RLELossless,
)

from hounsfield.errors import ImageError
from hounsfield.images.dicom_encapsulated import (
    DEFLATED_IMAGE_FRAME,
    JPEG_2000,
    SEQUENTIAL_JPEG,
    count_frames,
    has_signed_samples,
    inflated_frames,
    jpeg_colours,
    lossless_selection,
    prepare_frames,
    rle_bit_planes,
    split_frames,
    with_frames,
)
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_layout import Layout
from hounsfield.images.dicom_lossless import PRECISION, SELECTION, without_overflow

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Content = bytes | memoryview

PLAIN_SYNTAXES = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian})
FLOAT_ELEMENTS: dict[str, np.dtype[Any]] = {"FloatPixelData": np.dtype("<f4"), "DoubleFloatPixelData": np.dtype("<f8")}


def stored_pixels(header: Header, layout: Layout, path: Path, frames: Sequence[int]) -> tuple[Array, Layout]:
    """Decode the pixels of the chosen frames.

    Returns:
        The stored values (frames, rows, columns, samples) without unused bits, and the layout as it was found to be:
        YBR kinds have become RGB, and a wrong sign is put right.

    Raises:
        ImageError: the pixels are missing, truncated or not decodable.
    """
    for keyword, dtype in FLOAT_ELEMENTS.items():
        if keyword in header:
            content = _content(header, keyword, path)
            _check_length(len(content), layout.count * dtype.itemsize, path)
            values = np.frombuffer(content, dtype, count=layout.count).reshape(layout.shape)
            return _chosen(values, frames), layout
    content = _content(header, "PixelData", path)
    syntax = header.transfer_syntax
    if syntax != DEFLATED_IMAGE_FRAME and syntax.is_encapsulated and not is_plain(header, content, layout):
        if len(frames) < layout.frames:
            header, content = with_frames(header, content, frames, layout.frames, path)
            layout, frames = replace(layout, frames=len(frames)), range(len(frames))
        values, layout = _encapsulated(header, content, layout, syntax, path)
    else:
        values, layout = _not_encapsulated(header, content, layout, syntax, path)
    return _chosen(values, frames), layout


def _chosen(values: Array, frames: Sequence[int]) -> Array:
    """The chosen frames; where these are all of them in their order, the same memory."""
    return values if list(frames) == list(range(len(values))) else values[list(frames)]


def with_all_frames(header: Header, layout: Layout, path: Path) -> Layout:
    """The layout with as many frames as there are pixels for, where the file declares fewer.

    Raises:
        ImageError: there are more pixels than declared, and they make no whole frames.
    """
    keyword = next((keyword for keyword in FLOAT_ELEMENTS if keyword in header), "PixelData")
    content = header.raw(keyword) or b""
    syntax = header.transfer_syntax
    if syntax != DEFLATED_IMAGE_FRAME and syntax.is_encapsulated and not is_plain(header, content, layout):
        found = count_frames(header, content, syntax) if header.has_undefined_length(keyword) else layout.frames
    elif syntax == DEFLATED_IMAGE_FRAME:
        return layout
    else:
        found = _whole_frames(len(content), layout, FLOAT_ELEMENTS.get(keyword), path)
    if found <= layout.frames:
        return layout
    logger.warning("%s declares %d frames and holds %d, which were all read", path, layout.frames, found)
    header.put("NumberOfFrames", found)
    return replace(layout, frames=found)


def _whole_frames(length: int, layout: Layout, dtype: np.dtype[Any] | None, path: Path) -> int:
    single = layout if layout.frames == 1 else replace(layout, frames=1)
    size = single.count * dtype.itemsize if dtype else native_bytes(single)
    found, surplus = divmod(length, size)
    if layout.bits_allocated > 1 and found > layout.frames and surplus > 1:
        raise ImageError(
            f"{path} declares {layout.frames} frames of {size} bytes and holds {length} bytes of pixels: expected "
            "whole frames. Its rows, columns, frames or bits are wrong; export it again from its source."
        )
    return found if layout.bits_allocated > 1 else layout.frames


def is_plain(header: Header, content: Content, layout: Layout) -> bool:
    """Whether pixels are uncompressed although the file names a compressed syntax: their length leaves no doubt."""
    if header.has_undefined_length("PixelData") or layout.bits_allocated == 1:
        return False
    return len(content) - native_bytes(layout) in {0, 1}


def _not_encapsulated(
    header: Header, content: Content, layout: Layout, syntax: UID, path: Path
) -> tuple[Array, Layout]:
    if syntax == DEFLATED_IMAGE_FRAME:
        content = inflated_frames(header, content, layout.frames, _frame_bytes(layout), path)
        return _native(content, layout, path)
    if syntax.is_encapsulated:
        logger.warning("%s names a compressed transfer syntax, and its pixels are not compressed", path)
        return _native(content, layout, path)
    _check_length(len(content), native_bytes(layout), path)
    if syntax in PLAIN_SYNTAXES and layout.bits_allocated > 1 and not layout.photometric.startswith("YBR"):
        return _native(content, layout, path)
    return _decoded(header, layout, syntax)


def _content(header: Header, keyword: str, path: Path) -> Content:
    content = header.raw(keyword)
    if not content:
        raise ImageError(
            f"{path} has no pixels: either it is no image, or it was truncated before them. Copy it again from its "
            "source if it should have some."
        )
    return content


def _frame_bytes(layout: Layout) -> int:
    return math.ceil(layout.rows * layout.columns * layout.samples * layout.bits_allocated / 8)


def native_bytes(layout: Layout) -> int:
    """How many bytes uncompressed pixels take."""
    bits = layout.count * layout.bits_allocated
    # PS3.3 C.7.6.3.1.2: two pixels share their chroma samples, so that four samples stand for six.
    return math.ceil(bits / 8) if layout.photometric != "YBR_FULL_422" else math.ceil(bits / 8) * 2 // 3


def _check_length(actual: int, needed: int, path: Path) -> None:
    if actual < needed:
        raise ImageError(
            f"{path} is truncated: its header declares {needed} bytes of pixels, and there are {actual}. Copy it again "
            "from its source."
        )


def _native(content: Content, layout: Layout, path: Path) -> tuple[Array, Layout]:
    """Uncompressed little-endian values; where no bit is unused, they are the file's own memory."""
    if layout.bits_allocated == 1:
        return _bits(content, layout), layout
    if layout.photometric.startswith("YBR"):
        raise ImageError(f"{path} holds uncompressed colours as {layout.photometric}, which this syntax cannot carry.")
    dtype = np.dtype(f"<{'i' if layout.signed else 'u'}{layout.bits_allocated // 8}")
    values = np.frombuffer(content, dtype, count=layout.count)
    values = _without_unused_bits(values, layout)
    if layout.planar and layout.samples > 1:
        planes = values.reshape(layout.frames, layout.samples, layout.rows, layout.columns)
        return np.ascontiguousarray(np.moveaxis(planes, 1, -1)), layout
    return values.reshape(layout.shape), layout


def _without_unused_bits(values: Array, layout: Layout) -> Array:
    """Drop what stands above and below the stored bits: old overlays, or leftovers (PS3.5 section 8.1.1)."""
    above = layout.bits_allocated - layout.high_bit - 1
    below = layout.high_bit + 1 - layout.bits_stored
    if above == below == 0:
        return values
    if below == 0 and not layout.signed and int(values.max()) <= layout.stored_range[1]:
        # The usual case: nothing stands there, so the file's own memory will do.
        return values
    shifted = np.left_shift(values, above)
    return np.right_shift(shifted, above + below, out=shifted)


def _bits(content: Content, layout: Layout) -> Array:
    """Frames of single bits, each of them starting at a byte."""
    per_frame = layout.rows * layout.columns
    packed = np.frombuffer(content, np.uint8, count=layout.frames * _frame_bytes(layout)).reshape(layout.frames, -1)
    return np.unpackbits(packed, axis=1, count=per_frame, bitorder="little").reshape(layout.shape)


def _encapsulated(header: Header, content: Content, layout: Layout, syntax: UID, path: Path) -> tuple[Array, Layout]:
    if layout.bits_allocated == 1 and syntax == RLELossless:
        return _bits(rle_bit_planes(header, layout.frames, _frame_bytes(layout)), layout), layout
    repaired = prepare_frames(header, content, layout, syntax, path)
    if repaired is not None:
        header.put("PixelData", repaired)
    if syntax in JPEG_2000 and not layout.signed and has_signed_samples(header, content, layout, path):
        # Taken for unsigned, as this header has it, negative values would turn into the largest ones.
        header.put("PixelRepresentation", 1)
        layout = replace(layout, signed=True)
    if syntax in SEQUENTIAL_JPEG and layout.samples == 3:
        _put_colours_right(header, split_frames(header, content, layout.frames, path), path)
    values, layout = _decoded(header, layout, syntax)
    if syntax == JPEGLossless and lossless_selection(header, content, layout, path) == (PRECISION, SELECTION):
        frames = [without_overflow(values[index, :, :, 0]) for index in range(layout.frames)]
        values = np.stack(frames)[..., np.newaxis]
    return values, layout


def _put_colours_right(header: Header, frames: Sequence[bytes], path: Path) -> None:
    """Name the colour model of the compressed frames where they leave no doubt about it and the file names another."""
    found = {jpeg_colours(frame) for frame in frames}
    declared = header.text("PhotometricInterpretation") or ""
    if len(found) > 1 or None in found or found == {"YBR_FULL" if declared.startswith("YBR") else declared}:
        return
    (colours,) = found
    logger.warning("%s declares its colours as %s, and its frames are certain to hold %s", path, declared, colours)
    header.put("PhotometricInterpretation", colours)


def _decoded(header: Header, layout: Layout, syntax: UID) -> tuple[Array, Layout]:
    """What pydicom's decoder makes of the pixels: native byte order, colours interleaved, YBR turned into RGB."""
    values, properties = get_decoder(syntax).as_array(header.dataset, allow_excess_frames=False)
    values = values.reshape(layout.shape).astype(values.dtype.newbyteorder("="), copy=False)
    return values, replace(layout, photometric=str(properties["photometric_interpretation"]))
