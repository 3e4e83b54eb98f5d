"""Sets of labels that hold the true one with a promised probability, whatever the network (split conformal)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.outcomes import Booleans, Floats, Outcomes
from hounsfield.tasks import LabelTask, for_each_label


@dataclass(frozen=True)
class ConformalSets:
    """Which probabilities are large enough for a label to stay possible.

    A label is in the set when 1 − its probability is at most the threshold (the score of Sadinle, Lei, Wasserman
    2019). The promise, coverage over new cases that are exchangeable with the calibration cases, holds whatever the
    network and the distribution (Vovk 2005; Angelopoulos, Bates 2023, section 1).

    Attributes:
        labels: the C labels, also the negative one of a binary task.
        coverage: what was asked for, such as .9.
        thresholds: (C,) one a label; all alike unless fitted by class. Infinite where too few cases were there to
            promise anything, so that the label is in every set.
        by_class: whether the promise holds within each true class, not only over all cases.
    """

    labels: tuple[str, ...]
    coverage: float
    thresholds: tuple[float, ...]
    by_class: bool

    @classmethod
    def fit(cls, answers: Outcomes, *, coverage: float = 0.9, by_class: bool = False) -> Self:
        """Find the thresholds on cases that the network was not trained on.

        Args:
            answers: binary or multi-class cases.
            coverage: how often the set shall hold the true label, strictly between 0 and 1.
            by_class: promise it within each true class (Vovk 2012), at the price of larger sets.

        Raises:
            EvaluationError: the coverage is out of range, or the task is multi-label.
        """
        if not 0 < coverage < 1:
            raise EvaluationError(
                f"The coverage is {coverage:g}; expected a share strictly between 0 and 1, such as 0.9."
            )
        truth, scores = class_columns(answers)
        misfit = 1 - scores[truth]
        if not by_class:
            return cls(
                answers.labels, coverage, (finite_sample_quantile(misfit, coverage),) * len(answers.labels), by_class
            )
        known = truth.argmax(axis=1)
        thresholds = tuple(
            finite_sample_quantile(misfit[known == index], coverage) for index in range(len(answers.labels))
        )
        return cls(answers.labels, coverage, thresholds, by_class)

    def sets(self, scores: Floats, task: LabelTask) -> Booleans:
        """(n, C): whether each label is possible for each case, from (n, 1) or (n, C) probabilities."""
        return np.asarray(1 - for_each_label(scores, task) <= np.array(self.thresholds))

    def to_dict(self) -> dict[str, Any]:
        """The form that a bundle stores; an infinite threshold becomes ``null``."""
        thresholds = [value if math.isfinite(value) else None for value in self.thresholds]
        return {
            "labels": list(self.labels),
            "coverage": self.coverage,
            "thresholds": thresholds,
            "by_class": self.by_class,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """The sets that ``to_dict`` wrote."""
        thresholds = tuple(math.inf if value is None else float(value) for value in stored["thresholds"])
        return cls(tuple(stored["labels"]), float(stored["coverage"]), thresholds, bool(stored["by_class"]))


def class_columns(answers: Outcomes) -> tuple[Booleans, Floats]:
    """Truth and probability of every class, (n, C) each, also of the negative one of a binary task.

    Raises:
        EvaluationError: the task is multi-label.
    """
    if answers.traits.multi_label:
        raise EvaluationError(
            "Conformal sets are made for tasks with one true label a case, and this one is multi-label. Take one label "
            "at a time, as a binary task."
        )
    return answers.class_truth, answers.class_scores


def finite_sample_quantile(misfit: Floats, coverage: float) -> float:
    """The ⌈(n + 1) coverage⌉-th smallest of n misfits, infinite where n is too small to have one.

    A new, exchangeable case has a misfit of at most this with the probability ``coverage`` or more (Vovk 2005).
    """
    rank = math.ceil((len(misfit) + 1) * coverage - 1e-9)
    return float(np.sort(misfit)[rank - 1]) if rank <= len(misfit) else math.inf
