"""A volume whose slices are tiles of one picture: the mosaics of Siemens and the grids of United Imaging (UIH)."""

from __future__ import annotations

import importlib
import math
import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.dicom_geometry import Plane, read_plane
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_tags import private_places

Array = npt.NDArray[Any]
# The private blocks in which files say that they are mosaics; most files have none.
CREATORS = frozenset(
    creator for keyword in ("SiemensNumberOfImagesInMosaic", "UIHGridFrames") for creator, _ in private_places(keyword)
)


@dataclass(frozen=True, eq=False)
class Mosaic:
    """How a picture is cut into slices.

    Attributes:
        count: of the slices; tiles beyond it are empty.
        tiles: (rows, columns) of tiles.
        planes: of the slices in the order of the tiles, or ``None`` where the file does not tell them all.
    """

    count: int
    tiles: tuple[int, int]
    planes: tuple[Plane, ...] | None

    @property
    def order(self) -> list[int]:
        """The tiles in the order of their slices along the normal; as they lie where their places are not known."""
        if self.planes is None or self.count == 1:
            return list(range(self.count))
        normal = self.planes[0].normal
        depths = [float(normal @ plane.position) for plane in self.planes]
        return [int(index) for index in np.argsort(depths, kind="stable")]

    def unfolded(self, picture: Array) -> Array:
        """(rows, columns, channels) as (slices, rows, columns, channels), in the order of the tiles."""
        rows, columns = (length // tiles for length, tiles in zip(picture.shape[:2], self.tiles, strict=True))
        cut = picture.reshape(self.tiles[0], rows, self.tiles[1], columns, -1).swapaxes(1, 2)
        return cut.reshape(-1, rows, columns, picture.shape[-1])[: self.count]


def read_mosaic(header: Header, path: Path) -> Mosaic | None:
    """How a file is cut into slices, or ``None`` for what is no mosaic.

    Raises:
        ImageError: it is one, and does not tell how many slices it has, or they do not fit into the picture.
    """
    if not header.has_any(CREATORS) and not _says_mosaic(header):
        return None
    if "UIHGridFrames" in header:
        return _of_uih(header, path)
    if _is_siemens(header):
        return _of_siemens(header, path)
    return None


def _is_siemens(header: Header) -> bool:
    return _says_mosaic(header) or (header.decimal("SiemensNumberOfImagesInMosaic") or 0) > 1


def _says_mosaic(header: Header) -> bool:
    return "MOSAIC" in (header.text("ImageType") or "").upper().split("\\")


def _of_siemens(header: Header, path: Path) -> Mosaic:
    """The stated position is that of a picture as large as the mosaic, around the centre of the first slice.

    The slices follow along the normal of the private image header, whose sign the orientation alone does not tell
    (nibabel's notes on "DICOM files in the Siemens mosaic format"). Without it, or without their distance, the position
    of all but the first slice is unknown.
    """
    private = _csa(header)
    count = int(header.decimal("SiemensNumberOfImagesInMosaic") or _csa_value(private, "NumberOfImagesInMosaic") or 0)
    side = math.ceil(math.sqrt(count))
    _check_fit(header, count, (side, side), path)
    mosaic = Mosaic(count, (side, side), None)
    plane = read_plane(header, header, header)
    step = header.decimal("SpacingBetweenSlices")
    normal = _csa_value(private, "SliceNormalVector")
    if plane is None or not step or normal is None:
        return mosaic
    offset = sum(
        direction * spacing * (length - length / side) / 2
        for direction, spacing, length in zip(
            (plane.along_rows, plane.along_columns), plane.spacing, _size(header), strict=True
        )
    )
    towards = plane.normal * np.sign(plane.normal @ np.asarray(normal, dtype=np.float64))
    planes = (
        replace(plane, position=plane.position + offset + towards * abs(step) * index, thickness=abs(step))
        for index in range(count)
    )
    return replace(mosaic, planes=tuple(planes))


def _of_uih(header: Header, path: Path) -> Mosaic:
    """Each tile states its own position."""
    frames = header.items("UIHGridFrames")
    count = header.integer("UIHNumberOfImagesInGrid") or len(frames)
    columns = math.ceil(math.sqrt(count))
    tiles = (math.ceil(count / columns) if columns else 0, columns)
    _check_fit(header, count, tiles, path)
    planes = [read_plane(frame, header, header) for frame in frames]
    known = tuple(plane for plane in planes if plane is not None)
    return Mosaic(count, tiles, known if len(known) == len(planes) == count else None)


def _check_fit(header: Header, count: int, tiles: tuple[int, int], path: Path) -> None:
    rows, columns = _size(header)
    if count < 1 or 0 in tiles or rows % tiles[0] or columns % tiles[1]:
        raise ImageError(
            f"{path} is a mosaic of slices in one picture of {rows} × {columns} pixels, and it "
            + (f"declares {count} slices, which do not fit into it." if count else "does not tell how many there are.")
            + " Export the series again without removing private elements, or as single slices."
        )


def _size(header: Header) -> tuple[int, int]:
    return header.integer("Rows") or 0, header.integer("Columns") or 0


def _csa(header: Header) -> dict[str, Any]:
    """The elements of Siemens' own header (CSA); empty where it is missing or cut off, as anonymisers leave it."""
    content = header.raw("SiemensImageHeader")
    if not content:
        return {}
    with warnings.catch_warnings():
        # nibabel calls its DICOM readers experimental; this one reads a header.
        warnings.simplefilter("ignore")
        csareader = importlib.import_module("nibabel.nicom.csareader")
    try:
        return dict(csareader.read(bytes(content))["tags"])
    except (csareader.CSAReadError, ValueError, KeyError, IndexError, struct.error):
        return {}


def _csa_value(private: dict[str, Any], name: str) -> Any:
    items = private.get(name, {}).get("items", [])
    return (items[0] if len(items) == 1 else items) if items else None
