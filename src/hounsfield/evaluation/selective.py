"""When it is better not to answer: risk against coverage, and the confidence below which to abstain."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

import numpy as np

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.outcomes import Booleans, Floats, Integers, Outcomes
from hounsfield.tasks import Threshold

# Shares of the cases that may be answered, among which a promise is sought.
COVERAGES = tuple(share / 20 for share in range(1, 21))


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


def decision_confidence(answers: Outcomes, threshold: Threshold = 0.5) -> tuple[Floats, Booleans]:
    """How sure each decision is, and whether it is right: two arrays (n,).

    Multi-class: the largest probability. Binary: how far the score lies from the threshold, as a share of the way to
    the end on its side. Multi-label: the least sure of its labels, right when all are
    whose truth is known.
    """
    if answers.traits.exclusive:
        return answers.scores.max(axis=1), answers.right
    limit = np.asarray(threshold)
    distance = answers.scores - limit
    side = np.where(distance > 0, np.maximum(1 - limit, 1e-12), np.maximum(limit, 1e-12))
    return (np.abs(distance) / side).min(axis=1), answers.right


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


def abstention_threshold(
    confidence: Floats,
    right: Booleans,
    max_risk: float,
    *,
    certainty: float | None = None,
    patients: Integers | None = None,
) -> float:
    """The least confidence to answer at so that the risk stays at or below ``max_risk``.

    Args:
        confidence: (n,) larger is surer.
        right: (n,) whether the decision is right.
        max_risk: share of wrong answers that is accepted.
        certainty: how sure it shall be that the risk holds for new cases of the same kind too: the exact binomial
            bound, at twenty coverages from 5 to 100 % together (Bonferroni; after Geifman, El-Yaniv 2017). ``None``:
            it holds on these cases, and by chance about as often not as yes on new ones.
        patients: (n,) codes from 0; with ``certainty``, the cases of one patient then count as one.

    Raises:
        EvaluationError: the risk is out of range, or cannot be had or promised.
    """
    if not 0 < max_risk < 1:
        raise EvaluationError(f"The accepted risk is {max_risk:g}; expected a share strictly between 0 and 1, as 0.05.")
    if certainty is not None:
        return _promised(confidence, right, max_risk, certainty, patients)
    curve = risk_coverage(confidence, right)
    allowed = np.flatnonzero(curve.risk <= max_risk)
    if not len(allowed):
        raise EvaluationError(
            f"A risk of {max_risk:g} cannot be had by abstaining: {_lowest(float(curve.risk.min()), len(right))}. "
            "Allow more risk."
        )
    return float(curve.confidence[allowed[-1]])


def _promised(
    confidence: Floats, right: Booleans, max_risk: float, certainty: float, patients: Integers | None
) -> float:
    """The least confidence whose upper bound of the risk is low enough."""
    bounds = {}
    # Loaded when it is needed: a prediction that never abstains needs none of it.
    special = importlib.import_module("scipy.special")
    for coverage in COVERAGES:
        least = float(np.quantile(confidence, 1 - coverage, method="higher"))
        answered = confidence >= least
        count = float(answered.sum()) if patients is None else float(len(np.unique(patients[answered])))
        wrong = float((~right[answered]).mean()) * count
        # Clopper and Pearson's upper bound, for effective numbers that need not be whole.
        tail = (1 - certainty) / len(COVERAGES)
        bounds[least] = float(special.betaincinv(wrong + 1, count - wrong, 1 - tail)) if wrong < count else 1.0
    promised = [least for least, bound in bounds.items() if bound <= max_risk]
    if not promised:
        raise EvaluationError(
            f"A risk of {max_risk:g} cannot be promised with a certainty of {certainty:g}: "
            f"{_lowest(min(bounds.values()), len(right))}. Allow more risk, or validate on more cases."
        )
    return min(promised)


def _lowest(risk: float, num_cases: int) -> str:
    """The lowest risk that cases allow, in words: rounded up, so that what is said is allowed too."""
    rounded = Decimal(str(risk)).quantize(Decimal("0.001"), rounding=ROUND_CEILING)
    cases = f"{num_cases:,} {'case allows' if num_cases == 1 else 'cases allow'}"
    return f"the lowest that {cases} is {rounded}" if rounded < 1 else f"{cases} none below 0.999"
