"""Truths and scores of one test, checked once and laid out as one yes-or-no question a column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import EvaluationError
from hounsfield.tasks import (
    TASKS,
    LabelTask,
    Threshold,
    Traits,
    decide,
    expected_labels,
    fits_labels,
    for_each_label,
    num_outputs,
    questions,
)

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

PREDICTED_CLASS = "the predicted class"
MAX_SUM_ERROR = 0.05  # probabilities rounded for a table may miss 1 by this much


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What is true, what was said and what was decided, for n cases and K questions.

    A binary task has one question (is it the positive label?); a multi-class task has one a class (this class
    against the rest, with one decision a case: the largest probability); a multi-label task has one a label.

    Attributes:
        truth: (n, K).
        scores: (n, K), probabilities in [0, 1].
        decisions: (n, K).
        labels: every label, also the negative one of a binary task.
        task: the kind of task.
        unknown: (n, K) of a multi-label task, where the truth is not known and counts in no figure; ``None`` where all
            of it is. ``truth`` is false there.
    """

    truth: Booleans
    scores: Floats
    decisions: Booleans
    labels: tuple[str, ...]
    task: LabelTask
    unknown: Booleans | None = None

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def traits(self) -> Traits:
        """What the task says of its labels."""
        return TASKS[self.task]

    @property
    def two_sided(self) -> bool:
        """Whether the task is binary and there are cases of both labels, so that a threshold can be judged."""
        return self.traits.paired and bool(self.answerable.all())

    @property
    def questions(self) -> tuple[str, ...]:
        """The label that each column asks for."""
        return questions(self.labels, self.task)

    @cached_property
    def known(self) -> Booleans:
        """(n, K): where the truth is known."""
        return np.ones_like(self.truth) if self.unknown is None else ~self.unknown

    @cached_property
    def absent(self) -> Booleans:
        """(n, K): where the label is known not to hold."""
        return self.known & ~self.truth

    @cached_property
    def wrong(self) -> Booleans:
        """(n, K): where the decision differs from a truth that is known."""
        return np.asarray((self.truth != self.decisions) & self.known)

    @property
    def right(self) -> Booleans:
        """(n,): whether no decision on a case is wrong."""
        return np.asarray(~np.asarray(self.wrong.any(axis=1)))

    @property
    def judged(self) -> tuple[str, ...]:
        """(Q,): what each column of ``confidence`` is the probability of."""
        return (PREDICTED_CLASS,) if self.traits.exclusive else self.questions

    def known_rows(self, column: int) -> Integers:
        """The cases of which the truth of a column is known: all of them in a multi-class task."""
        return np.flatnonzero(self.known[:, column])

    def column(self, column: int) -> tuple[Booleans, Floats]:
        """Truth and scores of one column, of the cases of which the truth is known."""
        rows = self.known_rows(column)
        return self.truth[rows, column], self.scores[rows, column]

    @cached_property
    def answerable(self) -> Booleans:
        """(K,): whether a column holds both cases and non-cases, without which it cannot be ranked."""
        return np.asarray(self.truth.any(axis=0) & self.absent.any(axis=0))

    @cached_property
    def confidence(self) -> Floats:
        """(n, Q): the probabilities whose calibration is judged: of the decided class in a multi-class task."""
        return self.scores.max(axis=1, keepdims=True) if self.traits.exclusive else self.scores

    @cached_property
    def outcome(self) -> Booleans:
        """(n, Q): what ``confidence`` is the probability of: that the decision is right in a multi-class task."""
        if not self.traits.exclusive:
            return self.truth
        return np.asarray((self.truth & self.decisions).any(axis=1, keepdims=True))

    @property
    def class_truth(self) -> Booleans:
        """(n, labels): the truth of every label, also of the negative one of a binary task."""
        return for_each_label(self.truth, self.task).astype(bool)

    @property
    def class_decisions(self) -> Booleans:
        """(n, labels): likewise of the decisions."""
        return for_each_label(self.decisions, self.task).astype(bool)

    @property
    def class_scores(self) -> Floats:
        """(n, labels): likewise of the probabilities."""
        return for_each_label(self.scores, self.task)

    def take(self, rows: Integers) -> Outcomes:
        """The same answers for some of the cases, in the order of ``rows``."""
        unknown = None if self.unknown is None else self.unknown[rows]
        return replace(
            self, truth=self.truth[rows], scores=self.scores[rows], decisions=self.decisions[rows], unknown=unknown
        )


def as_outcomes(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, *, labels: Sequence[str], task: LabelTask, threshold: Threshold = 0.5
) -> Outcomes:
    """Check truths and scores, and lay them out.

    Args:
        y_true: binary: (n,) or (n, 1) of 0 and 1. Multi-class: (n,) class indices or (n, C) one-hot.
            Multi-label: (n, C) of 0 and 1, NaN where it is not known.
        y_score: probabilities: binary (n,) or (n, 1), of the positive label; otherwise (n, C).
        labels: the label names in class order; binary: (negative, positive).
        task: ``"binary"``, ``"multi-class"`` or ``"multi-label"``.
        threshold: binary and multi-label: a score above it is a yes; of several labels also one for each. A multi-class
            decision is the largest score.

    Raises:
        EvaluationError: shapes, values or the number of labels do not fit each other.
    """
    names = tuple(str(label) for label in labels)
    columns = _columns(names, task)
    scores = _scores(y_score, columns, task)
    truth, unknown = _truth(y_true, columns, task)
    if len(truth) != len(scores):
        raise EvaluationError(
            f"There are {len(truth):,} truths and {len(scores):,} predictions; one of each a case is needed. Check "
            "that both come from the same rows of the same table."
        )
    if len(truth) == 0:
        raise EvaluationError(
            "There is no case to evaluate: the truths and predictions are empty. Give at least one row."
        )
    return Outcomes(truth, scores, decide(scores, task, threshold), names, task, unknown)


def _columns(labels: tuple[str, ...], task: LabelTask) -> int:
    known = [name for name, traits in TASKS.items() if traits.paired or traits.exclusive or name == "multi-label"]
    if task not in known:
        raise EvaluationError(f"The task '{task}' is not known; expected one of {', '.join(known)}.")
    if len(set(labels)) != len(labels):
        raise EvaluationError(
            f"The labels {list(labels)} name one label twice; each must be distinct. Rename or merge them."
        )
    if not fits_labels(len(labels), task):
        raise EvaluationError(
            f"A {task} task has {expected_labels(task)}, and {len(labels)} were given: {list(labels)}. Name every "
            "label, the negative one of a binary task first, or choose another task."
        )
    return num_outputs(len(labels), task)


def _scores(y_score: npt.ArrayLike, columns: int, task: LabelTask) -> Floats:
    scores = _numbers(y_score, "predictions")
    if scores.ndim == 1 and columns == 1:
        scores = scores[:, None]
    if scores.ndim != 2 or scores.shape[1] != columns:
        raise EvaluationError(
            f"The predictions of this {task} task have the shape {scores.shape}; expected (cases, {columns}), one "
            "probability a label. Check the label names and the columns of the predictions."
        )
    bad = ~np.isfinite(scores).all(axis=1)
    if bad.any():
        raise EvaluationError(
            f"{int(bad.sum()):,} of {len(scores):,} predictions are missing or not finite (the first is row "
            f"{int(bad.argmax())}); a probability is needed for each. Remove these rows or predict them again."
        )
    if scores.size and (scores.min() < 0 or scores.max() > 1):
        raise EvaluationError(
            f"The predictions range from {scores.min():.4g} to {scores.max():.4g}; expected probabilities between 0 "
            "and 1. Apply the sigmoid or softmax to logits first."
        )
    if TASKS[task].exclusive and len(scores):
        error = float(np.abs(scores.sum(axis=1) - 1).max())
        if error > MAX_SUM_ERROR:
            raise EvaluationError(
                f"The probabilities of one case must sum to 1 in a multi-class task, and a row misses it by "
                f"{error:.3g}. Apply the softmax, or choose the task 'multi-label' when several labels hold at once."
            )
    return scores


def _truth(y_true: npt.ArrayLike, columns: int, task: LabelTask) -> tuple[Booleans, Booleans | None]:
    """(n, columns) truths, and where they are not known; ``None`` where all are."""
    values, exclusive = _numbers(y_true, "truths"), TASKS[task].exclusive
    if exclusive and (values.ndim == 1 or values.shape[1:] == (1,)):
        return _one_hot(values.reshape(-1), columns), None
    if values.ndim == 1 and columns == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != columns:
        raise EvaluationError(
            f"The truths of this {task} task have the shape {values.shape}; expected (cases, {columns}). Check the "
            "label names and the columns of the truths."
        )
    unknown = np.isnan(values)
    if TASKS[task].multi_label:
        values = np.where(unknown, 0.0, values)
    if not np.isin(values, (0, 1)).all():
        found = sorted({float(value) for value in values[~np.isin(values, (0, 1))][:100]})[:5]
        raise EvaluationError(
            f"The truths hold {found}; expected only 0 and 1. Encode each label as 0 (no) or 1 (yes)."
        )
    truth = values.astype(bool)
    if exclusive and (truth.sum(axis=1) != 1).any():
        row = int((truth.sum(axis=1) != 1).argmax())
        raise EvaluationError(
            f"Row {row} of the truths has {int(truth[row].sum())} classes; in a multi-class task each case has exactly "
            "one. Correct the row, or choose the task 'multi-label'."
        )
    return truth, unknown if unknown.any() else None


def _one_hot(indices: Floats, columns: int) -> Booleans:
    valid = np.isin(indices, np.arange(columns))
    if not valid.all():
        row = int((~valid).argmax())
        raise EvaluationError(
            f"Row {row} of the truths holds {indices[row]:g}; expected a class index from 0 to {columns - 1}. Check "
            "the number of labels."
        )
    return np.asarray(indices[:, None] == np.arange(columns))


def _numbers(values: npt.ArrayLike | Any, what: str) -> Floats:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EvaluationError(
            f"The {what} are not numbers ({error}); give labels as indices or 0 and 1, scores as decimals."
        ) from error
