"""Which frames of which files the slices of a DICOM image are, and where its pixels lie in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hounsfield.errors import ImageError
from hounsfield.images.dicom import is_stack
from hounsfield.images.dicom_file import open_header, refusing
from hounsfield.images.dicom_frames import frame_parts, frame_places
from hounsfield.images.dicom_geometry import read_plane
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_mosaic import Mosaic, read_mosaic
from hounsfield.images.dicom_segmentation import is_segmentation
from hounsfield.images.dicom_slide import is_slide
from hounsfield.images.limits import pixel_limit
from hounsfield.images.reading import volume_setting
from hounsfield.images.reference import Reference
from hounsfield.images.regridding import even_places, tilt_shifts
from hounsfield.images.series import check_readable, uneven_setting
from hounsfield.images.series_grouping import Series, group_series
from hounsfield.images.volumes import chosen_volume


@dataclass(frozen=True)
class Stored:
    """The place of one slice of an image as read.

    Attributes:
        path: of the file.
        frame: which of the file's frames, from 0; ``None`` where it holds one.
        offset: (rows, columns) from the first pixel of the frame to the first one of the slice: of a mosaic those of
            the tile, of a series from a tilted gantry how far the slice was shifted into place.
        distance: in mm between the slice and the frame; 0 but for slices that were interpolated between two frames, of
            which this is the nearer one.
    """

    path: Path
    frame: int | None = None
    offset: tuple[float, float] = (0.0, 0.0)
    distance: float = 0.0


class Finder:
    """Finds the files of images; what was read of a folder is kept for the next image in it."""

    def __init__(self) -> None:
        self._groups: dict[Path, tuple[Series, ...]] = {}

    def find(self, reference: Reference) -> tuple[Stored, ...]:
        """The slices of an image in their order, as ``read_image`` and ``read_series`` put them together.

        Args:
            reference: of an image that was read; its identifiers choose among the series of a folder.

        Raises:
            ImageError: it is no DICOM image, or one whose pixels have no place in a single frame: a whole slide, a
                segmentation.
        """
        if reference.several:
            raise ImageError(
                f"{reference} is made of several files or volumes, and no DICOM result can refer to all of them: "
                "expected images of one series. Write the predictions as a table."
            )
        if reference.instance is None:
            raise ImageError(
                f"{reference} is no DICOM image: expected DICOM files, since DICOM results refer to the images that "
                "they were made of. Give the original files."
            )
        path = Path(reference.path)
        slices = _of_file(path, reference.volume) if path.is_file() else self._of_folder(path, reference)
        if reference.frame is None:
            return slices
        if reference.frame >= len(slices):
            raise ImageError(f"{reference} is not there: {path} holds {len(slices)} slices or frames.")
        return (slices[reference.frame],)

    def _of_folder(self, path: Path, reference: Reference) -> tuple[Stored, ...]:
        # A series that shares its folder with others is named FOLDER/UID.
        folder = path if path.is_dir() else path.parent
        if folder not in self._groups:
            self._groups[folder] = group_series(folder).series
        volumes = [one for one in self._groups[folder] if one.uid == reference.series and one.kind == "volume"]
        found = [one for one in volumes if _instance(one.paths[0]) == reference.instance]
        if len(found) > 1 and reference.volume is not None:
            found = [one for one in found if one is volumes[reference.volume]]
        if len(found) != 1:
            raise ImageError(
                f"{reference} names {len(found)} volumes of its folder: expected one. Give the folder of one series."
            )
        return _of_series(found[0])


def _instance(path: Path) -> str | None:
    return open_header(path, pixel_limit(None)).text("SOPInstanceUID")


def _of_series(series: Series) -> tuple[Stored, ...]:
    if check_readable(series, "resample", uneven_setting()):
        depths = np.array(series.depths)
        places, _ = even_places(depths)
        apart = np.abs(depths[:, np.newaxis] - places)
        return tuple(
            Stored(series.paths[index], distance=float(distance))
            for index, distance in zip(apart.argmin(axis=0), apart.min(axis=0), strict=True)
        )
    if not series.is_tilted:
        return tuple(Stored(path) for path in series.paths)
    shifts = _tilt(series)
    return tuple(
        Stored(path, offset=(-rows, -columns)) for path, (rows, columns) in zip(series.paths, shifts, strict=True)
    )


def _tilt(series: Series) -> Sequence[tuple[float, float]]:
    headers = [open_header(path, pixel_limit(None)) for path in (series.paths[0], series.paths[-1])]
    start, end = (read_plane(header, header, header) for header in headers)
    if start is None or end is None:
        return [(0.0, 0.0)] * len(series.paths)
    affine = start.affine((end.position - start.position) / (len(series.paths) - 1))
    shifts, low, _ = tilt_shifts(affine, start.spacing, len(series.paths))
    return [(float(rows), float(columns)) for rows, columns in shifts - low]


def _of_file(path: Path, volume: int | None) -> tuple[Stored, ...]:
    header = open_header(path, pixel_limit(None))
    with refusing(path):
        if is_slide(header) or is_segmentation(header):
            kind = "a whole slide" if is_slide(header) else "a segmentation"
            raise ImageError(f"{path} is {kind}, to which no DICOM results are made: expected images of single frames.")
        frames = header.integer("NumberOfFrames") or 1
        mosaic = read_mosaic(header, path) if frames == 1 else None
        if mosaic is not None:
            return _tiles(header, path, mosaic)
        if frames == 1:
            return (Stored(path),)
        parts = frame_parts(header, frames, path)
        if not parts:
            return tuple(Stored(path, index) for index in range(frames))
        number = volume if volume is not None else volume_setting()
        part = parts[chosen_volume([part.words for part in parts], number, path)]
        places = frame_places(header, frames, path) or []
        is_sorted = len(part.indices) == 1 or is_stack([places[index].plane for index in part.indices])
        return tuple(Stored(path, index) for index in (part.indices if is_sorted else sorted(part.indices)))


def _tiles(header: Header, path: Path, mosaic: Mosaic) -> tuple[Stored, ...]:
    rows = (header.integer("Rows") or 0) // mosaic.tiles[0]
    columns = (header.integer("Columns") or 0) // mosaic.tiles[1]
    tiles = [divmod(index, mosaic.tiles[1]) for index in mosaic.order]
    return tuple(Stored(path, offset=(float(down * rows), float(along * columns))) for down, along in tiles)


# A frame: its file, and its number where the file holds several.
Frame = tuple[Path, int | None]


def put_back(
    values: npt.NDArray[np.floating],
    slices: Sequence[Stored],
    size: Callable[[Path], tuple[int, int]],
    *,
    order: Literal[0, 1] = 1,
) -> dict[Frame, npt.NDArray[np.float32]]:
    """Values of an image as read, on the pixels of the frames that it was read from.

    Args:
        values: (slices, rows, columns).
        slices: of the image.
        size: (rows, columns) of the frames of a file.
        order: 1 to interpolate linearly where a slice was shifted by parts of a pixel, 0 to take the nearest value.

    Returns:
        For each frame its values (rows, columns); 0 where no pixel of the image lies.
    """
    found: dict[Frame, npt.NDArray[np.float32]] = {}
    nearest: dict[Frame, float] = {}
    for plane, stored in zip(values, slices, strict=True):
        frame = (stored.path, stored.frame)
        if stored.distance > nearest.setdefault(frame, stored.distance):
            continue
        if stored.distance < nearest[frame]:
            found.pop(frame, None)
        nearest[frame] = stored.distance
        whole = found.setdefault(frame, np.zeros(size(stored.path), np.float32))
        _add(whole, plane.astype(np.float32), stored.offset, order)
    return found


def _add(
    whole: npt.NDArray[np.float32], plane: npt.NDArray[np.float32], offset: tuple[float, float], order: Literal[0, 1]
) -> None:
    """Write a slice at its place; of a mosaic the other tiles stay."""
    if all(part.is_integer() for part in offset):
        start = [max(int(part), 0) for part in offset]
        skipped = [max(-int(part), 0) for part in offset]
        shape = [
            min(have - skip, room - begin)
            for have, skip, room, begin in zip(plane.shape, skipped, whole.shape, start, strict=True)
        ]
        whole[start[0] : start[0] + shape[0], start[1] : start[1] + shape[1]] = plane[
            skipped[0] : skipped[0] + shape[0], skipped[1] : skipped[1] + shape[1]
        ]
        return
    whole[...] = ndimage.affine_transform(
        plane, np.eye(2), offset=[-part for part in offset], output_shape=whole.shape, order=order, mode="nearest"
    )
