"""Prepared images and masks, each of its own shape, in files on disk: flat memory, and a stopped build goes on."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hounsfield.atomic import make_private, remove_leftovers, replacing, write_json
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.delegation import delegate_for
from hounsfield.cohorts.files import ordered_map
from hounsfield.cohorts.masks import masks_of, read_mask
from hounsfield.cohorts.options import MAX_BAD_FRACTION
from hounsfield.cohorts.plain_arrays import mapped_array, member_array
from hounsfield.cohorts.public import cache_folder
from hounsfield.cohorts.store import Store
from hounsfield.cohorts.store_building import check_disk, delegated_rows, disk_full, refuse_bad
from hounsfield.errors import CohortError, ImageError, PreprocessingError
from hounsfield.masks import region_of
from hounsfield.preprocessing import Pipeline
from hounsfield.preprocessing.grid_change import GridChange, apply_with_mask
from hounsfield.progress import Progress, silent
from hounsfield.version import __version__

FORMAT_VERSION = 1
# Pixels of each label whose places are kept, for patches to be drawn around.
DRAWN = 2000
DONE = "store.json"


class MaskStore(Store):
    """The images and masks of a segmentation cohort after the pipeline, each of its own shape.

    ``shape`` is the greatest length of each axis. Images are float32 and masks uint8 files of their own, which are
    memory-mapped when they are asked for; see ``hounsfield.masks`` for what a mask holds.

    Attributes:
        spacing: mm along each axis of the prepared images; ``None`` where it differs or is not known.
    """

    def __init__(self, folder: Path, cohort: Cohort, shape: tuple[int, ...], bad: tuple[tuple[str, str], ...]) -> None:
        super().__init__(folder, cohort, shape, bad)
        with np.load(folder / "rows.npz", allow_pickle=False) as rows:
            self.shapes: npt.NDArray[np.int64] = rows["shapes"]
            self.read_shapes: npt.NDArray[np.int64] = rows["read_shapes"]
            self._files: npt.NDArray[np.int64] = rows["files"]
            self._matrices: npt.NDArray[np.float64] = rows["matrices"]
            spacings: npt.NDArray[np.float64] = rows["spacings"]
        same = np.isfinite(spacings).all() and np.allclose(spacings, spacings[0], rtol=1e-4)
        self.spacing: tuple[float, ...] | None = tuple(map(float, spacings[0])) if same else None

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
        """Prepare every image and mask of a cohort, or find the store in which that was done before.

        Rows that an earlier build has finished are kept, so that a stopped build goes on where it was.

        Args:
            cohort: of the task segmentation.
            pipeline: applied to each image, and its geometric steps to the mask; must be fitted. It need not end in
                one shape.
            folder: where stores are kept, each in a folder named by its digest; the user's cache by default.
            max_bad_fraction: of images that may be left out because they cannot be prepared.
            progress: receives reports on images.

        Raises:
            CohortError: more images are bad than allowed, or they have different numbers of axes or channels.
            ResourceError: the disk has no room.
        """
        parent = Path(folder) if folder else cache_folder() / "stores"
        final = parent / _digest(cohort, pipeline)
        if not (final / DONE).is_file():
            try:
                _build(cohort, pipeline, final, max_bad_fraction, progress)
            except OSError as error:
                if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                    raise
                shutil.rmtree(final, ignore_errors=True)
                disk_full(parent, error)
        return cls._open(final, cohort, max_bad_fraction)

    @property
    def needs(self) -> int:
        """The bytes that images and masks take on disk."""
        channels = len(self.cohort.labels) if self.cohort.overlapping else 1
        pixels = self.shapes[:, :-1].prod(axis=1)
        return int((pixels * (4 * self.shapes[:, -1] + channels)).sum())

    def image(self, row: int) -> npt.NDArray[np.float32]:
        """One prepared image: (spatial …, channels), memory-mapped and read-only."""
        return self._mapped(row, "image")

    def mask(self, row: int) -> npt.NDArray[np.uint8]:
        """Its mask: (spatial …, 1), or (spatial …, labels) where labels overlap; memory-mapped and read-only."""
        return self._mapped(row, "mask")

    def foreground(self, row: int) -> list[npt.NDArray[np.int32]]:
        """For each label up to 2,000 pixels drawn at random from where it is: (n, rank) indices, sorted."""
        with zipfile.ZipFile(self.folder / _name(int(self._files[row]), "facts")) as facts:
            places, labels = member_array(facts, "places"), member_array(facts, "labels")
        return [places[labels == label] for label in range(len(self.cohort.labels))]

    def change(self, row: int) -> GridChange:
        """How the prepared image's grid lies to that of the image as read, whose shape is ``read_shapes[row]``."""
        return GridChange(self._matrices[row])

    def batch(self, rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Read rows of one shape, at least one; see :meth:`Store.batch`."""
        return np.stack([self.image(row) for row in self._numbers(rows).tolist()])

    def _mapped(self, row: int, kind: str) -> npt.NDArray[Any]:
        try:
            return mapped_array(self.folder / _name(int(self._files[row]), kind))
        except (OSError, ValueError) as error:
            raise CohortError(
                f"The store {self.folder} is damaged: the {kind} of row {row} cannot be read ({error}). Delete that "
                "folder to have it built again."
            ) from error


@dataclass(frozen=True)
class _Row:
    """What is kept of one prepared row, or why there is none."""

    reason: str = ""
    shape: tuple[int, ...] = ()
    read_shape: tuple[int, ...] = ()
    matrix: npt.NDArray[np.float64] | None = None
    spacing: tuple[float, ...] = ()
    constant: bool = False


def _name(row: int, kind: str) -> str:
    return f"{row:06}-{kind}.{'npz' if kind == 'facts' else 'npy'}"


def _digest(cohort: Cohort, pipeline: Pipeline) -> str:
    masks = masks_of(cohort)
    parts = (
        cohort.source.digest(cohort.references()),
        masks.source.digest([str(sample) for sample in cohort.table["sample"]]),
        json.dumps([sorted(masks.labels.items()), cohort.labels, masks.overlapping]),
        pipeline.digest(),
        __version__,
        str(FORMAT_VERSION),
        str(len(cohort)),
        "masks",
    )
    return hashlib.blake2b("|".join(parts).encode(), digest_size=16).hexdigest()


def _build(cohort: Cohort, pipeline: Pipeline, folder: Path, max_bad_fraction: float, progress: Progress) -> None:
    make_private(folder)
    remove_leftovers(folder)
    rows: list[_Row] = []
    for row, found in enumerate(_prepare_all(cohort, pipeline, folder)):
        if found.shape and not any(other.shape for other in rows):
            needed = len(cohort) * int(np.prod(found.shape)) * 5
            check_disk(folder, needed, f"{len(cohort):,} images like the first", "choose a coarser spacing")
        rows.append(found)
        progress("preparing images and masks", row + 1, len(cohort))
    images = cohort.table["image"].astype(str).tolist()
    bad = [(row, images[row], found.reason) for row, found in enumerate(rows) if found.reason]
    refuse_bad(tuple((image, reason) for _, image, reason in bad), len(cohort), max_bad_fraction)
    good = [(row, found) for row, found in enumerate(rows) if not found.reason]
    if not good:
        raise CohortError(f"The cohort {cohort.name} has no images to prepare. Give one that has.")
    _check_alike([found.shape for _, found in good], [images[row] for row, _ in good])
    unknown = (np.nan,) * (len(good[0][1].shape) - 1)
    with replacing(folder / "rows.npz") as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            files=np.array([row for row, _ in good], np.int64),
            shapes=np.array([found.shape for _, found in good], np.int64),
            read_shapes=np.array([found.read_shape for _, found in good], np.int64),
            matrices=np.array([found.matrix for _, found in good], np.float64),
            spacings=np.array([found.spacing or unknown for _, found in good], np.float64),
        )
    facts = {
        "shape": np.max([found.shape for _, found in good], axis=0).tolist(),
        "bad_rows": [row for row, _, _ in bad],
        "bad": [(image, reason) for _, image, reason in bad],
        "num_constant": sum(found.constant for _, found in good),
    }
    write_json(folder / DONE, facts)


class Portion(NamedTuple):
    """Rows that another process prepares and writes; the first of them has this number in the store."""

    cohort: Cohort
    pipeline: Pipeline
    folder: Path
    first: int


def prepare_portion(portion: Portion) -> list[_Row]:
    """Prepare every row of a portion."""
    cohort, pipeline, folder, first = portion
    return [_prepared(cohort, pipeline, folder, row, first + row) for row in range(len(cohort))]


def _prepare_all(cohort: Cohort, pipeline: Pipeline, folder: Path) -> Iterator[_Row]:
    delegate = delegate_for(len(cohort))
    if delegate is None:
        yield from ordered_map(lambda row: _prepared(cohort, pipeline, folder, row, row), range(len(cohort)))
        return
    size = 5 * int(np.prod(_prepared(cohort, pipeline, folder, 0, 0).shape))
    portions = (
        Portion(cohort.subset(rows), pipeline, folder, rows.start) for rows in delegated_rows(len(cohort), size)
    )
    for portion in delegate(f"{__name__}:{prepare_portion.__name__}", portions):
        yield from portion


def _prepared(cohort: Cohort, pipeline: Pipeline, folder: Path, row: int, number: int) -> _Row:
    """Prepare one row and write it by its number in the store, or find it written."""
    facts = folder / _name(number, "facts")
    if facts.is_file() and (known := _written(facts)) is not None:
        return known
    try:
        image = cohort.read(row)
        if image.pixels.dtype.kind == "f" and not np.isfinite(image.pixels).all():
            return _Row(f"{int((~np.isfinite(image.pixels)).sum())} of its pixels are NaN or infinite")
        prepared, mask, change = apply_with_mask(pipeline, image, read_mask(cohort, row, image))
    except (ImageError, PreprocessingError) as error:
        return _Row(" ".join(str(error).split()))
    pixels = np.ascontiguousarray(prepared.pixels, np.float32)
    if not np.isfinite(pixels).all():
        return _Row("after the pipeline, some of its pixels are NaN or infinite")
    _save(folder / _name(number, "image"), pixels)
    _save(folder / _name(number, "mask"), mask.pixels)
    places, labels = _drawn(mask.pixels, len(cohort.labels), number, overlapping=cohort.overlapping)
    found = _Row(
        shape=pixels.shape,
        read_shape=image.shape,
        matrix=change.matrix,
        spacing=tuple(map(float, prepared.spacing or ())),
        constant=bool(image.pixels.min() == image.pixels.max()),
    )
    # Written last: a row whose facts are there is whole.
    with replacing(facts) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            places=places,
            labels=labels,
            shape=np.array(found.shape, np.int64),
            read_shape=np.array(found.read_shape, np.int64),
            matrix=change.matrix,
            spacing=np.array(found.spacing, np.float64),
            constant=np.array(found.constant),
        )
    return found


def _written(path: Path) -> _Row | None:
    try:
        with np.load(path, allow_pickle=False) as facts:
            return _Row(
                shape=tuple(facts["shape"].tolist()),
                read_shape=tuple(facts["read_shape"].tolist()),
                matrix=facts["matrix"],
                spacing=tuple(facts["spacing"].tolist()),
                constant=bool(facts["constant"]),
            )
    except (OSError, ValueError, KeyError, EOFError):
        return None


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _drawn(
    mask: npt.NDArray[np.uint8], num_labels: int, seed: int, *, overlapping: bool
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Indices (n, rank) of pixels drawn from each label, and the label of each."""
    generator = np.random.default_rng(seed)
    places, labels = [np.empty((0, mask.ndim - 1), np.int32)], [np.empty(0, np.int64)]
    for label in range(num_labels):
        flat = np.flatnonzero(region_of(mask, label, overlapping=overlapping))
        chosen = np.sort(generator.choice(flat, min(DRAWN, len(flat)), replace=False))
        places.append(np.stack(np.unravel_index(chosen, mask.shape[:-1]), axis=1).astype(np.int32))
        labels.append(np.full(len(chosen), label, np.int64))
    return np.concatenate(places), np.concatenate(labels)


def _check_alike(shapes: list[tuple[int, ...]], images: list[str]) -> None:
    for shape, image in zip(shapes, images, strict=True):
        if len(shape) != len(shapes[0]) or shape[-1] != shapes[0][-1]:
            raise CohortError(
                f"After the pipeline, the image {image} has {len(shape) - 1} axes and {shape[-1]} channels, and "
                f"{images[0]} has {len(shapes[0]) - 1} and {shapes[0][-1]}: expected the same for all. Give images of "
                "one kind, or add the step to_channels to the pipeline."
            )
