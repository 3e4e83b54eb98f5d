"""Is one network better than another on the same cases? Paired differences with intervals and p-values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.delong import Difference, auc_difference
from hounsfield.evaluation.intervals import Clusters, bca_interval, bootstrap, jackknife, make_clusters
from hounsfield.evaluation.metrics import METRICS, Tally, headline
from hounsfield.evaluation.outcomes import Floats, Outcomes

Statistic = Callable[[Floats], Floats]


class Bootstrap(NamedTuple):
    """How many replicates are drawn, from which seed, and the nominal coverage of the intervals."""

    num_replicates: int = 2000
    seed: int = 0
    confidence: float = 0.95


NOT_COMPARED = frozenset({"ece"})  # a debiased absolute deviation: its difference has no sound interval


def compare(
    first: Outcomes,
    second: Outcomes,
    *,
    groups: npt.ArrayLike | None = None,
    num_replicates: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Difference]:
    """The second minus the first, for each metric, on the same cases in the same order.

    AUC of a binary task: DeLong, by patient. Otherwise the paired bootstrap by patient: both networks are seen on
    the same replicates; BCa interval; the p-value is twice the smaller share of replicates on one side of 0.

    Args:
        first: answers of the one network.
        second: answers of the other.
        groups: (n,) patient of each case.
        num_replicates: bootstrap replicates.
        seed: of the bootstrap.
        confidence: nominal coverage.

    Raises:
        EvaluationError: the truths, labels or tasks differ.
    """
    if first.labels != second.labels or first.task != second.task:
        raise EvaluationError(
            f"Two evaluations can be compared on one task alone; got {first.task} {list(first.labels)} and "
            f"{second.task} {list(second.labels)}. Predict the same labels with both."
        )
    if first.truth.shape != second.truth.shape or (first.truth != second.truth).any():
        raise EvaluationError("The truths of the two evaluations differ; give the same cases in the same order.")
    clusters = make_clusters(first.truth, groups)
    names = [name for name in METRICS if name not in NOT_COMPARED]

    def statistic(outcomes: Outcomes) -> Statistic:
        def of(weights: Floats) -> Floats:
            tally = Tally(outcomes, weights)
            return np.stack([headline(METRICS[name].compute(tally)) for name in names])

        return of

    options = Bootstrap(num_replicates, seed, confidence)
    found = paired_differences(names, (statistic(first), statistic(second)), first.truth, clusters, options)
    if first.two_sided:
        scores = first.scores[:, 0], second.scores[:, 0]
        found["auc"] = auc_difference(first.truth[:, 0], *scores, clusters, confidence=confidence)
    return found


def paired_differences(
    names: Sequence[str],
    figures: tuple[Statistic, Statistic],
    present: npt.NDArray[np.bool_],
    clusters: Clusters,
    options: Bootstrap,
) -> dict[str, Difference]:
    """The second minus the first of some figures, with intervals (BCa) and p-values of the paired bootstrap by patient.

    Args:
        names: of the figures.
        figures: (n, R) weights of the cases → (names, R), of the one model and of the other.
        present: (n, K) labels, by which patients are drawn.
        clusters: the patient of each case.
        options: of the bootstrap.
    """
    first, second = figures

    def statistic(weights: Floats) -> Floats:
        return second(weights) - first(weights)

    values = statistic(np.ones((len(present), 1)))[:, 0]
    if len(clusters) < 2:
        return {
            name: Difference(float(value), math.nan, math.nan, math.nan)
            for name, value in zip(names, values, strict=True)
        }
    replicates = bootstrap(statistic, clusters, present, num_replicates=options.num_replicates, seed=options.seed)
    left_out = jackknife(statistic, clusters, seed=options.seed)
    found: dict[str, Difference] = {}
    for name, value, drawn, without in zip(names, values.tolist(), replicates, left_out, strict=True):
        if value == 0 and not np.nan_to_num(drawn).any():
            # Both say the same of every case.
            found[name] = Difference(0.0, 0.0, 0.0, 1.0)
            continue
        interval = bca_interval(value, drawn, without, confidence=options.confidence)
        found[name] = Difference(value, interval.low, interval.high, _p_value(value, drawn))
    return found


def _p_value(value: float, replicates: Floats) -> float:
    defined = replicates[np.isfinite(replicates)]
    if not math.isfinite(value) or not len(defined):
        return math.nan
    below, above = (np.sum(defined <= 0) + 1) / (len(defined) + 1), (np.sum(defined >= 0) + 1) / (len(defined) + 1)
    return float(min(1.0, 2 * min(below, above)))


def adjust_p_values(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's (1979) adjustment for looking at several differences at once; ``nan`` stays."""
    defined = sorted((value, name) for name, value in p_values.items() if math.isfinite(value))
    adjusted = dict(p_values)
    largest = 0.0
    for index, (value, name) in enumerate(defined):
        largest = max(largest, min(1.0, value * (len(defined) - index)))
        adjusted[name] = largest
    return adjusted
