"""Metrics against scikit-learn, and the laws that every metric of the dictionary obeys."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.metrics import METRICS, Tally, equal_mass_bins
from hounsfield.evaluation.outcomes import as_outcomes

TASKS = ["binary", "multi-class", "multi-label"]


def cases(task: str, num_cases: int = 240, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Truths and probabilities with ties, for one task."""
    rng = np.random.default_rng(seed)
    if task == "binary":
        truth = (rng.random(num_cases) < 0.3).astype(int)
        return truth, np.round(np.clip(rng.normal(0.35 + 0.3 * truth, 0.2), 0.01, 0.99), 2)
    if task == "multi-class":
        truth = rng.choice(4, num_cases, p=[0.4, 0.3, 0.2, 0.1])
        logits = np.round(rng.normal(size=(num_cases, 4)) + 1.5 * np.eye(4)[truth], 1)
        return truth, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (rng.random((num_cases, 3)) < [0.2, 0.5, 0.7]).astype(int)
    return truth, np.round(np.clip(rng.normal(0.35 + 0.3 * truth, 0.2), 0.01, 0.99), 2)


def one_hot(truth: np.ndarray) -> np.ndarray:
    return np.eye(4, dtype=int)[truth]


def binary_reference(truth: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    decided, extra = (score > 0.5).astype(int), {"sample_weight": weights}
    return {
        "auc": reference.roc_auc_score(truth, score, **extra),
        "average_precision": reference.average_precision_score(truth, score, **extra),
        "accuracy": reference.accuracy_score(truth, decided, **extra),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, decided, **extra),
        "sensitivity": reference.recall_score(truth, decided, **extra),
        "specificity": reference.recall_score(1 - truth, 1 - decided, **extra),
        "ppv": reference.precision_score(truth, decided, **extra),
        "npv": reference.precision_score(1 - truth, 1 - decided, **extra),
        "f1": reference.f1_score(truth, decided, **extra),
        "kappa": reference.cohen_kappa_score(truth, decided, **extra),
        "brier": reference.brier_score_loss(truth, score, **extra),
        "log_loss": reference.log_loss(truth, score, **extra),
    }


def test_binary_metrics_equal_scikit_learn() -> None:
    truth, score = cases("binary")
    for name, value in binary_reference(truth, score).items():
        assert METRICS[name](truth, score) == pytest.approx(value, abs=1e-9), name


def test_weighted_binary_metrics_equal_scikit_learn() -> None:
    truth, score = cases("binary")
    weights = np.random.default_rng(0).random(len(truth)) * 3
    for name, value in binary_reference(truth, score, weights).items():
        assert METRICS[name](truth, score, weights=weights) == pytest.approx(value, abs=1e-9), name


def test_multi_class_metrics_equal_scikit_learn() -> None:
    truth, score = cases("multi-class")
    decided, each = score.argmax(axis=1), one_hot(truth)
    expected = {
        "auc": reference.roc_auc_score(truth, score, multi_class="ovr", average="macro"),
        "average_precision": reference.average_precision_score(each, score, average="macro"),
        "accuracy": reference.accuracy_score(truth, decided),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, decided),
        "sensitivity": reference.recall_score(truth, decided, average="macro"),
        "specificity": np.mean([reference.recall_score(truth != k, decided != k) for k in range(4)]),
        "ppv": reference.precision_score(truth, decided, average="macro"),
        "npv": np.mean([reference.precision_score(truth != k, decided != k) for k in range(4)]),
        "f1": reference.f1_score(truth, decided, average="macro"),
        "kappa": reference.cohen_kappa_score(truth, decided),
        "brier": np.mean(np.sum((score - each) ** 2, axis=1)),
        "log_loss": reference.log_loss(truth, score),
    }
    for name, value in expected.items():
        assert METRICS[name](truth, score, task="multi-class") == pytest.approx(value, abs=1e-9), name


def test_multi_label_metrics_are_means_of_the_binary_ones() -> None:
    truth, score = cases("multi-label")
    columns = [binary_reference(truth[:, k], score[:, k]) for k in range(3)]
    for name in columns[0]:
        expected = np.mean([column[name] for column in columns])
        assert METRICS[name](truth, score, task="multi-label") == pytest.approx(expected, abs=1e-9), name


def test_calibration_error_equals_a_loop_over_bins() -> None:
    truth, score = cases("binary", 500)
    plain, excess = 0.0, 0.0
    order = np.argsort(score, kind="stable")
    levels, counts = np.unique(score, return_counts=True)
    middle = dict(zip(levels, np.cumsum(counts) - counts / 2, strict=True))
    bins = np.array([int(10 * middle[score[row]] / len(score)) for row in order])
    draws = np.random.default_rng(0).normal(size=400_000)
    for index in range(10):
        rows = order[bins == index]
        share, frequency, mean = len(rows) / len(score), truth[rows].mean(), score[rows].mean()
        error = np.sqrt(frequency * (1 - frequency) / len(rows))
        plain += share * abs(frequency - mean)
        excess += share * (np.abs(frequency - mean + error * draws).mean() - abs(frequency - mean))
    assert METRICS["ece"](truth, score) == pytest.approx(plain - excess, abs=5e-4)  # the excess by simulation


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_cases_does_not_matter(name: str, task: str) -> None:
    truth, score = cases(task)
    order = np.random.default_rng(1).permutation(len(truth))
    value = METRICS[name](truth, score, task=task)
    assert METRICS[name](truth[order], score[order], task=task) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", METRICS)
def test_a_weight_is_a_repetition(name: str, task: str) -> None:
    truth, score = cases(task)
    weights = np.random.default_rng(2).integers(0, 4, len(truth))
    repeated = METRICS[name](np.repeat(truth, weights, axis=0), np.repeat(score, weights, axis=0), task=task)
    assert METRICS[name](truth, score, task=task, weights=weights) == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", [name for name in METRICS if name != "ece"])  # its bins are fixed: see below
def test_many_replicates_at_once_are_each_one_alone(name: str, task: str) -> None:
    truth, score = cases(task)
    labels = [str(index) for index in range({"binary": 2, "multi-class": 4, "multi-label": 3}[task])]
    answers = as_outcomes(truth, score, labels=labels, task=task)
    weights = np.random.default_rng(4).integers(0, 3, (len(truth), 5)).astype(float)
    together = METRICS[name].compute(Tally(answers, weights))
    for column in range(5):
        alone = METRICS[name].compute(Tally(answers, weights[:, [column]]))[:, 0]
        np.testing.assert_allclose(together[:, column], alone, atol=1e-12)


def test_calibration_error_keeps_its_bins() -> None:
    truth, score = cases("binary")
    answers = as_outcomes(truth, score, labels=["no", "yes"], task="binary")
    weights = np.ones((len(truth), 2))
    weights[:120, 1] = 3
    together = METRICS["ece"].compute(Tally(answers, weights))[0]
    assert together[0] == pytest.approx(METRICS["ece"](truth, score), abs=1e-12)
    assert together[1] != together[0]


@pytest.mark.parametrize("task", ["multi-class", "multi-label"])
@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_labels_does_not_matter(name: str, task: str) -> None:
    truth, score = cases(task)
    truth = one_hot(truth) if task == "multi-class" else truth
    score = np.clip(score + np.random.default_rng(5).normal(0, 1e-6, score.shape), 0, 1)  # the first of a tie wins
    columns = np.roll(np.arange(score.shape[1]), 1)
    value = METRICS[name](truth, score, task=task)
    assert METRICS[name](truth[:, columns], score[:, columns], task=task) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "mirrored"),
    [("auc", "auc"), ("accuracy", "accuracy"), ("balanced_accuracy", "balanced_accuracy"), ("kappa", "kappa"),
     ("brier", "brier"), ("log_loss", "log_loss"), ("sensitivity", "specificity"), ("ppv", "npv")],
)  # fmt: skip
def test_swapping_the_two_labels_mirrors_a_metric(name: str, mirrored: str) -> None:
    truth, score = cases("binary")
    score = np.where(score == 0.5, 0.51, score)  # a score at the threshold is a no on both sides
    assert METRICS[name](truth, score) == pytest.approx(METRICS[mirrored](1 - truth, 1 - score), abs=1e-12)


@pytest.mark.parametrize("name", ["auc", "average_precision"])
def test_ranking_metrics_see_the_order_alone(name: str) -> None:
    truth, score = cases("binary")
    assert METRICS[name](truth, score**3) == pytest.approx(METRICS[name](truth, score), abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", METRICS)
def test_perfect_answers_have_the_best_value(name: str, task: str) -> None:
    truth, _ = cases(task)
    truth = one_hot(truth) if task == "multi-class" else truth
    best = 1.0 if METRICS[name].better == "larger" else 0.0
    assert METRICS[name](truth, truth.astype(float), task=task) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_one_kind_of_case_only_is_undefined_or_a_number_but_no_error(name: str) -> None:
    value = METRICS[name](np.zeros(10), np.linspace(0.1, 0.9, 10))
    undefined = {"auc", "average_precision", "balanced_accuracy", "sensitivity"}
    assert np.isnan(value) == (name in undefined)


def test_a_class_that_no_case_has_is_left_out_of_the_mean() -> None:
    truth, score = cases("multi-class")
    kept = truth != 3
    each = [reference.roc_auc_score(truth[kept] == k, score[kept, k]) for k in range(3)]
    assert METRICS["auc"](one_hot(truth[kept]), score[kept], task="multi-class") == pytest.approx(
        np.mean(each), abs=1e-12
    )


def test_bins_have_equal_mass_and_keep_ties_together() -> None:
    assert np.bincount(equal_mass_bins(np.random.default_rng(0).random(1000), 10)).tolist() == [100] * 10
    tied = np.array([0.1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.9])
    assert len(set(equal_mass_bins(tied, 4)[1:6])) == 1


@pytest.mark.parametrize(
    ("truth", "score", "labels", "task", "told"),
    [
        ([0, 1], [0.1, 0.2, 0.3], ["n", "p"], "binary", "2 truths and 3 predictions"),
        ([], [], ["n", "p"], "binary", "no case"),
        ([0, 2], [0.1, 0.2], ["n", "p"], "binary", "only 0 and 1"),
        ([0, 1], [0.1, np.nan], ["n", "p"], "binary", "row 1"),
        ([0, 1], [-3.0, 2.0], ["n", "p"], "binary", "sigmoid"),
        ([0, 1], [0.1, 0.2], ["n", "p", "q"], "binary", "two labels"),
        ([0, 1], [[0.1, 0.1], [0.2, 0.3]], ["a", "b"], "multi-class", "sum to 1"),
        ([0, 5], [[0.9, 0.1], [0.2, 0.8]], ["a", "b"], "multi-class", "Row 1"),
        ([[1, 1], [0, 1]], [[0.9, 0.1], [0.2, 0.8]], ["a", "b"], "multi-class", "2 classes"),
        ([[1, 1], [0, 1]], [[0.9], [0.2]], ["a", "b"], "multi-label", "shape"),
        (["a", "b"], [0.1, 0.2], ["n", "p"], "binary", "not numbers"),
        ([0, 1], [0.1, 0.2], ["n", "n"], "binary", "twice"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_words(truth, score, labels, task, told) -> None:
    with pytest.raises(EvaluationError, match=told):
        as_outcomes(truth, score, labels=labels, task=task)
