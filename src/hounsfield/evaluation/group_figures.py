"""The figures by which groups are compared: what each is in a group, and what its difference to other cases is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from scipy import special, stats

from hounsfield.evaluation.classification import Estimate
from hounsfield.evaluation.delong import auc_estimate
from hounsfield.evaluation.gaps import Comparable, Contrast, difference_interval, mean_interval
from hounsfield.evaluation.intervals import Clusters, Interval, renumbered
from hounsfield.evaluation.metrics import equal_mass_bins
from hounsfield.evaluation.outcomes import Booleans, Floats, Integers, Outcomes
from hounsfield.evaluation.proportions import clustered_proportion

LEAST_PATIENTS = 10  # of each kind that a figure rests on, in the group and outside it
CALIBRATION_STRATA = 10
Kind = Literal["cases", "non-cases", "all"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, eq=False)
class Question:
    """One yes-or-no question asked of n cases.

    Attributes:
        truth: (n,) whether the answer is yes.
        scores: (n,) its probability.
        decisions: (n,) what was decided.
        of_case: (n,) the patient of each case.
        rows: (n,) which of all answers these cases are; ``None`` for all of them.
    """

    truth: Booleans
    scores: Floats
    decisions: Booleans
    of_case: Integers
    rows: Integers | None = None

    @classmethod
    def of(cls, answers: Outcomes, column: int, of_case: Integers) -> Question:
        """One column of answers, of the cases of which the truth is known."""
        if answers.unknown is None:
            return cls(answers.truth[:, column], answers.scores[:, column], answers.decisions[:, column], of_case)
        rows = answers.known_rows(column)
        part = answers.take(rows)
        return cls(part.truth[:, column], part.scores[:, column], part.decisions[:, column], of_case[rows], rows)

    def among(self, members: Booleans) -> Booleans:
        """(n,) which of these cases are in a group, from the same of all answers."""
        return members if self.rows is None else members[self.rows]

    def take(self, rows: Booleans) -> Question:
        """The same of some cases."""
        return Question(self.truth[rows], self.scores[rows], self.decisions[rows], self.of_case[rows])

    @cached_property
    def clusters(self) -> Clusters:
        """The patients of these cases, in one stratum."""
        return clusters_of(self.of_case)

    def kind(self, name: Kind) -> Booleans:
        """(n,) which cases are of a kind."""
        return {"cases": self.truth, "non-cases": ~self.truth, "all": np.ones_like(self.truth)}[name]

    def comparable(self, name: str) -> Comparable:
        """What is exchangeable by a key of ``GROUP_METRICS``; made once, since many groups are compared by it."""
        if name not in self._comparables:
            self._comparables[name] = GROUP_METRICS[name].comparable(self)
        return self._comparables[name]

    @cached_property
    def _comparables(self) -> dict[str, Comparable]:
        return {}

    @cached_property
    def patients(self) -> dict[Kind, int]:
        """How many patients have a case of each kind."""
        return {name: renumbered(self.of_case[self.kind(name)])[1] for name in KINDS}


@dataclass(frozen=True)
class GroupMetric:
    """A figure of a group.

    Attributes:
        title: how a table calls it.
        least: a difference smaller than this is not reported, however sure it is.
        rests_on: the kinds of case that the group and the others need.
        estimate: its value and interval in some cases; ``None`` for a figure that only compares.
        comparable: what is exchangeable where groups are treated alike.
    """

    title: str
    least: float
    rests_on: tuple[Kind, ...]
    estimate: Callable[[Question, float], tuple[float, Interval, str]] | None
    comparable: Callable[[Question], Comparable]


def clusters_of(of_case: Integers) -> Clusters:
    """The patients that some cases belong to, numbered anew, in one stratum."""
    codes, count = renumbered(of_case)
    return Clusters(codes, np.zeros(count, dtype=np.int64))


def figure(metric: GroupMetric, question: Question, confidence: float) -> Estimate | None:
    """A group's own figure with its interval, and a note where the group is too small to judge by it."""
    if metric.estimate is None:
        return None
    count = int(sum(question.kind(kind).sum() for kind in metric.rests_on))
    missing = [kind for kind in metric.rests_on if not question.kind(kind).any()]
    if missing:
        return Estimate(math.nan, math.nan, math.nan, count, note=f"no {' and no '.join(missing)} in the group")
    value, interval, method = metric.estimate(question, confidence)
    return Estimate(value, interval.low, interval.high, count, method, too_small(metric, question))


def too_small(metric: GroupMetric, question: Question) -> str:
    """Why some cases are too few to judge a figure by; empty where they are enough."""
    counts = {kind: question.patients[kind] for kind in metric.rests_on}
    few = [
        f"{count} patient{'' if count == 1 else 's'}{'' if kind == 'all' else f' with {kind}'}"
        for kind, count in counts.items()
        if count < LEAST_PATIENTS
    ]
    return f"too small to judge: {' and '.join(few)}; at least {LEAST_PATIENTS} are needed" if few else ""


@dataclass(frozen=True)
class Measured:
    """The difference of a figure between a group and other cases, with its interval, and the figure of either."""

    value: float
    interval: Interval
    inside: float = math.nan
    outside: float = math.nan


def measure(metric: GroupMetric, question: Question, group: Booleans, tested: Contrast, confidence: float) -> Measured:
    """The size of a difference that was tested.

    Args:
        metric: the figure.
        question: the group's cases and those that it is compared with.
        group: (n,) whether a case belongs to the group.
        tested: the outcome of the test; the calibration's difference is the one between cases of about the same
            probability, as the test has it.
        confidence: nominal coverage of the interval.
    """
    if metric.estimate is None:
        return _score_shift(metric, question, group, confidence)
    value, inside, _ = metric.estimate(question.take(group), confidence)
    other, outside, _ = metric.estimate(question.take(~group), confidence)
    if metric.rests_on == ("all",):
        half = float(special.ndtri((1 + confidence) / 2)) * tested.error
        return Measured(tested.value, Interval(tested.value - half, tested.value + half), value, other)
    return Measured(value - other, difference_interval(value, inside, other, outside), value, other)


def _score_shift(metric: GroupMetric, question: Question, group: Booleans, confidence: float) -> Measured:
    """How often a case of the group scores above another one, minus one half, with DeLong's interval."""
    part = question.kind(metric.rests_on[0])
    member, of_case = group[part], question.of_case[part]
    clusters = clusters_of(of_case)
    value, interval = auc_estimate(member[:, None], question.scores[part, None], clusters, confidence=confidence)
    return Measured(value - 0.5, Interval(interval.low - 0.5, interval.high - 0.5))


def _auc(question: Question, confidence: float) -> tuple[float, Interval, str]:
    truth, scores = question.truth[:, None], question.scores[:, None]
    return *auc_estimate(truth, scores, question.clusters, confidence=confidence), "DeLong, logit scale"


def _share(question: Question, hits: Booleans, base: Booleans, confidence: float) -> tuple[float, Interval, str]:
    interval = clustered_proportion(hits, base, question.clusters, confidence=confidence)
    return float(hits[base].mean()), interval, "Wilson"


def _sensitivity(question: Question, confidence: float) -> tuple[float, Interval, str]:
    return _share(question, question.decisions, question.truth, confidence)


def _specificity(question: Question, confidence: float) -> tuple[float, Interval, str]:
    return _share(question, ~question.decisions, ~question.truth, confidence)


def _calibration(question: Question, confidence: float) -> tuple[float, Interval, str]:
    residual = question.truth - question.scores
    least = float(np.sum(question.scores * (1 - question.scores))) / len(residual) ** 2
    interval = mean_interval(residual, question.clusters, least, confidence=confidence)
    return float(residual.mean()), interval, "Student's t by patient"


def _placements(question: Question) -> Comparable:
    """How often each case scores above the non-cases, each non-case below the cases: they average to the AUC."""
    truth, scores = question.truth, question.scores
    ranks = stats.rankdata(scores)
    placed = np.empty(len(scores))
    placed[truth] = (ranks[truth] - stats.rankdata(scores[truth])) / max(1, int((~truth).sum()))
    placed[~truth] = 1 - (ranks[~truth] - stats.rankdata(scores[~truth])) / max(1, int(truth.sum()))
    return Comparable(placed, truth.astype(np.int64), summed=True)


def _among(question: Question, values: Floats, kind: Kind) -> Comparable:
    return Comparable(values, np.where(question.kind(kind), 0, -1))


def _ranked(question: Question, kind: Kind) -> Comparable:
    part = question.kind(kind)
    ranks = np.zeros(len(part))
    ranks[part] = stats.rankdata(question.scores[part]) / max(1, int(part.sum()))
    return _among(question, ranks, kind)


def _residuals(question: Question) -> Comparable:
    """Outcome minus probability, among cases of about the same probability."""
    return Comparable(
        question.truth - question.scores, equal_mass_bins(question.scores, CALIBRATION_STRATA), summed=False
    )


GROUP_METRICS: dict[str, GroupMetric] = {
    "auc": GroupMetric("AUC", 0.05, ("cases", "non-cases"), _auc, _placements),
    "sensitivity": GroupMetric(
        "Sensitivity", 0.05, ("cases",), _sensitivity, lambda q: _among(q, q.decisions.astype(np.float64), "cases")
    ),
    "specificity": GroupMetric(
        "Specificity",
        0.05,
        ("non-cases",),
        _specificity,
        lambda q: _among(q, (~q.decisions).astype(np.float64), "non-cases"),
    ),
    "calibration": GroupMetric("Calibration in the large", 0.05, ("all",), _calibration, _residuals),
    "case_scores": GroupMetric("Scores of cases", 0.1, ("cases",), None, lambda q: _ranked(q, "cases")),
    "non_case_scores": GroupMetric("Scores of non-cases", 0.1, ("non-cases",), None, lambda q: _ranked(q, "non-cases")),
}
