"""Whole slides in tiles (PS3.3 A.32.8): one file is one level of a pyramid, whose frames are tiles of one picture."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.dicom_frames import functional_group
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_layout import Layout
from hounsfield.images.slide_files import WHOLE_SLIDE

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
# What no tile covers is the empty glass.
GLASS = 255


@dataclass(frozen=True)
class Tiling:
    """One picture made of tiles.

    Attributes:
        frames: the tiles, by their numbers in the file.
        corners: (row, column) of the first pixel of each in the picture, from 0.
        words: what tells it from other pictures of the file: optical path and focal plane.
    """

    frames: tuple[int, ...]
    corners: tuple[tuple[int, int], ...]
    words: str = ""


def is_slide(header: Header) -> bool:
    """Whether a file is a level of a whole slide, in tiles."""
    return header.text("SOPClassUID") == WHOLE_SLIDE and slide_size(header) is not None


def slide_size(header: Header) -> tuple[int, int] | None:
    """(rows, columns) of the whole picture."""
    rows, columns = header.integer("TotalPixelMatrixRows"), header.integer("TotalPixelMatrixColumns")
    return (rows, columns) if rows and columns else None


def is_overview(header: Header) -> bool:
    """Whether a slide's picture is of its label or an overview of the glass, and not of the specimen alone."""
    kinds = set((header.text("ImageType") or "").upper().split("\\"))
    return is_slide(header) and bool(kinds & {"LABEL", "OVERVIEW", "THUMBNAIL"})


def read_tilings(header: Header, layout: Layout, path: Path, max_pixels: int) -> list[Tiling]:
    """Where each tile belongs: in rows from the top left, or as each frame states it.

    Raises:
        ImageError: the picture has more than ``max_pixels`` values, or frames are missing or state no place.
    """
    size = slide_size(header) or (layout.rows, layout.columns)
    if math.prod(size) * layout.samples > max_pixels:
        raise ImageError(
            f"{path} is a whole slide of {size[0]} × {size[1]} pixels, more than the limit of {max_pixels} values. "
            "Read a smaller level of it, or raise the limit with --max-pixels if the memory is there."
        )
    if (header.text("DimensionOrganizationType") or "").upper() == "TILED_FULL":
        return _full(size, layout, path)
    return _sparse(header, size, layout, path)


def assembled(tiles: Array, tiling: Tiling, size: tuple[int, int]) -> Array:
    """The picture of (frames, rows, columns, samples); parts of tiles beyond its edge are cut."""
    rows, columns, samples = tiles.shape[1:]
    highest = np.iinfo(tiles.dtype).max if tiles.dtype.kind in "iu" else 1
    picture = np.full((*size, samples), GLASS if tiles.dtype == np.uint8 else highest, dtype=tiles.dtype)
    for tile, (row, column) in zip(tiles, tiling.corners, strict=True):
        place = picture[row : row + rows, column : column + columns]
        place[...] = tile[: place.shape[0], : place.shape[1]]
    return picture


def _full(size: tuple[int, int], layout: Layout, path: Path) -> list[Tiling]:
    """Row by row, then focal plane by focal plane, then optical path by optical path (PS3.3 C.7.6.17.3)."""
    down, across = math.ceil(size[0] / layout.rows), math.ceil(size[1] / layout.columns)
    pictures, surplus = divmod(layout.frames, down * across)
    if not pictures or surplus:
        raise ImageError(
            f"{path} is a whole slide of {down} × {across} tiles, and it holds {layout.frames} frames: expected that "
            "number or a multiple. If the slide was split into several files, join them first."
        )
    corners = tuple((row * layout.rows, column * layout.columns) for row in range(down) for column in range(across))
    count = len(corners)
    return [
        Tiling(tuple(range(index * count, (index + 1) * count)), corners, f"focal plane or optical path {index + 1}")
        for index in range(pictures)
    ]


def _sparse(header: Header, size: tuple[int, int], layout: Layout, path: Path) -> list[Tiling]:
    frames = header.items("PerFrameFunctionalGroupsSequence")
    shared = header.item("SharedFunctionalGroupsSequence")
    found: dict[tuple[str, float], list[tuple[int, tuple[int, int]]]] = {}
    for index in range(layout.frames):
        frame = frames[index] if index < len(frames) else None
        place = functional_group(frame, shared, "PlanePositionSlideSequence")
        row = place.integer("RowPositionInTotalImagePixelMatrix") if place else None
        column = place.integer("ColumnPositionInTotalImagePixelMatrix") if place else None
        if place is None or row is None or column is None:
            raise ImageError(
                f"{path} is a whole slide whose frame {index + 1} does not state its place in the picture. Export it "
                "again from its source."
            )
        if not (0 < row <= size[0] and 0 < column <= size[1]):
            raise ImageError(
                f"{path} is a whole slide of {size[0]} × {size[1]} pixels whose frame {index + 1} begins at row {row} "
                f"and column {column}, outside it. Export it again from its source."
            )
        optical = functional_group(frame, shared, "OpticalPathIdentificationSequence")
        key = (
            (optical.text("OpticalPathIdentifier") if optical else None) or "",
            place.decimal("ZOffsetInSlideCoordinateSystem") or 0.0,
        )
        found.setdefault(key, []).append((index, (row - 1, column - 1)))
    return [_of_places(places, number, size, layout, path) for number, (_, places) in enumerate(sorted(found.items()))]


def _of_places(
    places: Sequence[tuple[int, tuple[int, int]]], number: int, size: tuple[int, int], layout: Layout, path: Path
) -> Tiling:
    needed = math.ceil(size[0] / layout.rows) * math.ceil(size[1] / layout.columns)
    if len(places) < needed:
        logger.warning(
            "%s: %d of its %d tiles are missing and were taken for empty", path, needed - len(places), needed
        )
    return Tiling(
        tuple(index for index, _ in places),
        tuple(corner for _, corner in places),
        f"focal plane or optical path {number + 1}",
    )
