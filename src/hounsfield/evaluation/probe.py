"""The shortcut probe: can site, scanner, sex or age be read from a network's features?

A linear model is fitted to the features and judged on patients that it has not seen. Only cases of the same label are
compared with each other, so features that know the label alone tell nothing. Chance is what is left when the
attribute is dealt out anew among patients of the same label, and the model fitted and judged in the same way.

What can be read need not be used; but what a network uses can be read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.comparison import adjust_p_values
from hounsfield.evaluation.delong import auc_influence, hanley_interval, influence_variance
from hounsfield.evaluation.group_figures import LEAST_PATIENTS, clusters_of
from hounsfield.evaluation.intervals import Clusters, Interval, make_clusters
from hounsfield.evaluation.outcomes import Booleans, Floats, Integers
from hounsfield.evaluation.subgroups import Attribute

SIGNIFICANCE = 0.01
LEAST_AUC = 0.6  # what is read worse than this serves a network little
NUM_FOLDS = 5
DEALS = 200  # enough for the mean and the deviation of chance
CASES_A_DEGREE = 10  # the linear model has one degree of freedom for so many cases
MAX_CASES = 2000  # as many are drawn where there are more; the answer is sure by then


@dataclass(frozen=True)
class Probe:
    """How well one attribute can be read.

    Attributes:
        attribute: the column.
        value: AUC among cases of one label, each group against the others; of binned numbers, the upper half of the
            cases against the lower one. ``low`` and ``high`` are its interval; ``nan`` where it was not judged.
        chance: the mean AUC where the attribute is dealt out anew.
        p_value: of being no better than that.
        adjusted: the same after Holm (1979) over the attributes.
        patients: whose features took part.
        note: why it was not judged; empty where it was.
    """

    attribute: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    chance: float = math.nan
    p_value: float = math.nan
    adjusted: float = math.nan
    patients: int = 0
    note: str = ""

    @property
    def readable(self) -> bool:
        """Whether the attribute can be read beyond chance, and well enough to matter."""
        return self.adjusted < SIGNIFICANCE and self.value >= LEAST_AUC

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is undefined becomes ``None``."""
        plain = {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }
        return {**plain, "readable": self.readable}

    def line(self) -> str:
        """The outcome in words."""
        if self.note:
            return f"{self.attribute}: {self.note}."
        told = "can be predicted from the features" if self.readable else "cannot be predicted beyond chance"
        if not self.readable and self.adjusted < SIGNIFICANCE:
            told = "can hardly be predicted"
        return (
            f"{self.attribute} {told}: AUC {self.value:.3f} ({self.low:.3f} to {self.high:.3f}; chance "
            f"{self.chance:.3f}), {self.patients:,} patients."
        )


def probe_features(
    features: npt.ArrayLike,
    attributes: Sequence[Attribute],
    truth: Booleans,
    *,
    groups: npt.ArrayLike | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[Probe, ...]:
    """Try to read each attribute from the features by a ridge regression, cross-validated by patient.

    An attribute that changes between images of one patient is judged on one image a patient.

    Args:
        features: (n, F) the pooled features of cases that the network was not trained on.
        attributes: of the n cases.
        truth: (n, K) the labels.
        groups: (n,) patient of each case; ``None`` where each case is another patient.
        seed: of the folds, the deals, and the choice of cases where there are many.
        confidence: nominal coverage of the intervals, which hold for the models that were fitted.

    Raises:
        EvaluationError: the arrays do not fit each other.
    """
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or len(values) != len(truth) or not np.isfinite(values).all():
        raise EvaluationError(
            f"The features have the shape {values.shape} for {len(truth):,} cases; expected one row of finite numbers "
            "a case. Take features, labels and attributes of the same images."
        )
    of_case = make_clusters(truth, groups).of_case
    label = np.unique(truth, axis=0, return_inverse=True)[1].reshape(-1)
    found = [_probe(values, attribute, label, of_case, seed, confidence) for attribute in attributes]
    adjusted = adjust_p_values({probe.attribute: probe.p_value for probe in found})
    return tuple(replace(probe, adjusted=adjusted[probe.attribute]) for probe in found)


def _probe(
    features: Floats, attribute: Attribute, label: Integers, of_case: Integers, seed: int, confidence: float
) -> Probe:
    rng = np.random.default_rng(seed)
    rows = _usable(attribute, of_case, rng)
    codes, label, of_case = attribute.codes[rows], label[rows], clusters_of(of_case[rows]).of_case
    patients = int(of_case.max(initial=-1)) + 1
    levels = np.unique(codes)
    if len(levels) < 2:
        told = f"too few patients to judge: fewer than two groups have {LEAST_PATIENTS}"
        return Probe(attribute.name, patients=patients, note=told)
    wanted, member = _targets(codes, levels, ordered=bool(attribute.binning))
    reader = ridge_reader(features[rows], rng.permutation(patients)[of_case] % NUM_FOLDS)
    scores = reader @ wanted
    value = float(np.mean(matched_auc(scores, member, label)))
    if math.isnan(value):
        return Probe(attribute.name, patients=patients, note="no label occurs in two of its groups")
    chance = np.array([_dealt(reader, wanted, member, label, of_case, rng) for _ in range(DEALS)])
    spread = chance.std(ddof=1)
    p_value = float(special.ndtr(-(value - chance.mean()) / spread)) if spread > 0 else 1.0
    interval = _interval(value, scores, member, label, clusters_of(of_case), confidence)
    return Probe(attribute.name, value, *interval, float(chance.mean()), p_value, patients=patients)


def _usable(attribute: Attribute, of_case: Integers, rng: np.random.Generator) -> Integers:
    """Rows of groups with enough patients; one a patient where the attribute changes within patients."""
    shuffled = rng.permutation(len(of_case))
    codes, patients = attribute.codes[shuffled], of_case[shuffled]
    pairs = np.unique(np.column_stack([patients, codes]), axis=0)
    if len(pairs) > len(np.unique(patients)):
        first = np.unique(patients, return_index=True)[1]
        shuffled, codes, patients = shuffled[first], codes[first], patients[first]
        pairs = np.column_stack([patients, codes])
    enough = np.flatnonzero(np.bincount(pairs[:, 1]) >= LEAST_PATIENTS)
    return np.sort(rng.permutation(shuffled[np.isin(codes, enough)])[:MAX_CASES])


def _targets(codes: Integers, levels: Integers, *, ordered: bool) -> tuple[Floats, Booleans]:
    """What is regressed on, and what is to be told apart: two arrays (n, T)."""
    if ordered:
        halves = [codes >= level for level in levels[1:]]
        upper = min(halves, key=lambda half: abs(float(np.mean(half)) - 0.5))
        return codes[:, None].astype(np.float64), np.asarray(upper)[:, None]
    member = codes[:, None] == (levels[1:] if len(levels) == 2 else levels)
    return member.astype(np.float64), np.asarray(member)


def ridge_reader(features: Floats, fold: Integers) -> Floats:
    """A matrix (n, n) whose row i gives, from the targets of all other folds, what a ridge regression says of case i.

    Features are standardised in each fold's training cases. The regression has no intercept: it would tell which
    values the fold's own cases lack.

    Args:
        features: (n, F).
        fold: (n,) the fold of each case, from 0.
    """
    reader = np.zeros((len(features), len(features)))
    for number in range(int(fold.max()) + 1):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if not len(test) or len(train) < 2:
            continue
        mean, deviation = features[train].mean(axis=0), features[train].std(axis=0)
        scale = np.where(deviation > 0, deviation, 1.0)
        left, singular, right = np.linalg.svd((features[train] - mean) / scale, full_matrices=False)
        shrunk = singular / (singular**2 + ridge_penalty(singular**2, len(train) / CASES_A_DEGREE))
        reader[np.ix_(test, train)] = ((features[test] - mean) / scale) @ (right.T * shrunk) @ left.T
    return reader


def ridge_penalty(squares: Floats, degrees: float) -> float:
    """The ridge penalty at which the model has so many degrees of freedom, Σ s²/(s² + λ)."""
    squares = squares[squares > 1e-9 * squares.max(initial=0.0)]
    degrees = min(degrees, len(squares) / 2)
    if not len(squares):
        return 1.0

    def excess(log_penalty: float) -> float:
        return float(np.sum(squares / (squares + np.exp(log_penalty)))) - degrees

    low, high = math.log(squares.min()) - 25, math.log(squares.sum()) + 25
    return math.exp(float(optimize.brentq(excess, low, high)))


def matched_auc(scores: Floats, member: Booleans, label: Integers) -> Floats:
    """(T,) AUC of each column over the pairs of a member and a non-member that share their label."""
    wins, pairs = np.zeros(scores.shape[1]), np.zeros(scores.shape[1])
    for each in np.unique(label):
        rows = label == each
        inside = member[rows].sum(axis=0).astype(np.float64)
        ranks = stats.rankdata(scores[rows], axis=0)
        wins += np.sum(ranks * member[rows], axis=0) - inside * (inside + 1) / 2
        pairs += inside * (rows.sum() - inside)
    return np.asarray(np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0))


def _dealt(
    reader: Floats, wanted: Floats, member: Booleans, label: Integers, of_case: Integers, rng: np.random.Generator
) -> float:
    """The mean AUC after the attribute has been dealt out anew among patients whose first label is the same."""
    first = np.unique(of_case, return_index=True)[1]
    source = np.arange(len(first))
    for each in np.unique(label):
        patients = np.flatnonzero(label[first] == each)
        source[patients] = rng.permutation(patients)
    rows = first[source][of_case]
    return float(np.mean(matched_auc(reader @ wanted[rows], member[rows], label)))


def _interval(
    value: float, scores: Floats, member: Booleans, label: Integers, clusters: Clusters, confidence: float
) -> Interval:
    """DeLong's interval by patient, on the logit scale, of the AUC averaged over labels and columns.

    Where no variance can be seen, as at an AUC of 1, the one of the AUC alone (:func:`hanley_interval`).
    """
    influence = np.zeros(len(scores))
    for column in range(scores.shape[1]):
        strata = [rows for each in np.unique(label) if 0 < member[rows := label == each, column].mean() < 1]
        pairs = np.array([float(member[rows, column].sum() * (~member[rows, column]).sum()) for rows in strata])
        for rows, weight in zip(strata, pairs / pairs.sum() / scores.shape[1], strict=True):
            part = clusters_of(clusters.of_case[rows])
            influence[rows] += weight * auc_influence(member[rows, column], scores[rows, column], part)[1]
    error = math.sqrt(influence_variance(influence, clusters))
    if error == 0 or not 0 < value < 1:
        patients = [[len(np.unique(clusters.of_case[part])) for part in (each, ~each)] for each in member.T]
        return hanley_interval(value, *np.mean(patients, axis=0), confidence=confidence)
    half = float(special.ndtri((1 + confidence) / 2)) * error / (value * (1 - value))
    low, high = special.expit(special.logit(value) + np.array([-half, half]))
    return Interval(float(low), float(high))
