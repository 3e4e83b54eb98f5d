"""Equal opportunity: what one threshold does to each group, and what threshold would treat its cases as all others'.

Hardt, Price, Srebro 2016, "Equality of opportunity in supervised learning": a decision gives equal opportunity where
its sensitivity is the same in every group. Thresholds of groups that are read off the evaluated cases describe a
trade-off; thresholds for use are chosen on validation cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hounsfield.evaluation.group_figures import GROUP_METRICS, Question, too_small
from hounsfield.evaluation.operating import choose_threshold
from hounsfield.evaluation.outcomes import Integers, Outcomes
from hounsfield.evaluation.proportions import clustered_proportion
from hounsfield.evaluation.subgroups import Attribute


@dataclass(frozen=True)
class Opportunity:
    """One group at the common threshold, and at the one that would give its cases the sensitivity of all.

    Attributes:
        attribute: the column; ``level`` is the group.
        question: the label that is asked for.
        sensitivity: at the common threshold, with ``sensitivity_low`` and ``sensitivity_high``.
        specificity: at the common threshold.
        threshold: at which the group has at least the sensitivity that all cases have at the common one.
        specificity_there: at that threshold, with ``specificity_low`` and ``specificity_high``.
    """

    attribute: str
    level: str
    question: str
    sensitivity: float
    sensitivity_low: float
    sensitivity_high: float
    specificity: float
    threshold: float
    specificity_there: float
    specificity_low: float
    specificity_high: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def equal_opportunity(
    answers: Outcomes, attributes: Sequence[Attribute], of_case: Integers, *, confidence: float = 0.95
) -> Iterator[Opportunity]:
    """Every group of every attribute that has enough cases and non-cases; nothing for a task without thresholds.

    Args:
        answers: of n cases; the common threshold is the one that their decisions were made with.
        attributes: the groups.
        of_case: (n,) the patient of each case.
        confidence: nominal coverage of the intervals.
    """
    if answers.traits.exclusive:
        return
    for column, label in enumerate(answers.questions):
        question = Question.of(answers, column, of_case)
        if not question.truth.any():
            continue
        wanted = float(question.decisions[question.truth].mean())
        for attribute in attributes:
            for code, level in enumerate(attribute.levels):
                part = question.take(question.among(attribute.codes == code))
                if not too_small(GROUP_METRICS["auc"], part) and wanted > 0:
                    yield _row(attribute.name, level, label, part, wanted, confidence)


def _row(attribute: str, level: str, label: str, part: Question, wanted: float, confidence: float) -> Opportunity:
    chosen = choose_threshold(part.truth, part.scores, rule="sensitivity", target=wanted)
    clusters = part.clusters
    now = clustered_proportion(part.decisions, part.truth, clusters, confidence=confidence)
    left = part.scores <= chosen.threshold
    there = clustered_proportion(left, ~part.truth, clusters, confidence=confidence)
    return Opportunity(
        attribute,
        level,
        label,
        float(part.decisions[part.truth].mean()),
        *now,
        float((~part.decisions[~part.truth]).mean()),
        chosen.threshold,
        float(left[~part.truth].mean()),
        *there,
    )
