"""Means of figures of single cases and of their paired differences, with intervals by patient."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from hounsfield.evaluation.classification import Estimate
from hounsfield.evaluation.delong import Difference
from hounsfield.evaluation.gaps import mean_interval
from hounsfield.evaluation.intervals import Clusters
from hounsfield.evaluation.outcomes import Booleans, Floats
from hounsfield.evaluation.proportions import clustered_proportion

ONE_PATIENT = "one patient shows no spread between patients"


def mean_estimate(values: Floats, clusters: Clusters, *, confidence: float) -> Estimate:
    """The mean of (n,) figures of cases, with the interval of Student's t by patient; none for a single patient."""
    value = float(values.mean())
    if len(clusters) < 2:
        return Estimate(value, math.nan, math.nan, len(values), note=ONE_PATIENT)
    ends = mean_interval(values, clusters, 0.0, confidence=confidence)
    return Estimate(value, ends.low, ends.high, len(values), "Student's t by patient")


def share_estimate(hits: Booleans, clusters: Clusters, *, confidence: float) -> Estimate:
    """The share of (n,) cases that are hits, with Wilson's interval by patient."""
    ends = clustered_proportion(hits, np.ones_like(hits), clusters, confidence=confidence)
    return Estimate(float(hits.mean()), ends.low, ends.high, len(hits), "Wilson by patient")


def mean_difference(differences: Floats, clusters: Clusters, *, confidence: float) -> Difference:
    """The mean of (n,) paired differences, its interval and p-value by Student's t by patient."""
    found = mean_estimate(differences, clusters, confidence=confidence)
    if not math.isfinite(found.low):
        return Difference(found.value, math.nan, math.nan, math.nan)
    degrees = len(clusters) - 1
    error = (found.high - found.value) / float(special.stdtrit(degrees, (1 + confidence) / 2))
    p_value = 2 * float(special.stdtr(degrees, -abs(found.value) / error)) if error else float(found.value == 0)
    return Difference(found.value, found.low, found.high, p_value)
