"""Learning curves: the law they follow is found again, and the forecast covers it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.learning_curve import extrapolate, learning_curve
from hounsfield.evaluation.metrics import METRICS
from hounsfield.evaluation.outcomes import Outcomes, as_outcomes
from hounsfield.training.forecast import epochs_of_share
from plans import hand_made_plan

SIZES = (50, 100, 200, 400)


def law(size: float, floor: float, scale: float, exponent: float) -> float:
    return floor + scale * (size / 400) ** -exponent


def test_points_on_a_law_are_continued_along_it() -> None:
    errors = [law(size, 0.02, 0.08, 0.6) for size in SIZES]
    (twice, fourfold), now = extrapolate(SIZES, errors, np.diag(np.square(errors)) * 1e-6)
    assert now == pytest.approx(0.10, rel=0.05)
    assert twice.size == 800
    for found, factor in ((twice, 2), (fourfold, 4)):
        expected = law(400 * factor, 0.02, 0.08, 0.6)
        assert found.low < expected < found.high
        assert found.error == pytest.approx(expected, rel=0.12)
        assert found.gain_low < 0.10 - expected < found.gain_high
    assert fourfold.error < twice.error < now
    assert fourfold.high - fourfold.low > twice.high - twice.low


def test_forecasts_cover_the_law_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(24):
        floor, exponent, scale = rng.choice([0.0, 0.03]), rng.uniform(0.3, 0.9), rng.uniform(0.05, 0.12)
        errors = np.array([law(size, floor, scale, exponent) for size in SIZES])
        covariance = np.outer(errors, errors) * 0.01 + np.diag((0.06 * errors) ** 2)
        seen = rng.multivariate_normal(errors, covariance) * (1 + 0.05 * rng.normal(size=4))
        forecast = extrapolate(SIZES, seen, covariance, seed=seed)[0][0]
        held += forecast.low <= law(800, floor, scale, exponent) <= forecast.high
    assert held >= 19  # 22.8 expected


def test_a_flat_curve_promises_nothing_and_a_noisy_one_says_that_it_does_not_know() -> None:
    (flat, _), now = extrapolate(SIZES, [0.1, 0.1, 0.1, 0.1], np.eye(4) * 1e-8)
    assert flat.gain_high < 0.3 * now
    (noisy, _), _ = extrapolate(SIZES, [0.20, 0.14, 0.16, 0.10], np.eye(4) * 0.03**2)
    assert noisy.gain_high - noisy.gain_low > 2 * (flat.gain_high - flat.gain_low)


def answers_of(error: float, seed: int) -> Outcomes:
    """Outcomes to the same 600 cases whose 1 − AUC is about ``error``."""
    rng = np.random.default_rng(7)
    truth = rng.random(600) < 0.5
    noise = 0.98 * rng.normal(size=600) + 0.2 * np.random.default_rng(seed).normal(size=600)
    separation = np.sqrt(2) * stats.norm.ppf(1 - error)
    scores = 1 / (1 + np.exp(-(noise + separation * (truth - 0.5))))
    return as_outcomes(truth, scores, labels=("normal", "opacity"), task="binary")


def test_networks_on_the_same_cases_make_a_curve() -> None:
    answers = {size: answers_of(law(size, 0.05, 0.1, 0.5), size) for size in SIZES}
    curve = learning_curve(answers, groups=np.repeat(np.arange(300), 2), num_replicates=200)
    assert curve.sizes == SIZES
    for size, error, low, high in zip(SIZES, curve.errors, curve.lows, curve.highs, strict=True):
        expected = 1 - METRICS["auc"](answers[size].truth, answers[size].scores)
        assert error == pytest.approx(expected, abs=1e-12)
        assert low < error < high
    told = curve.lines()
    assert told[0].startswith("1 − AUC on validation images by number of training patients: ")
    assert "Predicted with 800 (2 times as many): " in told[1]
    json.dumps(curve.to_dict(), allow_nan=False)
    losses = learning_curve(answers, metric="log_loss", num_replicates=100)
    assert losses.title == "Log loss"
    assert losses.errors[0] == pytest.approx(METRICS["log_loss"](answers[50].truth, answers[50].scores))


def test_the_verdict_follows_the_interval_of_the_gain() -> None:
    steep = {size: answers_of(law(size, 0.0, 0.06, 0.8), 1) for size in SIZES}
    flat = {size: answers_of(0.1, 1) for size in SIZES}
    assert learning_curve(steep, num_replicates=100).lines()[-1].startswith("More data would help")
    assert not learning_curve(flat, num_replicates=100).lines()[-1].startswith("More data would help (")


def test_what_cannot_be_extrapolated_is_refused() -> None:
    with pytest.raises(EvaluationError, match="at least 3 sizes; got 2"):
        extrapolate([100, 200], [0.2, 0.1], np.eye(2))
    with pytest.raises(EvaluationError, match="must be above 0"):
        extrapolate(SIZES, [0.2, 0.1, 0.05, 0.0], np.eye(4))
    some = answers_of(0.1, 1)
    with pytest.raises(EvaluationError, match="same cases in the same order"):
        learning_curve({50: some, 100: some, 200: some.take(np.arange(600)[::-1])})
    with pytest.raises(EvaluationError, match="same cases"):
        learning_curve({})


@pytest.mark.parametrize(
    ("num_images", "epochs", "expected"),
    [
        (20_000, 15, (15, 40)),  # the planner's fewest passes: a half has no more of them
        (4_000, 25, (50, 80)),  # the planner's, which are the most at an eighth
        (1_000, 80, (80, 80)),
        (4_000, 10, (20, 80)),  # set by hand
        (4_000, 100, (100, 100)),
    ],
)
def test_shares_have_the_passes_of_the_planner(num_images: int, epochs: int, expected: tuple[int, int]) -> None:
    plan = hand_made_plan(effort="standard", epochs=epochs)
    assert (epochs_of_share(plan, 0.5, num_images), epochs_of_share(plan, 0.125, num_images)) == expected
