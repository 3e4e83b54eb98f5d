"""From a DICOM series to its volume: which one is meant, whether it can be read, and its slices in one array."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError, UsageError
from hounsfield.images.dicom import decode, read_dicom
from hounsfield.images.dicom_header import Header
from hounsfield.images.image import Image
from hounsfield.images.limits import pixel_limit
from hounsfield.images.regridding import evened, straightened
from hounsfield.images.series_geometry import UNEVEN
from hounsfield.images.series_grouping import TWO_SPACINGS, Grouper, Grouping, Series, listed
from hounsfield.images.settings import LEVEL_VARIABLE, UNEVEN_VARIABLE, number_setting, setting
from hounsfield.images.slide_levels import chosen_level
from hounsfield.images.slide_levels import listed as listed_levels
from hounsfield.images.volumes import chosen_volume
from hounsfield.progress import Progress, silent

logger = logging.getLogger(__name__)

Uneven = Literal["two spacings", "resample", "refuse"]
# Files of up to this many bytes together are read once and kept until they are decoded, larger series twice.
KEPT_BYTES = 2**29


def read_series(
    paths: str | Path | Iterable[str | Path] | Series,
    *,
    volume: int | None = None,
    level: int | None = None,
    tilt: Literal["resample", "refuse"] = "resample",
    uneven: Uneven | None = None,
    max_pixels: int | None = None,
    progress: Progress = silent,
) -> Image:
    """Read the files of one series as a volume, its slices sorted by position along their normal.

    Localisers are left out, and files that are no DICOM images are named in the log. A series of one file is what
    ``read_image`` makes of it.

    Args:
        paths: a folder, a DICOMDIR, files, or one ``Series`` of ``group_series``.
        volume: which of several volumes, from 0, in the order of ``group_series`` without its localisers.
        level: which level of a whole slide, from 0, the largest; by default the command line's --level, and without it
            the largest that ``max_pixels`` allows.
        tilt: what to do with slices from a tilted gantry: shift each along its plane, linearly interpolated, so that
            the axes of the volume are at right angles; or refuse them.
        uneven: what to do with slices of uneven spacing: interpolate linearly to the smallest distance, only where they
            come in blocks of two spacings or always; or refuse them. By default the command line's --uneven, and
            without it "two spacings".
        max_pixels: the most values that the volume may have.
        progress: hears of every slice.

    Raises:
        SeveralVolumes: there are several volumes, and none was chosen.
        ImageError: there is no series; slices are missing, double or unevenly spaced; a file is damaged.
    """
    opened: dict[Path, Header] = {}
    limit = pixel_limit(max_pixels)
    if isinstance(paths, Series):
        series = paths
    else:
        files = listed(paths)
        keep = opened if _total_bytes(files) <= KEPT_BYTES else None
        series = chosen_series(
            Grouper(limit, silent, keep).grouped(files), paths, volume, level=level, max_pixels=limit
        )
    for note in series.notes:
        logger.warning("%s: %s", series.paths[0].parent, note)
    if series.kind == "image":
        return read_dicom(series.paths[0], limit, series.volume)
    is_resampled = check_readable(series, tilt, uneven or uneven_setting())
    image = _volume(series, opened, limit, progress)
    if is_resampled:
        return _evened(image, series)
    return straightened(image) if series.is_tilted else image


def uneven_setting() -> Uneven:
    """What is done with slices of uneven spacing where nothing else is asked: the command line's --uneven.

    Raises:
        UsageError: the setting is no such word.
    """
    text = setting(UNEVEN_VARIABLE) or "two spacings"
    for known in get_args(Uneven):
        if text == known:
            return cast("Uneven", known)
    raise UsageError(
        f"The environment variable {UNEVEN_VARIABLE} is '{text}': expected one of {', '.join(get_args(Uneven))}."
    )


def check_readable(series: Series, tilt: str, uneven: str) -> bool:
    """Refuse what makes no volume; whether its slices are to be interpolated to an even grid.

    Args:
        series: of files.
        tilt: as of ``read_series``.
        uneven: likewise.

    Raises:
        ImageError: the series is no even volume, and is not to be made one.
    """
    folder = series.paths[0].parent
    if series.kind == "localiser":
        raise ImageError(f"The {len(series.paths)} localisers of {folder} make no volume: read each as an image.")
    is_resampled = uneven == "resample" or (uneven == "two spacings" and TWO_SPACINGS in series.notes)
    is_resampled = is_resampled and len(series.problems) == 1 and series.problems[0].startswith(UNEVEN)
    if series.problems and not is_resampled:
        raise ImageError(
            f"The series in {folder} is no even volume: {'; '.join(series.problems)}. Export the series again, read "
            "its files as single images, or, if it is unevenly spaced, have it resampled (--uneven resample)."
        )
    if series.is_tilted and tilt == "refuse":
        raise ImageError(
            f"The series in {folder} was taken with a tilted gantry, so that its slices are not "
            "straight above one another. Read it with tilt='resample' to have them shifted into place."
        )
    return is_resampled


def _evened(image: Image, series: Series) -> Image:
    pixels, gap = evened(image.pixels, np.array(series.depths), is_label_map=series.modality == "SEG")
    logger.warning("%s: its slices were interpolated to an even spacing of %g mm", series.paths[0].parent, gap)
    if image.affine is None or image.spacing is None:
        return image
    affine = image.affine.copy()
    affine[:, 0] *= gap / image.spacing[0]
    return image.replace(pixels=pixels, affine=affine, spacing=(gap, *image.spacing[1:]))


def _total_bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())


def chosen_series(
    grouping: Grouping, given: object, volume: int | None, *, level: int | None = None, max_pixels: int | None = None
) -> Series:
    """The one series, or the volume or the level of a slide that was asked for; arguments as for ``read_series``.

    Raises:
        SeveralVolumes: there are several volumes, and none was chosen.
        ImageError: there is no series, or none of that number.
    """
    for path, reason in grouping.refused:
        logger.warning("%s was left out of the series: %s", path, reason)
    found = [series for series in grouping.series if series.kind != "localiser"]
    if not found:
        reason = f" The first file was refused: {grouping.refused[0][1]}" if grouping.refused else ""
        raise ImageError(f"Found no DICOM series among the files given: expected the slices of one.{reason}")
    if len(found) == 1 and found[0].kind == "image" and volume is not None:
        # What is in one file, its reader knows.
        return replace(found[0], volume=volume)
    source = given if isinstance(given, str | Path) else found[0].paths[0].parent
    if volume is None and all(one.slide for one in found):
        number = number_setting(LEVEL_VARIABLE) if level is None else level
        return _level_of(found, number, pixel_limit(max_pixels), source)
    if level is not None:
        raise ImageError(f"{source} is no whole slide of several levels, and level {level} was asked for.")
    return found[chosen_volume([described(series) for series in found], volume, source)]


def _level_of(levels: Sequence[Series], number: int | None, limit: int, source: object) -> Series:
    """The level that is read among those of one slide."""
    sizes = [one.slide or (0, 0) for one in levels]
    if len({one.uid for one in levels}) > 1:
        raise ImageError(f"{source} holds levels of several slides ({listed_levels(sizes)}): expected those of one.")
    return levels[chosen_level(sizes, number, limit, source)]


def described(series: Series) -> str:
    """A few words about a series, for a list of several."""
    files = len(series.paths)
    counted = f"{files} files" if files > 1 else series.paths[0].name
    return ", ".join(filter(None, (series.words, f"{counted} in {series.paths[0].parent.name}")))


def _volume(series: Series, opened: dict[Path, Header], max_pixels: int, progress: Progress) -> Image:
    planes: list[npt.NDArray[np.float64] | None] = []
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
        if (image.affine is None) != (first.affine is None) or image.pixels.shape != first.pixels.shape:
            raise ImageError(f"{path} does not fit the other slices of its series: expected {first.shape} pixels.")
        if image.metadata.units != first.metadata.units:
            raise ImageError(
                f"{path} is measured in {image.metadata.units or 'no stated unit'}, and its series in "
                f"{first.metadata.units or 'no stated unit'}: expected one. Export the series again from its source."
            )
        if image.pixels.dtype != pixels.dtype:
            pixels = pixels.astype(np.result_type(pixels, image.pixels))
        pixels[index] = image.pixels
        planes.append(image.affine)
    progress("reading slices", len(series.paths), len(series.paths))
    start, end = planes[0], planes[-1]
    if first is None or pixels is None:
        raise ImageError("A series without files is no volume: expected two or more slices.")
    if start is None or end is None or first.spacing is None:
        return first.replace(pixels=pixels, affine=None, spacing=None)
    affine = start.copy()
    affine[:, 0] = (end[:, 3] - start[:, 3]) / (len(planes) - 1)
    return first.replace(pixels=pixels, affine=affine, spacing=(float(np.linalg.norm(affine[:3, 0])), *first.spacing))


def _check_total(series: Series, image: Image, max_pixels: int) -> None:
    if image.pixels.size * len(series.paths) > max_pixels:
        raise ImageError(
            f"The series in {series.paths[0].parent} has {len(series.paths)} slices of {image.pixels.size} values, "
            f"more than the limit of {max_pixels}. Raise the limit with --max-pixels if the memory is there."
        )
