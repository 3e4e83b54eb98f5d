"""Labels of which it is not known whether they hold: no figure, fit or loss may depend on them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from hounsfield.cohorts import Cohort, load_cohort
from hounsfield.cohorts.targets import TARGETS
from hounsfield.errors import CohortError, EvaluationError
from hounsfield.evaluation import as_outcomes, evaluate
from hounsfield.evaluation.bias import audit_bias
from hounsfield.evaluation.calibration import estimated_error
from hounsfield.evaluation.classification import evaluate_outcomes
from hounsfield.evaluation.curves import confusion_matrix
from hounsfield.evaluation.predictions import predictions_from_table
from hounsfield.evaluation.recalibration import FITS
from hounsfield.evaluation.selective import decision_confidence
from hounsfield.evaluation.uncertainty import Uncertainty

LABELS = ("effusion", "mass", "hernia")
FACTS: dict[str, Any] = {"labels": LABELS, "task": "multi-label"}


def made(seed: int = 0, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Truths of which a third is not known, and scores that tell something of them."""
    generator = np.random.default_rng(seed)
    truth = (generator.random((count, 3)) < (0.5, 0.3, 0.1)).astype(float)
    scores = 1 / (1 + np.exp(-generator.normal(2 * truth - 1, 1.2)))
    truth[generator.random(truth.shape) < 0.35] = np.nan
    return truth, scores


@pytest.mark.parametrize("groups", [None, np.arange(200) // 3])
def test_each_label_is_judged_on_its_known_cases_alone(groups: np.ndarray | None) -> None:
    truth, scores = made()
    found = evaluate(truth, scores, **FACTS, groups=groups, num_replicates=50)
    for column, label in enumerate(LABELS):
        known = ~np.isnan(truth[:, column])
        alone = evaluate(
            truth[known, column],
            scores[known, column],
            labels=("no", label),
            task="binary",
            groups=None if groups is None else groups[known],
            num_replicates=50,
        )
        for name in ("auc", "average_precision", "sensitivity", "specificity", "ppv", "npv", "f1"):
            here, there = found[f"{name}_{label}"], alone[name]
            assert (here.value, here.n) == (pytest.approx(there.value), there.n), (name, label)
            if name != "average_precision":  # its interval is drawn anew, from other cases
                assert (here.low, here.high) == (pytest.approx(there.low), pytest.approx(there.high)), (name, label)


def test_figures_agree_with_scikit_learn_on_known_cases() -> None:
    truth, scores = made(1)
    found = evaluate(truth, scores, **FACTS, num_replicates=20)
    columns = [(truth[known, k], scores[known, k]) for k in range(3) for known in [~np.isnan(truth[:, k])]]
    for name, function in (
        ("auc", reference.roc_auc_score),
        ("average_precision", reference.average_precision_score),
        ("brier", reference.brier_score_loss),
        ("log_loss", reference.log_loss),
    ):
        assert found[name].value == pytest.approx(np.mean([function(*column) for column in columns])), name
    decided = [(true, score > 0.5) for true, score in columns]
    for name, function in (
        ("accuracy", reference.accuracy_score),
        ("balanced_accuracy", reference.balanced_accuracy_score),
        ("kappa", reference.cohen_kappa_score),
    ):
        assert found[name].value == pytest.approx(np.mean([function(*column) for column in decided])), name


def test_nothing_depends_on_scores_of_unknown_truths() -> None:
    truth, scores = made(2)
    changed = np.where(np.isnan(truth), np.random.default_rng(9).random(truth.shape), scores)
    first, second = (as_outcomes(truth, each, **FACTS) for each in (scores, changed))
    estimates = [evaluate_outcomes(each, num_replicates=50) for each in (first, second)]
    assert {name: (one.value, one.low, one.high, one.n) for name, one in estimates[0].items()} == {
        name: pytest.approx((one.value, one.low, one.high, one.n), nan_ok=True) for name, one in estimates[1].items()
    }
    assert estimated_error(first, num_replicates=20).value == pytest.approx(
        estimated_error(second, num_replicates=20).value
    )
    assert np.array_equal(confusion_matrix(first), confusion_matrix(second))
    assert np.array_equal(decision_confidence(first)[1], decision_confidence(second)[1])
    for name, fit in FITS.items():
        inside = np.linspace(0.05, 0.95, 7)[:, None].repeat(3, axis=1)
        got = [fit(each).apply(inside, "multi-label") for each in (first, second)]
        assert got[0] == pytest.approx(got[1], abs=1e-6), name
    table = pd.DataFrame({"site": np.where(np.arange(200) % 3, "a", "b")})
    audits = [audit_bias(each, table) for each in (first, second)]
    assert [gap.value for gap in audits[0].gaps] == pytest.approx([gap.value for gap in audits[1].gaps])


def test_counts_of_a_bias_audit_are_of_known_cases() -> None:
    truth, scores = made(3)
    table = pd.DataFrame({"site": np.where(np.arange(200) % 2, "a", "b")})
    audit = audit_bias(as_outcomes(truth, scores, **FACTS), table)
    group = next(each for each in audit.groups if each.group == "site = a")
    wanted = truth[1::2, 0]
    assert group.figures["sensitivity_effusion"].n == int((wanted == 1).sum())
    assert group.figures["specificity_effusion"].n == int((wanted == 0).sum())
    assert group.figures["calibration_effusion"].n == int((~np.isnan(wanted)).sum())


def test_a_label_without_any_known_truth_is_undefined_and_the_rest_is_not() -> None:
    truth, scores = made(4)
    truth[:, 2] = np.nan
    found = evaluate(truth, scores, **FACTS, num_replicates=20)
    assert math.isnan(found["auc_hernia"].value)
    assert found["auc_hernia"].n == 0
    assert found["auc"].value == pytest.approx((found["auc_effusion"].value + found["auc_mass"].value) / 2)
    assert all(math.isfinite(found[name].value) for name in ("accuracy", "brier", "log_loss", "ece"))


@pytest.mark.parametrize("task", ["binary", "multi-class"])
def test_other_tasks_refuse_a_truth_that_is_not_known(task: Any) -> None:
    scores = np.full((4, 1), 0.4) if task == "binary" else np.full((4, 2), 0.5)
    truth = np.full(scores.shape, np.nan)
    with pytest.raises(EvaluationError, match="nan"):
        evaluate(truth, scores, labels=("a", "b"), task=task)


def test_what_a_bundle_keeps_knows_what_is_unknown() -> None:
    truth, scores = made(5)
    answers = as_outcomes(truth, scores, **FACTS)
    kept = Uncertainty.of(answers, np.arange(len(truth)))
    again = Uncertainty.from_arrays(kept.to_arrays())
    assert again.unknown is not None
    assert np.array_equal(again.unknown, np.isnan(truth))
    least = again.least_confidence(LABELS, "multi-label", threshold=0.5, max_risk=0.6)
    assert least == kept.least_confidence(LABELS, "multi-label", threshold=0.5, max_risk=0.6)


def test_a_table_of_predictions_names_what_is_unknown() -> None:
    table = pd.DataFrame(
        {
            "label": ["effusion", "", "mass", "effusion;mass"],
            "unknown_labels": ["mass", "effusion;mass", "", ""],
            "p_effusion": [0.9, 0.8, 0.2, 0.7],
            "p_mass": [0.9, 0.1, 0.3, 0.8],
        }
    )
    answers = predictions_from_table(table).answers
    assert answers.known.tolist() == [[True, False], [False, False], [True, True], [True, True]]
    with pytest.raises(EvaluationError, match="'mas'"):
        predictions_from_table(table.assign(unknown_labels=["mas", "", "", ""]))


class NoImages:
    """A source of nothing."""

    def read(self, reference: Any) -> Any:
        raise NotImplementedError

    def stream(self, references: Any) -> Any:
        raise NotImplementedError

    def digest(self, references: Any) -> str:
        raise NotImplementedError


def cohort(labels: list[str], unknown: list[Any], task: Any = "multi-label") -> Cohort:
    rows = {"image": [f"{row}.png" for row in range(len(labels))], "label": labels, "unknown_labels": unknown}
    table = pd.DataFrame(rows).assign(patient=None, split="train")
    return Cohort(table, task, ("effusion", "mass"), NoImages(), "table", "made")


def test_targets_of_unknown_labels_are_nan() -> None:
    found = cohort(["effusion", "", "mass", "effusion;mass"], ["mass", "effusion;mass", None, ""])
    assert np.array_equal(
        found.targets(), np.array([[1, np.nan], [np.nan, np.nan], [0, 1], [1, 1]], np.float32), equal_nan=True
    )
    targets = TARGETS["labels"]
    assert targets.strata(found).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 0]]
    assert targets.truths(found) == [None, None, frozenset({"mass"}), frozenset({"effusion", "mass"})]
    asked = dict(targets.questions(found, np.arange(4)))
    assert asked["mass"].tolist()[2:] == ["mass", "mass"]
    assert asked["mass"].isna().tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("labels", "unknown", "task", "text"),
    [
        (["effusion", "mass"], ["effusion", ""], "multi-label", "both"),
        (["effusion", "mass"], ["hernia", ""], "multi-label", "hernia"),
        (["effusion", "mass"], ["mass", ""], "binary", "multi-label"),
    ],
)
def test_unknown_labels_that_do_not_fit_are_refused(
    labels: list[str], unknown: list[str], task: Any, text: str
) -> None:
    with pytest.raises(CohortError, match=text):
        cohort(labels, unknown, task)


def test_a_label_that_no_training_image_is_known_to_be_without_is_refused() -> None:
    found = cohort(["effusion", "effusion", "mass", ""], ["", "", "effusion", "effusion"])
    found = found.with_splits(["train", "validation", "train", "train"])
    with pytest.raises(CohortError, match="known to be without effusion"):
        TARGETS["labels"].check_trainable(found)


def test_a_table_with_unknown_labels_is_read(tmp_path: Path) -> None:
    for row in range(6):
        (tmp_path / f"{row}.png").write_bytes(b"")
    names = [f"{row}.png" for row in range(6)]
    labels = ["effusion", "mass", "effusion;mass", "", "effusion", "mass"]
    rows = {"image": names, "label": labels, "unknown_labels": ["", "effusion", "", "mass", "", ""]}
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    found = load_cohort(tmp_path / "t.csv")
    assert np.isnan(found.targets()).sum(axis=0).tolist() == [1, 1]
