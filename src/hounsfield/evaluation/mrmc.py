"""Studies in which several readers read the same cases in several ways: the analysis of Obuchowski and Rockette.

Obuchowski, Rockette 1995, with the degrees of freedom of Hillis 2007, "A comparison of denominator degrees of freedom
for multiple observer ROC analysis", and the error terms of Hillis 2014, "A marginal-mean ANOVA approach for analyzing
multireader multicase radiological imaging data". The figure of merit is the empirical AUC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.delong import auc_influence
from hounsfield.evaluation.intervals import Clusters, make_clusters
from hounsfield.evaluation.outcomes import Booleans, Floats

Covariance = Literal["unbiased", "jackknife", "delong"]


class Components(NamedTuple):
    """Error variance and covariances of the readers' AUCs, and the variances between readers.

    Attributes:
        error: variance of one reader's AUC in one test.
        cov1: covariance of one reader's two tests.
        cov2: covariance of two readers in one test.
        cov3: covariance of two readers in two tests.
        reader: variance between readers; an estimate by moments, which can be below 0.
        reader_test: variance of the interaction of readers and tests, likewise.
    """

    error: float
    cov1: float
    cov2: float
    cov3: float
    reader: float
    reader_test: float


@dataclass(frozen=True)
class TestMean:
    """The AUC of one test, averaged over its readers.

    Attributes:
        test: its name.
        value: the mean AUC; ``low`` and ``high`` its interval, from the data of this test alone.
        error: its standard error.
        degrees: of freedom; infinite where readers are fixed.
    """

    __test__ = False  # not a test of pytest

    test: str
    value: float
    low: float
    high: float
    error: float
    degrees: float


@dataclass(frozen=True)
class TestDifference:
    """The first test's mean AUC minus the second's.

    Attributes:
        first: name of a test; ``second`` of the other.
        value: the difference; ``low`` and ``high`` its interval.
        error: its standard error.
        degrees: of freedom; infinite where readers are fixed.
        p_value: of no difference.
    """

    __test__ = False

    first: str
    second: str
    value: float
    low: float
    high: float
    error: float
    degrees: float
    p_value: float


@dataclass(frozen=True, eq=False)
class ReaderStudy:
    """The outcome of a multi-reader multi-case study.

    Attributes:
        tests: names of the ways of reading; ``readers`` of the readers.
        auc: (tests, readers).
        cases: (diseased, others).
        covariance: the estimator of the error covariances.
        fixed_readers: whether the results hold for these readers alone, and not for readers like them.
        components: of variance.
        f_value: of the global test of equal tests, with ``degrees`` (numerator, denominator) and ``p_value``; of one
            test ``nan``. Where readers are fixed the numerator's degrees times it are a χ² and the denominator's are
            infinite.
        means: of each test.
        differences: of each pair of tests.
        confidence: nominal coverage of the intervals.
    """

    tests: tuple[str, ...]
    readers: tuple[str, ...]
    auc: Floats
    cases: tuple[int, int]
    covariance: Covariance
    fixed_readers: bool
    components: Components
    f_value: float
    degrees: tuple[float, float]
    p_value: float
    means: tuple[TestMean, ...]
    differences: tuple[TestDifference, ...]
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is undefined or infinite becomes ``None``."""
        by_reader = {
            test: dict(zip(self.readers, map(float, row), strict=True))
            for test, row in zip(self.tests, self.auc, strict=True)
        }
        return {
            "tests": list(self.tests),
            "readers": list(self.readers),
            "cases": list(self.cases),
            "auc": by_reader,
            "covariance": self.covariance,
            "fixed_readers": self.fixed_readers,
            "confidence": self.confidence,
            "components": _plain(self.components._asdict()),
            "global": _plain({"f": self.f_value, "df1": self.degrees[0], "df2": self.degrees[1], "p": self.p_value}),
            "means": [_plain(asdict(mean)) for mean in self.means],
            "differences": [_plain(asdict(difference)) for difference in self.differences],
        }


def analyse_readers(
    truth: npt.ArrayLike,
    ratings: npt.ArrayLike,
    *,
    tests: Sequence[str],
    readers: Sequence[str],
    groups: npt.ArrayLike | None = None,
    covariance: Covariance | None = None,
    fixed_readers: bool = False,
    confidence: float = 0.95,
) -> ReaderStudy:
    """Compare ways of reading by several readers, all of whom rate all cases in every way.

    Args:
        truth: (n,) whether a case is diseased.
        ratings: (tests, readers, n); larger means more suspicious.
        tests: names of the first axis.
        readers: names of the second.
        groups: (n,) patient of each case; ``None`` where each case is another patient.
        covariance: ``"unbiased"`` (Gallas 2006; Hillis 2014), ``"jackknife"`` or ``"delong"``; by default unbiased, and
            DeLong's with the cases of a patient summed (Obuchowski 1997) where patients have several.
        fixed_readers: hold the readers fixed; a single reader always is.
        confidence: nominal coverage of the intervals.

    Raises:
        EvaluationError: shapes do not fit, a rating is missing, fewer than two cases of a kind, or an estimator that
            does not know patients.
    """
    sick, scores = np.asarray(truth, dtype=bool), np.asarray(ratings, dtype=np.float64)
    _check(sick, scores, tests, readers)
    clusters = make_clusters(sick[:, None], groups)
    chosen: Covariance = covariance or ("unbiased" if clusters.single else "delong")
    if not clusters.single and chosen != "delong":
        raise EvaluationError(
            f"The {chosen} covariance takes each case for a patient of its own, and patients have several. Use the "
            "covariance 'delong', or give one case of each patient."
        )
    auc, errors = ESTIMATORS[chosen](sick, scores.reshape(-1, len(sick)), clusters)
    auc = auc.reshape(len(tests), len(readers))
    errors = errors.reshape(len(tests), len(readers), len(tests), len(readers))
    return _study(auc, errors, sick, tuple(tests), tuple(readers), chosen, fixed_readers, confidence)


def _check(sick: Booleans, scores: Floats, tests: Sequence[str], readers: Sequence[str]) -> None:
    wanted = (len(tests), len(readers), len(sick))
    if scores.shape != wanted or 0 in wanted:
        raise EvaluationError(
            f"The ratings have the shape {scores.shape}; expected (tests, readers, cases) = {wanted}. Each reader must "
            "rate each case in every test once."
        )
    if not np.isfinite(scores).all():
        raise EvaluationError(
            f"{int((~np.isfinite(scores)).sum()):,} ratings are missing; each reader must rate each case in every "
            "test. Leave out the cases or readers with gaps."
        )
    if min(sick.sum(), (~sick).sum()) < 2:
        raise EvaluationError(
            f"There are {int(sick.sum())} diseased cases and {int((~sick).sum())} others; at least two of each are "
            "needed. Add cases."
        )


def _kernels(sick: Booleans, scores: Floats) -> Floats:
    """(m, diseased, others): 1 where the diseased case is rated higher, one half where both are rated alike."""
    difference = scores[:, sick][:, :, None] - scores[:, ~sick][:, None, :]
    return np.asarray((difference > 0) + 0.5 * (difference == 0))


def _unbiased(sick: Booleans, scores: Floats, clusters: Clusters) -> tuple[Floats, Floats]:
    """AUC of each of m readings, and the unbiased estimate of their covariance.

    Cov(Â, B̂) = E[Â B̂] − E[Â] E[B̂]; the product of the two means is estimated without bias by the pairs of kernels
    that share no case (Gallas 2006, "One-shot estimate of MRMC variance: AUC").
    """
    del clusters
    kernels = _kernels(sick, scores)
    count, positives, negatives = kernels.shape
    flat = kernels.reshape(count, -1)
    by_positive, by_negative, total = kernels.sum(axis=2), kernels.sum(axis=1), flat.sum(axis=1)
    apart = np.outer(total, total) - by_positive @ by_positive.T - by_negative @ by_negative.T + flat @ flat.T
    auc = total / (positives * negatives)
    product = apart / (positives * (positives - 1) * negatives * (negatives - 1))
    return auc, np.outer(auc, auc) - product


def _jackknife(sick: Booleans, scores: Floats, clusters: Clusters) -> tuple[Floats, Floats]:
    """AUC of each of m readings, and their covariance from leaving out each case in turn."""
    del clusters
    kernels = _kernels(sick, scores)
    count, positives, negatives = kernels.shape
    total = kernels.sum(axis=(1, 2))
    without = np.concatenate(
        [
            (total[:, None] - kernels.sum(axis=2)) / ((positives - 1) * negatives),
            (total[:, None] - kernels.sum(axis=1)) / (positives * (negatives - 1)),
        ],
        axis=1,
    )
    deviation = without - without.mean(axis=1, keepdims=True)
    cases = positives + negatives
    covariance = (cases - 1) / cases * deviation @ deviation.T
    return total / (positives * negatives), covariance.reshape(count, count)


def _delong(sick: Booleans, scores: Floats, clusters: Clusters) -> tuple[Floats, Floats]:
    """AUC of each of m readings, and their covariance from structural components, summed by patient."""
    found = [auc_influence(sick, each, clusters) for each in scores]
    sums = clusters.sums(np.stack([influence for _, influence in found], axis=1))
    return np.array([value for value, _ in found]), sums.T @ sums


ESTIMATORS: Mapping[Covariance, Callable[[Booleans, Floats, Clusters], tuple[Floats, Floats]]] = {
    "unbiased": _unbiased,
    "jackknife": _jackknife,
    "delong": _delong,
}


def _study(
    auc: Floats,
    errors: Floats,
    sick: Booleans,
    tests: tuple[str, ...],
    readers: tuple[str, ...],
    covariance: Covariance,
    fixed_readers: bool,
    confidence: float,
) -> ReaderStudy:
    many_tests, many_readers = len(tests), len(readers)
    error, cov1, cov2, cov3 = _averages(errors)
    by_test = auc.mean(axis=1)
    squares = _mean_squares(auc)
    fixed = fixed_readers or many_readers == 1
    gap = max(cov2 - cov3, 0.0)
    if fixed:
        spread, degrees = error - cov1 + (many_readers - 1) * gap, math.inf
    else:
        spread = squares["interaction"] + many_readers * gap
        degrees = _degrees(spread, squares["interaction"], (many_tests - 1) * (many_readers - 1))
    components = Components(
        error,
        cov1,
        cov2,
        cov3,
        (squares["readers"] - squares["interaction"]) / many_tests - cov1 + cov3,
        squares["interaction"] - error + cov1 + gap,
    )
    f_value = squares["tests"] / spread if many_tests > 1 and spread > 0 else math.nan
    differences = []
    for first in range(many_tests):
        for second in range(first + 1, many_tests):
            value, half_error = float(by_test[first] - by_test[second]), math.sqrt(max(2 / many_readers * spread, 0.0))
            low, high, p_value = _ends(value, half_error, degrees, confidence)
            differences.append(
                TestDifference(tests[first], tests[second], value, low, high, half_error, degrees, p_value)
            )
    means = tuple(
        _mean(name, auc[index], errors[index, :, index, :], fixed, confidence) for index, name in enumerate(tests)
    )
    return ReaderStudy(
        tests,
        readers,
        auc,
        (int(sick.sum()), int((~sick).sum())),
        covariance,
        fixed,
        components,
        f_value,
        (float(many_tests - 1), degrees),
        float(stats.f.sf(f_value, many_tests - 1, degrees)) if math.isfinite(f_value) else math.nan,
        means,
        tuple(differences),
        confidence,
    )


def _averages(errors: Floats) -> tuple[float, float, float, float]:
    """Error variance, and covariances of one reader's tests, of two readers in one test, and of both apart."""
    many_tests, many_readers = errors.shape[:2]
    same_test = np.eye(many_tests, dtype=bool)[:, None, :, None]
    same_reader = np.eye(many_readers, dtype=bool)[None, :, None, :]
    kinds = (same_test & same_reader, ~same_test & same_reader, same_test & ~same_reader, ~same_test & ~same_reader)
    full = [np.broadcast_to(kind, errors.shape) for kind in kinds]
    error, cov1, cov2, cov3 = (float(errors[kind].mean()) if kind.any() else 0.0 for kind in full)
    return error, cov1, cov2, cov3


def _mean_squares(auc: Floats) -> dict[str, float]:
    """Of tests, readers and their interaction, in the two-way table of AUCs; 0 where a side has one level."""
    many_tests, many_readers = auc.shape
    by_test, by_reader, mean = auc.mean(axis=1), auc.mean(axis=0), auc.mean()
    rest = auc - by_test[:, None] - by_reader[None, :] + mean
    return {
        "tests": many_readers * float(np.sum((by_test - mean) ** 2)) / max(many_tests - 1, 1),
        "readers": many_tests * float(np.sum((by_reader - mean) ** 2)) / max(many_readers - 1, 1),
        "interaction": float(np.sum(rest**2)) / max((many_tests - 1) * (many_readers - 1), 1),
    }


def _degrees(spread: float, square: float, free: int) -> float:
    """Hillis's degrees of freedom of the denominator."""
    return spread**2 / (square**2 / free) if square > 0 and free > 0 else math.inf


def _mean(name: str, auc: Floats, errors: Floats, fixed: bool, confidence: float) -> TestMean:
    """Of one test, from its own AUCs (readers,) and their error covariance (readers, readers)."""
    count = len(auc)
    variance = float(np.trace(errors)) / count
    between = (float(errors.sum()) - float(np.trace(errors))) / (count * (count - 1)) if count > 1 else 0.0
    if fixed:
        spread, degrees = variance + (count - 1) * max(between, 0.0), math.inf
    else:
        square = float(auc.var(ddof=1))
        spread = square + count * max(between, 0.0)
        degrees = _degrees(spread, square, count - 1)
    error = math.sqrt(max(spread, 0.0) / count)
    low, high, _ = _ends(float(auc.mean()), error, degrees, confidence)
    return TestMean(name, float(auc.mean()), low, high, error, degrees)


def _ends(value: float, error: float, degrees: float, confidence: float) -> tuple[float, float, float]:
    """Both ends of an interval by Student's t, and the p-value of 0."""
    if error == 0:
        return value, value, 1.0 if value == 0 else math.nan
    half = float(stats.t.ppf((1 + confidence) / 2, degrees)) * error
    return value - half, value + half, float(2 * stats.t.sf(abs(value) / error, degrees))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
