"""Preprocessing as work for many processes: each reads, changes and writes files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hounsfield.cohorts.mask_folders import mask_on
from hounsfield.distributed.work import Begin, Part
from hounsfield.images import Image, Reference
from hounsfield.inference import BadImage
from hounsfield.preprocessing import Pipeline
from hounsfield.preprocessing.batch import preprocess_files


@dataclass(frozen=True)
class FileItem:
    """A file, the name of its result without suffix, and its masks with theirs."""

    source: Path
    name: Path
    masks: tuple[tuple[Path, Path], ...] = ()

    @property
    def reference(self) -> Reference:
        """Of the file."""
        return Reference(str(self.source))


@dataclass(frozen=True)
class PreprocessingWork:
    """A pipeline over files; see ``preprocess_files``.

    Attributes:
        pipeline: fitted.
        folder: of the results, which every machine sees.
        format: of the results.
        older: results that were there before and are not replaced. One that is not among them was left by a worker
            that was lost, whose files are done again.
        protected: files that no result may replace: all that are read.
    """

    pipeline: Pipeline
    folder: Path
    format: str | None
    older: frozenset[Path]
    protected: frozenset[Path]

    def open(self) -> PreprocessingWork:
        """There is nothing to load."""
        return self

    def failed(self, item: FileItem, reason: str) -> Part:
        """The file as a bad one."""
        return Part(bad=[BadImage(item.reference, f"{item.source} {reason}.")])

    def packed(self) -> PreprocessingWork:
        """The same: the steps are all that it needs."""
        return self

    def run(self, items: Sequence[FileItem], begin: Begin) -> Part:
        """Preprocess some files; a row is a source and its result."""
        part = Part()
        for place, item in enumerate(items):
            begin(place)

            def masks_of(_: Path, image: Image, item: FileItem = item) -> Iterator[tuple[Path, Path, Image]]:
                return ((mask, name, mask_on(mask, image)) for mask, name in item.masks)

            done = preprocess_files(
                [(item.source, item.name)],
                self.folder,
                self.pipeline,
                format=self.format,
                overwrite=self.older,
                masks=masks_of if item.masks else None,
                protected=self.protected,
            )
            part.rows += [{"source": str(source), "result": str(target)} for source, target in done.written]
            part.images += not done.bad
            part.bad += [BadImage(Reference(str(source)), reason) for source, reason in done.bad]
        return part
