"""Truth as a value of a whole sample: any number, or a grade in an order."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.cohorts.finding import Finding
from hounsfield.cohorts.targets.base import Samples
from hounsfield.cohorts.targets.labels import SPLITS, UNASSIGNED, LabelTargets, assigned_splits
from hounsfield.errors import CohortError
from hounsfield.tasks import TASKS

# Quantile bins of values, by which splits and folds are stratified: at most so many, each of at least so many rows.
MAX_BINS, LEAST_IN_BIN = 10, 10


class ValueTargets:
    """See ``Targets``. The column ``label`` holds the value as text."""

    def check(self, samples: Samples) -> None:
        """Every value is a finite number, of grades one of ``labels``; see ``Targets.check``."""
        LabelTargets().check_boxes(samples)
        values = numbers(samples)
        present = samples.table["label"].notna().to_numpy()
        if (wrong := present & ~np.isfinite(values)).any():
            found = samples.table["label"].iloc[int(wrong.argmax())]
            raise CohortError(
                f"The cohort '{samples.name}' is of the task '{samples.task}' and has a row with the value '{found}': "
                "expected a finite number. Correct it, or leave the row out."
            )
        if TASKS[samples.task].ordered:
            grade_indices(samples)

    def targets(self, samples: Samples) -> npt.NDArray[np.float32]:
        """Regression: the values (rows, 1). Grades: (rows, labels − 1), whether each is above the k-th."""
        if not TASKS[samples.task].ordered:
            return numbers(samples)[:, np.newaxis].astype(np.float32)
        above = grade_indices(samples)[:, np.newaxis] > np.arange(len(samples.labels) - 1)
        return above.astype(np.float32)

    def strata(self, samples: Samples) -> npt.NDArray[np.int64]:
        """One for the grade of each row, or for the quantile bin of its value."""
        codes = strata_of(samples)
        return np.asarray(codes[:, np.newaxis] == np.arange(codes.max(initial=0) + 1), np.int64)

    def check_trainable(self, samples: Samples) -> None:
        """Training rows have different values, and every grade; there are validation rows."""
        truths, rows = samples.table["label"], {split: samples.rows(split) for split in ("train", "validation")}
        if not len(rows["validation"]):
            raise CohortError(
                f"The cohort '{samples.name}' has no validation images, which choose the epoch. Add images of more "
                "patients, or leave the column 'split' out to have the split made."
            )
        present = set(truths.iloc[rows["train"]].dropna())
        absent = [label for label in samples.labels if label not in present] if TASKS[samples.task].ordered else []
        if absent:
            raise CohortError(
                f"The train split of the cohort '{samples.name}' has no image of grade {', '.join(absent)}: at least "
                "one of each is needed there. Add images of more patients, or leave the column 'split' out to have "
                "the split made."
            )
        if len(present) < 2:
            raise CohortError(
                f"All training images of the cohort '{samples.name}' have the value {', '.join(present)}: expected "
                "different ones. Check that the values were read from the right column."
            )

    def truths(self, samples: Samples) -> list[Hashable | None]:
        """The value of each row."""
        return [value if np.isfinite(value) else None for value in numbers(samples).tolist()]

    def questions(self, samples: Samples, rows: npt.NDArray[np.int64]) -> Iterator[tuple[str | None, pd.Series[Any]]]:
        """One question, of the grade or the value."""
        yield None, samples.table["label"].iloc[rows].astype(str).reset_index(drop=True)

    def balance(self, samples: Samples) -> dict[str, dict[str, int]]:
        """Grades as labels; of values the rows of each split that have one."""
        if TASKS[samples.task].ordered:
            return LabelTargets().balance(samples)
        splits, known = assigned_splits(samples), samples.table["label"].notna()
        return {
            split: {samples.labels[0]: int((known & (splits == split)).sum())}
            for split in (*SPLITS, UNASSIGNED)
            if (splits == split).any()
        }

    def trained_labels(self, samples: Samples) -> list[str]:
        """The grades of training rows; the name of the value."""
        return LabelTargets().trained_labels(samples) if TASKS[samples.task].ordered else list(samples.labels)

    def findings(self, samples: Samples, shapes: Sequence[tuple[int, ...]]) -> list[Finding]:
        """How the values are distributed; of grades their imbalance."""
        if TASKS[samples.task].ordered:
            return LabelTargets().findings(samples, shapes)
        least, low, median, high, greatest = np.nanquantile(numbers(samples), (0, 0.25, 0.5, 0.75, 1))
        text = (
            f"{samples.labels[0]} is {least:g} to {greatest:g}, with the median {median:g} and the quartiles {low:g} "
            f"and {high:g}."
        )
        return [Finding("note", "Values", text)]

    def subset(self, samples: Samples, table: pd.DataFrame) -> dict[str, Any]:  # noqa: ARG002 - of the contract
        """Values stand in the table itself."""
        return {}


def numbers(samples: Samples) -> npt.NDArray[np.float64]:
    """(rows,) the values; NaN where a row has none, or a text that is no number."""
    return np.asarray(pd.to_numeric(samples.table["label"], errors="coerce"), np.float64)


def grade_indices(samples: Samples) -> npt.NDArray[np.int64]:
    """(rows,) the place of each row's grade among the labels.

    Raises:
        CohortError: a grade is not among them.
    """
    known = {label: index for index, label in enumerate(samples.labels)}
    grades = samples.table["label"].astype(str)
    if len(unknown := grades[~grades.isin(known)]):
        raise CohortError(
            f"The cohort '{samples.name}' has a row of grade '{unknown.iloc[0]}', and its grades are "
            f"{', '.join(samples.labels)}. Correct it, or leave the row out."
        )
    return np.asarray(grades.map(known), np.int64)


def strata_of(samples: Samples) -> npt.NDArray[np.int64]:
    """(rows,) the grade of each row, or the quantile bin of its value, from 0."""
    if TASKS[samples.task].ordered:
        return grade_indices(samples)
    values = numbers(samples)
    bins = int(np.clip(len(values) // LEAST_IN_BIN, 1, MAX_BINS))
    edges = np.unique(np.nanquantile(values, np.linspace(0, 1, bins + 1)[1:-1])) if bins > 1 else np.empty(0)
    return np.asarray(np.searchsorted(edges, values, side="right"), np.int64)
