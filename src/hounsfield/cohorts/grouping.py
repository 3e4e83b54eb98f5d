"""Images that are judged together as one sample, as the user chose: by a column of the table, or by their folder."""

from __future__ import annotations

import dataclasses
from pathlib import PurePosixPath

import pandas as pd

from hounsfield.cohorts.build import PATIENT_COLUMNS
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.options import FOLDER, NUM_NAMED, Options
from hounsfield.errors import CohortError, UsageError
from hounsfield.tasks import MODEL_NAMES, Family

# Whose truth is one answer for several images.
FAMILIES: tuple[Family, ...] = ("labels", "values")
_ONE_BY_ONE = (
    "Images cannot be judged together by a {}, whose truth is drawn in single images. Leave --sample-column out, or "
    "rename the column 'sample'."
)


def grouped(cohort: Cohort, options: Options) -> Cohort:
    """The cohort whose samples are those of ``--sample-column``, or of its own column ``sample``; with a note.

    Raises:
        CohortError: there is no such column, a row has no value there, or images of one sample contradict each other.
        UsageError: samples of several images are asked for where a task judges single images.
    """
    if options.sample_column is not None and cohort.family not in FAMILIES:
        raise UsageError(_ONE_BY_ONE.format(MODEL_NAMES[cohort.family]))
    keys, what = _keys(cohort, options)
    if keys is not None:
        # The key is no attribute of the patients any more.
        others = cohort.table.drop(columns=[what] if what in cohort.table.columns and what != "patient" else [])
        cohort = dataclasses.replace(cohort, table=others.assign(sample=keys.to_numpy()), sample_column=what)
    if not cohort.has_views:
        return cohort
    if cohort.family not in FAMILIES:
        raise UsageError(_ONE_BY_ONE.format(MODEL_NAMES[cohort.family]))
    if cohort.channels:
        raise UsageError(
            "Images of several files (--channels) cannot be judged together as well. Write each into one file with "
            "'hounsfield convert', or leave --sample-column out."
        )
    sizes = cohort.table["sample"].value_counts()
    least, most = int(sizes.min()), int(sizes.max())
    images = f"{most}" if least == most else f"{least} to {most}"
    note = (
        f"Images of one '{what}' are judged together: {len(sizes):,} samples of {images} images, such as "
        f"'{cohort.table['sample'].iloc[0]}'."
    )
    return cohort.with_notes(note)


def _keys(cohort: Cohort, options: Options) -> tuple[pd.Series[str] | None, str]:
    """The key of each row, and what it was read from; no keys where the cohort's own are kept."""
    column = options.sample_column
    if column is None:
        return None, "sample"
    table = cohort.table
    if column not in table.columns and column.lower().replace("_", "").replace(" ", "") in PATIENT_COLUMNS:
        column = "patient"
    if column not in table.columns and column == FOLDER:
        return table["image"].map(lambda image: PurePosixPath(str(image)).parent.as_posix()), FOLDER
    if column not in table.columns:
        attributes = [name for name in table.columns if name not in {"sample", "image", "label", "split"}]
        raise CohortError(
            f"The data has no column '{options.sample_column}' that says which images are judged together "
            f"(--sample-column): found {', '.join(attributes)}. Name one of these, or '{FOLDER}' for the folder that "
            "an image lies in."
        )
    empty = table["image"][table[column].isna() | (table[column].astype(str) == "")]
    if len(empty):
        raise CohortError(
            f"The column '{column}' (--sample-column) is empty in {len(empty):,} of {len(table):,} rows, first for "
            f"{', '.join(map(str, empty.iloc[:NUM_NAMED]))}. Fill it, or name another column."
        )
    return table[column].map(_as_text), column


def _as_text(value: object) -> str:
    """Whole numbers without the point that a column with gaps gives them."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
