"""From the stored samples of a TIFF page to values: bounds before decoding, then photometric interpretation.

The rules are those of TIFF 6.0; tifffile undoes compression, predictors and packing, and leaves the rest as stored.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFrame, TiffPage

from hounsfield.errors import ImageError
from hounsfield.images.files import DEFLATE_LIMIT
from hounsfield.images.jpeg import END_OF_IMAGE, codestream_size, jpeg_size
from hounsfield.images.limits import SPARE_BYTES

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
# Compressions whose size is bounded before anything is decoded.
PLAIN, LZW, JPEG, ADOBE_DEFLATE, PACKBITS, DEFLATE, ZSTD = 1, 5, 7, 8, 32773, 32946, 50000
JPEG_2000 = frozenset({33003, 33004, 33005, 34712})
# Facsimile: black and white, a row in no less than a bit (TIFF 6.0, sections 10 and 11).
CCITT = frozenset({2, 3, 4})
READABLE = frozenset({PLAIN, LZW, JPEG, ADOBE_DEFLATE, PACKBITS, DEFLATE, ZSTD}) | JPEG_2000 | CCITT
# The most bytes that one becomes: deflate's as zlib says; PackBits repeats 128 times; LZW's longest entry in 12 bits.
EXPANSION = {PLAIN: 1, ADOBE_DEFLATE: DEFLATE_LIMIT, DEFLATE: DEFLATE_LIMIT, PACKBITS: 64, LZW: 2732}
# PlanarConfiguration: the samples of a pixel stand together.
CONTIGUOUS = 1
WHOLE_BYTES = frozenset({8, 16, 32, 64})
# The number of the tag, and the type that its value has (TIFF 6.0, section 14).
PREDICTOR, SHORT = 317, 3
# ExtraSamples (TIFF 6.0, section 18).
ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA = 1, 2
COLOURS = frozenset({RGB, YCBCR})
# The size of a compressed picture stands near its beginning, behind what describes the camera and the colours.
HEAD_BYTES = 2**18

# Orientation (TIFF 6.0, page 36) -> whether rows, columns are turned round, and whether they change places afterwards.
TURNS = {
    2: (False, True, False),
    3: (True, True, False),
    4: (True, False, False),
    5: (False, False, True),
    6: (True, False, True),
    7: (True, True, True),
    8: (False, True, True),
}


def check_segments(page: TiffPage | TiffFrame, layout: TiffPage, path: Path) -> None:
    """Hold the strips or tiles of a page against the file and the layout, before any of them is decoded.

    Raises:
        ImageError: some are missing, truncated, or larger than their place.
    """
    handle = page.parent.filehandle
    num_segments = math.prod(layout.chunked)
    offsets, counts = page.dataoffsets[:num_segments], page.databytecounts[:num_segments]
    sparse = layout.is_tiled
    if min(len(offsets), len(counts)) < num_segments:
        raise ImageError(f"{path} is truncated: parts of its picture are missing. Copy it again from its source.")
    for offset, count in zip(offsets, counts, strict=True):
        # Slide scanners leave out tiles of background.
        if offset + count > handle.size or (count == 0 and not (sparse and offset == 0)):
            raise ImageError(f"{path} is truncated: parts of its picture are missing. Copy it again from its source.")
    expansion = EXPANSION.get(layout.compression)
    bits = math.prod(layout.shape) * layout.bitspersample
    if expansion is not None and not sparse and sum(counts) * expansion * 8 < bits:
        raise ImageError(f"{path} is truncated: its picture needs more bytes than it has. Copy it again.")
    if layout.compression in CCITT and sum(counts) * 8 < layout.imagelength:
        raise ImageError(f"{path} is truncated: its rows need more bytes than it has. Copy it again from its source.")
    if layout.compression in JPEG_2000 | {JPEG}:
        _check_codestreams(page, layout, path)


def check_layout(page: TiffPage, max_pixels: int, path: Path) -> None:
    """Refuse a page that is too large, or whose decoding is not known to be bounded.

    Raises:
        ImageError: it has more than ``max_pixels`` values, in one part or in all, or is of a kind that is not read.
    """
    if page.compression not in READABLE:
        name = getattr(page.compression, "name", page.compression)
        raise ImageError(
            f"{path} is compressed as {name}: expected no compression, LZW, deflate, PackBits, Zstandard, JPEG, JPEG "
            "2000 or facsimile (CCITT). Save it with one of these, as ImageMagick does: magick IN -compress LZW OUT."
        )
    if page.dtype is None or page.dtype.kind not in "buif" or page.dtype.itemsize > 8:
        raise ImageError(
            f"{path} stores {page.bitspersample} bits of the sample format {page.sampleformat}, which are no grey "
            "values or colours. Save it with integers or floats."
        )
    tile = page.tilewidth * page.tilelength * page.tiledepth * page.samplesperpixel if page.is_tiled else 0
    excess = tile * page.dtype.itemsize > page.nbytes + SPARE_BYTES
    if math.prod(page.shape) > max_pixels or tile > max_pixels or excess:
        raise ImageError(
            f"{path} declares a page of {' × '.join(map(str, page.shape))} values in parts of {tile} values, more than "
            f"the limit of {max_pixels} values. Raise --max-pixels if the file is to be trusted."
        )


def _check_codestreams(page: TiffPage | TiffFrame, layout: TiffPage, path: Path) -> None:
    """Compressed pictures have sizes of their own, and a decoder takes the memory for what they say."""
    rows, columns = layout.rowsperstrip, layout.imagewidth
    if layout.is_tiled:
        rows, columns = layout.tilelength, layout.tilewidth
    handle = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count == 0:
            continue
        handle.seek(offset)
        head = handle.read(min(count, HEAD_BYTES))
        size = jpeg_size(head + END_OF_IMAGE) if layout.compression == JPEG else codestream_size(head)
        if size[0] > rows or size[1] > columns or size[2] > layout.samplesperpixel:
            raise ImageError(
                f"{path} holds a compressed part of the size {size}, more than its {rows} × {columns} pixels. Export "
                "it again from its source."
            )


def decoded(page: TiffPage | TiffFrame, layout: TiffPage) -> NDArray[Any]:
    """The stored values of a page whose segments were checked.

    The strips of a picture by LZW are decoded by libtiff, in half of the time. It reads the first page of a whole file,
    so only files of one page that are about as large as the picture are given to it, and none whose predictor is not
    plainly stated: libtiff would leave a tag of another type aside, and the predictor in the values.
    """
    handle = page.parent.filehandle
    is_simple = layout.compression == LZW and not layout.is_tiled and layout.bitspersample in WHOLE_BYTES
    is_alone = page.index == 0 and len(page.parent.pages) == 1 and handle.size <= layout.nbytes + SPARE_BYTES
    if is_simple and is_alone and layout.planarconfig == CONTIGUOUS and _has_plain_predictor(layout):
        handle.seek(0)
        values = np.asarray(imagecodecs.tiff_decode(handle.read()))
        if values.dtype == layout.dtype and values.size == math.prod(layout.shape):
            return values.reshape(layout.shape)
    return np.asarray(page.asarray())


def _has_plain_predictor(layout: TiffPage) -> bool:
    tag = layout.tags.get(PREDICTOR)
    return tag is None or tag.dtype == SHORT


def stored_bits(page: TiffPage) -> int | None:
    """How many bits of a value carry the image; ``None`` for floats."""
    if page.dtype is None or page.dtype.kind == "f":
        return None
    return 8 if page.photometric == PALETTE else max(8, int(page.bitspersample))


def page_values(stored: NDArray[Any], page: TiffPage, path: Path) -> NDArray[Any]:
    """Samples by the photometric interpretation, without transparency.

    Args:
        stored: (…, samples).
        page: whose interpretation it is.
        path: for messages.

    Raises:
        ImageError: the colours are of a model that is not read.
    """
    photometric = page.photometric
    subsampled = photometric == YCBCR and page.compression != JPEG
    if photometric not in {WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR} or subsampled:
        name = getattr(photometric, "name", photometric)
        raise ImageError(
            f"{path} has the photometric interpretation {name}{' without JPEG compression' if subsampled else ''}: "
            "expected grey, RGB, a palette, or YCbCr in JPEG. Convert it to RGB with a program that knows its colours, "
            "as ImageMagick does: magick IN -colorspace sRGB OUT."
        )
    if photometric == PALETTE:
        return _coloured(stored, page, path)
    values = _without_transparency(stored, page)
    bits = int(page.bitspersample)
    if photometric == WHITE_IS_ZERO:
        values = _inverted(values, bits, path)
    if values.dtype == np.bool_ or (bits < 8 and values.dtype.kind == "u"):
        # As a PNG of as many bits is read.
        return values.astype(np.uint8) * np.uint8(255 // (2**bits - 1))
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _inverted(values: NDArray[Any], bits: int, path: Path) -> NDArray[Any]:
    if values.dtype == np.bool_:
        return ~values
    if values.dtype.kind == "f":
        raise ImageError(
            f"{path} holds real numbers of which the lowest is white, and no range to invert them in. Save it with the "
            "photometric interpretation BlackIsZero."
        )
    # The sum of the ends is −1 for signed values and 2ⁿ − 1 for unsigned ones: no difference leaves the type.
    ends = -1 if values.dtype.kind == "i" else 2**bits - 1
    return np.asarray(values.dtype.type(ends) - values)


def _without_transparency(stored: NDArray[Any], page: TiffPage) -> NDArray[Any]:
    """Leave out the sample of transparency, and take its factor out of colours that are stored multiplied by it."""
    extra = tuple(int(kind) for kind in page.extrasamples)
    alphas = [number for number, kind in enumerate(extra) if kind in {ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA}]
    if not alphas:
        return stored
    first = stored.shape[-1] - len(extra)
    kept = [number for number in range(stored.shape[-1]) if number - first not in alphas]
    values = stored[..., kept]
    if extra[alphas[0]] == UNASSOCIATED_ALPHA or stored.dtype.kind not in "uf":
        return values
    alpha = stored[..., first + alphas[0], np.newaxis].astype(np.float64)
    opaque = 1.0 if stored.dtype.kind == "f" else float(2 ** int(page.bitspersample) - 1)
    real = np.divide(values * opaque, alpha, out=values.astype(np.float64), where=alpha > 0)
    return (
        np.rint(np.minimum(real, opaque)).astype(values.dtype)
        if values.dtype.kind == "u"
        else real.astype(values.dtype)
    )


def _coloured(stored: NDArray[Any], page: TiffPage, path: Path) -> NDArray[np.uint8]:
    """Palette indices (…, 1) as red, green and blue of 8 bits."""
    colours = page.colormap
    if colours is None or colours.shape[0] != 3 or stored.shape[-1] != 1 or stored.dtype.kind not in "ub":
        raise ImageError(f"{path} declares a palette and has none that fits. Export it again from its source.")
    indices = stored[..., 0].astype(np.int64)
    if int(indices.max()) >= colours.shape[1]:
        raise ImageError(f"{path} uses colours that its palette does not have. Export it again from its source.")
    # Entries have 16 bits; some programs write those of 8.
    eight = colours >> 8 if int(colours.max()) > 255 else colours
    return np.moveaxis(eight.astype(np.uint8)[:, indices], 0, -1)


def turned(
    pixels: NDArray[Any], spacing: tuple[float, ...] | None, page: TiffPage
) -> tuple[NDArray[Any], tuple[float, ...] | None]:
    """Rows and columns as the tag Orientation wants them seen."""
    flip_rows, flip_columns, swap = TURNS.get(int(page.tags.valueof("Orientation", 1) or 1), (False, False, False))
    pixels = pixels[..., ::-1, :, :] if flip_rows else pixels
    pixels = pixels[..., ::-1, :] if flip_columns else pixels
    if swap:
        pixels = np.swapaxes(pixels, -3, -2)
        spacing = spacing and (*spacing[:-2], spacing[-1], spacing[-2])
    return pixels, spacing
