"""Calibration: its measures against loops, its scalings against what they must do."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import special
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from hounsfield.errors import EvaluationError
from hounsfield.evaluation import (
    as_outcomes,
    brier_decomposition,
    calibration_line,
    estimated_error,
    evaluate_outcomes,
    expected_calibration_error,
    fit_scaling,
    reliability,
    scaling_from_dict,
    scaling_to_dict,
    wilson_interval,
)
from hounsfield.evaluation.metrics import METRICS
from hounsfield.evaluation.recalibration import FITS, SCALINGS, carried_threshold


def overconfident(num_cases: int = 2000, temperature: float = 2.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of known log odds, and probabilities whose log odds are that many times too large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 1.2, num_cases)
    return rng.random(num_cases) < special.expit(logits), special.expit(temperature * logits)


def answers_of(truth, score, task="binary"):
    labels = [str(index) for index in range(2 if task == "binary" else np.shape(score)[1])]
    return as_outcomes(truth, score, labels=labels, task=task)


def test_reliability_equals_a_loop() -> None:
    truth, score = overconfident(300)
    found = reliability(truth, score, num_bins=5)
    order = np.argsort(score)
    for index, rows in enumerate(np.array_split(order, 5)):
        assert found.count[index] == 60
        assert found.probability[index] == pytest.approx(score[rows].mean())
        assert found.frequency[index] == pytest.approx(truth[rows].mean())
        expected = wilson_interval(int(truth[rows].sum()), 60)
        assert (found.low[index], found.high[index]) == pytest.approx(expected)


def test_plain_error_equals_a_loop_and_debiasing_removes_what_chance_adds() -> None:
    truth, score = overconfident(300)
    parts = np.array_split(np.argsort(score), 10)
    plain = sum(abs(truth[rows].mean() - score[rows].mean()) * len(rows) / 300 for rows in parts)
    assert expected_calibration_error(truth, score, debiased=False) == pytest.approx(plain, abs=1e-12)
    errors = []
    for seed in range(60):
        truth, score = overconfident(300, temperature=1.0, seed=seed)
        errors.append([expected_calibration_error(truth, score, debiased=each) for each in (False, True)])
    plain_mean, debiased_mean = np.mean(errors, axis=0)
    assert debiased_mean < 0.65 * plain_mean  # perfectly calibrated: both should be 0


def test_the_metric_is_the_debiased_error() -> None:
    truth, score = overconfident(300)
    assert METRICS["ece"](truth, score) == pytest.approx(expected_calibration_error(truth, score), abs=1e-12)


@pytest.mark.parametrize("task", ["binary", "multi-class"])
def test_the_error_alone_is_that_among_all_metrics(task: str) -> None:
    truth, score = overconfident(240)
    if task == "multi-class":
        score = np.column_stack([0.9 * (1 - score), score, 0.1 * (1 - score)])
    answers = answers_of(truth.astype(int), score, task)
    for groups in (None, np.arange(240) // 2):
        expected = evaluate_outcomes(answers, groups=groups, num_replicates=200)["ece"]
        found = estimated_error(answers, groups=groups, num_replicates=200)
        assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
        assert (found.n, found.method) == (expected.n, expected.method)


def test_brier_parts_add_up_and_are_exact_for_few_probabilities() -> None:
    truth, score = overconfident(400)
    parts = brier_decomposition(truth, score)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within
    assert parts.score == pytest.approx(np.mean((score - truth) ** 2), abs=1e-12)
    assert total == pytest.approx(parts.score, abs=1e-12)
    parts = brier_decomposition(truth, np.where(score > 0.5, 0.8, 0.2))
    assert parts.within == pytest.approx(0, abs=1e-12)


def test_slope_equals_an_unpenalised_logistic_regression() -> None:
    truth, score = overconfident(500)
    line = calibration_line(truth, score)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(special.logit(score)[:, None], truth)
    assert line.slope == pytest.approx(model.coef_[0, 0], abs=1e-5)
    mean = special.expit(special.logit(score) + line.intercept).mean()
    assert mean == pytest.approx(truth.mean(), abs=1e-9)  # what defines calibration in the large


def test_slope_and_its_interval_find_the_known_slope_again() -> None:
    lines = [calibration_line(*overconfident(500, seed=seed)) for seed in range(100, 300)]  # made 2.5 times too extreme
    assert np.mean([line.slope for line in lines]) == pytest.approx(0.4, abs=0.02)
    assert 182 <= sum(line.slope_interval.low < 0.4 < line.slope_interval.high for line in lines) <= 198
    intercept = calibration_line(*overconfident(40_000)).intercept
    assert 182 <= sum(line.intercept_interval.low < intercept < line.intercept_interval.high for line in lines) <= 198


def test_several_images_a_patient_make_nothing_surer() -> None:
    truth, score = overconfident(500)
    patients = np.repeat(np.arange(500), 4)
    once, by_patient, naive = (
        calibration_line(truth, score),
        calibration_line(truth[patients], score[patients], groups=patients),
        calibration_line(truth[patients], score[patients]),
    )
    for end in ("slope_interval", "intercept_interval"):
        widths = [getattr(line, end).high - getattr(line, end).low for line in (once, by_patient, naive)]
        assert widths[1] == pytest.approx(widths[0], rel=1e-6)
        assert widths[2] < 0.6 * widths[0]
    assert by_patient.slope == pytest.approx(once.slope, abs=1e-6)
    single = reliability(truth, score)
    clustered = reliability(truth[patients], score[patients], groups=patients)
    assert clustered.frequency == pytest.approx(single.frequency)
    # The quantile is Student's with 49 degrees of freedom where the single images have the normal one.
    assert clustered.high - clustered.low == pytest.approx(single.high - single.low, rel=0.05)


def test_a_slope_of_equal_probabilities_is_refused() -> None:
    with pytest.raises(EvaluationError, match="alike"):
        calibration_line(np.array([True, False]), np.array([0.4, 0.4]))


def test_temperature_is_found_again() -> None:
    truth, score = overconfident(20_000)
    scaling = FITS["temperature"](answers_of(truth, score))
    assert scaling.temperature == pytest.approx(2.5, rel=0.05)
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20_000, 3)) * 1.5
    classes = (special.softmax(logits, axis=1).cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    sharp = special.softmax(3 * logits, axis=1)
    assert FITS["temperature"](answers_of(classes, sharp, "multi-class")).temperature == pytest.approx(3, rel=0.05)


def test_platt_equals_a_logistic_regression() -> None:
    truth, score = overconfident(4000)
    score = special.expit(special.logit(score) + 1)
    scaling = FITS["platt"](answers_of(truth, score))
    model = LogisticRegression(C=np.inf, tol=1e-10).fit(special.logit(score)[:, None], truth)
    assert scaling.slopes[0] == pytest.approx(model.coef_[0, 0], abs=0.01)
    assert scaling.intercepts[0] == pytest.approx(model.intercept_[0], abs=0.01)


def test_isotonic_equals_scikit_learn_away_from_the_ends() -> None:
    truth, score = overconfident(500)
    score = score.round(2)
    fresh = np.linspace(0.05, 0.95, 50)[:, None]
    found = FITS["isotonic"](answers_of(truth, score)).apply(fresh, "binary")[:, 0]
    expected = IsotonicRegression(out_of_bounds="clip").fit(score, truth).predict(fresh[:, 0])
    expected = np.clip(expected, 0.5 / 501, 1 - 0.5 / 501)
    np.testing.assert_allclose(found, 0.99 * expected + 0.01 * fresh[:, 0], atol=1e-9)


@pytest.mark.parametrize("task", ["binary", "multi-class", "multi-label"])
@pytest.mark.parametrize("name", SCALINGS)
def test_every_scaling_gives_probabilities_and_survives_a_file(name: str, task: str) -> None:
    rng = np.random.default_rng(0)
    if task == "multi-class":
        truth, score = rng.integers(0, 3, 200), special.softmax(rng.normal(size=(200, 3)), axis=1)
    else:
        shape = (200, 1) if task == "binary" else (200, 3)
        truth, score = rng.random(shape) < 0.4, rng.random(shape)
    scaling = FITS[name](answers_of(truth, score, task))
    scaled = scaling.apply(score, task)
    assert scaled.shape == score.shape
    assert ((scaled >= 0) & (scaled <= 1)).all()
    if task == "multi-class":
        np.testing.assert_allclose(scaled.sum(axis=1), 1, atol=1e-9)
    stored = json.loads(json.dumps(scaling_to_dict(scaling)))
    assert scaling_from_dict(stored) == scaling


def test_a_scaling_is_chosen_when_it_helps() -> None:
    truth, score = overconfident(800)
    found = fit_scaling(answers_of(truth, score))
    assert found.scaling.name in {"temperature", "platt"}
    assert found.losses[found.scaling.name] < found.losses["none"]
    truth, score = overconfident(2000, seed=9)
    before, after = (METRICS["ece"](truth, each) for each in (score, found.scaling.apply(score[:, None], "binary")))
    assert after < before / 3


@pytest.mark.parametrize(("count", "considered"), [(49, 1), (50, 2), (199, 2), (200, 3), (999, 3), (1000, 4)])
def test_flexible_scalings_need_many_patients(count: int, considered: int) -> None:
    truth, score = overconfident(2 * count)
    found = fit_scaling(answers_of(truth, score), groups=np.arange(2 * count) // 2)
    assert len(found.losses) == considered


def test_honest_probabilities_are_left_alone() -> None:
    kept = [fit_scaling(answers_of(*overconfident(400, 1.0, seed))).scaling.name == "none" for seed in range(20)]
    assert sum(kept) >= 16


def test_the_simplest_of_equally_good_scalings_is_taken() -> None:
    """A temperature is what is wrong here, so neither slope with intercept nor a curve may take its place often."""
    names = [fit_scaling(answers_of(*overconfident(600, 2.5, seed))).scaling.name for seed in range(8)]
    assert names.count("temperature") >= 6
    truth, score = overconfident(600)
    shifted = special.expit(special.logit(score) + 1.5)
    assert fit_scaling(answers_of(truth, shifted)).scaling.name == "platt"
    only = fit_scaling(answers_of(truth, shifted), candidates=("none", "temperature"))
    assert set(only.losses) == {"none", "temperature"}


def test_held_out_probabilities_never_saw_their_own_patient() -> None:
    """Outcomes of one patient are turned round: the probabilities of that patient must not notice."""
    truth, score = overconfident(300)
    patients = np.arange(300) // 3
    other = truth.copy()
    other[patients == 7] = ~other[patients == 7]
    first, second = (fit_scaling(answers_of(each, score), groups=patients) for each in (truth, other))
    assert first.scaling.name == second.scaling.name != "none"
    np.testing.assert_array_equal(first.held_out[patients == 7], second.held_out[patients == 7])
    assert np.abs(first.held_out - second.held_out).max() > 0


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.83])
def test_a_carried_threshold_decides_as_before_and_the_ranking_stays(name: str, threshold: float) -> None:
    truth, score = overconfident(500)
    scaling = FITS[name](answers_of(truth, special.expit(special.logit(score) + 1)))
    fresh = np.random.default_rng(5).random((2000, 1))
    scaled = scaling.apply(fresh, "binary")
    np.testing.assert_array_equal(scaled > carried_threshold(scaling, threshold), fresh > threshold)
    assert (np.diff(scaled[np.argsort(fresh[:, 0]), 0]) > 0).all()
    if name == "temperature":
        assert carried_threshold(scaling, 0.5) == 0.5


def test_a_scaling_that_would_lower_an_accuracy_is_passed_over() -> None:
    """Scores of balanced classes on unbalanced cases: shifting them gains log loss and costs balanced accuracy."""
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 1500, p=[0.8, 0.15, 0.05])
    score = special.softmax(rng.normal(size=(1500, 3)) + 2 * np.eye(3)[truth], axis=1)
    found = fit_scaling(answers_of(truth, score, "multi-class"))
    assert found.losses["platt"] < min(found.losses["none"], found.losses["temperature"]) - 0.05
    assert found.scaling.name in {"none", "temperature"}


def several_labels(slopes: tuple[float, float], shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of two labels, and probabilities whose log odds are so many times too large, and shifted."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-0.5, 1.2, (1200, 2))
    return rng.random((1200, 2)) < special.expit(logits), special.expit(logits * slopes + shift)


def test_a_temperature_carries_the_threshold_of_several_labels_along() -> None:
    truth, score = several_labels((2.5, 2.5))
    scaling = fit_scaling(answers_of(truth, score, "multi-label"), candidates=("temperature",), threshold=0.2).scaling
    assert scaling.name == "temperature"
    carried = carried_threshold(scaling, 0.2, "multi-label")
    assert carried > 0.3
    np.testing.assert_array_equal(scaling.apply(score, "multi-label") > carried, score > 0.2)
    assert carried_threshold(scaling, 0.2, "multi-class") == 0.2
    platt = FITS["platt"](answers_of(truth, score, "multi-label"))
    assert carried_threshold(platt, 0.2, "multi-label") == 0.2


def test_several_labels_are_guarded_at_the_threshold_in_use() -> None:
    """A shift is taken out: decisions at .5 gain by it, those at the threshold that suits the shift lose."""
    truth, score = several_labels((1.0, 1.0), shift=1.5)
    answers = answers_of(truth, score, "multi-label")
    assert fit_scaling(answers).scaling.name == "platt"
    suited = fit_scaling(answers, threshold=float(special.expit(1.5)))
    assert suited.losses["platt"] < suited.losses["none"] - 0.1
    assert suited.scaling.name in {"none", "temperature"}


def test_an_unknown_scaling_is_refused() -> None:
    with pytest.raises(EvaluationError, match="not one of"):
        scaling_from_dict({"name": "beta"})
    with pytest.raises(EvaluationError, match="not one of"):
        scaling_from_dict({"name": "platt", "slope": 1})
