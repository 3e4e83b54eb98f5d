"""Can two sets of descriptions be told apart? A test by a classifier that tries to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.delong import auc_interval
from hounsfield.evaluation.intervals import Clusters, make_clusters
from hounsfield.evaluation.mahalanobis import whitening
from hounsfield.evaluation.outcomes import Booleans, Floats, Integers

NUM_FOLDS = 5
# Exchanges that are worked on together.
CHUNK = 100


class Separability(NamedTuple):
    """How well a classifier tells two sets apart on cases that it was not fitted to.

    ``auc`` is .5 for not at all, with its interval; ``p_value`` is of two sets of one kind; ``score`` (n + m,) is how
    much each case looks like the second set, the first set's cases first.
    """

    auc: float
    low: float
    high: float
    p_value: float
    score: Floats


def separability(
    first: npt.NDArray[Any],
    second: npt.NDArray[Any],
    *,
    groups: npt.ArrayLike | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    num_permutations: int = 499,
) -> Separability:
    """Test by a classifier whether two sets of descriptions differ (Lopez-Paz, Oquab 2017, arXiv:1610.06545).

    The classifier is Fisher's linear discriminant with a shrunken covariance; each case is scored by one that was
    fitted without its fold, and patients are kept together. Its AUC has DeLong's interval, by patient. Cross-validated
    scores depend on each other, so whether the AUC is beyond chance is told by a test that exchanges patients between
    the sets, within each fold, and does all again.

    Args:
        first: (n, F).
        second: (m, F).
        groups: (n + m,) patients of both sets, the first's before the second's.
        seed: of the folds and exchanges.
        confidence: nominal coverage of the interval.
        num_permutations: exchanges.

    Raises:
        EvaluationError: a set has fewer than 10 cases, or too few patients.
    """
    if min(len(first), len(second)) < 2 * NUM_FOLDS:
        raise EvaluationError(
            f"Two sets of {len(first)} and {len(second)} cases are too small for a classifier to tell them apart: at "
            f"least {2 * NUM_FOLDS} each are needed. Compare larger sets."
        )
    rows = np.concatenate([first, second]).astype(np.float64)
    truth = np.arange(len(rows)) >= len(first)
    clusters = make_clusters(truth[:, None], groups)
    fold_of = _folds(truth, clusters, seed)
    spaces = [_Space.of(rows[fold_of != fold]) for fold in range(NUM_FOLDS)]
    score = _held_out_scores(rows, truth[:, None], fold_of, spaces)[:, 0]
    value = float(_columnwise_auc(truth[:, None], score[:, None])[0])
    interval = auc_interval(truth[:, None], score[:, None], clusters, confidence=confidence)
    beaten, generator = 0, np.random.default_rng((seed, 1))
    for start in range(0, num_permutations, CHUNK):
        exchanged = _exchanged(truth, clusters, fold_of, min(CHUNK, num_permutations - start), generator)
        drawn = _columnwise_auc(exchanged, _held_out_scores(rows, exchanged, fold_of, spaces))
        beaten += int((drawn >= value - 1e-12).sum())
    return Separability(value, interval.low, interval.high, (1 + beaten) / (1 + num_permutations), score)


def _exchanged(
    truth: Booleans, clusters: Clusters, fold_of: Integers, count: int, generator: np.random.Generator
) -> Booleans:
    """(n, count) memberships with the patients of each fold exchanged between the sets; one in both stays in both."""
    first_of = np.unique(clusters.of_case, return_index=True)[1]
    sums = clusters.sums(np.column_stack([truth, ~truth]).astype(np.float64))
    movable = np.flatnonzero((sums > 0).sum(axis=1) == 1)
    exchanged = np.repeat(truth[:, None], count, axis=1)
    belongs = np.repeat(truth[first_of][:, None], count, axis=1)
    for fold in range(NUM_FOLDS):
        members = movable[fold_of[first_of[movable]] == fold]
        belongs[members] = generator.permuted(belongs[members], axis=0)
    moved = np.isin(clusters.of_case, movable)
    exchanged[moved] = belongs[clusters.of_case[moved]]
    return exchanged


def _held_out_scores(rows: Floats, memberships: Booleans, fold_of: Integers, spaces: list[_Space]) -> Floats:
    """(n, J): for each column of memberships, the score of each case by a discriminant fitted without its fold."""
    scores = np.empty(memberships.shape)
    for fold, space in enumerate(spaces):
        held = fold_of == fold
        scores[held] = _discriminants(space.place(rows[~held]), memberships[~held], space.place(rows[held]))
    return scores


def _columnwise_auc(truth: Booleans, scores: Floats) -> Floats:
    """(J,) areas under the ROC curve of (n, J) scores, by the ranks of the positives."""
    ranks = stats.rankdata(scores, axis=0)
    positive = truth.sum(axis=0)
    negative = len(truth) - positive
    return np.asarray(((ranks * truth).sum(axis=0) - positive * (positive + 1) / 2) / (positive * negative))


def _folds(truth: Booleans, clusters: Clusters, seed: int) -> Integers:
    """(n,) folds in which both sets have their shares, and no patient is in two."""
    generator = np.random.default_rng(seed)
    fold_of_cluster = np.empty(len(clusters), np.int64)
    for stratum in np.unique(clusters.stratum):
        members = generator.permutation(np.flatnonzero(clusters.stratum == stratum))
        fold_of_cluster[members] = np.arange(len(members)) % NUM_FOLDS
    folds = fold_of_cluster[clusters.of_case]
    if any(truth[folds != fold].all() or not truth[folds != fold].any() for fold in range(NUM_FOLDS)):
        raise EvaluationError(
            "All cases of one set are of so few patients that no classifier can be fitted without them. Compare sets "
            "of more patients."
        )
    return folds


@dataclass(frozen=True, eq=False)
class _Space:
    """Where rows have no correlations and unit variance, as their covariance over both sets has it."""

    mean: Floats
    whitening: Floats

    @classmethod
    def of(cls, rows: Floats) -> _Space:
        mean = rows.mean(axis=0)
        return cls(mean, whitening(rows - mean))

    def place(self, rows: Floats) -> Floats:
        return np.asarray((rows - self.mean) @ self.whitening)


def _discriminants(rows: Floats, memberships: Booleans, fresh: Floats) -> Floats:
    """(k, J): where fresh rows lie between the means of two sets along Fisher's direction, above 0 nearer the second.

    In a space where the rows of both sets together are white, this direction is the difference of the means: the
    inverse of the covariance of all rows takes that difference where the inverse of the covariance within the sets
    does.
    """
    first = rows.T @ (~memberships / (~memberships).sum(axis=0))
    second = rows.T @ (memberships / memberships.sum(axis=0))
    return np.asarray(fresh @ (second - first) - ((second**2 - first**2) / 2).sum(axis=0))
