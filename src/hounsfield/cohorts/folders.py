"""Cohorts from folders: one sub-folder a class, or DICOM files with a table keyed by their identifiers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from hounsfield.cohorts.cohort import SEPARATOR, Cohort
from hounsfield.cohorts.files import FileSource, full_path
from hounsfield.cohorts.headers import IDENTIFIERS, READING, fill_from_headers, is_dicom, merge_headers, read_header
from hounsfield.cohorts.stacks import Stacks, stack_series
from hounsfield.cohorts.tables import NUM_NAMED, SPLIT_WORDS, Options, Origin, finish, name_patients, read_table
from hounsfield.errors import CohortError
from hounsfield.images import image_files
from hounsfield.images.reading import DIRECTORIES
from hounsfield.progress import Progress

PLAIN_IDENTIFIERS = frozenset(identifier.lower() for identifier in IDENTIFIERS)


def load_class_folders(folder: Path, options: Options) -> Cohort:
    """The cohort of a folder with one sub-folder a class, or with the splits as folders and the classes below them.

    Raises:
        CohortError: there are no sub-folders with images, or their labels cannot make a cohort.
    """
    where = f"the folder {folder}"
    parents: list[tuple[Path, str | None]] = [*_split_folders(folder)] or [(folder, None)]
    prefix = full_path(folder, "")
    parts: list[pd.DataFrame] = []
    notes: list[str] = []
    for parent, split in parents:
        for class_folder in subfolders(parent):
            images = image_files(class_folder)
            if not images:
                notes.append(f"The folder '{os.path.relpath(class_folder, folder)}' holds no image, and was left out.")
                continue
            part = pd.DataFrame({"image": [os.fspath(image).removeprefix(prefix) for image in images]})
            parts.append(part.assign(label=class_folder.name, split=split))
    notes += _loose_files(folder)
    if not parts:
        raise CohortError(
            f"Found no images in {where}: expected one sub-folder a class with images in it. Check the path, or give a "
            "table with the columns image and label."
        )
    table = pd.concat(parts, ignore_index=True)
    if table["label"].str.contains(SEPARATOR, regex=False).any():
        raise CohortError(
            f"A class folder of {folder} has '{SEPARATOR}' in its name, which separates labels. Rename it."
        )
    table = fill_from_headers(table, folder, options.progress)
    return finish(table, options, Origin(FileSource(folder), "class folders", folder.resolve().name, where), notes)


def _loose_files(folder: Path) -> list[str]:
    loose = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not loose:
        return []
    return [f"{len(loose)} files beside the class folders were left out: {', '.join(loose[:NUM_NAMED])}."]


def subfolders(folder: Path) -> list[Path]:
    """The folders right below one, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__"))
        )


def _split_folders(folder: Path) -> list[tuple[Path, str]]:
    """The sub-folders with their splits, when all of them are named after splits and hold folders."""
    below = subfolders(folder)
    named = [(path, SPLIT_WORDS[path.name.lower()]) for path in below if path.name.lower() in SPLIT_WORDS]
    if len(named) != len(below) or not any(split == "train" for _, split in named):
        return []
    return named if all(subfolders(path) for path, _ in named) else []


def identifier_column(columns: list[str]) -> tuple[str, str] | None:
    """The column of a table that names DICOM objects, and the identifier it holds; the most specific one wins."""
    plain = {_plain(column): column for column in columns}
    for identifier in IDENTIFIERS:
        if identifier.lower() in plain:
            return plain[identifier.lower()], identifier
    return None


def load_dicom_folder(table_path: Path, options: Options) -> Cohort:
    """The cohort of DICOM files and a table keyed by SOPInstanceUID, SeriesInstanceUID, StudyInstanceUID or PatientID.

    The files are searched below ``options.images``, or else below the table's own folder. A row of the table speaks of
    every image that carries its identifier; the files of a CT, MR or PET series are one image, a volume, unless the
    table names single instances.

    Raises:
        CohortError: the table has no identifier, or it fits none of the files.
    """
    table = read_table(table_path)
    where = f"the table {table_path}"
    found = identifier_column(list(table.columns))
    if found is None:
        raise CohortError(
            f"Found no column that names DICOM objects in {where}: expected one of {', '.join(IDENTIFIERS)}, and found "
            f"{', '.join(table.columns)}. Add one, or a column 'image' with paths."
        )
    column, identifier = found
    root = Path(options.images) if options.images else table_path.parent
    every = list(_headers_below(root, options.progress))
    headers = [(path, header) for path, header in every if "Rows" in header]
    stacks = Stacks(headers, {}, []) if identifier == "SOPInstanceUID" else stack_series(headers)
    samples = stacks.samples
    files = pd.DataFrame({"image": [reference for reference, _ in samples], "_row": range(len(samples))})
    files[column] = pd.Series([header.get(identifier, "") for _, header in samples], dtype=object)
    table[column] = table[column].astype(str).str.strip()
    _one_row_each(table, column, where)
    matched, notes = _match(files, table, column, root, where)
    if len(headers) < len(every):
        notes.append(f"{len(every) - len(headers)} DICOM files without an image, such as reports, were left out.")
    notes.extend(stacks.notes)
    facts = [samples[row][1] for row in matched.pop("_row")]
    matched, renamed = name_patients(matched)
    matched = matched.drop(columns=[name for name in matched.columns if _plain(name) in PLAIN_IDENTIFIERS])
    matched = merge_headers(matched, dict(enumerate(facts)))
    return finish(
        matched,
        options,
        Origin(FileSource(root, stacks.series), "dicom folder", root.resolve().name, where),
        notes + renamed,
    )


def _plain(column: str) -> str:
    return column.lower().replace("_", "").replace(" ", "")


def _headers_below(root: Path, progress: Progress) -> Iterator[tuple[str, dict[str, Any]]]:
    count = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = full_path(folder, name)
            if not name.startswith(".") and name.upper() not in DIRECTORIES and is_dicom(path):
                yield os.path.relpath(path, root), read_header(path)
                count += 1
                progress(READING, count, None)


def _one_row_each(table: pd.DataFrame, column: str, where: str) -> None:
    distinct = table.drop_duplicates()
    twice = distinct[column][distinct[column].duplicated()]
    if len(twice):
        raise CohortError(
            f"Found {twice.nunique()} values of {column} in several rows of {where} that differ, first "
            f"'{twice.iloc[0]}'. Expected one row for each: which of them would speak of the files is not known. Merge "
            "them, or key the table by SOPInstanceUID."
        )


def _match(
    files: pd.DataFrame, table: pd.DataFrame, column: str, root: Path, where: str
) -> tuple[pd.DataFrame, list[str]]:
    matched = files.merge(table.drop_duplicates(), on=column, how="inner").sort_values("_row").reset_index(drop=True)
    if matched.empty:
        raise CohortError(
            f"Found {len(files)} DICOM files below {root}, and none carries a {column} of {where}. Expected the same "
            "values in the headers as in the table: check that both were de-identified together, or name the files' "
            "folder with --images."
        )
    notes = [f"DICOM files were joined to the table by {column}: {len(matched)} images."]
    if len(matched) < len(files):
        notes.append(f"{len(files) - len(matched)} DICOM images are not named in the table, and were left out.")
    unused = int((~table[column].isin(matched[column])).sum())
    if unused:
        notes.append(f"{unused} rows of the table fit no DICOM file, and were left out.")
    return matched, notes
