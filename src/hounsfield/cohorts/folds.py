"""Folds that a table gives, as the folds of a cross-validation are written down, and splits under another name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.cohorts.words import SPLIT_WORDS, plain_name
from hounsfield.errors import CohortError

FOLD_COLUMNS = frozenset({"fold", "folds", "kfold", "cvfold", "foldid", "foldnumber"})


def fold_column(table: pd.DataFrame) -> str | None:
    """The column of a table that holds folds, where it is filled and has at least two of them."""
    for column in table.columns:
        if plain_name(column) in FOLD_COLUMNS:
            values = _texts(table[column])
            if (values != "").all() and len(values.unique()) > 1:
                return str(column)
    return None


def with_split_of_folds(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The table with its column of folds called ``split``, where that holds ``train``, ``test`` or the like."""
    column = fold_column(table)
    if column is None or "split" in table.columns or not _are_splits(table[column]):
        return table, []
    return table.rename(columns={column: "split"}), [
        f"The column '{column}' holds {_listed(table[column])} and was taken for the splits."
    ]


def splits_elsewhere(table: pd.DataFrame) -> list[str]:
    """What is said of columns that hold the words of splits and are called otherwise: they are attributes."""
    return [
        f"The column '{column}' holds {_listed(table[column])} and is an attribute: call it 'split' to have these as "
        f"the splits, or test on some of its rows, as with --test-on '{column}={_held_out(table[column])}'."
        for column in map(str, table.columns)
        if _are_splits(table[column])
    ]


def _are_splits(values: pd.Series[str]) -> bool:
    """Whether all values are words of splits, one of them that of training."""
    found = {SPLIT_WORDS.get(text.lower()) for text in _texts(values).unique()}
    return None not in found and "train" in found and len(found) > 1


def _held_out(values: pd.Series[str]) -> str:
    """The word for the test split, or else for the validation split."""
    words: dict[str, str] = {SPLIT_WORDS[text.lower()]: text for text in _texts(values).unique()}
    return words.get("test") or words["validation"]


def _listed(values: pd.Series[str]) -> str:
    return ", ".join(_texts(values).unique())


def shared_patients(table: pd.DataFrame, column: str) -> int:
    """How many patients are in several folds."""
    known = table[table["patient"].notna()]
    pairs = pd.DataFrame({"patient": known["patient"], "fold": _texts(known[column])}).drop_duplicates()
    return int((pairs["patient"].value_counts() > 1).sum())


def given_folds(table: pd.DataFrame, num_folds: int) -> npt.NDArray[np.int64] | None:
    """The fold of each row from 0 to ``num_folds`` − 1 by the table's own folds, several of them together if need be.

    Returns:
        ``None`` where the table has no folds, or patients in several.

    Raises:
        CohortError: the table has fewer folds.
    """
    column = fold_column(table)
    if column is None or shared_patients(table, column):
        return None
    values = _texts(table[column])
    distinct = sorted(values.unique(), key=lambda text: (len(text), text))
    if len(distinct) < num_folds:
        raise CohortError(
            f"The column '{column}' has {len(distinct)} folds among the rows for training, and {num_folds} networks "
            f"are to be trained. Set folds={len(distinct)} in the plan, or rename the column to have folds made."
        )
    number = {text: position % num_folds for position, text in enumerate(distinct)}
    return values.map(number).to_numpy(np.int64)


def _texts(values: pd.Series[str]) -> pd.Series[str]:
    return values.astype(object).where(values.notna(), "").astype(str).str.strip()
