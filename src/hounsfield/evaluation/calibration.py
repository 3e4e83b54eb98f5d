"""Whether probabilities mean what they say, and how to make them: reliability, Brier's parts, recalibration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.classification import LEAST_PATIENTS, Estimate
from hounsfield.evaluation.intervals import (
    Clusters,
    Interval,
    bootstrap,
    make_clusters,
    recentred_interval,
    student_interval,
)
from hounsfield.evaluation.metrics import (
    ECE_BINS,
    Tally,
    calibration_bins,
    debiased_ece,
    ece,
    equal_mass_bins,
    headline,
)
from hounsfield.evaluation.outcomes import Booleans, Floats, Outcomes
from hounsfield.evaluation.proportions import clustered_proportion
from hounsfield.evaluation.scaling import SMALLEST, logits_of


@dataclass(frozen=True, eq=False)
class Reliability:
    """Observed frequency against predicted probability, a bin a row; empty bins are left out.

    Attributes:
        count: (B,) cases.
        probability: (B,) mean predicted probability.
        frequency: (B,) share of cases in which it came true.
        low: (B,) lower end of the frequency's Wilson interval, by patient; ``high`` the upper end.
    """

    count: Floats
    probability: Floats
    frequency: Floats
    low: Floats
    high: Floats


def reliability(
    outcome: Booleans,
    probability: Floats,
    *,
    groups: npt.ArrayLike | None = None,
    num_bins: int = ECE_BINS,
    confidence: float = 0.95,
) -> Reliability:
    """The reliability diagram's numbers, in bins of equal mass.

    Args:
        outcome: (n,) whether it came true.
        probability: (n,) what was predicted.
        groups: (n,) patient of each case; ``None`` where each case is another patient.
        num_bins: bins at most; equal probabilities stay in one.
        confidence: of the Wilson intervals.
    """
    mass, events, expected = _bins(outcome, probability, num_bins)
    clusters, bins = make_clusters(outcome[:, None], groups), equal_mass_bins(probability, num_bins)
    ends = [clustered_proportion(outcome, bins == each, clusters, confidence=confidence) for each in np.unique(bins)]
    low, high = np.array(ends).T
    return Reliability(mass, expected / mass, events / mass, low, high)


def _bins(outcome: Booleans, probability: Floats, num_bins: int) -> tuple[Floats, Floats, Floats]:
    mass, events, expected = calibration_bins(probability, outcome, np.ones((len(outcome), 1)), num_bins)
    kept = mass[:, 0] > 0
    return mass[kept, 0], events[kept, 0], expected[kept, 0]


def expected_calibration_error(
    outcome: Booleans, probability: Floats, *, num_bins: int = ECE_BINS, debiased: bool = True
) -> float:
    """The mean over bins of equal mass of |frequency − mean probability|, weighted by the cases.

    Args:
        outcome: (n,) whether it came true.
        probability: (n,) what was predicted.
        num_bins: bins at most.
        debiased: subtract what chance alone adds (see ``metrics.ece``); ``False`` for the plain sum of Naeini,
            Cooper, Hauskrecht 2015.
    """
    mass, events, expected = _bins(outcome, probability, num_bins)
    if debiased:
        return max(0.0, float(debiased_ece(mass[:, None], events[:, None], expected[:, None])[0]))
    return float(np.abs(events - expected).sum() / mass.sum())


def estimated_error(
    answers: Outcomes,
    *,
    groups: npt.ArrayLike | None = None,
    num_replicates: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """The debiased calibration error with its interval, as ``evaluate`` gives it among all other metrics.

    Args:
        answers: truths and probabilities.
        groups: (n,) patients; ``None`` where unknown.
        num_replicates: of the bootstrap.
        seed: of the bootstrap.
        confidence: nominal coverage.
    """
    clusters = make_clusters(answers.truth, groups)
    value = float(headline(ece(Tally(answers, np.ones((len(answers), 1)), clusters=clusters)))[0])
    if len(clusters) < 2 or not math.isfinite(value):
        return Estimate(max(value, 0.0), math.nan, math.nan, len(answers))

    def statistic(weights: Floats) -> Floats:
        return headline(ece(Tally(answers, weights, resampled=True, clusters=clusters)))[None]

    drawn = bootstrap(statistic, clusters, answers.truth, num_replicates=num_replicates, seed=seed)[0]
    ends = recentred_interval(value, drawn, confidence=confidence)
    low, high = (min(max(end, 0.0), 1.0) for end in (min(ends.low, value), max(ends.high, value)))
    method = f"recentred bootstrap by patient, {num_replicates:,} replicates"
    return Estimate(max(value, 0.0), low, high, len(answers), method)


class BrierParts(NamedTuple):
    """Murphy's (1973) parts: score = reliability − resolution + uncertainty + within.

    ``within`` is what binning leaves over: the spread of the probabilities inside their bins (Stephenson, Coelho,
    Jolliffe 2008); it is 0 when a bin holds one probability only.
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


def brier_decomposition(outcome: Booleans, probability: Floats, *, num_bins: int = ECE_BINS) -> BrierParts:
    """Split the Brier score of a yes-or-no question into calibration, discrimination and the question's difficulty."""
    mass, events, expected = _bins(outcome, probability, num_bins)
    share, frequency, mean = mass / mass.sum(), events / mass, expected / mass
    base = float(outcome.mean())
    score = float(np.mean((probability - outcome) ** 2))
    miss = float(np.sum(share * (mean - frequency) ** 2))
    gain = float(np.sum(share * (frequency - base) ** 2))
    uncertainty = base * (1 - base)
    return BrierParts(score, miss, gain, uncertainty, score - miss + gain - uncertainty)


class CalibrationLine(NamedTuple):
    """Logistic recalibration of log odds: slope and intercept, and why they are not to be relied on.

    Attributes:
        slope: 1 is perfect; below 1 probabilities are too extreme. ``nan`` where the probabilities separate the two
            kinds of case, so that no slope is the best.
        slope_interval: its interval.
        intercept: with the slope held at 1; 0 is perfect, below 0 probabilities are too high.
        intercept_interval: its interval.
        note: why the figures are unreliable; empty where they are not.
    """

    slope: float
    slope_interval: Interval
    intercept: float
    intercept_interval: Interval
    note: str = ""


def calibration_line(
    outcome: Booleans, probability: Floats, *, groups: npt.ArrayLike | None = None, confidence: float = 0.95
) -> CalibrationLine:
    """Calibration slope, and calibration intercept (with the slope held at 1), both on log odds.

    Cox 1958; Van Calster et al. 2019, "Calibration: the Achilles heel of predictive analytics". Wald intervals with
    the robust variance by patient (Liang, Zeger 1986): where probabilities are too extreme, the model's own variance of
    the intercept is too small. Quantiles are Student's at the degrees of freedom of that variance (after Bell,
    McCaffrey 2002): it rests on few patients where these weigh unequally.

    Args:
        outcome: (n,) with cases of both kinds.
        probability: (n,).
        groups: (n,) patient of each case; ``None`` where each case is another patient.
        confidence: of the intervals.

    Raises:
        EvaluationError: all outcomes are alike, or all probabilities are.
    """
    logits = logits_of(probability, "binary")
    if outcome.all() or not outcome.any() or np.ptp(logits) == 0:
        raise EvaluationError(
            "A calibration slope needs cases of both kinds and probabilities that differ; these are alike. "
            "Use other data."
        )
    clusters = make_clusters(outcome[:, None], groups)
    large, influence = logistic_fit(np.ones((len(logits), 1)), outcome, clusters, offset=logits)
    intercept = float(large[0])
    ends = student_interval(intercept, influence[:, 0], confidence=confidence)
    note = _line_note(outcome, probability, clusters)
    if _separates(outcome, probability):
        return CalibrationLine(math.nan, Interval(math.nan, math.nan), intercept, ends, note)
    both, influence = logistic_fit(np.column_stack([logits, np.ones_like(logits)]), outcome, clusters)
    slope = float(both[0])
    slope_ends = student_interval(slope, influence[:, 0], confidence=confidence)
    return CalibrationLine(slope, slope_ends, intercept, ends, note)


def _separates(outcome: Booleans, probability: Floats) -> bool:
    """Whether a limit has all cases of one kind on one side: then the likelihood rises with the slope for ever."""
    yes, no = probability[outcome], probability[~outcome]
    return bool(yes.min() >= no.max() or no.min() >= yes.max())


def _line_note(outcome: Booleans, probability: Floats, clusters: Clusters) -> str:
    found = []
    patients = min(len(np.unique(clusters.of_case[rows])) for rows in (outcome, ~outcome))
    if patients < LEAST_PATIENTS:
        who = "1 patient" if patients == 1 else f"{patients} patients"
        found.append(f"unreliable: {who} of the rarer kind, at least {LEAST_PATIENTS} are needed")
    if _separates(outcome, probability):
        found.append("the probabilities separate the two kinds of case, so no slope is the best")
    ends = int(((probability <= SMALLEST) | (probability >= 1 - SMALLEST)).sum())
    if ends:
        found.append(
            f"{ends:,} probabilities are exactly 0 or 1, which no slope fits: slope and intercept rest on them"
        )
    return "; ".join(found)


def logistic_fit(
    design: Floats, outcome: Booleans, clusters: Clusters, offset: Floats | float = 0.0
) -> tuple[Floats, Floats]:
    """Maximum-likelihood coefficients (p,) of a logistic regression, and the influence (G, p) of each patient on them.

    The influences' sum of products is the robust covariance by patient, with its factor G / (G − 1).

    Args:
        design: (n, p) columns of the model, a column of ones for an intercept.
        outcome: (n,) of both kinds.
        clusters: the patient of each case.
        offset: (n,) what is added to the linear predictor with a coefficient of 1.
    """

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        linear = design @ coefficients + offset
        value = np.sum(np.logaddexp(0, linear) - outcome * linear)
        return float(value), design.T @ (special.expit(linear) - outcome)

    def residual_and_inverse(coefficients: Floats) -> tuple[Floats, Floats]:
        mean = special.expit(design @ coefficients + offset)
        information = (design * (mean * (1 - mean))[:, None]).T @ design
        return mean - outcome, np.asarray(np.linalg.pinv(information), dtype=np.float64)

    start = np.zeros(design.shape[1])
    fitted = optimize.minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-10 * len(design)}).x
    for _ in range(3):  # Newton steps polish what BFGS leaves
        residual, inverse = residual_and_inverse(fitted)
        fitted = fitted - inverse @ (design.T @ residual)
    residual, inverse = residual_and_inverse(fitted)
    sums = clusters.sums(design * residual[:, None])
    return np.asarray(fitted), np.asarray(sums @ inverse * math.sqrt(len(clusters) / max(len(clusters) - 1, 1)))
