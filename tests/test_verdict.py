"""What a reader must not miss of a test: miscalibration, promises that did not hold, figures on too few patients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from hounsfield.errors import EvaluationError
from hounsfield.evaluation import as_outcomes, calibration_line, evaluate
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.evaluation.promises import measured_promises, promises_caution
from hounsfield.evaluation.uncertainty import Uncertainty
from hounsfield.evaluation.verdict import REMEDY, calibration_caution, calibration_verdicts
from hounsfield.reports.sections.content import number


def drawn(
    count: int, *, slope: float = 1.0, shift: float = 0.0, seed: int = 0, task: str = "binary", classes: int = 2
) -> Outcomes:
    """Cases whose true log odds are ``slope`` times those that are predicted, plus ``shift``."""
    rng = np.random.default_rng(seed)
    if task == "multi-class":
        logits = rng.normal(0, 2, (count, classes))
        shares = special.softmax(slope * logits, axis=1)
        truth = (rng.random((count, 1)) > np.cumsum(shares, axis=1)).sum(axis=1)
        return as_outcomes(truth, special.softmax(logits, axis=1), labels=list("abc")[:classes], task="multi-class")
    logits = rng.normal(0, 2, count)
    truth = rng.random(count) < special.expit(slope * logits + shift)
    return as_outcomes(truth, special.expit(logits), labels=("normal", "sick"), task="binary")


@pytest.mark.parametrize(
    ("slope", "shift", "faults"),
    [
        (1.0, 0.0, ()),
        (1.0, -1.0, ("too high",)),
        (1.0, 1.0, ("too low",)),
        (0.5, 0.0, ("too extreme",)),
        (1.7, 0.0, ("not extreme enough",)),
    ],
)
def test_a_fault_is_named_with_its_direction(slope: float, shift: float, faults: tuple[str, ...]) -> None:
    answers = drawn(3000, slope=slope, shift=shift)
    (verdict,) = calibration_verdicts(answers)
    assert verdict.faults == faults
    assert (verdict.observed, verdict.predicted) == pytest.approx((answers.truth.mean(), answers.scores.mean()))
    caution = calibration_caution((verdict,))
    assert (caution == "") == (not faults)
    if faults:
        assert f"Probabilities of 'sick' are {faults[0]}" in caution
        assert caution.endswith(REMEDY)
    # One sign everywhere: observed minus predicted, below 0 where probabilities are too high.
    large = verdict.to_dict()["in_the_large"]
    assert large["value"] == pytest.approx(answers.truth.mean() - answers.scores.mean())
    if shift:
        assert np.sign(large["value"]) == np.sign(verdict.line.intercept) == np.sign(shift)


def test_an_honest_network_is_rarely_accused() -> None:
    accused = sum(bool(calibration_verdicts(drawn(400, seed=seed))[0].faults) for seed in range(200))
    assert accused <= 32  # two intervals at 95 %: about one in ten


def test_the_furthest_bin_is_shown_by_its_figures() -> None:
    answers = drawn(5000, shift=-1.5)
    (verdict,) = calibration_verdicts(answers)
    assert verdict.worst is not None
    near, share, ends, count = verdict.worst
    assert ends.high < near
    assert f"Of {count:,} images with a probability near {near:.2f}, the share {share:.2f}" in verdict.text()


def test_a_multi_class_verdict_is_of_the_predicted_class() -> None:
    (verdict,) = calibration_verdicts(drawn(4000, slope=0.5, task="multi-class", classes=3))
    assert verdict.question == "the predicted class"
    assert "too high" in verdict.faults


def test_of_labels_of_one_kind_nothing_is_judged() -> None:
    answers = as_outcomes(np.ones(20), np.linspace(0.1, 0.9, 20), labels=("normal", "sick"), task="binary")
    assert calibration_verdicts(answers) == ()


def test_no_slope_is_given_where_the_kinds_are_separated() -> None:
    truth = np.arange(60) >= 30
    line = calibration_line(truth, np.where(truth, 0.8, 0.3) + np.linspace(0, 0.1, 60))
    assert math.isnan(line.slope)
    assert math.isfinite(line.intercept)
    assert "separate" in line.note


@pytest.mark.parametrize(("sick", "normal", "faults"), [(1.0, 0.0, ()), (0.97, 0.02, ()), (0.9, 0.6, ("too high",))])
def test_probabilities_that_separate_the_kinds_are_judged_by_their_mean(
    sick: float, normal: float, faults: tuple[str, ...]
) -> None:
    truth = np.arange(200) >= 100
    score = np.clip(np.where(truth, sick, normal) + np.linspace(0, 1e-9, 200), 0, 1)
    (verdict,) = calibration_verdicts(as_outcomes(truth, score, labels=("normal", "sick"), task="binary"))
    assert verdict.faults == faults


def test_ends_and_few_patients_are_told() -> None:
    rng = np.random.default_rng(0)
    truth, score = rng.random(200) < 0.4, rng.random(200)
    assert calibration_line(truth, score).note == ""
    assert "2 probabilities are exactly 0 or 1" in calibration_line(truth, np.r_[0.0, 1.0, score[2:]]).note
    few = np.arange(200) < 6
    assert "6 patients of the rarer kind" in calibration_line(few, score).note
    found = evaluate(few, score, labels=("normal", "sick"), task="binary", num_replicates=100)
    for name in ("auc", "sensitivity", "average_precision", "brier", "ece"):
        assert found[name].note == "unreliable: rests on 6 patients of a kind; at least 10 are needed"
    assert found["specificity"].note == found["accuracy"].note == ""
    by_patient = evaluate(
        truth, score, labels=("normal", "sick"), task="binary", num_replicates=100, groups=np.arange(200) % 8
    )
    assert "8 patients" in by_patient["accuracy"].note


def kept(answers: Outcomes) -> Uncertainty:
    return Uncertainty.of(answers, np.arange(len(answers)))


def test_promises_hold_for_cases_like_those_of_validation() -> None:
    promises = measured_promises(kept(drawn(1000)), drawn(1000, seed=1))
    named = {promise.name: promise for promise in promises}
    assert not any(promise.broken for promise in promises)
    assert named["Label sets hold the true label"].value == pytest.approx(0.9, abs=0.03)
    assert promises_caution(promises, "test images") == ""
    assert {"Label sets hold 'normal' where it is true", "Label sets hold 'sick' where it is true"} <= named.keys()


def test_promises_that_do_not_hold_are_named() -> None:
    answers = drawn(1000, seed=1, shift=-3.0)
    promises = measured_promises(kept(drawn(1000)), answers)
    broken = [promise for promise in promises if promise.broken]
    assert broken[0].name == "Label sets hold the true label"
    caution = promises_caution(promises, "test images")
    assert f"{broken[0].value:.2f}" in caution
    assert "cases like the validation images" in caution


def test_answers_are_measured_beside_the_risk_that_was_promised() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, 3000)
    truth = rng.random(3000) < special.expit(logits)
    answers = as_outcomes(truth, special.expit(logits), labels=("normal", "sick"), task="binary")
    promises = {
        promise.name: promise
        for promise in measured_promises(
            kept(answers.take(np.arange(1500))), answers.take(np.arange(1500, 3000)), threshold=0.5
        )
    }
    assert promises["Wrong among the answered"].value <= 0.05
    assert 0 < promises["Answered when told to abstain"].value < 1


def test_a_task_that_is_not_known_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="'tertiary' is not known; expected one of binary"):
        as_outcomes([0, 1], [0.1, 0.9], labels=("a", "b"), task="tertiary")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "text"), [(0.9977, "0.998"), (0.9997, "0.9997"), (1.0, "1.000"), (0.0002, "0.0002"), (0.5, "0.500")]
)
def test_no_figure_is_rounded_to_nothing_or_all(value: float, text: str) -> None:
    assert number(value) == text
