"""From what a user points at to single images: files, folders, series of slices, arrays, volumes by slice."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hounsfield import images
from hounsfield.errors import ImageError, UsageError
from hounsfield.images import Image, Reference, image_files, input_path
from hounsfield.images.arrays import without_transparency
from hounsfield.images.reading import read_reference, volume_setting
from hounsfield.images.slide_files import without_surplus
from hounsfield.inference.remote import is_url, read_remote, remote_files

if TYPE_CHECKING:
    from hounsfield.images import Series

# A last axis of this length means channels; of any other length it is an axis of space or counts images.
CHANNEL_COUNTS = (1, 3, 4)
# Tables of the channels, or of the images, of samples.
TABLES = (".csv", ".tsv", ".parquet", ".xlsx")

Inputs = str | Path | Image | npt.NDArray[Any] | Iterable[str | Path | Image | npt.NDArray[Any]]


@dataclass(frozen=True)
class Source:
    """An image that can be read when its turn comes.

    Attributes:
        reference: the path as given, with the number of the image where a file or an array holds several.
        load: reads it, also in another process; raises :class:`~hounsfield.errors.ImageError`.
        members: the files of a series, which the reference does not name.
    """

    reference: Reference
    load: Callable[[], Image]
    members: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """What is read: one file, those of its channels, or those of its series."""
        return self.members or tuple(part.path for part in self.reference.parts())


def sources(inputs: Inputs, rank: int, channels: Sequence[str] = ()) -> Iterator[Source]:
    """Every image of the inputs in their order, unread.

    Args:
        inputs: a file, a folder (searched to its depths), a URL of an object store, an array, an ``Image``, or any
            number of these. An array is
            one image, or a batch when it has one axis more: (n, rows, columns), (n, rows, columns, channels).
        rank: the network's, which tells a batch of 2D images from a volume. For a network of volumes the DICOM files of
            a folder are taken together by series, and localisers are left out.
        channels: names of the channels of an image, which lie in several files or volumes; see ``channel_sources``.

    Raises:
        UsageError: a name is empty.
    """
    if isinstance(inputs, str) and is_url(inputs):
        yield from _of_url(inputs)
    elif isinstance(inputs, str | Path) and channels:
        yield from channel_sources(input_path(str(inputs)), str(inputs), channels)
    elif isinstance(inputs, str | Path):
        yield from _of_path(input_path(str(inputs)), str(inputs), rank)
    elif isinstance(inputs, np.ndarray):
        yield from _of_array(inputs, "array", rank)
    elif isinstance(inputs, Image):
        yield Source(inputs.reference or Reference("image"), partial(_given, inputs))
    else:
        for number, item in enumerate(inputs):
            for source in sources(item, rank, channels):
                known = isinstance(item, str | Path) or (isinstance(item, Image) and item.reference is not None)
                yield source if known else _numbered(source, number)


def channel_sources(path: Path, name: str, channels: Sequence[str]) -> Iterator[Source]:
    """The images of a folder or a table, each of several files or volumes.

    Args:
        path: a folder, whose files end with the names of the channels or hold as many volumes; a table with a column
            for each channel; a file of as many volumes; or ``CASE_{t1,t2}.nii.gz``.
        name: the same as it was typed.
        channels: their names, in the order of training.
    """
    if path.suffix.lower() in TABLES and path.is_file():
        yield from _of_columns(path, channels)
        return
    if not path.is_dir():
        given = Reference.parse(name)
        yield _read(given) if given.several or given.path != name else _volumes(name, channels)
        return
    images = [str(file) for file in image_files(path)]
    if not images:
        told = f"{name} is a folder without images. Give a folder that holds some."
        yield Source(Reference(name), partial(_refuse, told))
    # Loaded for folders alone: it takes pandas.
    cases, others = importlib.import_module("hounsfield.cohorts.channels").channel_files(images, channels)
    for case, found in cases.items():
        if absent := [channel for channel in channels if channel not in found]:
            told = f"{case} has no file for the channel {', '.join(absent)}: the network takes {', '.join(channels)}."
            yield Source(Reference(case), partial(_refuse, told))
        else:
            yield _read(Reference.joined([found[channel] for channel in channels]))
    for image in () if cases else others:
        yield _volumes(image, channels)


def _of_columns(path: Path, channels: Sequence[str]) -> Iterator[Source]:
    table: Any = importlib.import_module("hounsfield.cohorts.table_files").read_table(path)
    if absent := [channel for channel in channels if channel not in table.columns]:
        raise UsageError(
            f"The table {path} has no column {', '.join(absent)}: expected one for each channel that the network takes "
            f"({', '.join(channels)}). Rename its columns."
        )
    for row in table[list(channels)].astype(str).itertuples(index=False):
        yield _read(Reference.joined([str(path.parent / file) for file in row]))


def _volumes(image: str, channels: Sequence[str]) -> Source:
    return _read(Reference.joined([f"{image}[{number}]" for number in range(len(channels))]))


def _read(reference: Reference) -> Source:
    return Source(reference, partial(read_reference, reference))


def of_files(files: Sequence[Path], rank: int) -> Iterator[Source]:
    """The images of some files; for a network of volumes, those of DICOM are taken together by series.

    Of a whole slide, whose levels lie in several files, one level is taken.
    """
    if rank == 3:
        yield from _of_series(files)
        return
    try:
        kept = without_surplus(files)
    except ImageError as error:
        reason = str(error)
        yield Source(Reference(str(files[0].parent)), partial(_refuse, reason))
        return
    for file in kept:
        yield from _of_path(file, str(file), rank)


def frames(image: Image, reference: Reference, rank: int) -> Iterator[tuple[Reference, Image]]:
    """The image itself, or its slices where the network takes 2D images and the file holds several.

    Returns:
        Each with its reference, which has the identifiers that DICOM gives the image.

    Raises:
        ImageError: the network takes volumes, and this is a 2D image.
    """
    if image.rank < rank:
        raise ImageError(
            f"{reference} is a 2D image of {_size(image.shape)}, and the network takes volumes. Give a volume (NIfTI, "
            "NRRD, MetaImage, multi-frame DICOM, or the folder of a DICOM series), or a bundle that was trained on 2D "
            "images."
        )
    facts, found = image.metadata, image.reference
    if found is not None and found.volume is not None:
        # A single number turned out to name a volume, and the setting may have chosen one.
        reference = reference.replace(volume=found.volume, frame=found.frame)
    if facts.instance or facts.series or facts.study:
        series = facts.series or reference.series
        reference = reference.replace(study=facts.study, series=series, instance=facts.instance)
    return _slices(image, reference) if image.rank > rank else iter([(reference, image)])


def _slices(image: Image, reference: Reference) -> Iterator[tuple[Reference, Image]]:
    spacing = image.spacing[1:] if image.spacing else None
    several = len(image.pixels) > 1
    for number, pixels in enumerate(image.pixels):
        frame = image.replace(pixels=pixels, spacing=spacing, affine=None)
        yield (reference.replace(frame=number) if several else reference), frame


def _of_url(url: str) -> Iterator[Source]:
    try:
        for name in remote_files(url):
            yield Source(Reference(name), partial(read_remote, name))
    except ImageError as error:
        yield Source(Reference(url), partial(_refuse, str(error)))


def _numbered(source: Source, number: int) -> Source:
    """One of several arrays or images that have no place of their own."""
    reference = source.reference
    return Source(reference.replace(path=f"{reference.path}{number}"), source.load)


def _of_path(path: Path, name: str, rank: int) -> Iterator[Source]:
    reference = Reference.parse(name)
    if reference.path != name:
        yield Source(reference, partial(read_reference, reference))
        return
    if path.is_dir():
        files = image_files(path)
        if not files:
            told = f"{name} is a folder without images. Give a folder that holds some."
            yield Source(Reference(name), partial(_refuse, told))
        yield from of_files(files, rank)
        return
    array = _mapped(path) if path.suffix.lower() == ".npy" else None
    if array is not None and array.ndim in (rank, rank + 1, rank + 2):
        yield from _of_array(array, name, rank, path)
    else:
        yield Source(reference, partial(read_reference, reference))


def _of_series(files: Sequence[Path]) -> Iterator[Source]:
    """The volumes among files, each at the place of its first one; what is no DICOM image is a file by itself.

    Where a folder or a file holds several volumes, all are taken, or the one that the setting chooses.
    """
    grouping = images.group_series(files)
    series_of: dict[Path, list[Series]] = {}
    for series in grouping.series:
        for path in (*series.paths, *series.copies):
            series_of.setdefault(path, []).append(series)
    in_folder = Counter(path.parent for path in files)
    chosen, seen = volume_setting(), set[int]()
    for file in files:
        if file not in series_of:
            yield from _of_path(file, str(file), 3)
        for series in series_of.get(file, []):
            if id(series) in seen or series.kind == "localiser":
                continue
            seen.add(id(series))
            reference, number = _named(series, grouping.series, in_folder)
            if chosen is None or number in {None, chosen}:
                yield Source(reference, partial(images.read_series, series), tuple(map(str, series.paths)))


def _named(series: Series, others: Sequence[Series], in_folder: Counter[Path]) -> tuple[Reference, int | None]:
    """What a volume is called: its file, or the folder that holds its files and no others of another series."""
    if series.kind == "image":
        return Reference(str(series.paths[0]), series.volume), series.volume
    same = [other for other in others if other.uid == series.uid and other.kind == "volume"]
    members = {path for other in same for path in (*other.paths, *other.copies)}
    folder = Path(os.path.commonpath([path.parent for path in members]))
    in_members = sum(count for place, count in in_folder.items() if place.is_relative_to(folder))
    is_alone = in_members == len(members)
    number = same.index(series) if len(same) > 1 else None
    return Reference(str(folder if is_alone else folder / series.uid), number, series=series.uid), number


@lru_cache(maxsize=4)
def _mapped(path: Path) -> npt.NDArray[Any] | None:
    """The array of a file without reading it; ``None`` leaves the verdict on a damaged file to its reader."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if isinstance(array, np.ndarray) and array.dtype.kind in "biuf" else None


def _of_array(array: npt.NDArray[Any], name: str, rank: int, path: Path | None = None) -> Iterator[Source]:
    """The images of an array, which may be that of a file."""
    has_channels = array.ndim > rank and array.shape[-1] in CHANNEL_COUNTS
    axes = array.ndim - has_channels
    # The array of a file is opened where it is read, which may be in another process.
    held = array if path is None else path
    if axes == rank + 1:
        for number in range(len(array)):
            yield Source(Reference(name, volume=number), partial(_row, held, number, has_channels))
    elif axes == rank:
        yield Source(Reference(name), partial(_row, held, None, has_channels))
    else:
        told = (
            f"{name} has the shape {array.shape}: expected one image or a batch of images with {rank} axes of space "
            "each, and 1, 3 or 4 channels last where there is an axis for them."
        )
        yield Source(Reference(name), partial(_refuse, told))


def _row(held: npt.NDArray[Any] | Path, number: int | None, has_channels: bool) -> Image:
    array = _mapped(held) if isinstance(held, Path) else held
    if array is None or (number is not None and number >= len(array)):
        raise ImageError(f"{held} has changed since its images were listed. Give it again when it is complete.")
    return _as_image(array if number is None else array[number], has_channels)


def _as_image(values: npt.NDArray[Any], has_channels: bool) -> Image:
    if values.dtype.kind not in "biuf":
        raise ImageError(f"An array of type {values.dtype} is not an image: expected numbers. Convert it first.")
    pixels = without_transparency(np.array(values if has_channels else values[..., np.newaxis]))
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    if pixels.dtype == np.float16:
        pixels = pixels.astype(np.float32)
    return Image(pixels=pixels)


def _given(image: Image) -> Image:
    return image


def _refuse(message: str) -> Image:
    raise ImageError(message)


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
