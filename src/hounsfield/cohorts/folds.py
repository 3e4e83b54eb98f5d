"""Folds that a table gives, as the folds of a cross-validation are written down."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.cohorts.words import plain_name
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
