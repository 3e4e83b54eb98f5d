"""The rows of a cohort whose truth lies beside its images: paths, patients, splits and attributes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from hounsfield.cohorts.build import attribute, name_patients, optional_column, read_splits
from hounsfield.cohorts.headers import fill_from_headers
from hounsfield.cohorts.options import Options
from hounsfield.cohorts.tables import check_inside, drop_missing_files
from hounsfield.errors import CohortError


def image_rows(
    images: pd.DataFrame, options: Options, root: Path, where: str, *, listed: Collection[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """The table of samples but for its labels, and notes.

    Args:
        images: a column ``image`` of paths relative to the root, and where known ``patient``, ``split`` and attributes;
            an image listed twice in the same words counts once.
        options: what the user chose.
        root: the folder.
        where: the data, for messages.
        listed: images that stand for several files, which are there.

    Raises:
        CohortError: an image is listed twice in different words, lies outside the folder, or too many are missing.
    """
    table = images.drop_duplicates(ignore_index=True)
    twice = table["image"][table["image"].duplicated()]
    if len(twice):
        rows = table[table["image"] == twice.iloc[0]]
        columns = [column for column in rows.columns if len(set(rows[column].astype(str))) > 1]
        raise CohortError(
            f"Found {twice.nunique()} images of {where} listed several times with different {', '.join(columns)}, "
            f"first '{twice.iloc[0]}'. Expected each image once, in one split. Correct the lists."
        )
    check_inside(table["image"], root, options.allow_outside, where)
    virtual = table["image"].isin(list(listed)).to_numpy()
    table, notes = drop_missing_files(table, root, where, kept=virtual)
    # Before the headers, which fill what the table lacks: its own patients count.
    table, told = name_patients(table, options, where)
    table = fill_from_headers(table, root, options.progress)
    splits, split_notes = read_splits(table, options, where)
    final = pd.DataFrame({"image": table["image"], "patient": optional_column(table, "patient"), "split": splits})
    # A column 'label' is made of what is marked.
    for column in table.columns.difference([*final.columns, "label"], sort=False):
        final[column] = attribute(table[column])
    return final, [*notes, *told, *split_notes]
