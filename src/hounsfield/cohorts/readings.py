"""What lies in a folder, and what each table in it says of the images: the evidence for the ways to read DATA."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

import pandas as pd

from hounsfield.cohorts import box_rows, mask_tables
from hounsfield.cohorts.folders import identifier_column
from hounsfield.cohorts.headers import is_dicom
from hounsfield.cohorts.joins import joined_paths
from hounsfield.cohorts.label_columns import label_candidates, label_columns_of, lone_label
from hounsfield.cohorts.options import FOLDER, Options
from hounsfield.cohorts.readers import reader_column
from hounsfield.cohorts.table_files import is_list, is_table, table_stem
from hounsfield.cohorts.table_images import Match, Names, image_matches, one_of_several
from hounsfield.cohorts.table_rows import read_rows
from hounsfield.cohorts.tree import Tree, class_tree, images_below
from hounsfield.errors import CohortError
from hounsfield.images.files import is_run
from hounsfield.images.reading import find_images

# Tables are looked for in the folder itself, and where it has none, this much deeper.
TABLE_DEPTH = 2
MOST_TABLES = 40
# Tables of results and examples that come with competitions.
NO_TABLES = ("sample_submission", "submission")


@dataclass
class TableFile:
    """A table, and what it says of the images.

    Attributes:
        path: of the file.
        table: its rows.
        match: how its best column fits the images; ``None`` where none does.
        labels: the columns that hold labels.
        lone: the only column of few values, which may hold labels where nothing else does.
        kinds: what it can be read as, the likeliest first.
        error: why it cannot be read.
        against: why it does not speak of images one by one, although it names them.
    """

    path: Path
    table: pd.DataFrame
    match: Match | None = None
    labels: list[str] = field(default_factory=list)
    lone: str | None = None
    kinds: list[str] = field(default_factory=list)
    error: str = ""
    against: str = ""

    @property
    def usable(self) -> bool:
        """Whether it names images and has labels or boxes for them."""
        return bool(self.kinds) and not self.against and (self.kinds[0] != "table" or bool(self.labels))

    @property
    def describes(self) -> bool:
        """Whether it names images, with or without labels."""
        return self.match is not None or "image" in self.table.columns

    @property
    def image_column(self) -> str:
        """The column that names the images; empty for none."""
        return self.match.column if self.match is not None else "image" if "image" in self.table.columns else ""

    @property
    def candidates(self) -> list[str]:
        """The columns that may hold labels, known as such or not."""
        return self.labels or label_candidates(self.table.drop(columns=self.image_column, errors="ignore"))


class Folder:
    """What lies in a folder, looked at once for all readings."""

    def __init__(self, path: Path, options: Options) -> None:
        self.path = path
        self.options = options

    @property
    def root(self) -> Path:
        """The folder of the images."""
        return Path(self.options.images or self.path)

    @cached_property
    def images(self) -> list[str]:
        """The images below, without hidden ones and masks."""
        return self._below[0]

    @cached_property
    def _below(self) -> tuple[list[str], list[str]]:
        return images_below(self.root, ())

    @cached_property
    def names(self) -> Names:
        """The same by name."""
        patterns = self.image_patterns
        kept = [p for p in self.images if not any(fnmatch(q, one) for q in (p, *p.split("/")) for one in patterns)]
        return Names(kept)

    @cached_property
    def has_dicom(self) -> bool:
        """Whether the first image below is DICOM."""
        first = next(find_images(self.root), None)
        return first is not None and is_dicom(str(first))

    @cached_property
    def tree(self) -> Tree:
        """The images as classes."""
        # Looking at a large folder takes seconds.
        seen = self._below if self.root == self.path and not self.image_patterns else None
        return class_tree(self.path, exclude=self.image_patterns, level=self.options.label_level, below=seen)

    @cached_property
    def image_patterns(self) -> tuple[str, ...]:
        """What is to be left out, without the names of tables alone."""
        tables = [path.name for path in self._candidates]
        return tuple(
            pattern
            for pattern in self.options.exclude
            if not any(fnmatch(name, pattern) for name in tables) or any(fnmatch(i, pattern) for i in self.images)
        )

    @cached_property
    def _candidates(self) -> list[Path]:
        """The tables in the folder or, where it has none, a little deeper."""
        found = [path for path in sorted(self.path.iterdir()) if _is_candidate(path)]
        for depth in range(1, TABLE_DEPTH + 1):
            if found:
                break
            below = [path for path in sorted(self.path.glob("*/" * depth + "*")) if _is_candidate(path)]
            # A training may have written its run, which holds tables, into the folder of its data.
            found = [path for path in below if not any(map(is_run, path.parents[:depth]))]
        return found or list(self._lists())

    def _lists(self) -> Iterator[Path]:
        """Texts whose lines name images among other words."""
        for path in sorted(self.path.glob("*.txt")):
            if not path.name.startswith(".") and is_list(path):
                yield path

    @cached_property
    def tables(self) -> list[TableFile]:
        """The tables that may speak of the images, without those left out and those that are joined to another."""
        joined = joined_paths(self.path, self.options.join)
        kept = [
            path
            for path in self._candidates
            if path.resolve() not in joined and not any(fnmatch(path.name, one) for one in self.options.exclude)
        ]
        return [self.look_at(path) for path in kept[:MOST_TABLES]]

    def look_at(self, path: Path) -> TableFile:
        """What one table says of the images."""
        try:
            table = read_rows(path, self.options)
        except CohortError as error:
            return TableFile(path, pd.DataFrame(), error=str(error))
        columns = [str(column) for column in table.columns]
        wanted = [column for column in self.options.label_columns if column in columns]
        found = TableFile(path, table, labels=wanted or label_columns_of(table))
        named = "image" in columns
        matches = [] if named and box_rows.box_columns(columns) else image_matches(table, self.names)
        found.match = matches[0] if matches else None
        others = table.drop(columns=found.image_column, errors="ignore")
        found.lone = None if found.labels else lone_label(others)
        found.kinds = self._kinds(found, columns)
        masks = mask_tables.mask_columns(table)
        if masks and found.kinds:
            found.labels = [label for label in found.labels if label not in masks]
            found.kinds = [*found.kinds, mask_tables.KIND] if found.labels else [mask_tables.KIND]
        found.against = self._against(found)
        return found

    def _kinds(self, found: TableFile, columns: list[str]) -> list[str]:
        boxes = [box_rows.KIND] if found.image_column and box_rows.box_columns(columns) else []
        match = found.match
        by_file = match is not None and 2 * match.num_files > match.num_distinct
        if identifier_column(columns) and self.has_dicom and not by_file and "image" not in columns:
            return ["dicom folder"]
        if not found.image_column:
            return []
        first = box_rows.is_box_table(found.table, found.image_column)
        return [*boxes, "table"] if first else ["table", *boxes]

    def _against(self, found: TableFile) -> str:
        """Why a table of labels has not one row, and one file, for each image."""
        match = found.match
        if match is None or found.kinds[:1] != ["table"]:
            return ""
        # Said by the user to be one sample, or one image.
        together = self.options.channels or self.options.sample_column == FOLDER
        if not match.num_files and not together and (several := self._of_several(match)):
            return f"it names folders of several images: {several}"
        labels = [column for column in found.labels if column in found.table.columns]
        rows = pd.DataFrame({"image": match.found}).assign(**{column: found.table[column] for column in labels})
        rows = rows[rows["image"] != ""].drop_duplicates()
        twice = rows["image"][rows["image"].duplicated()]
        if not labels or twice.empty or self.options.every_label:
            return ""
        if reader_column(found.table.assign(image=match.found)) is not None:
            return ""
        return f"it has rows with different labels for one image, such as '{twice.iloc[0]}'"

    def _of_several(self, match: Match) -> str:
        """What to do about a folder of several images that are no series; empty where the column names none."""
        for place in dict.fromkeys(match.found):
            inside = self.names.inside(place) if place else []
            if len(inside) > 1 and not is_dicom(str(self.root / inside[0])):
                return one_of_several(place, inside).rstrip(".")
        return ""


def _is_candidate(path: Path) -> bool:
    stem = table_stem(path).lower()
    return is_table(path) and path.is_file() and not path.name.startswith(".") and stem not in NO_TABLES
