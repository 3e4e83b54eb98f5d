"""Preprocessed images of one shape in a file on disk, so that memory stays flat however large the cohort is."""

from __future__ import annotations

import json
import os
import sys
import threading
import weakref
from itertools import pairwise
from pathlib import Path
from typing import IO, ClassVar, Self

import numpy as np
import numpy.typing as npt

from hounsfield.boxes import are_valid, clipped
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.decoded import release_decoded
from hounsfield.cohorts.options import MAX_BAD_FRACTION, NUM_NAMED
from hounsfield.cohorts.public import cache_folder
from hounsfield.cohorts.store_building import GRIDS, HEADER_BYTES, Work, build_files, digest_of, refuse_bad
from hounsfield.errors import CohortError
from hounsfield.object_masks import box_masks
from hounsfield.preprocessing import Pipeline
from hounsfield.preprocessing.grid_change import GridChange
from hounsfield.progress import Progress, silent

# Held while a file is read where the system cannot read at a place of it.
READING = threading.Lock()


class Store:
    """The images of a cohort after the pipeline: float32 rows of one shape in ``pixels.npy``.

    Built by ``Store.build``, and found again as long as the sources, the pipeline and the version stay the same.

    Attributes:
        folder: where the store lies.
        cohort: the rows that could be read; row ``i`` of the store is row ``i`` of its table.
        shape: of one row, (spatial axes …, channels).
        bad: reference and reason of each image that was left out.
    """

    _mixed: ClassVar[bool] = False

    def __init__(self, folder: Path, cohort: Cohort, shape: tuple[int, ...], bad: tuple[tuple[str, str], ...]) -> None:
        self.folder = folder
        self.cohort = cohort
        self.shape = shape
        self.bad = bad
        self._row_bytes = int(np.prod(shape)) * 4
        self._file: IO[bytes] | None = None

    @classmethod
    def build(
        cls,
        cohort: Cohort,
        pipeline: Pipeline,
        *,
        folder: Path | None = None,
        max_bad_fraction: float = MAX_BAD_FRACTION,
        progress: Progress = silent,
    ) -> Self:
        """Prepare every image of a cohort, or find the store in which that was done before.

        Args:
            cohort: the samples.
            pipeline: applied to each image; must be fitted, and must end in one shape.
            folder: where stores are kept, each in a folder named by its digest; the user's cache by default.
            max_bad_fraction: of images that may be left out because they cannot be read.
            progress: receives reports on images.

        Raises:
            CohortError: more images are bad than allowed, or the pipeline leaves different shapes.
            ResourceError: the disk has no room.
        """
        parent = Path(folder) if folder else cache_folder() / "stores"
        references = cohort.references()
        final = parent / digest_of(cohort, references, pipeline, mixed=cls._mixed)
        if not (final / "store.json").is_file():
            work = Work(cohort, references, pipeline, max_bad_fraction, progress, mixed=cls._mixed)
            build_files(work, final)
        release_decoded(cohort)
        return cls._open(final, cohort, max_bad_fraction)

    @classmethod
    def _open(cls, folder: Path, cohort: Cohort, max_bad_fraction: float) -> Self:
        facts = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        bad = tuple((str(reference), str(reason)) for reference, reason in facts["bad"])
        refuse_bad(bad, len(cohort), max_bad_fraction)
        if bad:
            cohort = cohort.subset(np.setdiff1d(np.arange(len(cohort)), facts["bad_rows"]))
        notes = []
        if bad:
            named = "; ".join(f"{reference} ({reason})" for reference, reason in bad[:NUM_NAMED])
            notes.append(
                f"{len(bad)} images could not be read and were left out: {named}{'; …' if len(bad) > NUM_NAMED else ''}"
            )
        if facts["num_constant"]:
            notes.append(f"{facts['num_constant']} images are constant: every pixel has the same value.")
        return cls(folder, cohort.with_notes(*notes), tuple(facts["shape"]), bad)

    @property
    def needs(self) -> int:
        """The bytes that the pixels take on disk."""
        return len(self) * self._row_bytes + HEADER_BYTES

    def __len__(self) -> int:
        return len(self.cohort)

    def batch(self, rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Read rows in the order given.

        The rows are read at their offsets, not through a mapping: pages of a mapping stay resident until the system
        wants them back, so a training that walks through a large store would seem to hold all of it.

        Args:
            rows: (count,) row numbers, or one boolean for each row of the store.

        Returns:
            Float32 array (count, …shape), the caller's own.

        Raises:
            CohortError: a row number is negative or beyond the last row.
        """
        numbers = self._numbers(rows)
        batch = np.empty((len(numbers), *self.shape), np.float32)
        if batch.size == 0:
            return batch
        target = memoryview(batch.data).cast("B")
        breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
        for start, stop in pairwise([0, *breaks.tolist(), len(numbers)]):
            span = target[start * self._row_bytes : stop * self._row_bytes]
            self._read_at(span, HEADER_BYTES + int(numbers[start]) * self._row_bytes)
        return batch

    def _numbers(self, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        chosen = np.asarray(rows).reshape(-1)
        numbers = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise CohortError(
                f"Asked for rows {numbers.min()} to {numbers.max()} of a store of {len(self)}: expected 0 to "
                f"{len(self) - 1}."
            )
        return numbers

    def _read_at(self, span: memoryview, offset: int) -> None:
        if self._file is None:
            self._file = (self.folder / "pixels.npy").open("rb", buffering=0)
            weakref.finalize(self, self._file.close)
        done = 0
        while done < len(span):
            count = _read_part(self._file, span[done:], offset + done)
            if count == 0:
                raise CohortError(
                    f"The store {self.folder} is damaged: it ends too early. Delete that folder to have it built again."
                )
            done += count

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None}


def _read_part(file: IO[bytes], span: memoryview, offset: int) -> int:
    """Read from a place in a file, up to the length of ``span``, whatever other threads read of it."""
    if sys.platform != "win32" and hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [span], offset)
    # Windows, and macOS before 11: there is one position in the file for all.
    with READING:
        file.seek(offset)
        return int(file.readinto(span))  # type: ignore[attr-defined]  # a raw file has it


class SceneStore(Store):
    """The images of a detection cohort after the pipeline, each of its own shape, and where their boxes lie.

    ``shape`` is the greatest length of each axis; ``shapes`` (rows, axes) are those of the images.
    """

    _mixed: ClassVar[bool] = True

    def __init__(self, folder: Path, cohort: Cohort, shape: tuple[int, ...], bad: tuple[tuple[str, str], ...]) -> None:
        super().__init__(folder, cohort, shape, bad)
        with np.load(folder / GRIDS, allow_pickle=False) as grids:
            self.shapes: npt.NDArray[np.int64] = grids["shapes"]
            self._matrices: npt.NDArray[np.float64] = grids["matrices"]
        self._offsets = HEADER_BYTES + 4 * np.concatenate([[0], np.cumsum(self.shapes.prod(axis=1))])

    @property
    def needs(self) -> int:
        """The bytes that the pixels take on disk."""
        return int(self._offsets[-1])

    def batch(self, rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Read rows of one shape, at least one; see :meth:`Store.batch`."""
        return np.stack([self.pixels(row) for row in self._numbers(rows).tolist()])

    def pixels(self, row: int) -> npt.NDArray[np.float32]:
        """One image: float32 (spatial axes …, channels), the caller's own."""
        image = np.empty(tuple(self.shapes[row]), np.float32)
        self._read_at(memoryview(image.data).cast("B"), int(self._offsets[row]))
        return image

    def change(self, row: int) -> GridChange:
        """How the prepared image's grid lies to that of the image as read."""
        return GridChange(self._matrices[row])

    def boxes(self, row: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """The boxes of one image in pixels of the prepared image, cut at its border, and their classes.

        Boxes that the pipeline has cropped away are left out.
        """
        boxes, classes = self.cohort.boxes(row)
        moved, kept = self._moved(row, boxes)
        return moved[kept], classes[kept]

    def box_masks(self, row: int) -> npt.NDArray[np.uint8]:
        """The masks of the objects of ``boxes``, sampled within their boxes: (n, side, side); see ``object_masks``."""
        moved, kept = self._moved(row, self.cohort.boxes(row)[0])
        masks = [mask for mask, stays in zip(self.cohort.object_masks(row), kept.tolist(), strict=True) if stays]
        change = self.change(row)
        sampled: npt.NDArray[np.uint8] = change.box_masks_forward(box_masks(masks, change.back(moved[kept])))
        return sampled

    def _moved(self, row: int, boxes: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Boxes in pixels of the prepared image, cut at its border, and which of them are left."""
        moved = np.asarray(clipped(self.change(row).forward(boxes), self.shapes[row, :-1]), np.float32)
        return moved, np.asarray(are_valid(moved))
