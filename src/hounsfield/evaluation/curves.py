"""Confusion matrices, ROC curves and precision-recall curves as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.outcomes import Booleans, Floats, Integers, Outcomes


def confusion_matrix(answers: Outcomes) -> Integers:
    """Counts of cases, truth by decision.

    Returns:
        (C, C) in label order, rows the truth, columns the decision; of a multi-label task (K, 2, 2), one a label.
    """
    if not answers.traits.multi_label:
        return np.asarray(answers.class_truth.astype(np.int64).T @ answers.class_decisions.astype(np.int64))
    tables = [
        np.bincount((2 * truth + decided)[known], minlength=4).reshape(2, 2)
        for truth, decided, known in zip(
            answers.truth.T.astype(np.int64), answers.decisions.T.astype(np.int64), answers.known.T, strict=True
        )
    ]
    return np.stack(tables)


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve over thresholds, from the highest to the lowest.

    Attributes:
        x: false positive rate, or recall.
        y: true positive rate, or precision.
        thresholds: a score at or above it is a yes; the first is infinite, where nothing is.
    """

    x: Floats
    y: Floats
    thresholds: Floats


def roc_curve(truth: Booleans, scores: Floats) -> Curve:
    """True against false positive rate at each distinct score, from (0, 0) to (1, 1).

    Args:
        truth: (n,) with cases of both kinds.
        scores: (n,).

    Raises:
        EvaluationError: every case is of one kind.
    """
    found, called, thresholds = _cumulative(truth, scores)
    if found[-1] in {0, called[-1]}:
        raise EvaluationError(
            "A ROC curve needs cases with and without the label; all cases are of one kind. Use other data."
        )
    return Curve((called - found) / (called[-1] - found[-1]), found / found[-1], thresholds)


def precision_recall_curve(truth: Booleans, scores: Floats) -> Curve:
    """Precision (y) against recall (x) at each distinct score; the precision of no decision is 1.

    Args:
        truth: (n,) with at least one case that has the label.
        scores: (n,).

    Raises:
        EvaluationError: no case has the label.
    """
    found, called, thresholds = _cumulative(truth, scores)
    if found[-1] == 0:
        raise EvaluationError(
            "A precision-recall curve needs cases that have the label; there is none. Use other data."
        )
    precision = np.divide(found, called, out=np.ones_like(found), where=called > 0)
    return Curve(found / found[-1], precision, thresholds)


def _cumulative(truth: Booleans, scores: Floats) -> tuple[Floats, Floats, Floats]:
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], truth[order].astype(np.float64)
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    found, called = np.cumsum(hits)[ends], (ends + 1).astype(np.float64)
    return np.append(0.0, found), np.append(0.0, called), np.append(np.inf, ordered[ends])
