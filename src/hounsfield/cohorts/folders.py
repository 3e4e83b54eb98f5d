"""Cohorts from folders: one sub-folder per class, or DICOM files with a table keyed by their identifiers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from hounsfield.cohorts.build import build_cohort, name_patients
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.files import FileSource, full_path
from hounsfield.cohorts.headers import IDENTIFIERS, READING, fill_from_headers, is_dicom, merge_headers, read_header
from hounsfield.cohorts.options import NUM_NAMED, Options, Origin
from hounsfield.cohorts.stacks import Stacks, stack_series
from hounsfield.cohorts.table_rows import read_rows
from hounsfield.cohorts.tree import Tree, class_tree, patient_folders
from hounsfield.cohorts.words import plain_name
from hounsfield.errors import CohortError
from hounsfield.images.files import refuse_unlisted
from hounsfield.images.reading import DIRECTORIES, find_images
from hounsfield.progress import Progress
from hounsfield.tasks import SEPARATOR

PLAIN_IDENTIFIERS = frozenset(identifier.lower() for identifier in IDENTIFIERS)


def load_class_folders(folder: Path, options: Options) -> Cohort:
    """The cohort of a folder whose sub-folders are classes, perhaps below folders of splits.

    Raises:
        CohortError: there are no sub-folders with images, their names may mean something else than classes, or the
            labels cannot make a cohort.
    """
    tree = class_tree(folder, exclude=options.exclude, level=options.label_level, forced=True)
    return cohort_of_tree(tree, options)


def cohort_of_tree(tree: Tree, options: Options, beside: pd.DataFrame | None = None) -> Cohort:
    """As :func:`load_class_folders`, of folders that were looked at already.

    Args:
        tree: the folders.
        options: what the user chose.
        beside: a table with a column ``image`` that adds patients and attributes.
    """
    folder = tree.root
    where = f"the folder {folder}"
    if not tree.images:
        raise CohortError(
            f"Found no images in {where}: expected one sub-folder per class with images in it. Check the path, or give "
            "a table with the columns image and label."
        )
    if tree.doubts:
        raise CohortError(f"The folders in {folder} may not be classes: {'; '.join(tree.doubts)}.")
    table = pd.DataFrame({"image": tree.images, "label": tree.labels, "split": tree.splits})
    if table["label"].str.contains(SEPARATOR, regex=False).any():
        raise CohortError(
            f"A class folder of {folder} has '{SEPARATOR}' in its name, which separates labels. Rename it."
        )
    notes = [*tree.notes, *_empty_folders(tree), *_loose_files(folder)]
    if beside is not None:
        columns = [column for column in beside.columns if column not in {"label", "split"}]
        table = table.merge(beside[columns].drop_duplicates("image"), on="image", how="left")
    elif options.patient_pattern is None:
        table["patient"] = patient_folders(tree)
        if table["patient"].notna().all():
            notes.append(
                f"The folders below the classes were taken for patients: {table['patient'].nunique():,}, such as "
                f"'{table['patient'].iloc[0]}'."
            )
    table, told = name_patients(table, options, where)
    table = fill_from_headers(table, folder, options.progress, found=True)
    origin = Origin(FileSource(folder), "class folders", folder.resolve().name, where)
    # The labels are the folders', whatever columns a table beside them has.
    plain = dataclasses.replace(options, label_columns=("label",))
    return build_cohort(table, plain, origin, [*notes, *told])


def _empty_folders(tree: Tree) -> list[str]:
    used = {image.partition("/")[0] for image in tree.images}
    return [
        f"The folder '{folder.name}' holds no image, and was left out."
        for folder in subfolders(tree.root)
        if folder.name not in used and next(find_images(folder), None) is None
    ]


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


def identifier_column(columns: list[str]) -> tuple[str, str] | None:
    """The column of a table that names DICOM objects, and the identifier it holds; the most specific one wins."""
    plain = {plain_name(column): column for column in columns}
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
    table = read_rows(table_path, options)
    where = f"the table {table_path}"
    found = identifier_column(list(table.columns))
    if found is None:
        raise CohortError(
            f"Found no column that names DICOM objects in {where}: expected one of {', '.join(IDENTIFIERS)}, and found "
            f"{', '.join(table.columns)}. Add one, or a column 'image' with paths."
        )
    column, identifier = found
    root = Path(options.images) if options.images else table_path.parent
    every = list(headers_below(root, options.progress))
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
    matched, renamed = name_patients(matched, options, where)
    matched = matched.drop(columns=[name for name in matched.columns if plain_name(name) in PLAIN_IDENTIFIERS])
    matched = merge_headers(matched, dict(enumerate(facts)))
    return build_cohort(
        matched,
        options,
        Origin(FileSource(root, stacks.series), "dicom folder", root.resolve().name, where),
        notes + renamed,
    )


def headers_below(root: Path, progress: Progress) -> Iterator[tuple[str, dict[str, Any]]]:
    """Path relative to a folder and header facts of each DICOM file below it; see ``headers.read_header``."""
    count = 0
    for folder, folders, names in os.walk(root, onerror=refuse_unlisted):
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
            f"'{twice.iloc[0]}'. Expected one row for each, since only one can describe the files. Merge "
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
