"""From DICOM files to series: which files belong together, in what order, and whether anything is wrong with them."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hounsfield.errors import ImageError
from hounsfield.images.dicom import volume_words
from hounsfield.images.dicom_directory import is_directory, referenced_files
from hounsfield.images.dicom_file import open_dicom, open_header, refusing
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_slide import is_slide, slide_size
from hounsfield.images.limits import pixel_limit
from hounsfield.images.reading import image_files
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
from hounsfield.progress import Progress, silent

logger = logging.getLogger(__name__)

Kind = Literal["volume", "localiser", "image"]


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
    return Grouper(pixel_limit(max_pixels), progress, None).grouped(listed(paths))


def listed(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The files of a folder, or those given, each once."""
    if isinstance(paths, str | Path):
        return image_files(paths) if Path(paths).is_dir() else [Path(paths)]
    return list(dict.fromkeys(Path(path) for path in paths))


class Grouper:
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
