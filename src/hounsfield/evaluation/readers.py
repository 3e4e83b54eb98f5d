"""A table of several readers' ratings, read and made ready for :mod:`hounsfield.evaluation.mrmc`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.outcomes import Booleans, Floats
from hounsfield.evaluation.values import quadratic_kappa

READER, CASE, TRUTH, RATING, TEST, PATIENT = "reader", "case", "truth", "rating", "test", "patient"
NEEDED = (READER, CASE, TRUTH, RATING)
# More ratings than this are no grades, and have no kappa.
MOST_GRADES = 20


@dataclass(frozen=True, eq=False)
class Readings:
    """Ratings of n cases by every reader in every test.

    Attributes:
        tests: ways of reading, such as "with" and "without" the model; one where the table names none.
        readers: their names.
        truth: (n,) whether a case is diseased.
        ratings: (tests, readers, n).
        groups: (n,) patients; ``None`` where the table names none.
    """

    tests: tuple[str, ...]
    readers: tuple[str, ...]
    truth: Booleans
    ratings: Floats
    groups: np.ndarray | None

    def agreement(self) -> dict[str, float]:
        """By test, the mean quadratic kappa of all pairs of readers (Light 1971); none where ratings are no grades."""
        grades, codes = np.unique(self.ratings, return_inverse=True)
        if len(grades) > MOST_GRADES or len(self.readers) < 2:
            return {}
        places: Floats = np.asarray(codes, dtype=np.float64).reshape(self.ratings.shape)
        weights = np.ones((len(self.truth), 1))
        return {
            test: float(
                np.mean(
                    [quadratic_kappa(first, second, weights)[0] for first, second in itertools.combinations(rows, 2)]
                )
            )
            for test, rows in zip(self.tests, places, strict=True)
        }


def is_readers_table(columns: Any) -> bool:
    """Whether a table's columns are those of readers' ratings."""
    return {READER, CASE, RATING} <= set(map(str, columns))


def readings_of(table: pd.DataFrame, *, positive: str | None = None, reference: str | None = None) -> Readings:
    """Lay out one row per reader, test and case.

    Args:
        table: with the columns ``reader``, ``case``, ``truth``, ``rating``; optionally ``test`` and ``patient``.
        positive: the truth that is the disease, where truths are neither 0 and 1 nor false and true.
        reference: the test that the others are compared with; it comes last.

    Raises:
        EvaluationError: a column is missing, a truth is contradicted, or a reading is missing or given twice.
    """
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        raise EvaluationError(
            f"The table of readers lacks {', '.join(missing)}; expected the columns {', '.join(NEEDED)} and, where "
            "known, test and patient. Rename its columns."
        )
    rows = table.assign(**{TEST: table[TEST] if TEST in table.columns else "all"})
    rows = rows.astype({READER: str, CASE: str, TEST: str})
    tests = sorted(rows[TEST].unique())
    if reference is not None and reference not in tests:
        raise EvaluationError(f"No test is called '{reference}'; the table has {', '.join(tests)}. Name one of them.")
    tests = [name for name in tests if name != reference] + ([reference] if reference is not None else [])
    readers, cases = sorted(rows[READER].unique()), sorted(rows[CASE].unique())
    _check_readings(rows, tests, readers, cases)
    cube = rows.set_index([TEST, READER, CASE])[RATING].reindex(pd.MultiIndex.from_product([tests, readers, cases]))
    try:
        ratings = cube.to_numpy(dtype=np.float64).reshape(len(tests), len(readers), len(cases))
    except ValueError as error:
        raise EvaluationError(
            f"A rating is no number ({error}); expected numbers, larger for more suspicious."
        ) from error
    patients = None
    if PATIENT in rows.columns:
        patients = rows.groupby(CASE)[PATIENT].first().reindex(cases).to_numpy(dtype=object)
    return Readings(tuple(tests), tuple(readers), _truths(rows, cases, positive), ratings, patients)


def _check_readings(rows: pd.DataFrame, tests: list[str], readers: list[str], cases: list[str]) -> None:
    twice = rows.duplicated([TEST, READER, CASE])
    if twice.any():
        first = rows[twice].iloc[0]
        raise EvaluationError(
            f"Reader {first[READER]} rated case {first[CASE]} twice in '{first[TEST]}'. Keep one rating of each."
        )
    counts = rows.groupby([READER, TEST]).size().reindex(pd.MultiIndex.from_product([readers, tests]), fill_value=0)
    short = [
        f"{reader} in '{test}' {int(counts[reader, test]):,}"
        for reader, test in itertools.product(readers, tests)
        if counts[reader, test] < len(cases)
    ]
    if short:
        raise EvaluationError(
            f"Not every reader rated every one of the {len(cases):,} cases in every test: {'; '.join(short[:5])}. "
            "Leave out the cases or readers with gaps."
        )


def _truths(rows: pd.DataFrame, cases: list[str], positive: str | None) -> Booleans:
    by_case = rows.groupby(CASE)[TRUTH]
    contradicted = by_case.transform("first").ne(rows[TRUTH]).groupby(rows[CASE]).any()
    if contradicted.any():
        raise EvaluationError(
            f"{int(contradicted.sum()):,} cases have two truths (the first is {contradicted.idxmax()}). Correct them."
        )
    values = by_case.first().reindex(cases).map(lambda cell: str(int(cell)) if isinstance(cell, float) else str(cell))
    positives = {positive} if positive is not None else {"1", "True", "true"}
    if not set(values) - positives or not set(values) & positives or len(set(values)) != 2:
        raise EvaluationError(
            f"The truths are {', '.join(sorted(set(values)))}; expected 0 and 1. Name the diseased one with --positive."
        )
    return np.asarray(values.isin(positives), dtype=bool)
