"""What a bundle promises of new cases (the coverage of label sets, the risk of answers), measured on a test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.conformal_report import judge_sets
from hounsfield.evaluation.intervals import Interval, make_clusters
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.evaluation.proportions import clustered_proportion
from hounsfield.evaluation.selective import decision_confidence
from hounsfield.evaluation.uncertainty import CERTAINTY, Uncertainty
from hounsfield.tasks import Threshold

COVERAGE = 0.9
MAX_RISK = 0.05
ANSWERED = "Answered when told to abstain"


@dataclass(frozen=True)
class Promise:
    """One promise and what the test found.

    Attributes:
        name: what is promised, as a row of a table.
        promised: in words, such as "at least 0.90"; empty where nothing is promised.
        value: what was found; ``nan`` where there was nothing to measure.
        interval: of it.
        cases: that it rests on.
        broken: whether the promise lies outside the interval, on its wrong side.
    """

    name: str
    promised: str
    value: float
    interval: Interval
    cases: int
    broken: bool = False

    def text(self) -> str:
        """The row as a sentence."""
        ends = f" ({self.interval.low:.2f} to {self.interval.high:.2f})" if math.isfinite(self.interval.low) else ""
        told = f"; {self.promised} was promised" if self.promised else ""
        return f"{self.name}: {self.value:.2f}{ends} of {self.cases:,} cases{told}."


def measured_promises(
    kept: Uncertainty, answers: Outcomes, *, threshold: Threshold = 0.5, groups: npt.ArrayLike | None = None
) -> tuple[Promise, ...]:
    """Sets of labels at a coverage of .9, overall and within each true class, and answers at a risk of .05.

    Args:
        kept: what the bundle knows of validation cases.
        answers: of a test, with the bundle's probabilities.
        threshold: of the bundle.
        groups: (n,) patient of each case; ``None`` where each case is another patient.
    """
    return (*_sets(kept, answers, groups), *_answers(kept, answers, threshold, groups))


def _sets(kept: Uncertainty, answers: Outcomes, groups: npt.ArrayLike | None) -> tuple[Promise, ...]:
    if answers.traits.multi_label:
        return ()
    conformal = kept.conformal(answers.labels, answers.task, coverage=COVERAGE)
    found = judge_sets(conformal, answers, groups=groups)
    value, ends = found.coverage
    promise = f"at least {COVERAGE:.2f}"
    rows = [Promise("Label sets hold the true label", promise, value, ends, len(answers), ends.high < COVERAGE)]
    for index, (label, (share, limits)) in enumerate(found.by_class.items()):
        cases = int(answers.class_truth[:, index].sum())
        if cases:
            rows.append(Promise(f"Label sets hold '{label}' where it is true", "", share, limits, cases))
    return tuple(rows)


def _answers(
    kept: Uncertainty, answers: Outcomes, threshold: Threshold, groups: npt.ArrayLike | None
) -> tuple[Promise, ...]:
    try:
        least = kept.least_confidence(answers.labels, answers.task, threshold=threshold, max_risk=MAX_RISK)
    except EvaluationError:
        return ()  # too few validation cases to promise this risk: predict refuses it too
    confidence, right = decision_confidence(answers, threshold)
    answered = confidence >= least
    clusters = make_clusters(answers.truth, groups)
    every = np.ones(len(answers), dtype=np.bool_)
    share = clustered_proportion(answered, every, clusters)
    rows = [Promise(ANSWERED, "", float(answered.mean()), share, len(answers))]
    if answered.any():
        wrong, ends = float((~right[answered]).mean()), clustered_proportion(~right & answered, answered, clusters)
        promise = f"at most {MAX_RISK:.2f} (with {CERTAINTY:.0%} certainty)"
        rows.append(Promise("Wrong among the answered", promise, wrong, ends, int(answered.sum()), ends.low > MAX_RISK))
    return tuple(rows)


def promises_caution(promises: tuple[Promise, ...], what: str) -> str:
    """What a reader must know of promises that did not hold; empty where all did."""
    broken = [promise.text() for promise in promises if promise.broken]
    if not broken:
        return ""
    return (
        f"{' '.join(broken)} Such promises hold for cases like the validation images, and the {what} differ from them."
    )
