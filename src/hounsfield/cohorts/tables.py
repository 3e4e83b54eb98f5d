"""Cohorts from a table of samples: which images its rows name, and where these lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.cohorts.build import PATIENT_COLUMNS, build_cohort, name_patients, patients_by_folder, read_splits
from hounsfield.cohorts.channels import joined
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.faults import together
from hounsfield.cohorts.files import FileSource, file_exists, full_path, typed_places
from hounsfield.cohorts.headers import fill_from_headers, is_dicom
from hounsfield.cohorts.label_columns import require_columns
from hounsfield.cohorts.long_tables import merge_rows
from hounsfield.cohorts.options import FOLDER, MAX_BAD_FRACTION, NUM_NAMED, Options, Origin
from hounsfield.cohorts.split_lists import splits_of_lists
from hounsfield.cohorts.table_files import IMAGE_SUFFIX, table_stem
from hounsfield.cohorts.table_images import BAD_NAME, Names, find_image_column, one_of_several
from hounsfield.cohorts.table_rows import read_rows
from hounsfield.cohorts.tree import images_below
from hounsfield.cohorts.words import plain_name
from hounsfield.errors import CohortError
from hounsfield.images.reading import find_images

# Names of tables that say nothing: their folder's name says more.
PLAIN_NAMES = frozenset({"cohort", "data", "index", "labels", "metadata", "table", "train"})
# From this share of paths that lead to a file on, they are taken as they stand.
DIRECT_SHARE = 0.5
# So many values tell whether a column beside that of the images names files, too.
TRIED = 20


def load_table(path: Path, options: Options) -> Cohort:
    """The cohort of a table whose rows name images.

    Raises:
        CohortError: the table cannot make a cohort; the message says why.
    """
    return cohort_of_table(read_rows(path, options), path, options)


def cohort_of_table(table: pd.DataFrame, path: Path, options: Options, *, root: Path | None = None) -> Cohort:
    """As :func:`load_table`, of a table that was read already.

    Args:
        table: its rows.
        path: of the table.
        options: what the user chose.
        root: the folder of the images; that of ``options``, or the table's own, where it is not given.
    """
    root = root or Path(options.images or path.parent)
    where = f"the table {path}"
    notes = list(table.attrs.get("notes", ()))
    given = table
    (table, told, unnamed), *_ = together(
        lambda: with_images(given, root, options, where),
        lambda: require_columns(given, options.label_columns, where),
        lambda: read_splits(given, options, where),
    )
    if unnamed:
        told.append(
            f"{len(unnamed):,} images below the folder are not named in the table and were left out, such as "
            f"'{unnamed[0]}'."
        )
    table = _folders_of_one(table, root, options, where)
    table, merged = merge_rows(table, options)
    notes += merged
    # Before the headers, which fill what the table lacks: its own patients count.
    table, renamed = name_patients(table, options, where)
    table = fill_from_headers(table, root, options.progress)
    table, by_folder = patients_by_folder(table)
    renamed += by_folder
    stem = table_stem(path)
    name = path.resolve().parent.name if stem.lower() in PLAIN_NAMES else stem
    if "split" not in table.columns and options.test_on is None:
        splits, listed = splits_of_lists(path.parent, table["image"])
        table = table if splits is None else table.assign(split=splits)
        notes += listed
    origin = Origin(FileSource(root), "table", name, where, typed_places(table["image"], root))
    return build_cohort(table, options, origin, [*notes, *told, *renamed])


def with_images(
    table: pd.DataFrame, root: Path, options: Options, where: str
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """A table whose column ``image`` holds paths below a folder, found by the values of a column where need be.

    Returns:
        The table, notes, and the images below the folder that no row names, where they were looked for.

    Raises:
        CohortError: no column names the images, more than 5 % are missing, or a path leaves the folder.
    """
    if options.channels and set(options.channels) <= set(table.columns):
        return _of_columns(table, root, options, where)
    if "image" in table.columns:
        table = table.assign(image=_text(table["image"]))
        if os.sep == "/":
            table["image"] = table["image"].str.replace("\\", "/", regex=False)
    if options.image_column in {None, "image"} and _leads_to_files(table, root):
        check_inside(table["image"], root, options.allow_outside, where)
        table, told = drop_missing_files(table, root, where)
        return table, [*told, *_other_files(table, root, options)], []
    table, told, unnamed = _by_content(table, root, options, where)
    check_inside(table["image"], root, options.allow_outside, where)
    return table, told, unnamed


def _leads_to_files(table: pd.DataFrame, root: Path) -> bool:
    """Whether the column ``image`` holds paths as they stand, some of which may be missing."""
    if "image" not in table.columns:
        return False
    exists = [file_exists(root, image) for image in table["image"] if image]
    if sum(exists) >= DIRECT_SHARE * len(table):
        return True
    # Where nothing lies below the folder, the message on missing files says more.
    return not root.is_dir() or next(find_images(root), None) is None


def _other_files(table: pd.DataFrame, root: Path, options: Options) -> list[str]:
    """What is said of columns beside ``image`` that name files too, as the second view of a patient; not of masks."""
    others = [
        column
        for column in map(str, table.columns)
        if column not in {"image", *options.label_columns} and not BAD_NAME.search(column)
        if all(IMAGE_SUFFIX.search(text) and file_exists(root, text) for text in _text(table[column].head(TRIED)))
    ]
    if not others:
        return []
    named = ", ".join(others)
    told = (
        f"The images are those of the column 'image'; {named} names files too and is an attribute. Choose with "
        f"--image-column, or take all as channels of one image with --channels {','.join(['image', *others])}."
    )
    return [told]


def _by_content(
    table: pd.DataFrame, root: Path, options: Options, where: str
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The table with a column ``image`` of paths below the folder, by the values of the column that names them."""
    images, notes = images_below(root, options.exclude)
    match = find_image_column(table, root, Names(images), options, where)
    found = pd.Series(match.found, index=table.index, dtype=object)
    absent = table[match.column][found == ""]
    if len(absent) > MAX_BAD_FRACTION * len(table):
        raise CohortError(
            f"The column '{match.column}' of {where} names the images, and no file was found below {root} for "
            f"{len(absent):,} of its {len(table):,} rows: {', '.join(map(str, absent.iloc[:NUM_NAMED]))}. Get the "
            "missing images, delete these rows, or name the folder of the images with --images."
        )
    by = f" by a part of their names, such as {match.part}" if match.part else ""
    told = (
        f"The column '{match.column}' names the images{by}: {len(table) - len(absent):,} of {len(table):,} rows were "
        "found below the folder."
    )
    if len(absent):
        told += f" Left out: {', '.join(map(str, absent.iloc[:NUM_NAMED]))}."
    unnamed = sorted(set(images) - set(match.found)) if match.num_files else []
    keep = match.column == "image" or plain_name(match.column) in PATIENT_COLUMNS
    table = table if keep or match.column in options.label_columns else table.drop(columns=match.column)
    table = table.assign(image=found)[found != ""].reset_index(drop=True)
    return table, [told, *notes], unnamed


def _folders_of_one(table: pd.DataFrame, root: Path, options: Options, where: str) -> pd.DataFrame:
    """Images for the folders that hold one, or several that are judged together or are channels of one.

    Raises:
        CohortError: a folder holds several images, is no DICOM series, and nothing was said of them.
    """
    folders = [image for image in table["image"].unique() if Path(full_path(root, image)).is_dir()]
    if not folders:
        return table
    names = Names(images_below(root, options.exclude)[0])
    if options.channels or options.sample_column == FOLDER:
        files = [names.inside(image.rstrip("/")) or [image] for image in table["image"]]
        return table.assign(image=pd.Series(files, table.index)).explode("image", ignore_index=True)
    renamed: dict[str, str] = {}
    for folder in folders:
        inside = names.inside(folder.rstrip("/"))
        if len(inside) == 1:
            renamed[folder] = inside[0]
        elif inside and not _is_series(root, inside):
            told = one_of_several(folder, inside)
            raise CohortError(f"Found a folder of several images in the column 'image' of {where}: {told}")
    return table.assign(image=table["image"].replace(renamed)) if renamed else table


def _of_columns(
    table: pd.DataFrame, root: Path, options: Options, where: str
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """As ``with_images``, of a table with a column of files for each channel of an image.

    Raises:
        CohortError: a file is not found, or may be one of several.
    """
    names = Names(images_below(root, options.exclude)[0])
    files = []
    for column in options.channels:
        texts = _text(table[column])
        check_inside(texts, root, options.allow_outside, where)
        found = [[text] if file_exists(root, text) else names.find(text) for text in texts]
        wrong = [text for text, places in zip(texts, found, strict=True) if len(places) != 1]
        if wrong:
            raise CohortError(
                f"Found no file, or several, below {root} for {len(wrong):,} of {len(table):,} rows of the channel "
                f"'{column}' of {where}, first '{wrong[0]}'. Correct the paths, or name the folder of the images with "
                "--images."
            )
        files.append([places[0] for places in found])
    images = [joined(row).text for row in zip(*files, strict=True)]
    note = f"{len(files)} channels ({', '.join(options.channels)}) of each image are read from columns of the table."
    return table.drop(columns=list(options.channels)).assign(image=images), [note], []


def _is_series(root: Path, inside: Sequence[str]) -> bool:
    """Whether files may be the slices of one series: DICOM, right in one folder."""
    together = len({path.rpartition("/")[0] for path in inside}) == 1
    return together and is_dicom(full_path(root, inside[0])) and is_dicom(full_path(root, inside[-1]))


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


def drop_missing_files(
    table: pd.DataFrame, root: Path, where: str, *, kept: npt.NDArray[np.bool_] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Leave out rows whose file does not exist, with a note.

    Args:
        table: with a column ``image``.
        root: the folder that paths are relative to.
        where: the table, for messages.
        kept: rows that are known to be there.

    Raises:
        CohortError: more than 5 % of the files do not exist.
    """
    exists = np.fromiter((file_exists(root, image) for image in table["image"]), bool, len(table))
    exists |= kept if kept is not None else False
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


def _text(values: pd.Series[str]) -> pd.Series[str]:
    return values.astype(object).where(values.notna(), "").astype(str).str.strip()
