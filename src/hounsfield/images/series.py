"""From DICOM files to volumes: which slices belong together, in what order, and whether anything is wrong with them."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.dicom import decode, read_dicom, volume_words
from hounsfield.images.dicom_directory import is_directory, referenced_files
from hounsfield.images.dicom_file import open_dicom, open_header, refusing
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_slide import is_slide, slide_size
from hounsfield.images.image import Image
from hounsfield.images.limits import pixel_limit
from hounsfield.images.reading import image_files
from hounsfield.images.regridding import evened, straightened
from hounsfield.images.series_geometry import (
    UNEVEN,
    Slice,
    depths_of,
    find_problems,
    has_two_spacings,
    is_tilted,
    read_slice,
    without_copies,
    without_equals,
)
from hounsfield.images.stacks import Part, partition
from hounsfield.images.volumes import chosen_volume
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
        kind: ``"volume"`` for two or more slices, ``"localiser"`` for scouts, ``"image"`` for one file.
        paths: the files; those of a volume in the order of their position along the normal.
        problems: what keeps the volume from being read, each a part of a sentence; empty when nothing does.
        is_tilted: whether the slices are shifted against each other along their own plane, as a tilted gantry does.
        copies: files left out because another file holds the same instance, or the same picture of the same place.
        modality: DICOM's code.
        words: what tells it from the others of the same series, as "echo time 80 ms".
        volume: which volume of its one file, where that holds several.
        notes: what a reader of the volume should know, each a part of a sentence; ``read_series`` logs them.
        depths: of the slices along their normal in mm; empty where they state no position.
        slide: (rows, columns) of a level of a whole slide; ``None`` for everything else.
    """

    uid: str
    kind: Kind
    paths: tuple[Path, ...]
    problems: tuple[str, ...] = ()
    is_tilted: bool = False
    copies: tuple[Path, ...] = ()
    modality: str | None = None
    words: str = ""
    volume: int | None = None
    notes: tuple[str, ...] = ()
    depths: tuple[float, ...] = ()
    slide: tuple[int, int] | None = None


@dataclass(frozen=True)
class Grouping:
    """All series among some files, and the files that are no DICOM image with the reason of each."""

    series: tuple[Series, ...]
    refused: tuple[tuple[Path, str], ...]


def group_series(
    paths: str | Path | Iterable[str | Path], *, max_pixels: int | None = None, progress: Progress = silent
) -> Grouping:
    """Sort DICOM files into series by what stands in them, never by their names.

    Files belong together that have one SeriesInstanceUID, size, orientation and spacing. Where several slices lie at
    one position, they are separated by what tells them apart (``dicom_labels.LABELS``), or by complete runs of instance
    numbers. A file of several volumes appears once for each. Localisers are set apart. Pixels are read only where
    files may be copies of each other.

    Args:
        paths: a folder, a DICOMDIR, or files; a DICOMDIR among them stands for the files that it names.
        max_pixels: the most values that a file may declare, as for ``read_image``.
        progress: hears of every file.

    Raises:
        ImageError: a folder does not exist.
    """
    return _Grouper(pixel_limit(max_pixels), progress, None).grouped(_listed(paths))


def read_series(
    paths: str | Path | Iterable[str | Path] | Series,
    *,
    volume: int | None = None,
    level: int | None = None,
    tilt: Literal["resample", "refuse"] = "resample",
    uneven: Literal["two spacings", "resample", "refuse"] = "two spacings",
    max_pixels: int | None = None,
    progress: Progress = silent,
) -> Image:
    """Read the files of one series as a volume, its slices sorted by position along their normal.

    Localisers are left out, and files that are no DICOM images are named in the log. A series of one file is what
    ``read_image`` makes of it.

    Args:
        paths: a folder, a DICOMDIR, files, or one ``Series`` of ``group_series``.
        volume: which of several volumes, from 0, in the order of ``group_series`` without its localisers.
        level: which level of a whole slide, from 0, the largest; by default the largest that ``max_pixels`` allows.
        tilt: what to do with slices from a tilted gantry: shift each along its plane, linearly interpolated, so that
            the axes of the volume are at right angles; or refuse them.
        uneven: what to do with slices of uneven spacing: interpolate linearly to the smallest distance, only where they
            come in blocks of two spacings or always; or refuse them.
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
        files = _listed(paths)
        keep = opened if _total_bytes(files) <= KEPT_BYTES else None
        series = chosen_series(
            _Grouper(limit, silent, keep).grouped(files), paths, volume, level=level, max_pixels=limit
        )
    for note in series.notes:
        logger.warning("%s: %s", series.paths[0].parent, note)
    if series.kind == "image":
        return read_dicom(series.paths[0], limit, series.volume)
    is_resampled = _check_readable(series, tilt, uneven)
    image = _volume(series, opened, limit, progress)
    if is_resampled:
        return _evened(image, series)
    return straightened(image) if series.is_tilted else image


def _check_readable(series: Series, tilt: str, uneven: str) -> bool:
    """Refuse what makes no volume; whether its slices are to be interpolated to an even grid."""
    folder = series.paths[0].parent
    if series.kind == "localiser":
        raise ImageError(f"The {len(series.paths)} localisers of {folder} make no volume: read each as an image.")
    is_resampled = uneven == "resample" or (uneven == "two spacings" and TWO_SPACINGS in series.notes)
    is_resampled = is_resampled and len(series.problems) == 1 and series.problems[0].startswith(UNEVEN)
    if series.problems and not is_resampled:
        raise ImageError(
            f"The series in {folder} is no even volume: {'; '.join(series.problems)}. Export the series again, read "
            "its files as single images, or, if it is unevenly spaced, read it with uneven='resample'."
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


def _listed(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    if isinstance(paths, str | Path):
        return image_files(paths) if Path(paths).is_dir() else [Path(paths)]
    return list(dict.fromkeys(Path(path) for path in paths))


class _Grouper:
    """Reads headers and sorts what they say; files are kept in ``opened``, pixels included, where it is given."""

    def __init__(self, max_pixels: int, progress: Progress, opened: dict[Path, Header] | None) -> None:
        self.max_pixels = max_pixels
        self.progress = progress
        self.opened = opened
        self._digests: dict[Path, bytes] = {}

    def grouped(self, waiting: list[Path]) -> Grouping:
        """As ``group_series``."""
        refused: list[tuple[Path, str]] = []
        groups: dict[tuple[Any, ...], list[Slice]] = defaultdict(list)
        alone: dict[Path, tuple[list[str], tuple[int, int] | None]] = {}
        known = set(waiting)
        for done, path in enumerate(waiting):
            self.progress("reading headers", done, len(waiting))
            try:
                header = self._opened(path)
                if is_directory(header):
                    named = [file for file in referenced_files(header, path) if file not in known]
                    known.update(named)
                    waiting.extend(named)
                    continue
                volumes = volume_words(header, path)
                one = _checked_slice(header, path, is_alone=volumes is not None)
                if volumes is not None:
                    alone[path] = volumes, slide_size(header) if is_slide(header) else None
                groups[one.key].append(one)
            except ImageError as error:
                refused.append((path, str(error)))
        self.progress("reading headers", len(waiting), len(waiting))
        series = [found for group in groups.values() for found in self._split(group, alone)]
        return Grouping(tuple(_in_order(series, groups)), tuple(refused))

    def _opened(self, path: Path) -> Header:
        if self.opened is None:
            return open_header(path, self.max_pixels)
        header = self.opened[path] = open_dicom(path, self.max_pixels)
        return header

    def _digest(self, path: Path) -> bytes:
        if path not in self._digests:
            header = (self.opened or {}).get(path) or open_dicom(path, self.max_pixels)
            self._digests[path] = hashlib.blake2b(header.raw("PixelData") or b"").digest()
        return self._digests[path]

    def _split(
        self, group: list[Slice], alone: Mapping[Path, tuple[list[str], tuple[int, int] | None]]
    ) -> list[Series]:
        kept, copies, shared = without_copies(group, self._digest)
        if kept[0].is_localiser:
            return [_series("localiser", kept, copies=copies)]
        if kept[0].path in alone:
            words, slide = alone[kept[0].path]
            numbers = range(len(words)) if len(words) > 1 else (None,)
            return [
                _series("image", kept, copies=copies, words=word, volume=number, slide=slide)
                for word, number in zip(words, numbers, strict=True)
            ]
        notes = [SAME_IDENTIFIER] if shared else []
        placed = [one for one in kept if one.place]
        unplaced = [one for one in kept if not one.place]
        found = self._volumes(placed, notes)
        found.extend(_without_positions(unplaced, notes))
        return [replace(found[0], copies=(*found[0].copies, *(one.path for one in copies))), *found[1:]]

    def _volumes(self, slices: list[Slice], notes: list[str]) -> list[Series]:
        if not slices:
            return []
        parts = partition([one.place for one in slices if one.place])
        if not all(part.is_certain for part in parts):
            kept, copies = without_equals(slices, self._digest)
            if copies:
                found = self._volumes(kept, notes)
                return [replace(found[0], copies=(*found[0].copies, *(one.path for one in copies))), *found[1:]]
        return [_volume_of([slices[index] for index in part.indices], part, notes) for part in parts]


SAME_IDENTIFIER = "several of its slices have one SOPInstanceUID; they were told apart by their positions"
BY_NUMBER = "its slices state no position, so they stand in the order of their instance numbers and have no affine"
TWO_SPACINGS = "its slices come in two spacings"
# Samples of a pixel of a slide.
COLOURS = 3
# Without positions, only files of these are slices of something.
SLICED = frozenset({"CT", "MR", "PT"})


def _volume_of(slices: list[Slice], part: Part, notes: Sequence[str]) -> Series:
    if len(slices) == 1:
        return _series("image", slices, words=part.words, notes=tuple(notes))
    problems = find_problems(slices)
    notes = [*notes]
    if part.varying:
        notes.append(f"its slices make one even stack, and yet differ in {part.varying}")
    if len(problems) == 1 and has_two_spacings(slices):
        notes.append(TWO_SPACINGS)
        problems = (f"{UNEVEN}: {TWO_SPACINGS}",)
    return _series(
        "volume",
        slices,
        problems=problems,
        is_tilted=not problems and is_tilted(slices),
        words=part.words,
        notes=tuple(notes),
        depths=tuple(depths_of(slices).tolist()),
    )


def _without_positions(slices: list[Slice], notes: Sequence[str]) -> list[Series]:
    """Slices by instance number where the modality is one of slices; else every file is an image of its own."""
    numbers = [one.number for one in slices]
    is_stack = len(slices) > 1 and slices[0].modality in SLICED and None not in numbers
    if not is_stack or len(set(numbers)) != len(numbers):
        return [_series("image", [one]) for one in slices]
    ordered = sorted(slices, key=lambda one: one.number or 0)
    return [_series("volume", ordered, notes=(*notes, BY_NUMBER))]


def _in_order(series: list[Series], groups: Mapping[tuple[Any, ...], Sequence[Slice]]) -> list[Series]:
    """The parts of one series by their lowest instance number, at the place of the first of them."""
    numbers = {one.path: one.number for group in groups.values() for one in group}
    first: dict[str, int] = {}
    for index, one in enumerate(series):
        first.setdefault(one.uid, index)

    def key(one: Series) -> tuple[int, float, int]:
        lowest = min((number for path in one.paths if (number := numbers[path]) is not None), default=math.inf)
        return first[one.uid], lowest, one.volume or 0

    return sorted(series, key=key)


def _checked_slice(header: Header, path: Path, *, is_alone: bool) -> Slice:
    with refusing(path):
        found = read_slice(header, path, is_alone=is_alone)
    if found is None:
        raise ImageError(f"{path} is a DICOM file without pixels, so it belongs to no series of images.")
    return found


def _series(kind: Kind, slices: Sequence[Slice], *, copies: Sequence[Slice] = (), **facts: Any) -> Series:
    return Series(
        uid=slices[0].series,
        kind=kind,
        paths=tuple(one.path for one in slices),
        copies=tuple(one.path for one in copies),
        modality=slices[0].modality,
        **facts,
    )


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
        return _Level(level, pixel_limit(max_pixels)).of(found, source)
    if level is not None:
        raise ImageError(f"{source} is no whole slide of several levels, and level {level} was asked for.")
    return found[chosen_volume([described(series) for series in found], volume, source)]


@dataclass(frozen=True)
class _Level:
    """Which level of a slide is wanted: that of a number, or the largest that the limit allows."""

    number: int | None
    limit: int

    def of(self, levels: Sequence[Series], source: object) -> Series:
        """The level among those of one slide."""
        ordered = sorted(levels, key=lambda one: -math.prod(one.slide or (0,)))
        sizes = "; ".join(
            f"{number}: {one.slide[0]} × {one.slide[1]} pixels" for number, one in enumerate(ordered) if one.slide
        )
        if len({one.uid for one in levels}) > 1:
            raise ImageError(f"{source} holds levels of several slides ({sizes}): expected those of one series.")
        if self.number is not None and self.number >= len(ordered):
            raise ImageError(f"{source} has {len(ordered)} levels ({sizes}), and number {self.number} was asked for.")
        if self.number is not None:
            return ordered[self.number]
        fitting = [one for one in ordered if math.prod(one.slide or (0,)) * COLOURS <= self.limit]
        if not fitting:
            raise ImageError(
                f"{source} is a whole slide whose levels ({sizes}) all exceed the limit of {self.limit} values. "
                "Raise the limit with --max-pixels if the memory is there."
            )
        return fitting[0]


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
