"""Preprocessed images of one shape in a file on disk, so that memory stays flat however large the cohort is."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, ClassVar, NoReturn, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil

from hounsfield.atomic import discard, flush_folder, flush_tree, make_private
from hounsfield.boxes import are_valid, clipped
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.decoded import release_decoded
from hounsfield.cohorts.files import ordered_map
from hounsfield.cohorts.options import MAX_BAD_FRACTION, NUM_NAMED
from hounsfield.cohorts.public import cache_folder
from hounsfield.errors import CohortError, ImageError, PreprocessingError, ResourceError
from hounsfield.images.image import Image
from hounsfield.images.reference import Reference
from hounsfield.preprocessing import Pipeline
from hounsfield.preprocessing.grid_change import GridChange, apply_and_trace
from hounsfield.progress import Progress, silent
from hounsfield.version import __version__

FORMAT_VERSION = 1
# Held while a file is read where the system cannot read at a place of it.
READING = threading.Lock()
# The header of pixels.npy has a fixed length, so that it can be written last, when the number of good images is known.
HEADER_BYTES = 256
# Of a store of mixed images: the shape of each, and how its grid lies to that of the image as read.
GRIDS = "grids.npz"
# Images are prepared in groups of about so many bytes and at most so many images.
GROUP_BYTES = 2**21
GROUP_IMAGES = 64
# Kept free beside what is needed, so that the disk is never filled to its last byte.
SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class _Prepared:
    """One image after the pipeline, or the reason why there is none."""

    pixels: npt.NDArray[np.float32] | None
    reason: str = ""
    constant: bool = False
    change: GridChange | None = None


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
        final = parent / _digest(cohort, references, pipeline, mixed=cls._mixed)
        if not (final / "store.json").is_file():
            work = _Work(cohort, references, pipeline, max_bad_fraction, progress, mixed=cls._mixed)
            _build(work, final)
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
        moved = clipped(self.change(row).forward(boxes), self.shapes[row, :-1])
        kept = are_valid(moved)
        return moved[kept].astype(np.float32), classes[kept]


@dataclass(frozen=True)
class _Work:
    """What is to be prepared, and how."""

    cohort: Cohort
    references: list[Reference]
    pipeline: Pipeline
    max_bad_fraction: float
    progress: Progress
    mixed: bool


def _digest(cohort: Cohort, references: list[Reference], pipeline: Pipeline, *, mixed: bool) -> str:
    parts = (
        cohort.source.digest(references),
        pipeline.digest(),
        __version__,
        str(FORMAT_VERSION),
        str(len(references)),
        *(("mixed",) if mixed else ()),
    )
    return hashlib.blake2b("|".join(parts).encode(), digest_size=16).hexdigest()


def _build(work: _Work, final: Path) -> None:
    partial = final.with_name(f"{final.name}.partial-{os.getpid()}")
    try:
        make_private(final.parent)
        _remove_leftovers(final)
        partial.mkdir()
        _write(work, partial)
        try:
            flush_tree(partial)
            partial.rename(final)
            flush_folder(final.parent)
        except OSError:
            # Another process has finished the same store first: its rows are the same.
            if not (final / "store.json").is_file():
                raise
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        disk_full(final.parent, error)
    finally:
        # Also after Ctrl-C: what is left here is never half a store.
        discard(partial)


def disk_full(folder: Path, error: OSError) -> NoReturn:
    """Refuse to go on without room on the disk.

    Raises:
        ResourceError: always.
    """
    raise ResourceError(
        f"The disk of {folder} is full; the unfinished store there has been removed. Free space, or set "
        "HOUNSFIELD_CACHE to a folder on a larger disk, and run the command again."
    ) from error


def _remove_leftovers(final: Path) -> None:
    """Remove what killed processes left of the same store."""
    for leftover in final.parent.glob(f"{final.name}.partial-*"):
        process = leftover.name.rpartition("-")[2]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            discard(leftover)


def _write(work: _Work, folder: Path) -> None:
    references = [reference.text for reference in work.references]
    shapes: list[tuple[int, ...]] = []
    matrices: list[npt.NDArray[np.float64]] = []
    bad: list[tuple[int, str, str]] = []
    num_constant = 0
    with (folder / "pixels.npy").open("wb") as file:
        file.write(bytes(HEADER_BYTES))
        for row, prepared in enumerate(_prepare_all(work)):
            if prepared.pixels is None:
                bad.append((row, references[row], prepared.reason))
            else:
                if not shapes:
                    shape, count = prepared.pixels.shape, len(references)
                    needed = count * int(np.prod(shape)) * 4 + HEADER_BYTES
                    check_disk(folder, needed, f"{count:,} images of shape {shape}", "use a smaller image size")
                shapes.append(prepared.pixels.shape)
                if not work.mixed:
                    _check_shape(shapes[-1], shapes[0], references[row])
                if prepared.change is not None:
                    matrices.append(prepared.change.matrix)
                file.write(prepared.pixels.data)
                num_constant += prepared.constant
            if row % GROUP_IMAGES == 0 or row + 1 == len(references):
                work.progress("preparing images", row + 1, len(references))
        named = tuple((reference, reason) for _, reference, reason in bad)
        refuse_bad(named, len(references), work.max_bad_fraction)
        if not shapes:
            raise CohortError(f"The cohort {work.cohort.name} has no images to prepare. Give one that has.")
        values = int(np.prod(shapes, axis=1).sum())
        file.seek(0)
        file.write(_header((values,) if work.mixed else (len(shapes), *shapes[0])))
    if work.mixed:
        np.savez(folder / GRIDS, shapes=np.array(shapes, np.int64), matrices=np.array(matrices))
    # Of mixed images the greatest length of each axis.
    shape = tuple(np.max(shapes, axis=0).tolist())
    _write_facts(folder, references, shape, bad, num_constant)


def _write_facts(
    folder: Path, references: list[str], shape: tuple[int, ...], bad: list[tuple[int, str, str]], num_constant: int
) -> None:
    """Write which image each row is, and what is known of the images that are none."""
    bad_rows = {row for row, _, _ in bad}
    good = [reference for row, reference in enumerate(references) if row not in bad_rows]
    pd.DataFrame({"image": good}).to_parquet(folder / "table.parquet")
    facts = {
        "shape": shape,
        "bad_rows": sorted(bad_rows),
        "bad": [(reference, reason) for _, reference, reason in bad],
        "num_constant": num_constant,
    }
    (folder / "store.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")


def _prepare_all(work: _Work) -> Iterator[_Prepared]:
    images = work.cohort.source.stream(work.references)

    def prepare_group(group: list[Image | ImageError]) -> list[_Prepared]:
        return [_prepare(image, work.pipeline, trace=work.mixed) for image in group]

    for prepared in ordered_map(prepare_group, _groups(images)):
        yield from prepared


def _groups(images: Iterator[Image | ImageError]) -> Iterator[list[Image | ImageError]]:
    """Groups of images for one worker: many small ones, so that handing over costs little, but few large ones."""
    for first in images:
        size = first.pixels.nbytes if isinstance(first, Image) else 1
        yield [first, *islice(images, min(GROUP_IMAGES, GROUP_BYTES // max(size, 1)))]


def _prepare(image: Image | ImageError, pipeline: Pipeline, *, trace: bool) -> _Prepared:
    if isinstance(image, ImageError):
        return _Prepared(None, str(image))
    if image.pixels.dtype.kind == "f" and not np.isfinite(image.pixels).all():
        return _Prepared(None, f"{int((~np.isfinite(image.pixels)).sum())} of its pixels are NaN or infinite")
    try:
        result, change = apply_and_trace(pipeline, image) if trace else (pipeline.apply(image), None)
        pixels = np.ascontiguousarray(result.pixels, np.float32)
    except (ImageError, PreprocessingError) as error:
        return _Prepared(None, str(error))
    if not np.isfinite(pixels).all():
        return _Prepared(None, "after the pipeline, some of its pixels are NaN or infinite")
    return _Prepared(pixels, constant=bool(image.pixels.min() == image.pixels.max()), change=change)


def _check_shape(found: tuple[int, ...], expected: tuple[int, ...], reference: str) -> None:
    if found != expected:
        raise CohortError(
            f"After the pipeline, the image {reference} has the shape {found}, and those before it have {expected}: "
            "expected one shape for all. Add the steps resize and to_channels to the pipeline."
        )


def check_disk(folder: Path, needed: int, what: str, remedy: str) -> None:
    """Refuse to prepare what the disk has no room for.

    Args:
        folder: of the store.
        needed: bytes.
        what: is prepared.
        remedy: what makes it smaller.

    Raises:
        ResourceError: less is free, beside what has to stay free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise ResourceError(
            f"Preparing {what} needs {needed / 2**20:,.1f} MiB on the disk of {folder.parent}, where another "
            f"{SPARE_BYTES // 2**20} MiB have to stay free, and {free / 2**20:,.1f} MiB are free. Free space, set "
            f"HOUNSFIELD_CACHE to a folder on a larger disk, or {remedy}."
        )


def refuse_bad(bad: tuple[tuple[str, str], ...], total: int, max_bad_fraction: float = MAX_BAD_FRACTION) -> None:
    """Accept some images that cannot be used, but not many.

    Args:
        bad: their references and reasons.
        total: how many images there are.
        max_bad_fraction: of the images that may be bad.

    Raises:
        CohortError: more are bad.
    """
    if len(bad) > max_bad_fraction * total:
        named = "; ".join(f"{reference}: {reason}" for reference, reason in bad[:NUM_NAMED])
        raise CohortError(
            f"Found {len(bad)} of {total} images that cannot be used, more than the {max_bad_fraction:.0%} that may be "
            f"left out. The first are: {named} Correct or remove these images."
        )


def _header(shape: tuple[int, ...]) -> bytes:
    """The header of a ``.npy`` file, version 1.0 of NumPy's format, filled to a fixed length."""
    start = np.lib.format.magic(1, 0)
    length = HEADER_BYTES - len(start) - 2
    text = str({"descr": "<f4", "fortran_order": False, "shape": shape})
    return start + length.to_bytes(2, "little") + (text.ljust(length - 1) + "\n").encode("latin1")
