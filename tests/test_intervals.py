"""Bootstrap, Wilson and DeLong intervals against independent computations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hounsfield.errors import EvaluationError
from hounsfield.evaluation import auc_difference, auc_interval, predictive_values, wilson_interval
from hounsfield.evaluation.delong import auc_influence, hanley_interval, influence_variance
from hounsfield.evaluation.intervals import (
    bca_interval,
    bootstrap,
    jackknife,
    make_clusters,
    percentile_interval,
    resampled_weights,
)
from hounsfield.evaluation.proportions import clustered_proportion, mean_of_proportions


def sample(num_cases: int = 60, seed: int = 0, prevalence: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(num_cases) < prevalence
    return truth, np.round(rng.normal(truth * 1.2, 1.0), 1)


def kernel(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The matrix of comparisons of each positive with each negative case, as DeLong's paper writes it."""
    difference = scores[truth][:, None] - scores[~truth][None, :]
    return (difference > 0) + 0.5 * (difference == 0)


def delong_covariance(truth: np.ndarray, *scores: np.ndarray) -> np.ndarray:
    """Equations 5 to 7 of DeLong, DeLong, Clarke-Pearson 1988, written out with the full matrices."""
    matrices = [kernel(truth, each) for each in scores]
    positive = np.atleast_2d(np.cov([matrix.mean(axis=1) for matrix in matrices]))
    negative = np.atleast_2d(np.cov([matrix.mean(axis=0) for matrix in matrices]))
    return positive / truth.sum() + negative / (~truth).sum()


def test_delong_variance_equals_the_definition() -> None:
    truth, scores = sample()
    clusters = make_clusters(truth[:, None])
    value, influence = auc_influence(truth, scores, clusters)
    assert value == pytest.approx(kernel(truth, scores).mean(), abs=1e-12)
    assert influence_variance(influence, clusters) == pytest.approx(delong_covariance(truth, scores)[0, 0], abs=1e-12)


def test_delong_variance_equals_a_published_example() -> None:
    """WFNS grade and outcome of 113 patients with a haemorrhage (Turck et al. 2010), as pROC 1.18 reports them."""
    good, poor = [37, 20, 3, 8, 4], [2, 12, 1, 8, 18]
    grade = np.concatenate([np.repeat(np.arange(1.0, 6.0), counts) for counts in (good, poor)])
    truth = np.arange(113) >= 72
    clusters = make_clusters(truth[:, None])
    value, influence = auc_influence(truth, grade, clusters)
    assert value == pytest.approx(0.8236789, abs=1e-7)
    assert influence_variance(influence, clusters) == pytest.approx(0.00146991470882363, abs=1e-15)


def test_delong_difference_equals_the_definition() -> None:
    truth, first = sample()
    second = first + np.random.default_rng(5).normal(0, 0.8, len(truth))
    covariance = delong_covariance(truth, first, second)
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    value = kernel(truth, second).mean() - kernel(truth, first).mean()
    found = auc_difference(truth, first, second)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(value) / error), abs=1e-9)
    assert (found.low, found.high) == pytest.approx(
        (value - 1.959963985 * error, value + 1.959963985 * error), abs=1e-9
    )
    mirrored = auc_difference(truth, second, first)
    assert (mirrored.value, mirrored.p_value) == pytest.approx((-found.value, found.p_value), abs=1e-12)


def test_equal_scores_do_not_differ() -> None:
    truth, scores = sample()
    assert auc_difference(truth, scores, scores) == (0.0, 0.0, 0.0, 1.0)
    assert auc_difference(truth, scores, scores**3) == (0.0, 0.0, 0.0, 1.0)


def test_a_difference_without_visible_variance_claims_no_certainty() -> None:
    truth = np.arange(20) >= 10
    perfect, alike = np.linspace(0, 1, 20), np.full(20, 0.5)
    lost, won = auc_difference(truth, perfect, alike), auc_difference(truth, alike, perfect)
    assert lost.value == -0.5
    assert lost.low < -0.5 < lost.high < 0
    assert 1e-6 < lost.p_value < 0.01
    assert (won.value, won.low, won.high, won.p_value) == pytest.approx(
        (0.5, -lost.high, -lost.low, lost.p_value), abs=1e-9
    )
    both = auc_difference(truth, perfect, np.sqrt(perfect) * np.where(truth, 1, 0.1))
    assert both.value == 0
    assert both.low < -0.1
    assert both.high > 0.1
    assert both.p_value == 1


def test_the_difference_of_several_labels_is_that_of_their_mean() -> None:
    truth, scores = sample()
    other = scores + np.random.default_rng(8).normal(0, 0.8, len(truth))
    single = auc_difference(truth, scores, other)
    double = auc_difference(*(np.column_stack([each, each]) for each in (truth, scores, other)))
    assert double == pytest.approx(single)
    never = np.zeros(len(truth), dtype=bool)
    beside = auc_difference(*(np.column_stack([a, b]) for a, b in ((truth, never), (scores, scores), (other, other))))
    assert beside == pytest.approx(single)
    assert math.isnan(auc_difference(never, scores, other).p_value)


def obuchowski_variance(truth: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> float:
    """Obuchowski 1997, section 2.2, by loops over the clusters; the covariance is scaled as the variances are."""
    matrix, value = kernel(truth, scores), kernel(truth, scores).mean()
    above, below = matrix.mean(axis=1), matrix.mean(axis=0)
    ids = sorted(set(groups))
    sums = [
        (above[groups[truth] == each].sum() - value * (groups[truth] == each).sum(),
         below[groups[~truth] == each].sum() - value * (groups[~truth] == each).sum())
        for each in ids
    ]  # fmt: skip
    positives, negatives = truth.sum(), (~truth).sum()
    with_positive, with_negative = len(set(groups[truth])), len(set(groups[~truth]))
    first = with_positive / ((with_positive - 1) * positives) * sum(x * x for x, _ in sums)
    second = with_negative / ((with_negative - 1) * negatives) * sum(y * y for _, y in sums)
    cross_scale = math.sqrt(with_positive / (with_positive - 1) * with_negative / (with_negative - 1))
    cross = cross_scale * sum(x * y for x, y in sums)
    return first / positives + second / negatives + 2 * cross / (positives * negatives)


def test_clustered_auc_variance_equals_obuchowskis() -> None:
    truth, scores = sample(80)
    groups = np.random.default_rng(1).integers(0, 25, 80)
    clusters = make_clusters(truth[:, None], groups)
    _, influence = auc_influence(truth, scores, clusters)
    assert influence_variance(influence, clusters) == pytest.approx(
        obuchowski_variance(truth, scores, groups), abs=1e-12
    )


def test_a_perfect_auc_still_has_a_wide_interval() -> None:
    truth = np.array([False] * 20 + [True] * 5)
    low, high = auc_interval(truth[:, None], np.arange(25.0)[:, None], make_clusters(truth[:, None]))
    assert high == 1.0
    assert 0.6 < low < 0.95


def test_hanley_interval_solves_its_equation() -> None:
    low, high = hanley_interval(0.8, 30, 50)
    half = (30 + 50) / 2 - 1
    for end in (low, high):
        variance = end * (1 - end) * (1 + half * (1 - end) / (2 - end) + half * end / (1 + end)) / (30 * 50)
        assert abs(0.8 - end) / math.sqrt(variance) == pytest.approx(1.96, abs=0.01)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_newcombes_published_examples(hits: int, total: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    assert wilson_interval(hits, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 400), st.integers(1, 400))
def test_wilson_equals_scipy_and_holds_the_share(hits: int, total: int) -> None:
    hits = min(hits, total)
    expected = stats.binomtest(hits, total).proportion_ci(method="wilson")
    found = wilson_interval(hits, total)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.low - 1e-12 <= hits / total <= found.high + 1e-12


def test_a_patient_seen_five_times_over_is_one_patient() -> None:
    rng = np.random.default_rng(0)
    hits = rng.random(60) < 0.8
    once = wilson_interval(hits.sum(), 60)
    groups = np.repeat(np.arange(60), 5)
    repeated, every = np.repeat(hits, 5), np.ones(300, dtype=bool)
    found = clustered_proportion(repeated, every, make_clusters(repeated[:, None], groups))
    assert found.low == pytest.approx(once.low, abs=0.01)  # Student's quantile makes it a little wider
    assert found.high == pytest.approx(once.high, abs=0.01)
    alone = clustered_proportion(repeated, every, make_clusters(repeated[:, None]))
    assert alone.high - alone.low < 0.6 * (found.high - found.low)


def test_the_mean_of_shares_has_the_spread_of_independent_shares() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(400) < 100
    right = rng.random(400) < np.where(truth, 0.7, 0.9)
    bases, hits = np.column_stack([truth, ~truth]), np.column_stack([right, right])
    low, high = mean_of_proportions(hits, bases, make_clusters(truth[:, None]))
    variances = [right[base].mean() * (1 - right[base].mean()) / base.sum() for base in bases.T]
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(sum(variances)) / 2, rel=0.03)
    alone = mean_of_proportions(hits[:, :1], bases[:, :1], make_clusters(truth[:, None]))
    assert alone == pytest.approx(wilson_interval(int(right[truth].sum()), 100))


def test_predictive_values_follow_bayes_and_hold_their_value() -> None:
    found = predictive_values(45, 50, 160, 200, 0.05)
    value, interval = found["ppv"]
    assert value == pytest.approx(0.05 * 0.9 / (0.05 * 0.9 + 0.95 * 0.2), abs=1e-12)
    assert interval.low < value < interval.high
    assert found["npv"][0] == pytest.approx(0.95 * 0.8 / (0.95 * 0.8 + 0.05 * 0.1), abs=1e-12)
    with pytest.raises(EvaluationError, match="prevalence"):
        predictive_values(45, 50, 160, 200, 5)


@pytest.mark.parametrize("prevalence", [0.001, 0.01, 0.5])
@pytest.mark.parametrize(
    "counts", [(39, 40, 40, 40), (40, 40, 39, 40), (40, 40, 40, 40), (0, 40, 40, 40), (1, 40, 0, 40)]
)
def test_intervals_of_predictive_values_hold_a_value_at_the_end_of_the_scale(
    counts: tuple[int, int, int, int], prevalence: float
) -> None:
    for value, (low, high) in predictive_values(*counts, prevalence).values():
        assert np.isnan(value) or low <= value <= high
        assert 0 <= low < high <= 1


def test_replicates_keep_patients_whole_and_every_label_present() -> None:
    truth = np.zeros((90, 1), dtype=bool)
    truth[:3] = True
    groups = np.repeat(np.arange(30), 3)
    clusters = make_clusters(truth, groups)
    weights = np.concatenate(list(resampled_weights(clusters, truth, 300, seed=1)), axis=1)
    assert weights.shape == (90, 300)
    assert (weights.reshape(30, 3, 300) == weights.reshape(30, 3, 300)[:, :1]).all()
    assert (weights[::3].sum(axis=0) == 30).all()
    assert (weights[:3].sum(axis=0) > 0).all()
    assert weights[0].std() > 0  # how many diseased patients there are is left to chance


def test_case_control_replicates_keep_the_size_of_each_stratum() -> None:
    truth, _ = sample(50)
    clusters = make_clusters(truth[:, None])
    weights = next(resampled_weights(clusters, truth[:, None], 100, sampling="case-control"))
    assert (weights[truth].sum(axis=0) == truth.sum()).all()


def test_patients_stand_in_the_stratum_of_their_rarest_label() -> None:
    truth = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]], dtype=bool)
    clusters = make_clusters(truth, ["a", "b", "b", "c", "c", "d"])
    assert clusters.stratum[0] == clusters.stratum[3]
    assert len({clusters.stratum[0], clusters.stratum[1], clusters.stratum[2]}) == 3


def test_a_case_without_a_patient_is_its_own_patient() -> None:
    clusters = make_clusters(np.zeros((4, 1), dtype=bool), ["a", None, "a", None])
    assert len(clusters) == 3
    assert clusters.of_case[1] != clusters.of_case[3]


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(1, 60))
def test_replicates_do_not_depend_on_the_chunk(num_cases: int, num_replicates: int) -> None:
    truth = np.arange(num_cases)[:, None] % 2 == 0
    clusters = make_clusters(truth)
    every = np.concatenate(list(resampled_weights(clusters, truth, num_replicates)), axis=1)
    again = np.concatenate(list(resampled_weights(clusters, truth, num_replicates)), axis=1)
    assert (every == again).all()


def mean_statistic(values: np.ndarray):
    return lambda weights: (values @ weights / weights.sum(axis=0))[None]


def test_bootstrap_of_a_mean_has_the_known_spread() -> None:
    values = np.random.default_rng(0).exponential(size=150)
    clusters = make_clusters(np.zeros((150, 1), dtype=bool))
    drawn = bootstrap(mean_statistic(values), clusters, np.zeros((150, 1), dtype=bool), num_replicates=4000)
    assert drawn.std() == pytest.approx(values.std() / math.sqrt(150), rel=0.03)


def test_jackknife_leaves_one_patient_out() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0])
    clusters = make_clusters(np.zeros((4, 1), dtype=bool), ["a", "a", "b", "c"])
    left_out = jackknife(mean_statistic(values), clusters)[0]
    assert sorted(left_out) == pytest.approx(sorted([6.0, 11 / 3, 7 / 3]))


def test_bca_equals_scipy() -> None:
    values = np.random.default_rng(3).exponential(size=400)
    clusters = make_clusters(np.zeros((400, 1), dtype=bool))
    statistic = mean_statistic(values)
    drawn = bootstrap(statistic, clusters, np.zeros((400, 1), dtype=bool), num_replicates=9000, seed=1)[0]
    found = bca_interval(values.mean(), drawn, jackknife(statistic, clusters)[0])
    expected = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=9000, rng=2).confidence_interval
    width = expected.high - expected.low
    assert found == pytest.approx((expected.low, expected.high), abs=0.05 * width)


def test_a_constant_statistic_has_an_interval_of_no_width() -> None:
    assert bca_interval(0.3, np.full(100, 0.3), np.full(10, 0.3)) == (0.3, 0.3)


def test_undefined_replicates_are_left_out() -> None:
    drawn = np.append(np.linspace(0, 1, 101), [np.nan] * 50)
    assert percentile_interval(drawn, confidence=0.9) == pytest.approx((0.05, 0.95))


def test_small_samples_widen_the_interval() -> None:
    def width(num_cases: int) -> float:
        quantiles = stats.norm.ppf((np.arange(num_cases) + 0.5) / num_cases)
        left_out = -quantiles / num_cases
        low, high = bca_interval(0.0, np.random.default_rng(0).normal(size=20_000), left_out)
        return high - low

    assert width(8) > 1.05 * width(200)
    assert width(200) == pytest.approx(2 * 1.96, rel=0.02)


def test_groups_must_be_one_a_case() -> None:
    with pytest.raises(EvaluationError, match="2 patients for 3 cases"):
        make_clusters(np.zeros((3, 1), dtype=bool), ["a", "b"])


def test_all_pairs_of_a_hand_made_example() -> None:
    """Three against four cases, counted by hand: 9.5 of 12 pairs are won."""
    truth = np.array([True, True, True, False, False, False, False])
    scores = np.array([0.9, 0.6, 0.4, 0.6, 0.3, 0.2, 0.5])
    won = sum(
        1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(scores[truth], scores[~truth])
    )  # fmt: skip
    assert won == 9.5
    assert auc_influence(truth, scores, make_clusters(truth[:, None]))[0] == pytest.approx(9.5 / 12)
