"""Boxes that several readers drew on the same images, made one truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hounsfield.boxes import pairwise_iou
from hounsfield.cohorts.words import plain_name
from hounsfield.errors import CohortError

# Columns that name the reader, in lower case without spaces and underlines.
READER_COLUMNS = frozenset(
    {"radid", "reader", "readerid", "radiologist", "radiologistid", "rater", "raterid", "annotator", "annotatorid"}
)
HALF, ALL = "half", "all"
# Boxes of one class that overlap by at least this much (intersection over union) are of one finding.
LEAST_OVERLAP = 0.5


def reader_column(table: pd.DataFrame) -> str | None:
    """The column that names the reader of each row, where some image has several readers."""
    for column in table.columns:
        if plain_name(column) in READER_COLUMNS and table.groupby("image")[column].nunique().max() > 1:
            return str(column)
    return None


def merge_readers(
    boxes: pd.DataFrame, readers: pd.Series[str], rows: pd.Series[str], columns: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Keep a finding where at least half of its image's readers marked it; its box is the mean of theirs.

    Args:
        boxes: one row per box: ``image``, ``label``, the coordinates, ``place``.
        readers: of each box, under the index of ``boxes``.
        rows: (all rows of the table) reader, under the image as index; a reader without a box marked nothing.
        columns: of the coordinates.

    Returns:
        The findings, and a note on how far the readers agree.
    """
    asked = rows.groupby(level=0).nunique()
    found, marked, agreed = [], 0, 0
    for (image, _), group in boxes.groupby(["image", "label"], sort=False):
        for members in _findings(group[list(columns)].to_numpy(np.float64), readers[group.index].tolist()):
            marked += 1
            agreed += len(members) > 1
            if 2 * len(members) >= asked[str(image)]:
                first = group.iloc[members[0]].copy()
                first[list(columns)] = group.iloc[members][list(columns)].to_numpy(np.float64).mean(axis=0)
                found.append(first)
    kept = pd.DataFrame(found, columns=boxes.columns).reset_index(drop=True)
    kept[list(columns)] = kept[list(columns)].astype(np.float64)
    return kept, [
        (
            f"{len(boxes):,} boxes of {rows.nunique()} readers mark {marked:,} findings, {agreed:,} of them by several "
            f"readers; the {len(kept):,} that at least half of their image's readers marked were kept, each with the "
            "mean of their boxes. --readers all keeps every box, --readers NAME those of one reader."
        )
    ]


def chosen_reader(table: pd.DataFrame, column: str, name: str) -> pd.DataFrame:
    """The rows of one reader; images that he or she did not read are left out.

    Raises:
        CohortError: there is no such reader.
    """
    own = table[table[column].astype(str) == name]
    if own.empty:
        raise CohortError(
            f"There is no reader '{name}' (--readers): the column '{column}' names "
            f"{', '.join(sorted(set(table[column].astype(str))))}. Give one of these, {HALF} or {ALL}."
        )
    return own.reset_index(drop=True)


def _findings(boxes: np.ndarray, readers: Sequence[str]) -> list[list[int]]:
    """The boxes of each finding, at most one of each reader, those that overlap most together first."""
    overlaps = pairwise_iou(boxes, boxes)
    of_box = list(range(len(boxes)))
    pairs = [(overlaps[a, b], a, b) for a in range(len(boxes)) for b in range(a) if overlaps[a, b] >= LEAST_OVERLAP]
    for _, first, second in sorted(pairs, reverse=True):
        one, other = of_box[first], of_box[second]
        members = [box for box, group in enumerate(of_box) if group in (one, other)]
        if one != other and len({readers[box] for box in members}) == len(members):
            of_box = [one if group == other else group for group in of_box]
    return [[box for box, group in enumerate(of_box) if group == each] for each in dict.fromkeys(of_box)]
