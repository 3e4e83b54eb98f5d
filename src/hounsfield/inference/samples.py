"""From what a user points at to samples of several images: folders, tables with a column for the sample, files."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hounsfield.errors import UsageError
from hounsfield.images import Image, Reference, image_files, input_path
from hounsfield.images.reading import read_reference
from hounsfield.inference.sources import TABLES, Inputs, Source, of_files, sources


@dataclass(frozen=True)
class SampleSource:
    """The images of one sample, unread.

    Attributes:
        reference: of the sample: its folder, its key in a table, or its only file.
        images: at least one.
    """

    reference: Reference
    images: tuple[Source, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """What is read, image after image."""
        return tuple(file for image in self.images for file in image.files)


def sample_sources(inputs: Inputs, rank: int, column: str) -> Iterator[SampleSource]:
    """Every sample of the inputs in their order.

    Args:
        inputs: a folder, in which the images that lie in one folder are a sample; a table with the columns ``image``
            and ``column``; a file or an array, whose images (slices, frames) are one sample; or any number of these.
        rank: the network's.
        column: of a table, that says which images are judged together.

    Raises:
        UsageError: a name is empty, or a table lacks a column.
    """
    if isinstance(inputs, str | Path):
        yield from _of_path(input_path(str(inputs)), str(inputs), rank, column)
    elif isinstance(inputs, Image) or not isinstance(inputs, Iterable) or hasattr(inputs, "dtype"):
        found = tuple(sources(inputs, rank))
        yield SampleSource(found[0].reference.replace(volume=None), found)
    else:
        for item in inputs:
            yield from sample_sources(item, rank, column)


def _of_path(path: Path, name: str, rank: int, column: str) -> Iterator[SampleSource]:
    if path.suffix.lower() in TABLES and path.is_file():
        yield from _of_table(path, column)
        return
    if not path.is_dir():
        yield SampleSource(Reference.parse(name), tuple(sources(name, rank)))
        return
    folders: dict[Path, list[Path]] = {}
    for file in image_files(path):
        folders.setdefault(file.parent, []).append(file)
    if not folders:
        yield SampleSource(Reference(name), tuple(sources(name, rank)))
    for folder, files in sorted(folders.items()):
        yield SampleSource(Reference(str(folder)), tuple(of_files(files, rank)))


def _of_table(path: Path, column: str) -> Iterator[SampleSource]:
    # Loaded for tables alone: it takes pandas.
    table: Any = importlib.import_module("hounsfield.cohorts.table_files").read_table(path)
    column = column if column in table.columns else "sample"
    missing = [name for name in ("image", column) if name not in table.columns]
    if missing:
        raise UsageError(
            f"The table {path} has no column {' and no column '.join(missing)}: expected 'image', and '{column}', "
            f"which says what is judged together; found {', '.join(table.columns)}. Rename its columns."
        )
    for key, rows in table.groupby(column, sort=False):
        references = [Reference.parse(str(path.parent / image), path.parent) for image in rows["image"]]
        yield SampleSource(Reference(str(key)), tuple(_source(reference) for reference in references))


def _source(reference: Reference) -> Source:
    return Source(reference, partial(read_reference, reference))
