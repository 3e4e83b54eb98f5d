"""When it is better not to answer: risk against coverage, and the confidence below which to abstain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.answers import Answers, Booleans, Floats


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The error among the cases that are answered, as ever less sure ones are answered too.

    Attributes:
        coverage: (m,) share of cases answered, rising to 1.
        risk: (m,) share of the answered cases that are wrong.
        confidence: (m,) the least confidence that is answered.
    """

    coverage: Floats
    risk: Floats
    confidence: Floats

    @property
    def area(self) -> float:
        """Mean risk over coverage (AURC; Geifman, El-Yaniv 2017), each answered case one step: smaller is better."""
        return float(np.sum(self.risk * np.diff(self.coverage, prepend=0.0)))


def decision_confidence(answers: Answers, threshold: float = 0.5) -> tuple[Floats, Booleans]:
    """How sure each decision is, and whether it is right: two arrays (n,).

    Multi-class: the largest probability. Binary: how far the score lies from the threshold, as a share of the way to
    the end on its side. Multi-label: the least sure of its labels, right when all are.
    """
    if answers.task == "multi-class":
        return answers.scores.max(axis=1), answers.outcome[:, 0]
    distance = answers.scores - threshold
    side = np.where(distance > 0, max(1 - threshold, 1e-12), max(threshold, 1e-12))
    return (np.abs(distance) / side).min(axis=1), (answers.truth == answers.decisions).all(axis=1)


def risk_coverage(confidence: Floats, right: Booleans) -> RiskCoverage:
    """The selective-prediction curve, one point a distinct confidence.

    Args:
        confidence: (n,) larger is surer.
        right: (n,) whether the decision is right.
    """
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    wrong = np.cumsum(~right[order])[ends]
    return RiskCoverage((ends + 1) / len(order), wrong / (ends + 1), confidence[order][ends])


def abstention_threshold(confidence: Floats, right: Booleans, max_risk: float) -> float:
    """The least confidence to answer at so that, on these cases, the risk stays at or below ``max_risk``.

    Raises:
        EvaluationError: even the surest cases are wrong more often.
    """
    curve = risk_coverage(confidence, right)
    allowed = np.flatnonzero(curve.risk <= max_risk)
    if not len(allowed):
        raise EvaluationError(
            f"A risk of {max_risk:g} cannot be had by abstaining: the lowest found is {curve.risk.min():.3g}. "
            "Allow more risk."
        )
    return float(curve.confidence[allowed[-1]])
