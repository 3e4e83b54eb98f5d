"""Conformal sets keep their promise; abstention lowers the risk that it says."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import special

from hounsfield.errors import EvaluationError
from hounsfield.evaluation import (
    ConformalSets,
    abstention_threshold,
    as_answers,
    decision_confidence,
    judge_sets,
    risk_coverage,
)


def answers(num_cases: int, rng: np.random.Generator, num_classes: int = 4):
    truth = rng.choice(num_classes, num_cases, p=np.arange(num_classes, 0, -1) / sum(range(num_classes + 1)))
    score = special.softmax(rng.normal(size=(num_cases, num_classes)) + 1.2 * np.eye(num_classes)[truth], axis=1)
    return as_answers(truth, score, labels=[str(k) for k in range(num_classes)], task="multi-class")


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
    case = as_answers(np.ones(9), 1 - misfit, labels=("n", "p"), task="binary")
    conformal = ConformalSets.fit(case, coverage=0.8)
    assert conformal.thresholds == pytest.approx((0.8, 0.8))
    assert conformal.sets(np.array([[0.1], [0.5], [0.95]]), "binary").tolist() == [
        [True, False],
        [True, True],
        [False, True],
    ]


def test_too_few_cases_promise_by_saying_everything() -> None:
    case = as_answers([1, 1, 0], [0.9, 0.8, 0.1], labels=("n", "p"), task="binary")
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


def test_what_cannot_be_promised_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(EvaluationError, match="strictly between"):
        ConformalSets.fit(answers(20, rng), coverage=90)
    several = as_answers([[1, 1]], [[0.5, 0.9]], labels=("a", "b"), task="multi-label")
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


def test_confidence_is_the_way_from_the_threshold_to_the_end() -> None:
    case = as_answers([0, 1, 1], [0.2, 0.2, 1.0], labels=("n", "p"), task="binary", threshold=0.2)
    confidence, right = decision_confidence(case, threshold=0.2)
    assert confidence == pytest.approx([0, 0, 1])
    assert right.tolist() == [True, False, True]
