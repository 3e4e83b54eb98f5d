"""Wilson's interval for proportions, also for clustered cases, and PPV and NPV at a stated prevalence."""

from __future__ import annotations

import numpy as np
from scipy import stats

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.intervals import Clusters, Interval
from hounsfield.evaluation.outcomes import Booleans


def wilson_interval(hits: float, total: float, *, confidence: float = 0.95, quantile: float | None = None) -> Interval:
    """Wilson's score interval (Wilson 1927; Newcombe 1998, method 3).

    Args:
        hits: how many of ``total`` succeeded; an effective number need not be whole.
        total: how many there were; 0 gives ``nan``.
        confidence: the nominal coverage.
        quantile: the critical value where it is not the normal one.
    """
    if total <= 0:
        return Interval(np.nan, np.nan)
    z = stats.norm.ppf((1 + confidence) / 2) if quantile is None else quantile
    share = hits / total
    centre = share + z**2 / (2 * total)
    half = z * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    return Interval(max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale)))


def clustered_proportion(hits: Booleans, base: Booleans, clusters: Clusters, *, confidence: float = 0.95) -> Interval:
    """Wilson's interval for the share of ``hits`` among ``base`` when cases come in clusters.

    The number of cases is divided by the design effect, the ratio of the clustered to the binomial variance (Rao,
    Scott 1992; Korn, Graubard 1998), and the quantile is Student's with one degree of freedom less than clusters.
    Where no variance can be seen (no or only hits), the number of clusters stands for the number of cases.

    Args:
        hits: (n,) successes, a part of ``base``.
        base: (n,) cases that count.
        clusters: the patient of each case.
        confidence: the nominal coverage.
    """
    total, successes = int(base.sum()), int((hits & base).sum())
    if total == 0:
        return Interval(np.nan, np.nan)
    if clusters.single:
        return wilson_interval(successes, total, confidence=confidence)
    effective = effective_number(hits, base, clusters)
    degrees = max(_patients(base, clusters) - 1, 1)
    quantile = float(stats.t.ppf((1 + confidence) / 2, degrees))
    return wilson_interval(successes / total * effective, effective, quantile=quantile)


def effective_number(hits: Booleans, base: Booleans, clusters: Clusters) -> float:
    """How many independent cases the share of ``hits`` among ``base`` is worth; see :func:`clustered_proportion`."""
    total = int(base.sum())
    if total == 0 or clusters.single:
        return float(total)
    members = _patients(base, clusters)
    effect = _design_effect(hits, base, clusters, int((hits & base).sum()) / total, members)
    return total / effect if effect is not None else float(members)


def _patients(base: Booleans, clusters: Clusters) -> int:
    return len(np.unique(clusters.of_case[base]))


def mean_of_proportions(hits: Booleans, bases: Booleans, clusters: Clusters, *, confidence: float = 0.95) -> Interval:
    """The interval of the mean of independent shares, from the Wilson interval of each (MOVER; Zou, Donner 2008).

    Args:
        hits: (n, K) successes.
        bases: (n, K) the cases that count for each share; no patient may count for two of them. Empty ones are
            left out.
        clusters: the patient of each case.
        confidence: the nominal coverage.
    """
    columns = [column for column in range(bases.shape[1]) if bases[:, column].any()]
    if not columns:
        return Interval(np.nan, np.nan)
    shares = np.array([hits[bases[:, column], column].mean() for column in columns])
    ends = [clustered_proportion(hits[:, c], bases[:, c], clusters, confidence=confidence) for c in columns]
    low, high = np.array(ends).T
    centre, count = shares.mean(), len(columns)
    below, above = np.sqrt(np.sum((shares - low) ** 2)) / count, np.sqrt(np.sum((high - shares) ** 2)) / count
    return Interval(float(centre - below), float(centre + above))


def _design_effect(hits: Booleans, base: Booleans, clusters: Clusters, share: float, count: int) -> float | None:
    total = int(base.sum())
    binomial = share * (1 - share) / total
    if binomial == 0 or count < 2:
        return None
    residuals = clusters.sums(((hits & base) - share * base)[:, None])[:, 0]
    clustered = count / (count - 1) * float(np.sum(residuals**2)) / total**2
    return max(clustered / binomial, 1 / total)


def predictive_values(
    true_positives: float,
    positives: float,
    true_negatives: float,
    negatives: float,
    prevalence: float,
    *,
    confidence: float = 0.95,
) -> dict[str, tuple[float, Interval]]:
    """PPV and NPV that the test would have at another prevalence, with intervals.

    Logit intervals with the delta method (Mercaldo, Lau, Zhou 2007, "Confidence intervals for predictive values with
    an emphasis to case-control studies"), half a case added to each cell so that they stay defined at 0 and 1. Where
    patients have several cases, give effective numbers (:func:`effective_number`), which need not be whole.

    Args:
        true_positives: positive decisions among ``positives`` cases that have the label.
        positives: cases that have the label.
        true_negatives: negative decisions among ``negatives`` cases without it.
        negatives: cases without the label.
        prevalence: the share of cases with the label where the test shall be used, between 0 and 1.
        confidence: the nominal coverage.

    Returns:
        ``{"ppv": (value, interval), "npv": (value, interval)}``.

    Raises:
        EvaluationError: the prevalence is not strictly between 0 and 1, or a class has no case.
    """
    if not 0 < prevalence < 1:
        raise EvaluationError(
            f"The prevalence is {prevalence:g}; expected a share strictly between 0 and 1. Give .08 for 8 %."
        )
    if positives == 0 or negatives == 0:
        raise EvaluationError(
            "Sensitivity and specificity need cases with and without the label; one kind is missing. Use other data."
        )
    odds = prevalence / (1 - prevalence)
    sensitivity, specificity = true_positives / positives, true_negatives / negatives
    smooth_sensitivity = (true_positives + 0.5) / (positives + 1)
    smooth_specificity = (true_negatives + 0.5) / (negatives + 1)
    z = float(stats.norm.ppf((1 + confidence) / 2))
    plus = np.log(odds * smooth_sensitivity / (1 - smooth_specificity))
    plus_error = np.sqrt(
        (1 - smooth_sensitivity) / smooth_sensitivity / (positives + 1)
        + smooth_specificity / (1 - smooth_specificity) / (negatives + 1)
    )
    minus = np.log(smooth_specificity / (1 - smooth_sensitivity) / odds)
    minus_error = np.sqrt(
        smooth_sensitivity / (1 - smooth_sensitivity) / (positives + 1)
        + (1 - smooth_specificity) / smooth_specificity / (negatives + 1)
    )
    ppv = _share(prevalence * sensitivity, (1 - prevalence) * (1 - specificity))
    npv = _share((1 - prevalence) * specificity, prevalence * (1 - sensitivity))
    return {
        "ppv": (ppv, _logit_interval(float(plus), float(z * plus_error), ppv)),
        "npv": (npv, _logit_interval(float(minus), float(z * minus_error), npv)),
    }


def _share(right: float, wrong: float) -> float:
    return right / (right + wrong) if right + wrong > 0 else np.nan


def _logit_interval(centre: float, half: float, value: float) -> Interval:
    """Ends on the scale of shares, moved out to the value where the half cases have moved both away from it."""
    low, high = 1 / (1 + np.exp(-(np.array([centre - half, centre + half]))))
    return Interval(float(np.fmin(low, value)), float(np.fmax(high, value)))
