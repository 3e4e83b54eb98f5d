"""Conformal sets keep their promise; abstention lowers the risk that it says."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from scipy import special

from hounsfield.errors import EvaluationError
from hounsfield.evaluation import (
    ConformalSets,
    abstention_threshold,
    as_outcomes,
    decision_confidence,
    judge_sets,
    risk_coverage,
)
from hounsfield.evaluation.uncertainty import Uncertainty


def answers(num_cases: int, rng: np.random.Generator, num_classes: int = 4):
    truth = rng.choice(num_classes, num_cases, p=np.arange(num_classes, 0, -1) / sum(range(num_classes + 1)))
    score = special.softmax(rng.normal(size=(num_cases, num_classes)) + 1.2 * np.eye(num_classes)[truth], axis=1)
    return as_outcomes(truth, score, labels=[str(k) for k in range(num_classes)], task="multi-class")


@pytest.mark.parametrize("by_class", [False, True])
def test_coverage_over_500_draws_is_what_was_promised(by_class: bool) -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(500):
        conformal = ConformalSets.fit(answers(300, rng), coverage=0.9, by_class=by_class)
        fresh = answers(200, rng)
        sets = conformal.sets(fresh.scores, fresh.task)
        right = (sets & fresh.truth).any(axis=1)
        known = fresh.truth.argmax(axis=1)
        held.append([right.mean(), *(right[known == k].mean() for k in range(4) if by_class)])
    assert np.nanmean(held, axis=0) == pytest.approx(0.9, abs=0.015)


def test_the_threshold_by_hand() -> None:
    """Nine misfits .1 to .9: ⌈10 · .8⌉ = 8, the eighth smallest is .8."""
    misfit = np.arange(1, 10) / 10
    case = as_outcomes(np.ones(9), 1 - misfit, labels=("n", "p"), task="binary")
    conformal = ConformalSets.fit(case, coverage=0.8)
    assert conformal.thresholds == pytest.approx((0.8, 0.8))
    assert conformal.sets(np.array([[0.1], [0.5], [0.95]]), "binary").tolist() == [
        [True, False],
        [True, True],
        [False, True],
    ]


def test_too_few_cases_promise_by_saying_everything() -> None:
    case = as_outcomes([1, 1, 0], [0.9, 0.8, 0.1], labels=("n", "p"), task="binary")
    conformal = ConformalSets.fit(case, coverage=0.9)
    assert all(math.isinf(value) for value in conformal.thresholds)
    assert conformal.sets(np.array([[0.99]]), "binary").all()
    assert ConformalSets.from_dict(json.loads(json.dumps(conformal.to_dict(), allow_nan=False))) == conformal


def test_the_report_counts_sets_and_coverage() -> None:
    rng = np.random.default_rng(2)
    conformal = ConformalSets.fit(answers(1000, rng), coverage=0.9)
    fresh = answers(400, rng)
    found = judge_sets(conformal, fresh)
    size = conformal.sets(fresh.scores, fresh.task).sum(axis=1)
    assert found.mean_size == pytest.approx(size.mean())
    assert found.single == pytest.approx((size == 1).mean())
    assert found.coverage[1].low < found.coverage[0] < found.coverage[1].high
    assert set(found.by_class) == {"0", "1", "2", "3"}


def test_the_coverage_of_several_images_a_patient_is_as_sure_as_that_of_one() -> None:
    rng = np.random.default_rng(2)
    conformal, once = ConformalSets.fit(answers(1000, rng), coverage=0.9), answers(100, rng)
    patients = np.repeat(np.arange(100), 4)
    fourfold = once.take(patients)
    widths = [
        high - low
        for _, (low, high) in (
            judge_sets(conformal, once).coverage,
            judge_sets(conformal, fourfold, groups=patients).coverage,
            judge_sets(conformal, fourfold).coverage,
        )
    ]
    assert widths[1] == pytest.approx(widths[0], rel=0.05)
    assert widths[2] < 0.6 * widths[0]


def test_what_cannot_be_promised_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(EvaluationError, match="strictly between"):
        ConformalSets.fit(answers(20, rng), coverage=90)
    several = as_outcomes([[1, 1]], [[0.5, 0.9]], labels=("a", "b"), task="multi-label")
    with pytest.raises(EvaluationError, match="multi-label"):
        ConformalSets.fit(several)


def test_risk_against_coverage_by_hand() -> None:
    curve = risk_coverage(np.array([0.9, 0.8, 0.8, 0.6, 0.5]), np.array([True, True, False, True, False]))
    assert curve.coverage == pytest.approx([0.2, 0.6, 0.8, 1.0])
    assert curve.risk == pytest.approx([0, 1 / 3, 1 / 4, 2 / 5])
    assert curve.area == pytest.approx(0.4 / 3 + 0.2 / 4 + 0.2 * 2 / 5)


def test_abstaining_keeps_the_risk_below_the_limit() -> None:
    case = answers(500, np.random.default_rng(1))
    confidence, right = decision_confidence(case)
    least = abstention_threshold(confidence, right, 0.1)
    answered = confidence >= least
    assert (~right[answered]).mean() <= 0.1
    assert (~right).mean() > 0.1
    with pytest.raises(EvaluationError, match="risk"):
        abstention_threshold(np.array([0.9, 0.8]), np.array([False, False]), 0.1)


def sorted_cases(num_cases: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and whether right: ever likelier as confidence grows, from half to always."""
    confidence = rng.random(num_cases)
    return confidence, rng.random(num_cases) < 0.5 + confidence / 2


def test_a_promised_risk_is_kept_on_new_cases_too() -> None:
    """The true risk of answering above c is (1 − c) / 4: promises are broken in at most 5 % of draws."""
    broken, bare = 0, 0
    for seed in range(400):
        confidence, right = sorted_cases(1000, np.random.default_rng(seed))
        least = abstention_threshold(confidence, right, 0.2, certainty=0.95)
        broken += (1 - least) / 4 > 0.2
        bare += (1 - abstention_threshold(confidence, right, 0.2)) / 4 > 0.2
    assert broken <= 20
    assert bare > 100


def test_a_promise_by_hand_and_by_patient() -> None:
    """Without an error among m, Clopper and Pearson's bound at level α is 1 − α^(1/m)."""
    confidence, right = np.linspace(0.5, 1, 400), np.ones(400, dtype=bool)
    bound = 1 - (0.05 / 20) ** (1 / 400)
    assert abstention_threshold(confidence, right, bound + 1e-6, certainty=0.95) == 0.5
    with pytest.raises(EvaluationError, match="cannot be promised"):
        abstention_threshold(confidence, right, bound - 1e-6, certainty=0.95)
    patients = np.arange(400) // 4
    fewer = 1 - (0.05 / 20) ** (1 / 100)
    assert abstention_threshold(confidence, right, fewer + 1e-6, certainty=0.95, patients=patients) == 0.5
    with pytest.raises(EvaluationError, match="cannot be promised"):
        abstention_threshold(confidence, right, fewer - 1e-6, certainty=0.95, patients=patients)
    with pytest.raises(EvaluationError, match="strictly between"):
        abstention_threshold(confidence, right, 5)


@pytest.mark.parametrize("certainty", [None, 0.95])
def test_the_lowest_risk_that_a_refusal_names_is_accepted(certainty: float | None) -> None:
    named = set()
    for seed in range(100):
        rng = np.random.default_rng(seed)
        confidence = rng.random(int(rng.integers(5, 300)))
        right = rng.random(len(confidence)) < 0.8
        right[np.argsort(confidence)[-2:]] = False
        with pytest.raises(EvaluationError, match="Allow more risk") as refused:
            abstention_threshold(confidence, right, 0.001, certainty=certainty)
        lowest = float(re.search(r"cases allow is (0\.\d+)\.", str(refused.value))[1])
        abstention_threshold(confidence, right, lowest, certainty=certainty)
        with pytest.raises(EvaluationError, match="Allow more risk"):
            abstention_threshold(confidence, right, lowest - 0.001, certainty=certainty)
        named.add(lowest)
    assert len(named) > 50


def test_cases_without_a_right_answer_allow_no_risk() -> None:
    wrong = np.zeros(2, dtype=bool)
    for certainty in (None, 0.95):
        with pytest.raises(EvaluationError, match="2 cases allow none below"):
            abstention_threshold(np.array([0.9, 0.8]), wrong, 0.5, certainty=certainty)


def test_what_a_bundle_keeps_gives_the_same_sets_and_thresholds() -> None:
    case = answers(600, np.random.default_rng(4))
    kept = Uncertainty.from_arrays(Uncertainty.of(case, np.arange(600)).to_arrays())
    for by_class in (False, True):
        found = kept.conformal(case.labels, case.task, coverage=0.8, by_class=by_class)
        expected = ConformalSets.fit(case, coverage=0.8, by_class=by_class)
        assert found.thresholds == pytest.approx(expected.thresholds, abs=1e-6)
    confidence, right = decision_confidence(case)
    least = kept.least_confidence(case.labels, case.task, threshold=0.5, max_risk=0.3)
    assert least == pytest.approx(abstention_threshold(confidence, right, 0.3, certainty=0.95), abs=1e-6)
    assert kept.novelty is None


def test_a_bundle_keeps_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hounsfield.evaluation.uncertainty.MAX_ROWS", 50)
    kept = Uncertainty.of(answers(600, np.random.default_rng(4)), np.arange(600) // 2 + 1000)
    assert len(kept.truth) == len(kept.scores) == 50
    assert kept.patients.max() == 49


def test_confidence_is_the_way_from_the_threshold_to_the_end() -> None:
    case = as_outcomes([0, 1, 1], [0.2, 0.2, 1.0], labels=("n", "p"), task="binary", threshold=0.2)
    confidence, right = decision_confidence(case, threshold=0.2)
    assert confidence == pytest.approx([0, 0, 1])
    assert right.tolist() == [True, False, True]
