"""The whole evaluation of a classifier, tables of predictions, and the command."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from scipy import stats
from sklearn import metrics as reference
from typer.testing import CliRunner

from hounsfield.cli import evaluate as evaluate_command
from hounsfield.errors import EvaluationError, UsageError
from hounsfield.evaluation import (
    METRICS,
    as_outcomes,
    choose_threshold,
    compare,
    confusion_matrix,
    decision_curve,
    estimates_to_dict,
    evaluate,
    precision_recall_curve,
    predictions_from_table,
    read_predictions,
    roc_curve,
    wilson_interval,
)
from hounsfield.evaluation.comparison import adjust_p_values
from hounsfield.evaluation.predictions import UNCERTAINTY_COLUMNS


def binary(num_cases: int = 300, seed: int = 0, shift: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.random(num_cases) < 0.3).astype(int)
    return truth, 1 / (1 + np.exp(-(rng.normal(size=num_cases) + shift * truth - 1.2)))


def three_classes(num_cases: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, num_cases)
    logits = rng.normal(size=(num_cases, 3)) + 1.5 * np.eye(3)[truth]
    return truth, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def run(truth, score, **options):
    options = {"labels": ("normal", "pneumonia"), "task": "binary", "num_replicates": 200, **options}
    return evaluate(truth, score, **options)


def test_every_metric_has_a_value_inside_its_interval() -> None:
    truth, score = binary()
    found = run(truth, score)
    assert list(found) == list(METRICS)
    for name, estimate in found.items():
        assert estimate.value == pytest.approx(METRICS[name](truth, score), abs=1e-12)
        assert METRICS[name].low <= estimate.low < estimate.value < estimate.high <= METRICS[name].high, name
        assert estimate.method


def test_shares_rest_on_their_own_cases_and_have_wilsons_interval() -> None:
    truth, score = binary()
    found, decided = run(truth, score), score > 0.5
    assert found["sensitivity"].n == truth.sum()
    assert found["specificity"].n == (1 - truth).sum()
    assert found["ppv"].n == decided.sum()
    assert found["npv"].n == (~decided).sum()
    expected = wilson_interval(int((decided & (truth == 1)).sum()), int(truth.sum()))
    assert (found["sensitivity"].low, found["sensitivity"].high) == pytest.approx(expected)


def test_the_shapes_of_the_arguments_do_not_matter() -> None:
    truth, score = binary(60)
    flat, upright = run(truth, score), run(truth[:, None], score[:, None])
    assert flat == upright
    truth, score = three_classes(60)
    options = {"labels": "abc", "task": "multi-class"}
    assert run(truth, score, **options) == run(np.eye(3)[truth], score, **options)


def test_the_same_seed_gives_the_same_intervals_and_the_order_of_cases_hardly_matters() -> None:
    truth, score = binary()
    first, order = run(truth, score), np.random.default_rng(3).permutation(300)
    assert first == run(truth, score)
    shuffled = run(truth[order], score[order])
    assert shuffled["brier"].low == pytest.approx(first["brier"].low, rel=0.02)


def test_patients_with_several_cases_widen_every_interval() -> None:
    truth, score = binary(100)
    found = run(np.repeat(truth, 6), np.repeat(score, 6), groups=np.repeat(np.arange(100), 6))
    alone = run(np.repeat(truth, 6), np.repeat(score, 6))
    for name in METRICS:
        assert found[name].high - found[name].low > 1.5 * (alone[name].high - alone[name].low), name
    assert "by patient" in found["auc"].method


def test_a_multi_class_task_has_a_headline_and_every_class() -> None:
    truth, score = three_classes()
    found = run(truth, score, labels=("a", "b", "c"), task="multi-class")
    assert list(found)[: len(METRICS)] == list(METRICS)
    assert found["auc"].value == pytest.approx(np.mean([found[f"auc_{label}"].value for label in "abc"]))
    assert found["sensitivity_b"].value == pytest.approx((score.argmax(axis=1) == 1)[truth == 1].mean())
    assert all(estimate.low < estimate.value < estimate.high for estimate in found.values())


def test_a_class_without_cases_is_undefined_with_its_reason() -> None:
    truth, score = three_classes(60)
    score = np.column_stack([score, np.full(60, 1e-3)])
    found = run(truth, score, labels=("a", "b", "c", "d"), task="multi-class")
    assert math.isnan(found["auc_d"].value)
    assert "no case is 'd'" in found["auc_d"].note
    assert "3 of 4 labels" in found["auc"].note
    assert math.isfinite(found["auc"].low)


@pytest.mark.parametrize("value", [0, 1])
def test_one_kind_of_case_only_is_no_crash(value: int) -> None:
    found = run(np.full(20, value), np.linspace(0.1, 0.9, 20))
    assert math.isnan(found["auc"].value)
    assert found["auc"].note
    assert math.isfinite(found["accuracy"].value)


def test_one_case_alone_is_no_crash() -> None:
    found = run([1], [0.7])
    assert found["accuracy"].value == 1.0
    assert found["accuracy"].low < 0.5
    assert math.isnan(found["brier"].low)


def test_a_perfect_test_of_a_few_cases_claims_no_certainty() -> None:
    truth = np.arange(25) >= 20
    found = run(truth, np.where(truth, 0.99, 0.01))
    for name in ("auc", "accuracy", "balanced_accuracy", "sensitivity", "ppv", "f1"):
        assert found[name].value == 1.0
        assert found[name].low < 0.92, name
    for name in ("average_precision", "kappa", "brier"):
        assert math.isnan(found[name].low)
        assert "no interval" in found[name].note


def test_one_patient_a_class_is_no_certainty_either() -> None:
    truth = np.arange(20) >= 10
    score = np.random.default_rng(0).random(20)
    found = run(truth, score, groups=truth)
    assert found["auc"].high - found["auc"].low > 0.5
    assert math.isnan(found["kappa"].low)


def test_multi_label_answers_are_judged_label_by_label() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((200, 2)) < 0.4
    score = np.clip(rng.normal(0.3 + 0.4 * truth, 0.2), 0, 1)
    found = run(truth, score, labels=("effusion", "mass"), task="multi-label")
    each = [reference.roc_auc_score(truth[:, k], score[:, k]) for k in range(2)]
    assert (found["auc_effusion"].value, found["auc_mass"].value) == pytest.approx(each)
    assert found["auc"].value == pytest.approx(np.mean(each))


def test_metrics_json_has_no_nan() -> None:
    found = estimates_to_dict(run(np.zeros(10), np.linspace(0.1, 0.9, 10)))
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["auc"]["value"] is None
    assert set(found["accuracy"]) == {"value", "low", "high", "n", "method"}


def test_confusion_matrices_equal_scikit_learns() -> None:
    truth, score = three_classes()
    answers = as_outcomes(truth, score, labels="abc", task="multi-class")
    assert (confusion_matrix(answers) == reference.confusion_matrix(truth, score.argmax(axis=1))).all()
    truth, score = binary()
    answers = as_outcomes(truth, score, labels="np", task="binary", threshold=0.3)
    assert (confusion_matrix(answers) == reference.confusion_matrix(truth, score > 0.3)).all()
    both = np.column_stack([truth, 1 - truth])
    answers = as_outcomes(both, np.column_stack([score, score]), labels="ab", task="multi-label")
    expected = reference.multilabel_confusion_matrix(both, np.column_stack([score, score]) > 0.5)
    assert (confusion_matrix(answers) == expected).all()


def test_curves_equal_scikit_learns() -> None:
    truth, score = binary()
    score = score.round(2)
    curve = roc_curve(truth == 1, score)
    false, true, thresholds = reference.roc_curve(truth, score, drop_intermediate=False)
    np.testing.assert_allclose(np.stack([curve.x, curve.y]), np.stack([false, true]), atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    curve = precision_recall_curve(truth == 1, score)
    precision, recall, _ = reference.precision_recall_curve(truth, score)
    np.testing.assert_allclose(curve.y, precision[::-1], atol=1e-12)
    np.testing.assert_allclose(curve.x, recall[::-1], atol=1e-12)


def test_a_better_network_is_found_better_and_an_equal_one_is_not() -> None:
    truth, weak = binary(400, shift=1.0)
    rng = np.random.default_rng(5)
    strong = 1 / (1 + np.exp(-(rng.normal(size=400) * 0.7 + 3 * truth - 1.5)))
    noisy = np.clip(weak + rng.normal(0, 0.002, 400), 0, 1)
    first, second, same = (as_outcomes(truth, each, labels="np", task="binary") for each in (weak, strong, noisy))
    found = compare(first, second, num_replicates=300)
    assert found["auc"].low > 0
    assert found["accuracy"].p_value < 0.02
    assert found["brier"].high < 0
    assert compare(first, same, num_replicates=300)["auc"].p_value > 0.05
    mirrored = compare(second, first, num_replicates=300)
    assert mirrored["kappa"].value == pytest.approx(-found["kappa"].value)


def test_different_truths_are_not_compared() -> None:
    truth, score = binary(40)
    first, second = (as_outcomes(each, score, labels="np", task="binary") for each in (truth, 1 - truth))
    with pytest.raises(EvaluationError, match="truths"):
        compare(first, second)


def test_holms_adjustment_by_hand() -> None:
    adjusted = adjust_p_values({"a": 0.01, "b": 0.04, "c": 0.03, "d": math.nan})
    assert (adjusted["a"], adjusted["b"], adjusted["c"]) == pytest.approx((0.03, 0.06, 0.06))
    assert math.isnan(adjusted["d"])


@pytest.mark.parametrize("wanted", [0.8, 0.9, 1.0])
def test_a_wanted_sensitivity_is_kept_with_the_most_specificity(wanted: float) -> None:
    truth, score = binary()
    point = choose_threshold(truth == 1, score, rule="sensitivity", target=wanted)
    assert point.sensitivity >= wanted
    others = [((score > t)[truth == 1].mean(), (score <= t)[truth == 0].mean()) for t in np.append(score - 1e-9, score)]
    assert point.specificity == pytest.approx(max(spec for sens, spec in others if sens >= wanted))


def test_youden_and_cost_choose_the_best_of_all_thresholds() -> None:
    truth, score = binary()
    rates = [((score > t)[truth == 1].mean(), (score <= t)[truth == 0].mean()) for t in np.append(score - 1e-9, 2)]
    point = choose_threshold(truth == 1, score)
    assert point.sensitivity + point.specificity == pytest.approx(max(sum(rate) for rate in rates))
    point = choose_threshold(truth == 1, score, rule="cost", target=5)
    share = truth.mean()

    def cost(sensitivity: float, specificity: float) -> float:
        return 5 * share * (1 - sensitivity) + (1 - share) * (1 - specificity)

    assert cost(point.sensitivity, point.specificity) == pytest.approx(min(cost(*rate) for rate in rates))


def test_a_rule_without_its_target_is_refused() -> None:
    truth, score = binary(40)
    with pytest.raises(EvaluationError, match="target"):
        choose_threshold(truth == 1, score, rule="sensitivity")
    with pytest.raises(EvaluationError, match="at most 1"):
        choose_threshold(truth == 1, score, rule="specificity", target=90)


def test_net_benefit_by_hand() -> None:
    truth = np.array([True, True, False, False, False])
    curve = decision_curve(truth, np.array([0.9, 0.3, 0.6, 0.2, 0.1]), [0.5, 0.2])
    # A score of .2 is not above .2, as everywhere else.
    assert curve.model == pytest.approx([1 / 5 - 1 / 5, 2 / 5 - 1 / 5 * 0.25])
    gains = np.array([1, 1, -0.25, 0, 0])
    half = stats.t.ppf(0.975, 4) * gains.std(ddof=1) / np.sqrt(5)
    assert (curve.low[1], curve.high[1]) == pytest.approx((gains.mean() - half, gains.mean() + half))
    assert curve.everyone == pytest.approx([2 / 5 - 3 / 5, 2 / 5 - 3 / 5 * 0.25])
    # Of images it has enough of either kind, of patients not.
    many = np.tile(truth, 8)
    assert curve.note.startswith("unreliable: rests on 2 patients of a kind")
    assert not decision_curve(many, np.linspace(0, 1, 40), [0.5]).note
    assert decision_curve(many, np.linspace(0, 1, 40), [0.5], groups=np.arange(40) // 5).note


def table(num_cases: int = 80) -> pd.DataFrame:
    truth, score = binary(num_cases)
    names = np.array(["normal", "pneumonia"])
    return pd.DataFrame(
        {
            "image": [f"{index}.png" for index in range(num_cases)],
            "patient": [f"P{index // 2}" for index in range(num_cases)],
            "truth": names[truth],
            "prediction": names[(score > 0.3).astype(int)],
            "p_normal": 1 - score,
            "p_pneumonia": score,
        }
    )


def test_a_binary_table_tells_its_task_its_patients_and_its_threshold() -> None:
    rows = table()
    read = predictions_from_table(rows)
    assert read.answers.task == "binary"
    assert read.answers.labels == ("normal", "pneumonia")
    assert (read.answers.decisions[:, 0] == (rows["prediction"] == "pneumonia")).all()
    assert read.threshold == pytest.approx(0.3, abs=0.05)
    assert len(set(read.groups)) == 40
    assert predictions_from_table(rows, threshold=0.5).threshold == 0.5


def test_a_table_of_several_classes_and_of_several_labels() -> None:
    truth, score = three_classes(50)
    rows = pd.DataFrame(score, columns=["p_a", "p_b", "p_c"]).assign(label=np.array(list("abc"))[truth])
    read = predictions_from_table(rows)
    assert read.answers.task == "multi-class"
    assert (read.answers.truth.argmax(axis=1) == truth).all()
    assert read.groups is None
    rows = pd.DataFrame({"label": ["a;b", "", None], "p_a": [0.9, 0.2, 0.3], "p_b": [0.7, 0.1, 0.2]})
    read = predictions_from_table(rows)
    assert read.answers.task == "multi-label"
    assert read.answers.truth.tolist() == [[True, True], [False, False], [False, False]]


def labels_table(thresholds: tuple[float, float]) -> pd.DataFrame:
    """Two labels a row, predicted where their scores exceed a threshold for each."""
    score = np.random.default_rng(0).random((60, 2))
    said = [";".join(name for name, yes in zip("ab", row, strict=True) if yes) for row in score > np.array(thresholds)]
    rows = pd.DataFrame(score, columns=["p_a", "p_b"])
    return rows.assign(label=said, prediction=[cell or None for cell in said])


def test_a_table_of_several_labels_tells_its_threshold() -> None:
    read = predictions_from_table(labels_table((0.3, 0.3)))
    assert read.threshold == pytest.approx(0.3, abs=0.02)
    assert (read.answers.decisions == read.answers.truth).all()
    assert any("'prediction' was made with a threshold between" in note for note in read.notes)
    assert predictions_from_table(labels_table((0.3, 0.3)), threshold=0.6).threshold == 0.6
    plain = predictions_from_table(labels_table((0.5, 0.5)))
    assert plain.threshold == 0.5
    assert not any("threshold" in note for note in plain.notes)


def test_each_label_has_the_threshold_of_its_decisions() -> None:
    read = predictions_from_table(labels_table((0.3, 0.7)))
    assert read.threshold == pytest.approx((0.3, 0.7), abs=0.03)
    assert (read.answers.decisions == read.answers.truth).all()
    assert any("a threshold for each label" in note for note in read.notes)


def test_decisions_that_no_threshold_makes_are_told_of() -> None:
    rows = labels_table((0.3, 0.7))
    read = predictions_from_table(rows.assign(prediction=rows["prediction"].iloc[::-1].to_numpy()))
    assert read.threshold == 0.5
    assert any("No threshold gives the column 'prediction'" in note for note in read.notes)


def test_one_probability_is_enough_for_two_labels() -> None:
    rows = table().drop(columns="p_normal")
    assert predictions_from_table(rows).answers.labels == ("normal", "pneumonia")


def test_of_a_table_with_splits_the_test_rows_are_judged(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "label": ["ill", "well", "ill", "well", "ill"],
            "p_ill": [0.9, 0.1, 0.8, 0.3, 0.1],
            "split": ["test", "test", "test", "test", "validation"],
        }
    )
    rows.to_csv(tmp_path / "predictions.csv", index=False)
    read = read_predictions(tmp_path / "predictions.csv")
    assert len(read.table) == len(read.answers.truth) == 4
    assert "1 rows of other splits than test (validation) were left out." in read.notes[0]
    # Without test rows there is nothing to choose.
    rows.assign(split="validation").to_csv(tmp_path / "predictions.csv", index=False)
    assert len(read_predictions(tmp_path / "predictions.csv").answers.truth) == 5


def test_numbers_as_labels_survive_a_file(tmp_path: Path) -> None:
    truth, score = binary(30)
    for suffix, write in ((".csv", pd.DataFrame.to_csv), (".parquet", pd.DataFrame.to_parquet)):
        path = tmp_path / f"predictions{suffix}"
        write(pd.DataFrame({"truth": truth, "p_0": 1 - score, "p_1": score}), path, index=False)
        assert (read_predictions(path).answers.truth[:, 0] == truth).all()


def test_labels_and_groups_called_none_and_na_are_no_missing_values(tmp_path: Path) -> None:
    truth, score = binary(30)
    rows = pd.DataFrame({"truth": np.where(truth, "tumour", "None"), "p_None": 1 - score, "p_tumour": score})
    rows.assign(site="NA").to_csv(tmp_path / "predictions.csv", index=False)
    read = read_predictions(tmp_path / "predictions.csv")
    assert (read.answers.truth[:, 0] == truth).all()
    assert set(read.table["site"]) == {"NA"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_may_be_separated_as_those_of_a_table_of_samples(tmp_path: Path, delimiter: str) -> None:
    rows = pd.DataFrame({"truth": ["a;b", "", "b"], "p_a": [0.9, 0.2, 0.1], "p_b": [0.8, 0.3, 0.7]})
    path = tmp_path / "predictions.csv"
    rows.to_csv(path, sep=delimiter, index=False, encoding="utf-8-sig")
    read = read_predictions(path)
    assert read.answers.truth.tolist() == [[True, True], [False, False], [False, True]]
    np.testing.assert_allclose(read.answers.scores, rows[["p_a", "p_b"]])
    # Without quotes the labels would be cells, and every column be shifted.
    path.write_text("image;truth;p_a;p_b\n0.png;a;b;0.9;0.8\n")
    with pytest.raises(EvaluationError, match="more cells than its header"):
        read_predictions(path)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimals_may_have_commas_where_these_separate_no_columns(tmp_path: Path, delimiter: str) -> None:
    rows = pd.DataFrame(
        {"truth": ["a", "b", "b"], "p_a": [1.0, 0.25, 1.5e-3], "p_b": [0.0, 0.75, 0.9985], "age": [None, 1.5, 2]}
    )
    path = tmp_path / "predictions.csv"
    rows.to_csv(path, sep=delimiter, decimal=",", index=False)
    assert "0,25" in path.read_text()
    read = read_predictions(path)
    np.testing.assert_array_equal(read.answers.scores, rows[["p_b"]])
    np.testing.assert_array_equal(read.table["age"], rows["age"])
    # A comma in text is no decimal.
    path.write_text(f"truth{delimiter}p_a{delimiter}note\na{delimiter}0,5{delimiter}1,5\nb{delimiter}1{delimiter}x,5\n")
    assert read_predictions(path).table["note"].tolist() == ["1,5", "x,5"]


def test_a_file_that_is_missing_or_no_table_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="There is no file or folder"):
        read_predictions(tmp_path / "absent")
    (tmp_path / "torn.csv").write_text("a\nb\nc,d\n")
    with pytest.raises(EvaluationError, match="cannot be read as a table") as caught:
        read_predictions(tmp_path / "torn.csv")
    assert "\n" not in str(caught.value)


def test_texts_of_a_json_table_stay_what_they_are(tmp_path: Path) -> None:
    rows = table()
    rows["patient"] = [("1", "01", "001")[number % 3] for number in range(len(rows))]
    rows.rename(columns={"p_normal": "p_00", "p_pneumonia": "p_01"}).assign(
        truth=rows["truth"].map({"normal": "00", "pneumonia": "01"})
    ).to_json(tmp_path / "predictions.json", orient="records")
    read = read_predictions(tmp_path / "predictions.json")
    assert read.answers.labels == ("00", "01")
    assert set(read.groups) == {"1", "01", "001"}


def test_what_prediction_says_is_no_attribute(cli: typer.Typer, tmp_path: Path) -> None:
    rows = table()
    said = dict.fromkeys(UNCERTAINTY_COLUMNS, np.where(rows["p_pneumonia"] > 0.5, "a", "b"))
    rows.assign(**said).to_csv(tmp_path / "predictions.csv", index=False)
    told = CliRunner().invoke(cli, [str(tmp_path / "predictions.csv"), "--replicates", "100"], catch_exceptions=False)
    assert f"not used as patient attributes: {', '.join(UNCERTAINTY_COLUMNS)}" in told.output
    assert "Subgroups" not in told.output


def test_a_negative_seed_is_wrong_usage(cli: typer.Typer, tmp_path: Path) -> None:
    table().to_csv(tmp_path / "predictions.csv", index=False)
    assert CliRunner().invoke(cli, [str(tmp_path / "predictions.csv"), "--seed", "-1"]).exit_code == 2


def test_figures_are_not_written_over_those_of_a_run(cli: typer.Typer, tmp_path: Path) -> None:
    table().to_csv(tmp_path / "predictions.csv", index=False)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.yaml").touch()
    refused = CliRunner().invoke(cli, [str(tmp_path / "predictions.csv"), "-o", str(tmp_path / "run")])
    assert isinstance(refused.exception, UsageError)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["plan.yaml"]


def test_rows_without_a_truth_are_left_out_and_counted() -> None:
    rows = table()
    rows.loc[3, "truth"] = None
    read = predictions_from_table(rows)
    assert len(read.answers) == 79
    assert any("1 of 80" in note for note in read.notes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows.drop(columns="truth"), "'truth' or 'label'"),
        (lambda rows: rows.drop(columns=["p_normal", "p_pneumonia"]), "p_LABEL"),
        (lambda rows: rows.assign(truth="pneumonai"), "'pneumonai'"),
        (lambda rows: rows.assign(p_normal="high"), "holds text"),
        (lambda rows: rows.assign(p_pneumonia=math.nan), "missing"),
        (lambda rows: rows.head(0), "no case"),
    ],
)
def test_a_table_that_cannot_be_evaluated_is_refused_in_words(change, told: str) -> None:
    with pytest.raises(EvaluationError, match=told):
        predictions_from_table(change(table()))


@pytest.fixture
def cli() -> typer.Typer:
    app = typer.Typer()
    app.command()(evaluate_command.command)
    return app


def test_the_command_prints_and_writes(cli: typer.Typer, tmp_path: Path) -> None:
    table().to_csv(tmp_path / "predictions.csv", index=False)
    arguments = [str(tmp_path / "predictions.csv"), "--replicates", "100"]
    result = CliRunner().invoke(cli, [*arguments, "-o", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 0
    assert "AUC" in result.stdout
    assert "positive label" in result.stderr
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    pictures = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {"roc", "precision_recall", "confusion", "reliability", "scores"}
    result = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(result.stdout) == stored
    assert stored["test"]["auc"]["n"] == 80
    assert stored["patients"] == 40


def test_the_command_names_a_missing_file(cli: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, [str(tmp_path / "none.csv")])
    assert isinstance(result.exception, EvaluationError)
    assert "none.csv" in str(result.exception)


def test_evaluation_imports_no_keras_and_no_backend() -> None:
    code = (
        "import sys, hounsfield.evaluation, hounsfield.reports; "
        "sys.exit(len({'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
