"""Reading the labels of a table, from one column of text or from several of zeros and ones."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from hounsfield.cohorts.cohort import SEPARATOR
from hounsfield.cohorts.labels import join_columns, split_labels, tidy
from hounsfield.errors import CohortError
from hounsfield.tasks import TASKS, Task

# Columns that are attributes by their name, so that zeros and ones in them are not taken for labels.
ATTRIBUTES = frozenset(
    {"image", "patient", "split", "sex", "age", "view", "site", "manufacturer", "scanner", "laterality"}
)
NUM_NAMED = 5


def read_labels(
    table: pd.DataFrame, label_columns: Sequence[str], task: Task | None, where: str
) -> tuple[pd.Series[str], list[str], bool, list[str]]:
    """Read the labels of a table.

    Args:
        table: has a column ``image``, for messages.
        label_columns: the columns that hold the labels, or nothing to have them found.
        task: the task that is expected, if any.
        where: the table, for messages.

    Returns:
        The labels as text, the columns they came from, whether an image may have several, and notes.

    Raises:
        CohortError: there are no such columns, a label is missing, or several columns hold more than zeros and ones.
    """
    wanted = list(label_columns) or _find_label_columns(table, where)
    absent = [column for column in wanted if column not in table.columns]
    if absent:
        raise CohortError(
            f"There is no label column '{absent[0]}' in {where}: found {', '.join(table.columns)}. Name one of these."
        )
    if len(wanted) > 1:
        return _several_columns(table, wanted, where)
    labels, notes = tidy(table[wanted[0]])
    several = (task is not None and TASKS[task].multi_label) or bool(labels.str.contains(SEPARATOR, regex=False).any())
    if several:
        labels = labels.map({text: SEPARATOR.join(sorted(set(split_labels(text)))) for text in labels.unique()})
    elif (labels == "").any():
        rows = table["image"][labels == ""]
        raise CohortError(
            f"Found no label for {len(rows)} of the {len(table)} images of {where}, first '{rows.iloc[0]}'. Expected "
            f"one for each in the column '{wanted[0]}'. Fill them, or delete the rows."
        )
    return labels, wanted, several, notes


def _find_label_columns(table: pd.DataFrame, where: str) -> list[str]:
    named = [column for column in table.columns if column.lower() == "label"]
    if len(named) == 1 or "label" in named:
        return ["label"] if "label" in named else named
    prefixed = [column for column in table.columns if column.startswith("label_")]
    others = [column for column in table.columns if column.lower() not in ATTRIBUTES]
    columns = prefixed or [column for column in others if _zeros_and_ones(table[column])]
    if len(columns) < 2:
        raise CohortError(
            f"Found no labels in {where}: expected a column 'label', or at least two columns of zeros and ones named "
            f"after the labels, and found {', '.join(table.columns)}. Rename the column, or name it with "
            "--label-column."
        )
    return columns


def _several_columns(
    table: pd.DataFrame, columns: list[str], where: str
) -> tuple[pd.Series[str], list[str], bool, list[str]]:
    wrong = [column for column in columns if not _zeros_and_ones(table[column])]
    if wrong:
        found = ", ".join(repr(str(value)) for value in table[wrong[0]].unique()[:NUM_NAMED])
        raise CohortError(
            f"The label column '{wrong[0]}' of {where} holds {found}: expected 0 or 1 in each of several label "
            "columns. Correct the values, or name a single label column."
        )
    values = pd.DataFrame({column.removeprefix("label_"): _as_ones(table[column]) for column in columns})
    if any(SEPARATOR in column for column in values.columns):
        raise CohortError(f"A label column of {where} has '{SEPARATOR}' in its name. Rename it.")
    if (values.sum(axis=1) == 1).all():
        note = f"Labels were read from {len(columns)} columns; each image has exactly one, so they exclude each other."
        return join_columns(values), columns, False, [note]
    note = f"Labels were read from {len(columns)} columns; an image may have several, or none."
    return join_columns(values), columns, True, [note]


def _zeros_and_ones(values: pd.Series[str]) -> bool:
    distinct = {str(value).strip().lower() for value in values.unique()}
    return distinct <= {"0", "1", "0.0", "1.0", "true", "false"}


def _as_ones(values: pd.Series[str]) -> pd.Series[bool]:
    return values.map({value: str(value).strip().lower() in {"1", "1.0", "true"} for value in values.unique()}).astype(
        bool
    )
