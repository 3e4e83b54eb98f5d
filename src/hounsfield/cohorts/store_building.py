"""Building a store: every image is prepared once, and the files appear in one step or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil

from hounsfield.atomic import discard, flush_folder, flush_tree, make_private
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.delegation import delegate_for
from hounsfield.cohorts.files import ordered_map
from hounsfield.cohorts.options import MAX_BAD_FRACTION, NUM_NAMED
from hounsfield.errors import CohortError, ImageError, PreprocessingError, ResourceError
from hounsfield.images.image import Image
from hounsfield.images.reference import Reference
from hounsfield.preprocessing import Pipeline
from hounsfield.preprocessing.grid_change import GridChange, apply_and_trace
from hounsfield.progress import Progress
from hounsfield.version import __version__

FORMAT_VERSION = 1
# The header of pixels.npy has a fixed length, so that it can be written last, when the number of good images is known.
HEADER_BYTES = 256
# Of a store of mixed images: the shape of each, and how its grid lies to that of the image as read.
GRIDS = "grids.npz"
# Images are prepared in groups of about so many bytes and at most so many images.
GROUP_BYTES = 2**21
GROUP_IMAGES = 64
# What another process answers at once.
DELEGATED_BYTES = 2**24
# Kept free beside what is needed, so that the disk is never filled to its last byte.
SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class _Prepared:
    """One image after the pipeline, or the reason why there is none."""

    pixels: npt.NDArray[np.float32] | None
    reason: str = ""
    constant: bool = False
    change: GridChange | None = None


@dataclass(frozen=True)
class Work:
    """What is to be prepared, and how; ``mixed``: images keep their own shapes."""

    cohort: Cohort
    references: list[Reference]
    pipeline: Pipeline
    max_bad_fraction: float
    progress: Progress
    mixed: bool


def digest_of(cohort: Cohort, references: list[Reference], pipeline: Pipeline, *, mixed: bool) -> str:
    """The name of a store: other sources, another pipeline or version make another one."""
    parts = (
        cohort.source.digest(references),
        pipeline.digest(),
        __version__,
        str(FORMAT_VERSION),
        str(len(references)),
        *(("mixed",) if mixed else ()),
    )
    return hashlib.blake2b("|".join(parts).encode(), digest_size=16).hexdigest()


def build_files(work: Work, final: Path) -> None:
    """Prepare every image, and put the finished store in its place in one step.

    Raises:
        CohortError: more images are bad than allowed, or the pipeline leaves different shapes.
        ResourceError: the disk has no room.
    """
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


def _write(work: Work, folder: Path) -> None:
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


class Portion(NamedTuple):
    """Rows that another process prepares."""

    cohort: Cohort
    pipeline: Pipeline
    mixed: bool


def prepare_portion(portion: Portion) -> list[_Prepared]:
    """Prepare every row of a portion."""
    cohort, pipeline, mixed = portion
    images = cohort.source.stream(cohort.references())
    return [_prepare(image, pipeline, trace=mixed) for image in images]


def _prepare_all(work: Work) -> Iterator[_Prepared]:
    delegate = delegate_for(len(work.references))
    if delegate is not None:
        first = prepare_portion(Portion(work.cohort.subset([0]), work.pipeline, work.mixed))[0].pixels
        parts = delegated_rows(len(work.cohort), first.nbytes if first is not None else 0)
        portions = (Portion(work.cohort.subset(rows), work.pipeline, work.mixed) for rows in parts)
        for portion in delegate(f"{__name__}:{prepare_portion.__name__}", portions):
            yield from portion
        return
    images = work.cohort.source.stream(work.references)

    def prepare_group(group: list[Image | ImageError]) -> list[_Prepared]:
        return [_prepare(image, work.pipeline, trace=work.mixed) for image in group]

    for prepared in ordered_map(prepare_group, _groups(images)):
        yield from prepared


def delegated_rows(num_rows: int, row_bytes: int) -> Iterator[range]:
    """Rows that another process is given at once: few where they are large, for the memory."""
    count = max(1, min(GROUP_IMAGES, DELEGATED_BYTES // max(row_bytes, 1)))
    for start in range(0, num_rows, count):
        yield range(start, min(start + count, num_rows))


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
