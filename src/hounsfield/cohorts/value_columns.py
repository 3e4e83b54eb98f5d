"""What a column of numbers is: classes, grades in order, or values to predict."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from hounsfield.cohorts.labels import class_order
from hounsfield.errors import CohortError, UsageError
from hounsfield.tasks import TASKS, Task

WHOLE = re.compile(r"[+-]?\d+")
# More distinct numbers than this are no classes.
MAX_CLASSES = 20
# Up to so many distinct numbers may be classes although each is rare.
FEW = 10
# From so many numbers on their order may matter.
FEWEST = 4
# What a user may ask for where a column could be read in several ways.
ASKED: tuple[Task, ...] = ("multi-class", "ordinal", "regression", "multi-label")
HOW = "For classes give --task multi-class, for grades in order --task ordinal, for measurements --task regression."


def task_of_column(
    labels: pd.Series[str], asked: Task | None, *, column: str, indices: bool = False
) -> tuple[Task | None, list[str]]:
    """Decide what a column of labels holds where it holds nothing but numbers.

    Args:
        labels: as text, tidied, none missing.
        asked: the task that the user, or a trained network, asks for.
        column: where they stand, for notes.
        indices: whether whole numbers from 0 on are class indices, as in arrays.

    Returns:
        The task, ``None`` where it follows from the labels themselves, and notes on what was decided.
    """
    distinct = pd.Series(labels.unique(), dtype=object)
    values = pd.to_numeric(distinct, errors="coerce").to_numpy(np.float64)
    if asked is not None or len(distinct) < FEWEST or not np.isfinite(values).all():
        return asked, []
    whole = all(WHOLE.fullmatch(text) for text in distinct)
    many = not whole or len(distinct) > MAX_CLASSES or (len(distinct) > FEW and 3 * len(distinct) > len(labels))
    found = f"{len(distinct):,} distinct numbers from {values.min():g} to {values.max():g}"
    if many and not (indices and set(values) == set(range(len(values)))):
        return "regression", [f"{column} holds {found}: read as a value to predict (regression). {HOW}"]
    return None, [f"{column} holds {found}: read as classes without order. {HOW}"]


def refuse_task(task: str | None, *, known: bool) -> None:
    """Refuse a task that the user cannot choose; that of a trained network is ``known``.

    Raises:
        UsageError: it is none of ``ASKED``.
    """
    if task is not None and not known and task not in ASKED:
        raise UsageError(
            f"The task '{task}' cannot be asked for: expected one of {', '.join(ASKED)}. Every other task follows from "
            "the labels or boxes themselves: leave --task out."
        )


def check_values(labels: pd.Series[str], task: Task, where: str) -> tuple[str, ...]:
    """Hold a column to what its task needs, and give the grades in order; nothing for regression.

    Raises:
        CohortError: a text is no number, or grades are no whole numbers or too many.
    """
    values = pd.to_numeric(labels, errors="coerce")
    wrong = labels[~np.isfinite(values.to_numpy(np.float64))]
    if len(wrong):
        raise CohortError(
            f"Found '{wrong.iloc[0]}' among the labels of {where} ({len(wrong):,} of {len(labels):,} rows are no "
            f"numbers): expected a number in each for the task {task}. Correct them, or leave --task out to read "
            "classes."
        )
    if not TASKS[task].ordered:
        if values.nunique() < 2:
            raise CohortError(
                f"All {len(labels):,} labels of {where} are {labels.iloc[0]}: expected different values. Check that "
                "they were read from the right column."
            )
        return ()
    grades = class_order(list(labels.unique()))
    unfit = [text for text in grades if not WHOLE.fullmatch(text)]
    if unfit or not 2 <= len(grades) <= MAX_CLASSES:
        found = f"'{unfit[0]}'" if unfit else f"{len(grades):,} distinct grades"
        raise CohortError(
            f"Found {found} in {where}: expected 2 to {MAX_CLASSES} grades as whole numbers, such as 0 to 4, for the "
            "task ordinal. Number the grades in their order, or give --task regression."
        )
    return grades
