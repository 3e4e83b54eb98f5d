"""How prediction sets did on a test: their coverage, and how much they leave open."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.conformal import ConformalSets, class_columns
from hounsfield.evaluation.intervals import Interval, make_clusters
from hounsfield.evaluation.outcomes import Booleans, Outcomes
from hounsfield.evaluation.proportions import clustered_proportion


@dataclass(frozen=True)
class ConformalReport:
    """How the sets did on a test.

    Attributes:
        coverage: share of cases whose set holds the true label, and its interval.
        by_class: the same within each true class; ``nan`` for a class without cases.
        mean_size: labels in a set, on average.
        single: share of sets of exactly one label; ``empty`` of none.
    """

    coverage: tuple[float, Interval]
    by_class: dict[str, tuple[float, Interval]]
    mean_size: float
    single: float
    empty: float


def judge_sets(
    conformal: ConformalSets, answers: Outcomes, *, groups: npt.ArrayLike | None = None, confidence: float = 0.95
) -> ConformalReport:
    """Measure coverage and size of the sets on test cases.

    Args:
        conformal: the sets.
        answers: of n test cases; binary or multi-class.
        groups: (n,) patient of each case; ``None`` where each case is another patient.
        confidence: nominal coverage of the intervals.

    Raises:
        EvaluationError: the task is multi-label, or there is not one patient a case.
    """
    truth, _ = class_columns(answers)
    sets = conformal.sets(answers.scores, answers.task)
    held: Booleans = np.asarray((sets & truth).any(axis=1))
    clusters = make_clusters(answers.truth, groups)

    def share(base: Booleans) -> tuple[float, Interval]:
        value = float(held[base].mean()) if base.any() else math.nan
        return value, clustered_proportion(held, base, clusters, confidence=confidence)

    size = sets.sum(axis=1)
    return ConformalReport(
        coverage=share(np.ones(len(held), dtype=np.bool_)),
        by_class={label: share(truth[:, index]) for index, label in enumerate(answers.labels)},
        mean_size=float(size.mean()),
        single=float((size == 1).mean()),
        empty=float((size == 0).mean()),
    )
