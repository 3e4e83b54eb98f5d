"""Reading a table of samples: its columns, its labels in one column or several, its splits and its paths."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from hounsfield.cohorts.cohort import SEPARATOR, Cohort, ImageSource
from hounsfield.cohorts.files import FileSource, file_exists, full_path, typed_places
from hounsfield.cohorts.headers import fill_from_headers
from hounsfield.cohorts.label_columns import read_labels
from hounsfield.cohorts.labels import (
    check_known,
    check_labels,
    class_order,
    positive_note,
    split_labels,
    task_of,
    tidy,
)
from hounsfield.delimiter import decimal_comma_columns, delimiter_of
from hounsfield.errors import CohortError
from hounsfield.images import Reference
from hounsfield.progress import Progress, silent
from hounsfield.tasks import TASKS, Task

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# Columns that are found whatever their case.
OWN_COLUMNS = ("image", "patient", "split")
# Columns that are taken for the patient where none is called so; in lower case without spaces and underlines.
PATIENT_COLUMNS = frozenset({"patientid", "subject", "subjectid"})
# Names of tables that say nothing: their folder's name says more.
PLAIN_NAMES = frozenset({"cohort", "data", "index", "labels", "metadata", "table"})
MAX_BAD_FRACTION = 0.05
NUM_NAMED = 5


@dataclass(frozen=True)
class Options:
    """What the user said about the data, beside where it is.

    Attributes:
        images: the folder that holds the images, when it is not the table's own.
        label_columns: the column, or columns, that hold the labels.
        allow_outside: whether paths of a table may lead out of the folder of images.
        labels: the labels that are expected, in class order, for example those of a trained network.
        task: the task that is expected.
        progress: is told about headers and downloads.
    """

    images: Path | None = None
    label_columns: tuple[str, ...] = ()
    allow_outside: bool = False
    labels: tuple[str, ...] = ()
    task: Task | None = None
    progress: Progress = silent


@dataclass(frozen=True)
class Origin:
    """Where a table comes from.

    Attributes:
        source: reads its references.
        kind: the kind of data.
        name: a short name.
        where: the same for messages, for example ``the table index.csv``.
        places: text → reference of images that are not whole files.
    """

    source: ImageSource
    kind: str
    name: str
    where: str
    places: Mapping[str, Reference] = field(default_factory=dict)


def read_table(path: Path, *, may_be_empty: bool = False) -> pd.DataFrame:
    """Read a CSV, TSV or Parquet table; all of a CSV is text, so that no label such as ``None`` or ``01`` changes.

    Raises:
        CohortError: the file is no table, or it has no rows and that is not allowed.
    """
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
            header = [str(column) for column in table.columns]
        else:
            table = _read_text(path)
            # Pandas gives a repeated column another name; an empty name is a column without one.
            header = [column for column in _read_text(path, header=None, rows=1).iloc[0] if column]
    except (OSError, ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise CohortError(
            f"Cannot read the table {path} ({reason}): expected CSV, TSV (UTF-8) or Parquet. Save it again in one of "
            "these."
        ) from error
    table.columns = own_columns([str(column).strip() for column in table.columns])
    if table.empty and not may_be_empty:
        raise CohortError(f"The table {path} has no rows: expected one for each image. Fill it.")
    header = [column.strip() for column in header]
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise CohortError(f"The table {path} has the column {', '.join(twice)} more than once. Rename or remove one.")
    return table.reset_index(drop=True)


def _read_text(path: Path, *, header: int | None = 0, rows: int | None = None) -> pd.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else delimiter_of(path)
    table = pd.read_csv(
        path, sep=separator, header=header, nrows=rows, dtype=str, keep_default_na=False, encoding="utf-8-sig"
    )
    return table if header is None else table.assign(**decimal_comma_columns(table, separator))


def own_columns(columns: Sequence[str]) -> list[str]:
    """The columns, those that differ from one of ``OWN_COLUMNS`` in their case alone called as it is."""
    plain = [column.lower() for column in columns]
    return [
        own if own in OWN_COLUMNS and plain.count(own) == 1 else column
        for own, column in zip(plain, columns, strict=True)
    ]


def load_table(path: Path, options: Options) -> Cohort:
    """The cohort of a table with an ``image`` column.

    Raises:
        CohortError: the table cannot make a cohort; the message says why.
    """
    table = read_table(path)
    if "image" not in table.columns:
        raise CohortError(
            f"The table {path} has no column 'image': found {', '.join(table.columns)}. Rename the column with the "
            "paths of the images (relative to the table) to 'image'."
        )
    root = Path(options.images) if options.images else path.parent
    table["image"] = _text(table["image"])
    if os.sep == "/" and table["image"].str.contains("\\", regex=False).any():
        table["image"] = table["image"].str.replace("\\", "/", regex=False)
    where = f"the table {path}"
    check_inside(table["image"], root, options.allow_outside, where)
    table, notes = drop_missing_files(table, root, where)
    # Before the headers, which fill what the table lacks: its own patients count.
    table, renamed = name_patients(table)
    table = fill_from_headers(table, root, options.progress)
    name = path.resolve().parent.name if path.stem.lower() in PLAIN_NAMES else path.stem
    origin = Origin(FileSource(root), "table", name, where, typed_places(table["image"], root))
    return finish(table, options, origin, [*notes, *renamed])


def check_inside(images: pd.Series[str], root: Path, allow_outside: bool, where: str) -> None:
    """Refuse paths that lead out of the folder, by ``..``, by an absolute path or by a symbolic link.

    Raises:
        CohortError: a path is empty, or leads outside and that was not allowed.
    """
    empty = np.flatnonzero((images == "").to_numpy())
    if len(empty):
        raise CohortError(
            f"Found no path in the column 'image' in {len(empty)} rows of {where}, the first in row {empty[0] + 1}. "
            "Fill them or delete the rows."
        )
    if allow_outside:
        return
    inside = os.path.realpath(root)
    resolved: dict[str, str] = {}
    for image in images:
        parent, name = os.path.split(full_path(root, image))
        if parent not in resolved:
            resolved[parent] = os.path.realpath(parent)
        full = full_path(resolved[parent], name)
        # Resolving every path whole would take most of the time that a large table needs.
        if name in {"", ".", ".."} or os.path.islink(full):  # noqa: PTH114 - called for each image
            full = os.path.realpath(full)
        if full != inside and not full.startswith(full_path(inside, "")):
            raise CohortError(
                f"Found the image '{image}', which lies outside the folder {root}, in {where}. Expected paths inside "
                "it: move the images there, name their folder with --images, or allow it with --allow-outside."
            )


def drop_missing_files(table: pd.DataFrame, root: Path, where: str) -> tuple[pd.DataFrame, list[str]]:
    """Leave out rows whose file does not exist, with a note.

    Raises:
        CohortError: more than 5 % of the files do not exist.
    """
    exists = np.fromiter((file_exists(root, image) for image in table["image"]), bool, len(table))
    if exists.all():
        return table, []
    absent = table["image"][~exists]
    named = ", ".join(absent.iloc[:NUM_NAMED]) + (", …" if len(absent) > NUM_NAMED else "")
    if len(absent) > MAX_BAD_FRACTION * len(table):
        raise CohortError(
            f"Found no file for {len(absent)} of the {len(table)} images of {where}: {named}. Expected paths relative "
            f"to {root}. Correct the paths, or name the folder of the images with --images."
        )
    note = f"{len(absent)} of {len(table)} images were left out, since there is no such file: {named}."
    return table[exists].reset_index(drop=True), [note]


def finish(table: pd.DataFrame, options: Options, origin: Origin, notes: Sequence[str]) -> Cohort:
    """Labels, patients, splits and attributes of a table whose column ``image`` is settled.

    Raises:
        CohortError: see ``labels.check_labels``; also contradicting rows, missing labels and unknown splits.
    """
    table, told = drop_repeated_rows(table, origin.where)
    table, renamed = name_patients(table)
    labels, used, several, label_notes = read_labels(table, options.label_columns, options.task, origin.where)
    columns: dict[str, pd.Series[str]] = {"image": table["image"], "label": labels}
    columns["patient"] = optional_column(table, "patient")
    columns["split"], split_notes = read_splits(table, origin.where)
    attributes = [column for column in table.columns if column not in {*columns, *used}]
    final = pd.DataFrame(columns)
    for column in attributes:
        final[column] = attribute(table[column])
    found = [*notes, *told, *renamed, *label_notes, *split_notes]
    return conclude(final, options, origin, several=several, notes=found)


def conclude(
    table: pd.DataFrame,
    options: Options,
    origin: Origin,
    *,
    several: bool,
    notes: Sequence[str],
    order: Sequence[str] = (),
) -> Cohort:
    """Check the labels and put the cohort together.

    Args:
        table: the columns of ``Cohort.table``.
        options: what the user said.
        origin: where the table comes from.
        several: whether an image may have several labels.
        notes: what was decided so far.
        order: the class order, where the data has one of its own.

    Raises:
        CohortError: see ``labels.check_labels`` and ``labels.check_known``.
    """
    parts = table["label"].unique()
    found = sorted({part for text in parts for part in (split_labels(text) if several else [text])})
    if options.labels:
        check_known(found, options.labels, origin.where)
        labels, label_notes = options.labels, []
        task = options.task or task_of(labels, several=several)
    else:
        task = task_of(found, several=several)
        label_notes = check_labels(table, task, origin.where)
        labels = tuple(order) or class_order(found)
    told = [*notes, *label_notes]
    if TASKS[task].paired:
        told.append(positive_note(labels))
    return Cohort(table, task, labels, origin.source, origin.kind, origin.name, tuple(told), places=dict(origin.places))


def name_patients(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Take a column such as PatientID for the patient where there is no column ``patient``, with a note."""
    if "patient" in table.columns:
        return table, []
    for column in table.columns:
        if column.lower().replace("_", "").replace(" ", "") in PATIENT_COLUMNS:
            return table.rename(columns={column: "patient"}), [f"The column '{column}' was taken for the patient."]
    return table, []


def attribute(values: pd.Series[str]) -> pd.Series[str]:
    """An attribute column with its values kept: empty text is missing, and text that is all numbers becomes numbers."""
    kept = values.where(values.astype(object) != "", None)
    present = kept.dropna()
    if present.empty or pd.api.types.is_numeric_dtype(kept.dtype):
        return kept
    numbers = pd.to_numeric(present, errors="coerce")
    leading_zeros = present.astype(str).str.match(r"[+-]?0\d").any()
    return kept if numbers.isna().any() or leading_zeros else pd.to_numeric(kept, errors="coerce")


def drop_repeated_rows(table: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[str]]:
    """Keep one of rows that are equal, with a note.

    Raises:
        CohortError: two rows of one image say different things of it.
    """
    distinct = table.drop_duplicates()
    twice = distinct[distinct["image"].duplicated(keep=False)]
    if len(twice):
        image = twice["image"].iloc[0]
        rows = twice[twice["image"] == image]
        columns = [column for column in rows.columns if len(set(rows[column].astype(str))) > 1]
        raise CohortError(
            f"Found {twice['image'].nunique()} images in several rows of {where} that contradict each other, first "
            f"'{image}', whose rows differ in {', '.join(columns)}. Expected one row an image; several labels of one "
            f"image stand in one cell with '{SEPARATOR}' between them."
        )
    if len(distinct) == len(table):
        return table, []
    note = f"{len(table) - len(distinct)} repeated rows were left out; each image counts once."
    return distinct.reset_index(drop=True), [note]


def read_splits(table: pd.DataFrame, where: str) -> tuple[pd.Series[str], list[str]]:
    """The column ``split`` in this project's words, or nothing where there is none.

    Raises:
        CohortError: a word is not known, only some rows have a split, or none is for training.
    """
    splits = optional_column(table, "split")
    if splits.isna().all():
        return splits, []
    words = {word: SPLIT_WORDS.get(str(word).strip().lower()) for word in splits.dropna().unique()}
    unknown = [str(word) for word, split in words.items() if split is None]
    if unknown:
        raise CohortError(
            f"Found {', '.join(repr(word) for word in unknown[:NUM_NAMED])} in the column 'split' of {where}: expected "
            "train, validation or test (training, val, valid and testing are understood too). Correct them, or rename "
            "the column if it means something else."
        )
    if splits.isna().any():
        raise CohortError(
            f"Found {int(splits.isna().sum())} of {len(table)} rows without a split in {where}: expected one for every "
            "row, or for none of them. Fill them, or remove the column to have splits made."
        )
    final = splits.map(words).astype(object)
    sizes = final.value_counts()
    listed = ", ".join(f"{sizes[split]} {split}" for split in ("train", "validation", "test") if split in sizes)
    return final, [f"The splits are given: {listed}."]


def _text(values: pd.Series[str]) -> pd.Series[str]:
    return values.astype(object).where(values.notna(), "").astype(str).str.strip()


def optional_column(table: pd.DataFrame, column: str) -> pd.Series[str]:
    """A column as text, None where it is empty or the table lacks it."""
    if column not in table.columns:
        return pd.Series([None] * len(table), index=table.index, dtype=object)
    text, _ = tidy(table[column])
    return text.astype(object).where(text != "", None)
