"""Cohorts from a table whose rows name an image and its mask."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hounsfield.cohorts.build import patients_by_folder
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.label_maps import map_names
from hounsfield.cohorts.mask_build import FoundMasks, build_mask_cohort
from hounsfield.cohorts.mask_files import FileMasks, MaskFile
from hounsfield.cohorts.options import MAX_BAD_FRACTION, NUM_NAMED, Options
from hounsfield.cohorts.split_lists import splits_of_lists
from hounsfield.cohorts.table_files import table_stem
from hounsfield.cohorts.table_images import Names
from hounsfield.cohorts.table_rows import read_rows
from hounsfield.cohorts.tables import PLAIN_NAMES, check_inside, with_images
from hounsfield.cohorts.tree import every_image
from hounsfield.cohorts.words import tokens
from hounsfield.errors import CohortError
from hounsfield.tasks import SEPARATOR

KIND = "mask table"
WORDS = frozenset({"mask", "masks", "seg", "segmentation", "segmentations", "labelmap", "groundtruth", "annotation"})
FILE = re.compile(r"\.[A-Za-z0-9]{2,6}$")


def mask_columns(table: pd.DataFrame) -> list[str]:
    """The columns that are called after masks and hold names of files.

    Several such as ``liver_mask`` and ``tumour_mask`` hold a mask for each label.
    """
    return [column for column in map(str, table.columns) if set(tokens(column)) & WORDS and _names_files(table[column])]


def _names_files(values: pd.Series[str]) -> bool:
    texts = values.dropna().astype(str).str.strip()
    texts = texts[texts != ""]
    return bool(len(texts)) and bool(texts.map(lambda text: bool(FILE.search(text) or "/" in text)).all())


def load_mask_table(path: Path, options: Options) -> Cohort:
    """The cohort of a table with a column of images and one or several of masks.

    Several masks of one image stand in one cell with ``;`` between them. An empty cell leaves the image out.

    Raises:
        CohortError: there is no such column, or files are missing.
    """
    table = read_rows(path, options)
    where, root = f"the table {path}", Path(options.images) if options.images else path.parent
    columns = mask_columns(table)
    if not columns:
        raise CohortError(
            f"Found no column of masks in {where}: found {', '.join(map(str, table.columns))}. Expected one such as "
            "'mask' with the paths of files. Rename it."
        )
    table, notes, _ = with_images(table, root, options, where)
    names = Names(every_image(root)[0])
    files: dict[str, list[MaskFile]] = {}
    missing: list[str] = []
    for image, *cells in zip(table["image"], *(table[column].fillna("") for column in columns), strict=True):
        pairs = list(zip(columns, map(str, cells), strict=True))
        files.setdefault(str(image), []).extend(_files(pairs, names, root, missing, several=len(columns) > 1))
    if len(missing) > MAX_BAD_FRACTION * len(table):
        raise CohortError(
            f"Found no file for {len(missing)} masks of {where}: {', '.join(missing[:NUM_NAMED])}. Expected paths "
            f"relative to {root}. Correct them."
        )
    empty = [image for image, found in files.items() if not found]
    if empty:
        notes.append(f"{len(empty)} images have no mask and were left out: {', '.join(empty[:NUM_NAMED])}.")
        table = table[~table["image"].isin(empty)].reset_index(drop=True)
    masks = pd.Series(sorted({file.path for found in files.values() for file in found}), dtype=object)
    check_inside(masks, root, options.allow_outside, where)
    table, told = patients_by_folder(table.drop(columns=columns).drop_duplicates(ignore_index=True))
    if "split" not in table.columns and options.test_on is None:
        splits, listed = splits_of_lists(path.parent, table["image"])
        table, told = (table if splits is None else table.assign(split=splits)), [*told, *listed]
    stem = table_stem(path)
    known = map_names(path.parent)
    found = FoundMasks(
        images=table,
        source=FileMasks(root, files, known),
        mask={image: SEPARATOR.join(file.path for file in each) for image, each in files.items()},
        order=tuple(name for _, name in sorted(known.items())) or tuple(map(label_of_column, columns)),
        notes=(*notes, *told),
    )
    name = path.resolve().parent.name if stem.lower() in PLAIN_NAMES else stem
    return build_mask_cohort(found, options, root=root, kind=KIND, name=name)


def label_of_column(column: str) -> str:
    """What a column such as ``liver_mask`` says that its masks mark."""
    return "_".join(word for word in tokens(column) if word not in WORDS)


def _files(
    cells: Sequence[tuple[str, str]], names: Names, root: Path, missing: list[str], *, several: bool
) -> list[MaskFile]:
    """The mask files of one row; what is not there is added to ``missing``."""
    found = []
    for column, cell in cells:
        for text in filter(None, map(str.strip, cell.split(SEPARATOR))):
            places = [text] if (root / text).is_file() else _found(text, names)
            if len(places) != 1:
                missing.append(text if not places else f"{text} (may be {' or '.join(places[:NUM_NAMED])})")
            else:
                found.append(MaskFile(places[0], label_of_column(column) if several else ""))
    return found


def _found(text: str, names: Names) -> list[str]:
    """The files that a text may mean; one in a folder of another name is not meant."""
    folder = text.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]
    return [place for place in names.find(text) if not folder or place.rpartition("/")[0].rpartition("/")[2] == folder]
