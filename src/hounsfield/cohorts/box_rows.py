"""Cohorts from a table with one row per box: an image, a label, and the box's columns in pixels.

An image without objects stands in one row whose box is empty. What a row says of its image (patient, split, attributes)
must be the same in every row of that image.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.boxes import COLUMNS as BOX_COLUMNS
from hounsfield.boxes import from_xywh, reversed_axes
from hounsfield.cohorts.annotations import Annotations, build_box_cohort
from hounsfield.cohorts.build import name_patients
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.options import Options
from hounsfield.cohorts.readers import ALL, HALF, chosen_reader, merge_readers, reader_column
from hounsfield.cohorts.table_rows import read_rows
from hounsfield.cohorts.tables import PLAIN_NAMES, with_images
from hounsfield.cohorts.words import plain_name
from hounsfield.cohorts.world_boxes import boxes_of_spheres
from hounsfield.errors import CohortError

KIND = "box table"
CORNERS, SIZES, MILLIMETRES = "corners", "sizes", "millimetres"
# The columns of a box under the names that tables give them, x before y before z; ours are looked for first.
OTHER_COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (CORNERS, ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")),
    (CORNERS, ("xmin", "ymin", "xmax", "ymax")),
    (CORNERS, ("x1", "y1", "z1", "x2", "y2", "z2")),
    (CORNERS, ("x1", "y1", "x2", "y2")),
    (SIZES, ("x", "y", "z", "width", "height", "depth")),
    (SIZES, ("x", "y", "width", "height")),
    (SIZES, ("x", "y", "z", "w", "h", "d")),
    (SIZES, ("x", "y", "w", "h")),
    (MILLIMETRES, ("coordx", "coordy", "coordz", "diametermm")),
    (MILLIMETRES, ("worldx", "worldy", "worldz", "diametermm")),
    (MILLIMETRES, ("xmm", "ymm", "zmm", "diametermm")),
)
LABEL_COLUMNS = ("label", "class", "class_name", "category", "finding", "Finding Label", "lesion_type")
# How sure a finding is, in tables of findings.
SCORE = "score"
# The class of every box of a table that names none.
OBJECT = "object"


def box_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of a table that hold a box, as the table calls them; empty where it has none."""
    return _form(columns)[1]


def _form(columns: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    # NIH's list has a header that was cut at the commas of "Bbox [x,y,w,h]".
    plain = {plain_name(str(column)).removeprefix("bbox"): column for column in columns}
    for rank in (3, 2):
        if set(BOX_COLUMNS[rank]) <= set(plain):
            return "", tuple(plain[column] for column in BOX_COLUMNS[rank])
    for form, names in OTHER_COLUMNS:
        if set(names) <= set(plain):
            return form, tuple(plain[name] for name in names)
    return "", ()


def is_box_table(table: pd.DataFrame, image: str = "image") -> bool:
    """Whether a table of images rather speaks of boxes than of images.

    It does where it has a box in every row, or an image in several rows. Otherwise labels are of the images.

    Args:
        table: the rows.
        image: the column that names the images.
    """
    columns = list(box_columns(list(table.columns)))
    if not columns or image not in table.columns:
        return False
    if not table[image].is_unique:
        return True
    filled = (table[columns].notna() & (table[columns].astype(str) != "")).all(axis=1)
    return bool(filled.all())


def load_box_table(path: Path, options: Options) -> Cohort:
    """The cohort of a table of boxes.

    Raises:
        CohortError: the table has no box, or its boxes cannot make a cohort.
    """
    found = read_box_rows(path, options, by_content=True)
    name = path.resolve().parent.name if path.stem.lower() in PLAIN_NAMES else path.stem
    return build_box_cohort(found, options, root=Path(options.images or path.parent), kind=KIND, name=name)


def read_box_rows(path: Path, options: Options, *, may_be_empty: bool = False, by_content: bool = False) -> Annotations:
    """What a table of boxes says; a column ``score`` stays with the boxes.

    Args:
        path: of the table.
        options: what the user chose.
        may_be_empty: whether it may have no rows.
        by_content: whether the images are looked for below the folder by the values of the table's columns; otherwise
            no image is looked at.

    Raises:
        CohortError: the file is no table of boxes, or rows of one image contradict each other.
    """
    table = read_rows(path, options, may_be_empty=may_be_empty)
    form, columns = _form(list(table.columns))
    notes = list(table.attrs["notes"])
    root = Path(options.images or path.parent)
    unnamed: list[str] = []
    if columns and by_content:
        table, told, unnamed = with_images(table, root, options, f"the table {path}")
        table = table.reset_index(drop=True)
        notes += told
    if "image" not in table.columns or not columns:
        raise CohortError(
            f"The table {path} has the columns {', '.join(table.columns)}: expected image, label and a box in pixels, "
            f"such as {', '.join(BOX_COLUMNS[2])} or x, y, width, height. Rename them."
        )
    table["image"] = table["image"].astype(object).where(table["image"].notna(), "").astype(str).str.strip()
    if os.sep == "/":
        table["image"] = table["image"].str.replace("\\", "/", regex=False)
    table, told = name_patients(table, options, f"the table {path}")
    notes += told
    reader = reader_column(table)
    if reader is not None and options.readers not in {None, HALF, ALL}:
        table, reader = chosen_reader(table, reader, str(options.readers)), None
        notes.append(f"The boxes are those of the reader {options.readers}, as asked.")
    values, stated = _values(table, columns)
    rank = len(columns) // 2
    if form == MILLIMETRES:
        values, rank = boxes_of_spheres(values, table["image"].tolist(), root), 3
        notes.append(f"Boxes around spheres in millimetres were read from the columns {', '.join(columns)}.")
    elif form:
        values = reversed_axes(values) if form == CORNERS else from_xywh(values)
        notes.append(f"Boxes were read from the columns {', '.join(columns)}.")
    boxes = pd.DataFrame(values, columns=list(BOX_COLUMNS[rank]))
    boxes.insert(0, "image", table["image"])
    label = _label_column(table, options)
    boxes["label"] = table[label].astype(object).where(table[label].notna(), "") if label else OBJECT
    boxes["place"] = [f"row {row + 1} of {path.name}" for row in range(len(table))]
    if SCORE in table.columns:
        boxes[SCORE] = pd.to_numeric(table[SCORE], errors="coerce")
    images, told = _images(table.drop(columns=[*columns, *([label] if label else [])]), path)
    images, negatives = _with_unnamed(images, unnamed, options, stated_in_all=bool(stated.all()), path=path)
    boxes = boxes[stated]
    if reader is not None and options.readers != ALL:
        rows = table.set_index("image")[reader].astype(str)
        boxes, agreement = merge_readers(boxes, table[reader].astype(str)[boxes.index], rows, BOX_COLUMNS[rank])
        notes += agreement
    return Annotations(images, boxes.reset_index(drop=True), notes=(*notes, *told, *negatives))


def _with_unnamed(
    images: pd.DataFrame, unnamed: Sequence[str], options: Options, *, stated_in_all: bool, path: Path
) -> tuple[pd.DataFrame, list[str]]:
    """Images without a row: without objects or not looked at, which the table does not say.

    Raises:
        CohortError: it is not known which, since no row of the table is without a box.
    """
    if not unnamed:
        return images, []
    count = f"{len(unnamed):,} images below the folder, such as '{unnamed[0]}', are not named in {path.name}"
    if options.missing == "negative":
        return pd.concat([images, pd.DataFrame({"image": unnamed})], ignore_index=True), [
            f"{count} and count as images without objects, as asked."
        ]
    if stated_in_all and options.missing is None:
        raise CohortError(
            f"{count}, and each of its rows has a box: whether these images have no objects or were not looked at is "
            "not said. Take them as images without objects with --missing negative, or leave them out with --missing "
            "ignore."
        )
    return images, [f"{count} and were left out; --missing negative takes them as images without objects."]


def _values(table: pd.DataFrame, columns: Sequence[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The numbers of the boxes, not-a-number for what is none, and which rows state a box at all."""
    raw = table[list(columns)].astype(object)
    texts = [raw[column].astype(str).str.strip().str.lower().isin(["", "nan"]) for column in columns]
    empty = raw.isna().to_numpy() | np.array(texts, bool).T
    numbers = raw.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    return numbers, ~empty.all(axis=1)


def _label_column(table: pd.DataFrame, options: Options) -> str | None:
    if options.label_columns:
        wanted = options.label_columns[0]
        if len(options.label_columns) > 1 or wanted not in table.columns:
            raise CohortError(
                f"Found no single label column {', '.join(options.label_columns)} in the table of boxes: its columns "
                f"are {', '.join(table.columns)}. Name the one that holds the class of each box."
            )
        return wanted
    plain = {plain_name(column): column for column in reversed(list(table.columns))}
    return next((plain[plain_name(word)] for word in LABEL_COLUMNS if plain_name(word) in plain), None)


def _images(table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """One row per image, with what its rows agree on."""
    grouped = table.groupby("image", sort=False)
    kinds = {column: grouped[column].nunique(dropna=False) for column in table.columns if column != "image"}
    varying = [column for column, counts in kinds.items() if counts.max() > 1]
    for column in ("patient", "split"):
        if column in varying:
            raise CohortError(
                f"Found rows of one image with different values of '{column}' in {path}, first "
                f"'{kinds[column].idxmax()}'. Expected the same in every row of an image. Correct them."
            )
    images = table.drop(columns=varying).drop_duplicates("image", ignore_index=True)
    told = ", ".join(column for column in varying if column != SCORE)
    notes = [f"The columns {told} differ within an image and were left out."] if told else []
    return images, notes
