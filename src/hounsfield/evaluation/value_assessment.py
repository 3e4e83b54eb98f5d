"""All that one test says of a regressor, in the form that files, tables and reports share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.classification import NOWHERE, UNVARIED, Estimate, estimates_to_dict
from hounsfield.evaluation.intervals import Clusters, Interval, bca_interval, bootstrap, jackknife, make_clusters, vary
from hounsfield.evaluation.outcomes import Booleans, Floats
from hounsfield.evaluation.proportions import clustered_proportion
from hounsfield.evaluation.values import FIGURES, TITLES, figures
from hounsfield.tasks import Family, ValueTask

# Figures that are a share of cases, by how far a grade may be off.
SHARES = {"accuracy": 0, "within_one": 1}


@dataclass(frozen=True, eq=False)
class ValueAssessment:
    """The outcome of one test of values or grades.

    Attributes:
        truth: (n,) the values, or the places of the grades.
        predicted: (n,) likewise.
        labels: the name of the value, or the grades in order.
        task: "regression" or "ordinal".
        estimates: every figure with its interval.
        patients: how many there are; ``None`` where unknown.
        notes: what was detected, decided or left out.
        groups: (n,) the patient of each case; ``None`` where unknown.
        table: one row per case with what else is known of it, where the caller adds it.
        split: the name under which ``metrics.json`` holds the figures.
    """

    family: ClassVar[Family] = "values"
    truth: Floats
    predicted: Floats
    labels: tuple[str, ...]
    task: ValueTask
    estimates: Mapping[str, Estimate]
    patients: int | None
    notes: tuple[str, ...] = ()
    groups: npt.NDArray[Any] | None = None
    table: pd.DataFrame | None = None
    split: str = "test"

    def title(self, name: str) -> str:
        """What a figure is called where people read it."""
        return TITLES.get(name, name)

    def to_dict(self) -> dict[str, Any]:
        """The figures as ``metrics.json`` has them, and beside them what they were made from."""
        return {
            self.split: estimates_to_dict(dict(self.estimates)),
            "task": self.task,
            "labels": list(self.labels),
            "cases": len(self.truth),
            "patients": self.patients,
            "notes": list(self.notes),
        }


def assess_values(
    truth: npt.ArrayLike,
    predicted: npt.ArrayLike,
    *,
    labels: Sequence[str],
    task: ValueTask,
    groups: npt.ArrayLike | None = None,
    num_replicates: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> ValueAssessment:
    """Every figure of ``FIGURES`` with its interval.

    Shares of cases have Wilson's interval by patient, all others the bootstrap by patient (BCa).

    Args:
        truth: (n,) the values; of grades their places 0, 1, …
        predicted: (n,) likewise.
        labels: the name of the value, or the grades in order.
        task: "regression" or "ordinal".
        groups: (n,) patients; ``None`` where unknown.
        num_replicates: bootstrap replicates.
        seed: of the bootstrap.
        confidence: nominal coverage of the intervals.

    Raises:
        EvaluationError: there is no case, or a value is missing or not finite.
    """
    true, found = (np.asarray(values, np.float64) for values in (truth, predicted))
    if not len(true) or true.shape != found.shape or not (np.isfinite(true) & np.isfinite(found)).all():
        raise EvaluationError(
            f"There are {len(true):,} true and {len(found):,} predicted values: expected as many of both, at least "
            "one, and all of them finite numbers. Remove the rows without one."
        )
    clusters = make_clusters(np.zeros((len(true), 1), bool), groups)

    def statistic(weights: Floats) -> Floats:
        return figures(task, true, found, weights)

    values = figures(task, true, found)[:, 0]
    intervals = _bootstrapped(statistic, values, clusters, num_replicates, seed, confidence)
    estimates = {}
    for name, value, interval in zip(FIGURES[task], values.tolist(), intervals, strict=True):
        method = f"BCa bootstrap by patient, {num_replicates:,} replicates"
        if name in SHARES:
            near: Booleans = np.abs(true - found) <= SHARES[name]
            everyone = np.ones_like(near)
            interval = clustered_proportion(near, everyone, clusters, confidence=confidence)  # noqa: PLW2901
            method = "Wilson"
        estimates[name] = _estimate(value, interval, len(true), method)
    known = None if groups is None else np.asarray(groups)
    patients = None if groups is None else len(clusters)
    return ValueAssessment(true, found, tuple(labels), task, estimates, patients, groups=known)


def _bootstrapped(
    statistic: Any, values: Floats, clusters: Clusters, num_replicates: int, seed: int, confidence: float
) -> list[Interval]:
    if len(clusters) < 2:
        return [NOWHERE] * len(values)
    nothing = np.zeros((len(clusters.of_case), 1), bool)
    replicates = bootstrap(statistic, clusters, nothing, num_replicates=num_replicates, seed=seed)
    left_out = jackknife(statistic, clusters, seed=seed)
    return [
        bca_interval(float(value), drawn, without, confidence=confidence) if vary(drawn) else NOWHERE
        for value, drawn, without in zip(values, replicates, left_out, strict=True)
    ]


def _estimate(value: float, interval: Interval, count: int, method: str) -> Estimate:
    if not math.isfinite(value):
        return Estimate(math.nan, math.nan, math.nan, count, note="all truths are alike")
    if not math.isfinite(interval.low):
        return Estimate(value, math.nan, math.nan, count, note=UNVARIED)
    return Estimate(value, min(interval.low, value), max(interval.high, value), count, method)
