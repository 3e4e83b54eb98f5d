"""A table of predicted values as anyone may have it, read and made ready to evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.outcomes import Floats
from hounsfield.evaluation.predictions import (
    PATIENT_COLUMN,
    PREDICTION_COLUMN,
    TRUTH_COLUMNS,
    UNCERTAINTY_COLUMNS,
    read_rows,
)
from hounsfield.tasks import ValueTask

VALUE_COLUMN = "value"
# Steps from the lowest grade to the highest.
MOST_GRADES = 1000
# What `predict` writes beside the value.
OWN_COLUMNS = ("low", "high", "top_view", "view_weights", *UNCERTAINTY_COLUMNS)


@dataclass(frozen=True, eq=False)
class Values:
    """What a table of predicted values says, checked.

    Attributes:
        truth: (n,) values, or places of grades.
        predicted: (n,) likewise.
        labels: the name of the value, or the grades in order.
        task: "regression" or "ordinal".
        groups: (n,) patients, ``None`` where the table names none.
        notes: what was detected, decided or left out.
        table: the rows, without what prediction puts out.
    """

    truth: Floats
    predicted: Floats
    labels: tuple[str, ...]
    task: ValueTask
    groups: np.ndarray | None
    notes: tuple[str, ...]
    table: pd.DataFrame


def holds_values(path: Path) -> bool:
    """Whether a file is a table with a truth, a value and no probabilities of labels without order."""
    try:
        columns = list(map(str, read_rows(path)[0].columns))
    except EvaluationError:
        return False
    return VALUE_COLUMN in columns and any(name in columns for name in TRUTH_COLUMNS)


def read_values(path: Path, task: ValueTask | None = None) -> Values:
    """Read a CSV, Parquet or JSON table of predicted values or grades.

    Its columns: the truth as ``truth`` or ``label``, the prediction as ``value``, of grades as ``prediction`` or
    ``value``, optionally ``patient``. Of a table whose column ``split`` has test rows, these alone are read.

    Args:
        path: the table.
        task: ``None`` to tell it: ordinal where there is a column ``prediction`` beside ``value``.

    Raises:
        EvaluationError: the file cannot be read as a table, or lacks what is needed.
    """
    table, notes = read_rows(path)
    known = [str(column) for column in table.columns]
    task = task or ("ordinal" if PREDICTION_COLUMN in known else "regression")
    wanted = (PREDICTION_COLUMN, VALUE_COLUMN) if task == "ordinal" else (VALUE_COLUMN,)
    truth, value = _first(TRUTH_COLUMNS, known), _first(wanted, known)
    if truth is None or value is None:
        raise EvaluationError(
            f"{path.name} has the columns {', '.join(known)}; expected the truth as 'truth' or 'label' and the "
            f"prediction as {' or '.join(repr(name) for name in wanted)} for the task {task}. Rename its columns."
        )
    both = table[[truth, value]].apply(_numbers, path=path)
    missing = both[truth].isna()
    if missing.any():
        notes.append(f"{int(missing.sum()):,} of {len(table):,} rows without truth were left out.")
        table, both = table[~missing], both[~missing]
    if not len(table):
        raise EvaluationError(f"No row of {path.name} has a truth, so nothing can be evaluated. Fill in '{truth}'.")
    notes.append(f"{len(table):,} cases, {task}.")
    groups = table[PATIENT_COLUMN].to_numpy(dtype=object) if PATIENT_COLUMN in known else None
    if groups is None:
        notes.append("No column 'patient': every case is treated as a patient of its own.")
    rest = table.drop(columns=[name for name in (value, VALUE_COLUMN, *OWN_COLUMNS) if name in known])
    true, predicted = (both[name].to_numpy(np.float64) for name in (truth, value))
    if task == "regression":
        return Values(true, predicted, ("value",), task, groups, tuple(notes), rest)
    labels, places = _grades(true, predicted, path)
    return Values(*places, labels, task, groups, tuple(notes), rest)


def _first(names: Sequence[str], known: Sequence[str]) -> str | None:
    return next((name for name in names if name in known), None)


def _numbers(column: pd.Series, path: Path) -> pd.Series:
    found = pd.to_numeric(column, errors="coerce")
    wrong = column[found.isna() & column.notna()]
    if len(wrong):
        raise EvaluationError(
            f"The column '{column.name}' of {path.name} holds '{wrong.iloc[0]}' ({len(wrong):,} cells are no numbers): "
            "expected a number in each. Correct the cells, or name the task with --task."
        )
    return found


def _grades(truth: Floats, predicted: Floats, path: Path) -> tuple[tuple[str, ...], tuple[Floats, Floats]]:
    """The grades in order, and the places of both; predictions of whole numbers alone."""
    wrong = [value for value in (*truth, *predicted) if not float(value).is_integer()]
    if wrong:
        raise EvaluationError(
            f"{path.name} has the grade {wrong[0]:g}: expected whole numbers for the task ordinal. Round the "
            "predictions, or give --task regression."
        )
    # Grades that occur nowhere are steps all the same: between 1 and 3 lies 2.
    low, high = int(min(truth.min(), predicted.min())), int(max(truth.max(), predicted.max()))
    if high - low >= MOST_GRADES:
        raise EvaluationError(
            f"{path.name} has grades from {low:,} to {high:,}: expected at most {MOST_GRADES:,} steps for the task "
            "ordinal. Correct the cells, or give --task regression."
        )
    return tuple(map(str, range(low, high + 1))), (truth - low, predicted - low)
