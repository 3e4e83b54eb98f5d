"""From DICOM files to volumes: which slices belong together, in what order, and whether anything is wrong with them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.dicom import decode, read_dicom
from hounsfield.images.dicom_directory import is_directory, referenced_files
from hounsfield.images.dicom_file import open_dicom, open_header, refusing
from hounsfield.images.dicom_geometry import are_parallel
from hounsfield.images.dicom_header import Header
from hounsfield.images.image import Image
from hounsfield.images.reading import image_files
from hounsfield.images.series_geometry import (
    Slice,
    find_problems,
    is_tilted,
    read_slice,
    separated,
    straightened,
    without_copies,
)
from hounsfield.progress import Progress, silent

logger = logging.getLogger(__name__)

Kind = Literal["volume", "localiser", "image"]

# Files of up to this many bytes together are read once and kept until they are decoded, larger series twice.
KEPT_BYTES = 2**29


@dataclass(frozen=True)
class Series:
    """Files that make one volume, one set of localisers, or one single image.

    Attributes:
        uid: SeriesInstanceUID; several ``Series`` have the same one where a series was mixed and had to be split.
        kind: ``"volume"`` for two or more parallel slices, ``"localiser"`` for scouts, ``"image"`` for one file.
        paths: the files; those of a volume in the order of their position along the normal.
        problems: what keeps the volume from being read, each a part of a sentence; empty when nothing does.
        is_tilted: whether the slices are shifted against each other along their own plane, as a tilted gantry does.
        copies: files left out because another file holds the same instance.
        modality: DICOM's code.
    """

    uid: str
    kind: Kind
    paths: tuple[Path, ...]
    problems: tuple[str, ...] = ()
    is_tilted: bool = False
    copies: tuple[Path, ...] = ()
    modality: str | None = None


@dataclass(frozen=True)
class Grouping:
    """All series among some files, and the files that are no DICOM image with the reason of each."""

    series: tuple[Series, ...]
    refused: tuple[tuple[Path, str], ...]


def group_series(
    paths: str | Path | Iterable[str | Path], *, max_pixels: int = 2**28, progress: Progress = silent
) -> Grouping:
    """Sort DICOM files into series by what stands in them, never by their names; no pixels are read.

    Files belong together that have one SeriesInstanceUID, size, orientation and spacing. Where several slices lie at
    one position, they are separated by the attribute that tells them apart: echo, acquisition, time, b-value or image
    type. Localisers are set apart.

    Args:
        paths: a folder, a DICOMDIR, or files; a DICOMDIR among them stands for the files that it names.
        max_pixels: as for ``read_image``.
        progress: hears of every file.

    Raises:
        ImageError: a folder does not exist.
    """
    return _grouped(_listed(paths), max_pixels, progress, None)


def read_series(
    paths: str | Path | Iterable[str | Path] | Series,
    *,
    tilt: Literal["resample", "refuse"] = "resample",
    max_pixels: int = 2**28,
    progress: Progress = silent,
) -> Image:
    """Read the files of one series as a volume, its slices sorted by position along their normal.

    Localisers are left out, and files that are no DICOM images are named in the log. A series of one file is what
    ``read_image`` makes of it.

    Args:
        paths: a folder, a DICOMDIR, files, or one ``Series`` of ``group_series``.
        tilt: what to do with slices from a tilted gantry: shift each along its plane, linearly interpolated, so that
            the axes of the volume are at right angles; or refuse them.
        max_pixels: the most values that the volume may have.
        progress: hears of every slice.

    Raises:
        ImageError: there is no series or more than one; slices are missing, double or unevenly spaced; a file is
            damaged.
    """
    opened: dict[Path, Header] = {}
    if isinstance(paths, Series):
        series = paths
    else:
        files = _listed(paths)
        keep = opened if _total_bytes(files) <= KEPT_BYTES else None
        series = _only_series(_grouped(files, max_pixels, silent, keep))
    if series.kind == "image":
        return read_dicom(series.paths[0], max_pixels)
    _check_readable(series, tilt)
    return _volume(series, opened, max_pixels, progress)


def _check_readable(series: Series, tilt: str) -> None:
    if series.kind == "localiser":
        raise ImageError(
            f"The {len(series.paths)} localisers of {series.paths[0].parent} make no volume: read each as an image."
        )
    if series.problems:
        raise ImageError(
            f"The series in {series.paths[0].parent} is no even volume: {'; '.join(series.problems)}. Export the "
            "series again, or read its files as single images."
        )
    if series.is_tilted and tilt == "refuse":
        raise ImageError(
            f"The series in {series.paths[0].parent} was taken with a tilted gantry, so that its slices are not "
            "straight above one another. Read it with tilt='resample' to have them shifted into place."
        )


def _listed(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    if isinstance(paths, str | Path):
        return image_files(paths) if Path(paths).is_dir() else [Path(paths)]
    return list(dict.fromkeys(Path(path) for path in paths))


def _grouped(waiting: list[Path], max_pixels: int, progress: Progress, opened: dict[Path, Header] | None) -> Grouping:
    """As ``group_series``; files are kept in ``opened``, pixels included, where it is given."""
    refused: list[tuple[Path, str]] = []
    slices: list[Slice] = []
    known = set(waiting)
    for done, path in enumerate(waiting):
        progress("reading headers", done, len(waiting))
        try:
            header = open_header(path, max_pixels) if opened is None else open_dicom(path, max_pixels)
            if is_directory(header):
                named = [file for file in referenced_files(header, path) if file not in known]
                known.update(named)
                waiting.extend(named)
            else:
                slices.append(_checked_slice(header, path))
                if opened is not None:
                    opened[path] = header
        except ImageError as error:
            refused.append((path, str(error)))
    progress("reading headers", len(waiting), len(waiting))
    groups: dict[tuple[Any, ...], list[Slice]] = defaultdict(list)
    for one in slices:
        groups[one.key].append(one)
    series = [found for group in groups.values() for found in _split(group)]
    return Grouping(tuple(series), tuple(refused))


def _checked_slice(header: Header, path: Path) -> Slice:
    with refusing(path):
        found = read_slice(header, path)
    if found is None:
        raise ImageError(f"{path} is a DICOM file without pixels, so it belongs to no series of images.")
    return found


def _split(group: list[Slice]) -> list[Series]:
    """The series that slices of one key make: localisers, volumes by orientation, single images."""
    if group[0].is_localiser:
        return [_series("localiser", sorted(group, key=lambda one: one.path))]
    clusters: list[list[Slice]] = []
    for one in group:
        for cluster in clusters:
            if _belong_together(cluster[0], one):
                cluster.append(one)
                break
        else:
            clusters.append([one])
    return [series for cluster in clusters for series in _volumes(cluster)]


def _belong_together(first: Slice, other: Slice) -> bool:
    return first.plane is not None and other.plane is not None and are_parallel(first.plane, other.plane)


def _volumes(cluster: list[Slice]) -> list[Series]:
    kept, copies = without_copies(cluster)
    if len(kept) == 1:
        return [_series("image", kept, copies=copies)]
    found = []
    for part in separated(kept):
        kind: Kind = "volume" if len(part) > 1 else "image"
        problems = find_problems(part)
        tilted = len(part) > 1 and not problems and is_tilted(part)
        found.append(_series(kind, part, problems=problems, tilted=tilted, copies=copies))
        copies = []
    return found


def _series(
    kind: Kind,
    slices: Sequence[Slice],
    *,
    problems: tuple[str, ...] = (),
    tilted: bool = False,
    copies: Sequence[Slice] = (),
) -> Series:
    return Series(
        uid=slices[0].series,
        kind=kind,
        paths=tuple(one.path for one in slices),
        problems=problems,
        is_tilted=tilted,
        copies=tuple(one.path for one in copies),
        modality=slices[0].modality,
    )


def _total_bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())


def _only_series(grouping: Grouping) -> Series:
    for path, reason in grouping.refused:
        logger.warning("%s was left out of the series: %s", path, reason)
    found = [series for series in grouping.series if series.kind != "localiser"]
    if len(found) == 1:
        return found[0]
    if not found:
        reason = f" The first file was refused: {grouping.refused[0][1]}" if grouping.refused else ""
        raise ImageError(f"Found no DICOM series among the files given: expected the slices of one.{reason}")
    sizes = ", ".join(f"{len(series.paths)} files in {series.paths[0].parent}" for series in found[:4])
    raise ImageError(
        f"Found {len(found)} series or parts of them ({sizes}{', …' if len(found) > 4 else ''}), but one volume is one "
        "series. Take them apart with group_series and read each of them."
    )


def _volume(series: Series, opened: dict[Path, Header], max_pixels: int, progress: Progress) -> Image:
    planes = []
    pixels: npt.NDArray[Any] | None = None
    first: Image | None = None
    for index, path in enumerate(series.paths):
        progress("reading slices", index, len(series.paths))
        header = opened.pop(path, None)
        image = decode(header, path, max_pixels) if header else read_dicom(path, max_pixels)
        if first is None or pixels is None:
            first = image
            _check_total(series, image, max_pixels)
            pixels = np.empty((len(series.paths), *image.pixels.shape), dtype=image.pixels.dtype)
        if image.affine is None or image.pixels.shape != first.pixels.shape:
            raise ImageError(f"{path} does not fit the other slices of its series: expected {first.shape} pixels.")
        if image.pixels.dtype != pixels.dtype:
            pixels = pixels.astype(np.result_type(pixels, image.pixels))
        pixels[index] = image.pixels
        planes.append(image.affine)
    if first is None or pixels is None or first.spacing is None:
        raise ImageError("A series without files or spacing is no volume: expected two or more slices.")
    progress("reading slices", len(series.paths), len(series.paths))
    affine = planes[0].copy()
    affine[:, 0] = (planes[-1][:, 3] - planes[0][:, 3]) / (len(planes) - 1)
    volume = first.replace(pixels=pixels, affine=affine, spacing=(float(np.linalg.norm(affine[:3, 0])), *first.spacing))
    return straightened(volume) if series.is_tilted else volume


def _check_total(series: Series, image: Image, max_pixels: int) -> None:
    if image.pixels.size * len(series.paths) > max_pixels:
        raise ImageError(
            f"The series in {series.paths[0].parent} has {len(series.paths)} slices of {image.pixels.size} values, "
            f"more than the limit of {max_pixels}. Raise max_pixels if the memory is there."
        )
