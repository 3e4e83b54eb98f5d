"""TIFF in all its kinds: pictures, stacks and channels as OME, ImageJ and others describe them, whole slides by level.

tifffile finds the pages and what they are to each other; the pixels of a page become values in ``tiff_pixels``. Pages
that nothing describes are pictures of their own, of which one has to be chosen: they may be slices as well as repeats.
"""

from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

from hounsfield.errors import ImageError
from hounsfield.images.files import open_file
from hounsfield.images.image import Image, Metadata
from hounsfield.images.limits import MAX_PIXELS
from hounsfield.images.tiff_geometry import declared_planes, pixel_size
from hounsfield.images.tiff_pixels import check_layout, check_segments, decoded, page_values, stored_bits, turned
from hounsfield.images.volumes import MAX_VOLUMES, chosen_volume

# What tifffile and the codecs raise for damaged files.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    ParseError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
# Axes of one image, in the order in which they are kept; every other one counts images.
IMAGE_AXES = "ZYXCS"
# What the other axes count; those that tifffile calls a sequence or does not know are pages that nothing describes.
AXES = {"T": "time", "A": "angle", "P": "phase", "R": "tile", "H": "lifetime", "E": "wavelength"}
# Pictures beside the slide: of its label, which often names the patient, and of the whole glass.
BESIDE_SLIDES = re.compile(r"label|macro|map|thumbnail|overview|barcode", re.IGNORECASE)

logger = logging.getLogger(__name__)
# tifffile logs what it thinks of damaged files; here the ImageError says it.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class _Picture:
    """One image of a file: the pages of a series at one place along its axes of time and the like."""

    series: TiffPageSeries
    place: tuple[int, ...]
    words: str


def read_tiff(path: Path, max_pixels: int = MAX_PIXELS, volume: int | None = None, level: int | None = None) -> Image:
    """Read a TIFF file as one image: (rows, columns, channels), or (slices, rows, columns, channels) for a volume.

    OME, ImageJ and the like say which pages are slices, channels or time points. Values keep their stored type; grey
    of fewer than 8 bits is spread over 8, palettes become red, green and blue, WhiteIsZero is inverted within its
    bits, and transparency is dropped. The spacing is what OME, ImageJ or a slide scanner states in units of length; a
    resolution in dots per inch is one of printing and says nothing.

    Args:
        path: the file.
        max_pixels: the most values (pixels × channels) of the image; checked before they are decoded.
        volume: which image of a file of several, from 0.
        level: of a pyramid, from 0, the full size; by default the largest of at most ``max_pixels`` values.

    Raises:
        ImageError: the file is damaged or too large, its colours or compression cannot be read, or it holds several
            images of which none was chosen.
    """
    # A file may name others that hold its pages; none is opened.
    with _refusing(path), open_file(path) as stream, TiffFile(stream, _multifile=False) as tiff:
        _check_description(tiff, path)
        pictures = _pictures(tiff)
        picture = pictures[chosen_volume([one.words for one in pictures], volume, path)]
        series = _level(picture.series, level, max_pixels, path)
        check_layout(series.keyframe, max_pixels, path)
        return _read(tiff, series, picture, path)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except (*DAMAGE, MemoryError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(
            f"{path} cannot be read as a TIFF image: {reason}. Copy or export it again from its source."
        ) from error


def _check_description(tiff: TiffFile, path: Path) -> None:
    """A description may declare any number of planes; more than there are pages of them are not looked for."""
    if not tiff.pages:
        raise ValueError("it holds no page")
    page = tiff.pages.first
    pixels = page.imagewidth * page.imagelength
    planes = declared_planes(page.description, pixels)
    if planes > len(tiff.pages) * page.samplesperpixel:
        layouts = [one.keyframe or page for one in tiff.pages]
        pixels = max(layout.imagewidth * layout.imagelength for layout in layouts)
        planes = declared_planes(page.description, pixels)
    # ImageJ writes large stacks behind a single page, whose bytes must then be there.
    available = max(len(tiff.pages) * page.samplesperpixel, tiff.filehandle.size // max(1, page.nbytes) + 1)
    if planes > available:
        raise ImageError(
            f"{path} describes {planes:,} planes and holds {len(tiff.pages):,} pages: it is one of several files that "
            "belong together, or it is damaged. Save the image as one file."
        )


def _pictures(tiff: TiffFile) -> list[_Picture]:
    """All images of a file but the reduced ones, masks, and those beside a slide."""
    pictures = []
    series = [one for one in tiff.series if one.keyframe is not None and not _is_secondary(one)] or list(tiff.series)
    for number, one in enumerate(series):
        others = [(axis, size) for axis, size in zip(one.axes, one.shape, strict=True) if axis not in IMAGE_AXES]
        shape = "×".join(str(size) for axis, size in zip(one.axes, one.shape, strict=True) if axis in IMAGE_AXES)
        for place in np.ndindex(*(size for _, size in others)):
            where = ", ".join(f"{AXES.get(axis, 'page')} {at}" for (axis, _), at in zip(others, place, strict=True))
            name = f"series {number}" if len(series) > 1 else ""
            pictures.append(_Picture(one, place, ", ".join(part for part in (name, where, shape) if part)))
            if len(pictures) > MAX_VOLUMES:
                raise ValueError("it describes more than a million images")
    return pictures


def _is_secondary(series: TiffPageSeries) -> bool:
    page = series.keyframe
    beside = series.kind not in {"uniform", "generic", "shaped", "ome", "imagej"}
    return bool(page.is_reduced or page.is_mask or (beside and BESIDE_SLIDES.search(series.name)))


def _num_values(series: TiffPageSeries) -> int:
    """The values of one image."""
    return math.prod(size for axis, size in zip(series.axes, series.shape, strict=True) if axis in IMAGE_AXES)


def _level(series: TiffPageSeries, level: int | None, max_pixels: int, path: Path) -> TiffPageSeries:
    levels = series.levels
    if level is not None and not 0 <= level < len(levels):
        raise ImageError(f"{path} has {len(levels)} level(s), and level {level} was asked for. They count from 0.")
    if level is None:
        fitting = (number for number, one in enumerate(levels) if _num_values(one) <= max_pixels)
        level = next(fitting, len(levels) - 1)
        if level > 0:
            logger.warning(
                "%s: level %d of %d is read, the largest of at most %d values; another one can be chosen by --level.",
                path, level, len(levels), max_pixels,
            )  # fmt: skip
    chosen = levels[level]
    if _num_values(chosen) > max_pixels or _num_values(chosen) < 1:
        raise ImageError(
            f"{path} declares an image of {' × '.join(map(str, chosen.shape))} values, which is none or more than the "
            f"limit of {max_pixels} values. Raise --max-pixels if the file is to be trusted."
        )
    return chosen


def _read(tiff: TiffFile, series: TiffPageSeries, picture: _Picture, path: Path) -> Image:
    page = series.keyframe
    leading = _leading_axes(series, page)
    pages = [_page(series, number, path) for number in _page_numbers(leading, picture.place)]
    values = np.stack(pages) if len(pages) > 1 else pages[0]
    kept = [size for axis, size in leading if axis in IMAGE_AXES]
    values = values.reshape(*kept, *page.shape)
    axes = "".join(axis for axis, _ in leading if axis in IMAGE_AXES) + page.axes
    if "S" not in axes:
        axes, values = f"{axes}S", values[..., np.newaxis]
    order = [axes.index(axis) for axis in IMAGE_AXES if axis in axes]
    pixels = page_values(values.transpose(order), page, path)
    rank = 3 if "Z" in axes else 2
    pixels = pixels.reshape(*pixels.shape[:rank], -1)
    spacing = pixel_size(tiff, picture.series, series, rank)
    pixels, spacing = turned(pixels, spacing, page)
    return Image(pixels=np.ascontiguousarray(pixels), spacing=spacing, metadata=Metadata(bits=stored_bits(page)))


def _leading_axes(series: TiffPageSeries, page: TiffPage) -> list[tuple[str, int]]:
    """The axes along which the pages of a series lie, and how long they are."""
    pairs = list(zip(series.axes, series.shape, strict=True))
    if page.axes and not series.axes.endswith(page.axes):
        raise ValueError(f"its axes {series.axes} do not end in those of its pages, {page.axes}")
    return pairs[: len(pairs) - len(page.axes)]


def _page_numbers(leading: list[tuple[str, int]], place: tuple[int, ...]) -> list[int]:
    """Which pages of a series make up an image, in the order of its own axes."""
    numbers = np.arange(math.prod(size for _, size in leading)).reshape([size for _, size in leading])
    places = iter(place)
    index = tuple(slice(None) if axis in IMAGE_AXES else next(places) for axis, _ in leading)
    return [int(number) for number in np.atleast_1d(numbers[index]).ravel()]


def _page(series: TiffPageSeries, number: int, path: Path) -> NDArray[Any]:
    """The stored values of one page, which must be there in full."""
    page: TiffPage | TiffFrame | None
    if len(series.pages) > number:
        page = series.pages[number]
        if page is None:
            raise ImageError(
                f"{path} describes a plane that it does not hold: it is one of several files that belong together, or "
                "incomplete. Save the image as one file."
            )
        check_segments(page, series.keyframe, path)
        return decoded(page, series.keyframe)
    keyframe = series.keyframe
    if series.dataoffset is None or keyframe.dtype is None:
        raise ValueError(f"page {number} is missing")
    handle = keyframe.parent.filehandle
    offset = series.dataoffset + number * keyframe.nbytes
    if offset + keyframe.nbytes > handle.size:
        raise EOFError("it ends before its last plane")
    dtype = np.dtype(keyframe.parent.byteorder + keyframe.dtype.char)
    values = handle.read_array(dtype, math.prod(keyframe.shape), offset)
    return values.reshape(keyframe.shape).astype(dtype.newbyteorder("="), copy=False)
