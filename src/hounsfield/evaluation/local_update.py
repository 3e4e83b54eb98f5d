"""Adjusting a network's probabilities to another place by labelled cases of it: logistic recalibration.

The intercept, or intercept and slope of the log odds are fitted (Cox 1958; Steyerberg et al. 2004, "Validation and
updating of predictive logistic regression models"). The order of the cases stays, and so does the AUC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.calibration import logistic_fit
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.outcomes import Booleans, Floats, Outcomes
from hounsfield.evaluation.scaling import Platt, Scaling, Temperature, Unscaled, logits_of
from hounsfield.tasks import decide

# Patients of the rarer kind from which the slope is fitted too, and below which nothing is.
FOR_SLOPE, FOR_INTERCEPT = 20, 10
NUM_FOLDS = 5


@dataclass(frozen=True, eq=False)
class LocalUpdate:
    """A scaling that was fitted on local cases.

    Attributes:
        scaling: of the network's own probabilities, fitted on all cases.
        held_out: (n, K) what each case would get, fitted without its fold; figures on them are not flattered.
        fitted: label → "slope and intercept", or "intercept".
    """

    scaling: Platt
    held_out: Floats
    fitted: dict[str, str]


def fit_local(
    answers: Outcomes, scaling: Scaling, *, groups: npt.ArrayLike | None = None, seed: int = 0
) -> LocalUpdate:
    """Fit slope and intercept of each label; the intercept alone where fewer than 20 patients are of the rarer kind.

    Args:
        answers: local cases with the network's own probabilities; binary or multi-label.
        scaling: in use until now.
        groups: (n,) patient of each case; ``None`` where each case is another patient.
        seed: of the folds.

    Raises:
        EvaluationError: the task is multi-class, or a label has fewer than ten patients of a kind.
    """
    if answers.traits.exclusive:
        raise EvaluationError(
            "Local recalibration is for tasks with two labels, or several that may hold at once; this one is "
            "multi-class. Train on local images, or take one label at a time."
        )
    of_case = make_clusters(answers.truth, groups).of_case
    columns = range(len(answers.questions))
    kinds = [_kind(answers, column, of_case, scaling) for column in columns]
    every = np.arange(len(answers))
    fitted = [_fit(answers, column, every, kind, scaling) for column, kind in zip(columns, kinds, strict=True)]
    fold_of = (np.random.default_rng(seed).permutation(int(of_case.max()) + 1) % NUM_FOLDS)[of_case]
    held_out = np.array(answers.scores, dtype=np.float64)
    for fold in np.unique(fold_of):
        inside, outside = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)
        for column, kind in zip(columns, kinds, strict=True):
            slope, intercept = _fit(answers, column, outside, kind, scaling)
            logits = logits_of(answers.scores[inside, column], "binary")
            held_out[inside, column] = special.expit(slope * logits + intercept)
    slopes, intercepts = zip(*fitted, strict=True)
    return LocalUpdate(Platt(slopes, intercepts), held_out, dict(zip(answers.questions, kinds, strict=True)))


def _kind(answers: Outcomes, column: int, of_case: npt.NDArray[np.int64], scaling: Scaling) -> str:
    """What so many patients allow to fit."""
    present, absent = answers.truth[:, column], answers.absent[:, column]
    fewest = min(len(np.unique(of_case[kind])) for kind in (present, absent))
    name = answers.questions[column]
    if fewest < FOR_INTERCEPT:
        raise EvaluationError(
            f"'{name}' has {fewest} patients of the rarer kind; at least {FOR_INTERCEPT} are needed to recalibrate. "
            "Add labelled cases."
        )
    if fewest >= FOR_SLOPE:
        return "slope and intercept"
    if not isinstance(scaling, Unscaled | Temperature | Platt):
        raise EvaluationError(
            f"'{name}' has {fewest} patients of the rarer kind; a bundle with {scaling.name} scaling needs at least "
            f"{FOR_SLOPE}. Add labelled cases."
        )
    return "intercept"


def _fit(
    answers: Outcomes, column: int, rows: npt.NDArray[np.int64], kind: str, scaling: Scaling
) -> tuple[float, float]:
    """Slope and intercept on the network's own log odds, from some of the cases."""
    chosen = rows[answers.known[rows, column]]
    outcome: Booleans = answers.truth[chosen, column]
    logits = logits_of(answers.scores[chosen, column], "binary")
    slope, shift = affine(scaling, column)
    if outcome.all() or not outcome.any() or np.ptp(logits) == 0:
        return slope, shift
    clusters = make_clusters(outcome[:, None])
    if kind == "intercept":
        large, _ = logistic_fit(np.ones((len(logits), 1)), outcome, clusters, offset=slope * logits + shift)
        return slope, shift + float(large[0])
    if logits[outcome].min() >= logits[~outcome].max():
        raise EvaluationError(
            f"The probabilities of '{answers.questions[column]}' separate the local cases, so no slope can be fitted. "
            "Add labelled cases, also difficult ones."
        )
    both, _ = logistic_fit(np.column_stack([logits, np.ones_like(logits)]), outcome, clusters)
    if both[0] <= 0:
        raise EvaluationError(
            f"The probabilities of '{answers.questions[column]}' do not rank the local cases at all (slope "
            f"{both[0]:.2f}): recalibration cannot help. Check the labels and images, or train on local images."
        )
    return float(both[0]), float(both[1])


def affine(scaling: Scaling, column: int) -> tuple[float, float]:
    """Slope and intercept of a scaling on log odds; those of no scaling for one that has none."""
    if isinstance(scaling, Temperature):
        return 1 / scaling.temperature, 0.0
    if isinstance(scaling, Platt):
        return scaling.slopes[column], scaling.intercepts[column]
    return 1.0, 0.0


def at_prevalence(scaling: Platt, found: float, wanted: float) -> Platt:
    """The scaling for a place where a label has another prevalence than among the cases it was fitted on.

    By Bayes' theorem the log odds move by those of the prevalences (Elkan 2001), with the images of either kind alike.

    Args:
        scaling: of a binary task.
        found: prevalence among the cases.
        wanted: prevalence of the place of use.

    Raises:
        EvaluationError: a prevalence is not strictly between 0 and 1.
    """
    if not 0 < wanted < 1 or not 0 < found < 1:
        raise EvaluationError(f"The prevalence is {wanted:g}; expected a share strictly between 0 and 1, such as 0.05.")
    shift = math.log(wanted / (1 - wanted)) - math.log(found / (1 - found))
    return replace(scaling, intercepts=tuple(each + shift for each in scaling.intercepts))


def rescored(answers: Outcomes, scores: Floats, threshold: float | tuple[float, ...]) -> Outcomes:
    """The same cases with other probabilities, decided at a threshold."""
    return replace(answers, scores=scores, decisions=decide(scores, answers.task, threshold))
