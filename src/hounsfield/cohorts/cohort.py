"""The table of samples, and the contract of what turns its references into pixels.

A cohort of the task ``detection`` carries a second table, ``box_table``, with one row per box (``cohorts.box_table``
names its columns); the first one keeps one row per image, also for images without any object. For a network::

    boxes, classes = cohort.boxes(row)  # float32 (n, 2·rank) in pixels of the image as read, int64 (n,) class indices
    cohort.box_rank  # 2 or 3
    cohort.box_counts()  # int64 (rows, labels): objects of each class in each image
    cohort.targets()  # float32 (rows, labels): which classes are present
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.cohorts import box_table as box_tables
from hounsfield.cohorts.masks import Masks
from hounsfield.cohorts.targets import TARGETS
from hounsfield.cohorts.targets.boxes import box_counts, known_boxes
from hounsfield.cohorts.targets.labels import SPLITS, UNKNOWN
from hounsfield.cohorts.views import check_views
from hounsfield.errors import CohortError, ImageError
from hounsfield.images.image import Image
from hounsfield.images.reference import Reference
from hounsfield.object_masks import ObjectMask
from hounsfield.tasks import Family, Task, family_of

__all__ = ["OWN_COLUMNS", "REQUIRED_COLUMNS", "SPLITS", "UNKNOWN", "Cohort", "ImageSource"]

REQUIRED_COLUMNS = ("image", "label", "patient", "split")
# Columns that are no attributes of a sample.
OWN_COLUMNS = ("sample", *REQUIRED_COLUMNS, UNKNOWN, "mask")


class ImageSource(Protocol):
    """How a reference of the table becomes an image."""

    def read(self, reference: Reference) -> Image:
        """Read one image; raises ``ImageError`` when it cannot be read."""

    def stream(self, references: Sequence[Reference]) -> Iterator[Image | ImageError]:
        """Read many images in the order given, with flat memory; what cannot be read comes as the error."""

    def digest(self, references: Sequence[Reference]) -> str:
        """The identity of the bytes behind the references: another digest when one of them changes."""


@dataclass(frozen=True, eq=False)
class Cohort:
    """Samples with their labels, patients and splits; immutable, so that every step sees the same rows.

    Attributes:
        table: one row per image under a RangeIndex. Columns: ``sample`` (the key of what is judged as one: distinct in
            each row, and made of ``image`` where it is not given; images with the same key are the views of one sample
            and have one label, patient and split), ``image`` (the text of its reference), ``label`` (multi-label:
            labels with ``;`` between them, empty for none; detection and segmentation: what is marked likewise),
            ``patient`` (missing where unknown), ``split`` (``train``, ``validation``, ``test`` or missing),
            ``unknown_labels`` (only of a multi-label task, and only where there are such: the labels of which it is
            not known whether they hold, joined likewise), ``mask`` (only of segmentation: where the mask lies, for
            people), then any attribute columns.
        task: what is predicted; see ``tasks.TASKS``.
        labels: every label in class order; of a binary task (negative, positive).
        source: reads the references.
        kind: the kind of data that was found.
        name: a short name for titles and folders.
        notes: what was detected, decided or left out, in plain words.
        box_table: of a detection cohort, one row per box; see ``cohorts.box_table``. ``None`` for every other task.
        places: ``image`` → where it lies, for images that are not whole files: rows of an array, volumes or frames of
            a file, several files that are the channels of one image. Every other ``image`` is a path.
        masks: of a segmentation cohort, where its masks come from; ``cohorts.read_mask`` reads one. ``None`` for every
            other task.
        sample_column: what ``sample`` is called in the data.
        channels: the names of the channels, where images are put together of several files or volumes.

    Raises:
        CohortError: a column is missing, a key occurs twice, a label is not among ``labels``, or a box is not valid.
    """

    table: pd.DataFrame
    task: Task
    labels: tuple[str, ...]
    source: ImageSource
    kind: str
    name: str
    notes: tuple[str, ...] = ()
    box_table: pd.DataFrame | None = None
    places: Mapping[str, Reference] = field(default_factory=dict)
    masks: Masks | None = None
    sample_column: str = "sample"
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        missing = [column for column in REQUIRED_COLUMNS if column not in self.table.columns]
        if missing:
            raise CohortError(
                f"The table of the cohort '{self.name}' lacks {', '.join(missing)}: expected the columns "
                f"{', '.join(REQUIRED_COLUMNS)}. Add them; patient and split may be empty."
            )
        if "sample" not in self.table.columns:
            named = self.table.assign(sample=self.table["image"])
            object.__setattr__(self, "table", named[["sample", *self.table.columns]])
        elif not pd.api.types.is_string_dtype(self.table["sample"]) or self.table["sample"].isna().any():
            # Numbers that name samples are names; an image without any is a sample by itself.
            given = self.table["sample"]
            keys = given.astype(object).where(given.notna(), self.table["image"]).astype(str)
            object.__setattr__(self, "table", self.table.assign(sample=keys))
        check_views(self.table, self.name)
        TARGETS[self.family].check(self)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def family(self) -> Family:
        """The kind of truth: which entry of ``TARGETS`` speaks of it."""
        return family_of(self.task)

    @property
    def knows_patients(self) -> bool:
        """Whether every row names its patient."""
        return bool(self.table["patient"].notna().all())

    @functools.cached_property
    def has_views(self) -> bool:
        """Whether samples have several images, which are judged together."""
        return not self.table["sample"].is_unique

    def samples(self, rows: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
        """The first row of each sample among some rows, ascending; among all rows by default.

        What is known of a sample stands in each of its rows, so these stand for the samples.
        """
        numbers = np.arange(len(self)) if rows is None else np.unique(self._numbers(rows))
        return np.asarray(numbers[np.unique(self._sample_numbers[numbers], return_index=True)[1]])

    def views(self, row: int) -> npt.NDArray[np.int64]:
        """The rows of all images of the sample of one row."""
        return np.asarray(self._views[int(self._sample_numbers[row])])

    @property
    def overlapping(self) -> bool:
        """Whether a pixel may have several labels, so that masks have a channel for each."""
        return self.masks is not None and self.masks.overlapping

    @property
    def has_boxes(self) -> bool:
        """Whether the cohort is of detection."""
        return self.box_table is not None

    @property
    def box_rank(self) -> int:
        """2 or 3: the rank of the boxes.

        Raises:
            CohortError: the task is not detection.
        """
        return box_tables.box_rank(known_boxes(self), self.name)

    def references(self, rows: npt.ArrayLike | None = None) -> list[Reference]:
        """Where the images of some rows lie, in the order given; of all rows by default."""
        table = self.table if rows is None else self.table.iloc[self._numbers(rows)]
        return [self.places.get(image) or Reference(str(image)) for image in table["image"]]

    def read(self, row: int) -> Image:
        """The image of one row.

        Raises:
            ImageError: it cannot be read.
        """
        return self.source.read(self.references([row])[0])

    def stream(self, rows: npt.ArrayLike | None = None) -> Iterator[Image | ImageError]:
        """The images of some rows in the order given, with flat memory; what cannot be read comes as the error.

        Args:
            rows: row numbers, or one boolean per row; all rows by default.
        """
        return self.source.stream(self.references(rows))

    def boxes(self, row: int) -> box_tables.ImageBoxes:
        """The boxes of one image in pixels of the image as it is read, half-open, and their classes.

        Returns:
            Float32 (n, 2·rank), and int64 (n,) indices into ``labels``; n is 0 for an image without objects.

        Raises:
            CohortError: the task is not detection.
        """
        return self._boxes_by_image.get(str(self.table["image"].iloc[row]), box_tables.no_boxes(self.box_rank))

    @property
    def has_object_masks(self) -> bool:
        """Whether each object has a mask beside its box."""
        return self.box_table is not None and box_tables.MASK in self.box_table.columns

    def object_masks(self, row: int) -> tuple[ObjectMask, ...]:
        """The masks of the objects of one image, in the order of ``boxes``; none where objects have no masks."""
        return self._masks_by_image.get(str(self.table["image"].iloc[row]), ())

    def box_counts(self) -> npt.NDArray[np.int64]:
        """How many objects of each class each image has: (rows, labels).

        Raises:
            CohortError: the task is not detection.
        """
        return box_counts(self)

    def subset(self, rows: npt.ArrayLike) -> Cohort:
        """The cohort of these rows, in the order given.

        Args:
            rows: row numbers, or one boolean per row.
        """
        table = self.table.iloc[self._numbers(rows)].reset_index(drop=True)
        return dataclasses.replace(self, table=table, **TARGETS[self.family].subset(self, table))

    def rows(self, split: str) -> npt.NDArray[np.int64]:
        """The row numbers of one split, ascending.

        Raises:
            CohortError: ``split`` is none of train, validation, test.
        """
        if split not in SPLITS:
            raise CohortError(f"There is no split '{split}': the splits are {', '.join(SPLITS)}.")
        return np.flatnonzero((self.table["split"] == split).to_numpy(dtype=bool, na_value=False))

    def targets(self) -> npt.NDArray[np.float32]:
        """What a network should output for each row; see ``TARGETS`` for each family.

        Returns:
            Float32 zeros and ones: (rows, 1) for a binary task, with one for the positive label; (rows, labels)
            otherwise, with a single one in each row unless an image may have several; NaN where it is not known.
        """
        return TARGETS[self.family].targets(self)

    def with_splits(self, splits: Sequence[str]) -> Cohort:
        """The same rows with other splits.

        Args:
            splits: one of train, validation, test for each row.

        Raises:
            CohortError: the count or a name is wrong.
        """
        wrong = sorted({str(split) for split in splits} - set(SPLITS))
        if len(splits) != len(self) or wrong:
            raise CohortError(
                f"Found {len(splits)} splits for {len(self)} rows"
                + (f", among them {', '.join(wrong)}" if wrong else "")
                + f": expected one of {', '.join(SPLITS)} for each row."
            )
        return dataclasses.replace(self, table=self.table.assign(split=np.asarray(splits, dtype=object)))

    def with_notes(self, *notes: str) -> Cohort:
        """The same cohort with further notes; one that is there already is not repeated."""
        return dataclasses.replace(self, notes=(*self.notes, *(note for note in notes if note not in self.notes)))

    @staticmethod
    def _numbers(rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        chosen = np.asarray(rows)
        return np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)

    @functools.cached_property
    def _sample_numbers(self) -> npt.NDArray[np.int64]:
        return np.asarray(pd.factorize(self.table["sample"])[0], np.int64)

    @functools.cached_property
    def _views(self) -> list[npt.NDArray[np.int64]]:
        numbers = self._sample_numbers
        ends = np.cumsum(np.bincount(numbers))[:-1]
        return np.split(np.argsort(numbers, kind="stable"), ends)

    @functools.cached_property
    def _boxes_by_image(self) -> dict[str, box_tables.ImageBoxes]:
        return box_tables.boxes_by_image(known_boxes(self), self.labels, self.box_rank)

    @functools.cached_property
    def _masks_by_image(self) -> dict[str, tuple[ObjectMask, ...]]:
        return box_tables.masks_by_image(known_boxes(self))
