"""Where to draw the line between yes and no, and what that is worth: thresholds and decision curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.classification import few_patients
from hounsfield.evaluation.curves import roc_curve
from hounsfield.evaluation.gaps import mean_interval
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.outcomes import Booleans, Floats, Outcomes

Rule = Literal["half", "youden", "sensitivity", "specificity", "cost"]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it does on the cases that it was chosen on; a score above it is a yes."""

    threshold: float
    sensitivity: float
    specificity: float
    rule: str


def choose_threshold(
    truth: Booleans, scores: Floats, *, rule: Rule = "youden", target: float | None = None
) -> OperatingPoint:
    """Choose a threshold on validation cases.

    Args:
        truth: (n,) with cases of both kinds.
        scores: (n,).
        rule: ``"half"``: .5. ``"youden"``: the largest sensitivity + specificity. ``"sensitivity"``: the largest
            specificity among thresholds with at least the target sensitivity; ``"specificity"`` the reverse.
            ``"cost"``: the least cost, a missed case costing ``target`` times a false alarm.
        target: of the last three rules.

    Returns:
        The point; its threshold lies half-way between two scores, so that rounding does not move a case.

    Raises:
        EvaluationError: a target is missing or out of range, or all cases are of one kind.
    """
    if rule == "half":
        return _point(truth, scores, 0.5, rule)
    _check_target(rule, target)
    curve = roc_curve(truth, scores)
    sensitivity, specificity = curve.y, 1 - curve.x
    if rule == "youden":
        merit = sensitivity + specificity
    elif rule == "cost":
        positives = float(truth.mean())
        merit = -((1 - sensitivity) * positives * float(target or 0) + (1 - specificity) * (1 - positives))
    else:
        wanted, other = (sensitivity, specificity) if rule == "sensitivity" else (specificity, sensitivity)
        merit = np.where(wanted >= float(target or 0) - 1e-12, other, -np.inf)
    chosen = int(np.argmax(merit))
    name = rule if target is None else f"{rule} {target:g}"
    return _point(truth, scores, _halfway(curve.thresholds, chosen), name)


def label_thresholds(answers: Outcomes, start: Sequence[float]) -> tuple[float, ...]:
    """A threshold for each label of a multi-label task, chosen on validation cases.

    It is the one with the largest sensitivity + specificity, where that is better than ``start`` by more than a
    standard error of this sum; otherwise ``start`` stays, so that few cases do not move a threshold by chance. The
    shares of the standard error are those of Agresti and Coull with half a case more on either side, so that one
    positive case is not taken for certainty.

    Args:
        answers: K questions; a label without cases of both kinds keeps its start.
        start: (K,) thresholds that treat both kinds of error alike, as far as known without these cases.
    """
    chosen = []
    for column, first in enumerate(start):
        truth, scores = answers.column(column)
        if not answers.answerable[column]:
            chosen.append(first)
            continue
        best, plain = choose_threshold(truth, scores), _point(truth, scores, first, "start")
        gain = best.sensitivity + best.specificity - plain.sensitivity - plain.specificity
        error = np.hypot(_share_error(best.sensitivity, truth.sum()), _share_error(best.specificity, (~truth).sum()))
        chosen.append(min(max(best.threshold, 0.0), 1.0) if gain > error else first)
    return tuple(chosen)


def _share_error(share: float, count: int) -> float:
    smooth = (share * count + 0.5) / (count + 1)
    return float(np.sqrt(smooth * (1 - smooth) / (count + 1)))


def _check_target(rule: Rule, target: float | None) -> None:
    if rule == "youden":
        return
    if target is None:
        raise EvaluationError(f"The rule '{rule}' needs a target, and none was given. Say, for example, {rule} 0.9.")
    if target <= 0 or (rule != "cost" and target > 1):
        end = "" if rule == "cost" else " and at most 1"
        raise EvaluationError(f"The target of the rule '{rule}' is {target:g}; expected a number above 0{end}.")


def _halfway(thresholds: Floats, chosen: int) -> float:
    """Between the lowest score that is a yes and the next one below it; the ends go half-way to 1 and to 0."""
    upper = 1.0 if chosen == 0 else thresholds[chosen]
    lower = 0.0 if chosen + 1 == len(thresholds) else thresholds[chosen + 1]
    if chosen == 0:
        return float((max(upper, lower) + lower) / 2)
    return float((upper + lower) / 2) if upper > lower else -1.0  # only a score of 0 has nothing below it


def _point(truth: Booleans, scores: Floats, threshold: float, rule: str) -> OperatingPoint:
    decided = scores > threshold
    sensitivity = float(decided[truth].mean()) if truth.any() else np.nan
    specificity = float((~decided[~truth]).mean()) if not truth.all() else np.nan
    return OperatingPoint(threshold, sensitivity, specificity, rule)


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit against the threshold probability (Vickers, Elkin 2006).

    Attributes:
        thresholds: (m,) the probability at which one would act.
        model: (m,) net benefit of acting on the scores: TP/n − FP/n · t/(1 − t).
        everyone: (m,) of acting on every case; acting on no one has 0.
        low: (m,) lower end of the interval of ``model``, by patient; ``high`` the upper end.
        note: why the curve is unreliable; empty where it is not.
    """

    thresholds: Floats
    model: Floats
    everyone: Floats
    low: Floats
    high: Floats
    note: str = ""


def decision_curve(
    truth: Booleans,
    scores: Floats,
    thresholds: Sequence[float] | Floats | None = None,
    *,
    groups: npt.ArrayLike | None = None,
    confidence: float = 0.95,
) -> DecisionCurve:
    """Net benefit of using the scores, of treating everyone and (0) of treating no one.

    One acts on a score above the threshold, as decisions are made everywhere in Hounsfield. The interval is that of a
    mean over cases, Student's t by patient.

    Args:
        truth: (n,).
        scores: (n,) calibrated probabilities.
        thresholds: within (0, 1); by default .01 to .99.
        groups: (n,) patient of each case; ``None`` where each case is another patient.
        confidence: nominal coverage of the intervals.
    """
    at = np.linspace(0.01, 0.99, 99) if thresholds is None else np.asarray(thresholds, dtype=np.float64)
    if ((at <= 0) | (at >= 1)).any():
        raise EvaluationError(
            "The thresholds of a decision curve must lie strictly between 0 and 1. Leave out the others."
        )
    acted = scores[None, :] > at[:, None]
    odds = at / (1 - at)
    gains = np.where(acted, np.where(truth, 1.0, -odds[:, None]), 0.0)
    clusters = make_clusters(truth[:, None], groups)
    ends = np.array([mean_interval(gain, clusters, 0.0, confidence=confidence) for gain in gains]).reshape(-1, 2)
    everyone = truth.mean() - (1 - truth.mean()) * odds
    fewest = min(len(np.unique(clusters.of_case[kind])) for kind in (truth, ~truth))
    return DecisionCurve(at, gains.mean(axis=1), everyone, ends[:, 0], ends[:, 1], few_patients(fewest))
