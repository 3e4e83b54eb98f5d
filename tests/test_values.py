"""Values and grades: figures against scikit-learn and SciPy, ranges, tables, what a column is taken for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as reference

from hounsfield.bundle import Bundle
from hounsfield.cohorts import TARGETS, Cohort, assign_splits, load_cohort
from hounsfield.cohorts.scan import scan
from hounsfield.cohorts.shift import shifts
from hounsfield.cohorts.shortcuts import shortcuts
from hounsfield.cohorts.targets.values import strata_of
from hounsfield.errors import CohortError, EvaluationError, UsageError
from hounsfield.evaluation.readings import readings_of
from hounsfield.evaluation.value_assessment import assess_values
from hounsfield.evaluation.value_groups import compare_groups
from hounsfield.evaluation.value_intervals import ConformalRange, misfits
from hounsfield.evaluation.value_uncertainty import ValueUncertainty
from hounsfield.evaluation.values import FIGURES, figures
from hounsfield.testing import evaluate_table
from hounsfield.testing.values import DEGRADED


def named(task: str, truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    return dict(zip(FIGURES[task], figures(task, truth, predicted, weights)[:, 0].tolist(), strict=True))


@pytest.fixture
def values() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    truth = generator.normal(1000, 15, 101)
    return truth, 0.8 * truth + 205 + generator.normal(0, 5, 101)


def test_figures_of_values_are_those_of_scikit_learn(values: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = values
    found = named("regression", truth, predicted)
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(truth, predicted), rel=1e-12)
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(truth, predicted), rel=1e-12)
    assert found["median_error"] == pytest.approx(reference.median_absolute_error(truth, predicted), rel=1e-12)
    assert found["r2"] == pytest.approx(reference.r2_score(truth, predicted), rel=1e-9)
    difference = predicted - truth
    assert found["bias"] == pytest.approx(difference.mean(), rel=1e-12)
    ends = stats.norm.interval(0.95, difference.mean(), difference.std(ddof=1))
    assert (found["loa_low"], found["loa_high"]) == pytest.approx(ends, rel=1e-9)
    # Lin (1989), equation 2: the correlation times the bias correction.
    first, second = truth.std(), predicted.std()
    correction = 2 / (first / second + second / first + (truth.mean() - predicted.mean()) ** 2 / (first * second))
    assert found["concordance"] == pytest.approx(stats.pearsonr(truth, predicted).statistic * correction, rel=1e-9)


def test_figures_of_grades_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 5, 200).astype(float)
    predicted = np.clip(truth + generator.integers(-1, 3, 200), 0, 4)
    found = named("ordinal", truth, predicted)
    kappa = reference.cohen_kappa_score(truth, predicted, weights="quadratic")
    assert found["kappa_quadratic"] == pytest.approx(kappa, rel=1e-9)
    assert found["accuracy"] == reference.accuracy_score(truth, predicted)
    assert found["within_one"] == np.mean(np.abs(truth - predicted) <= 1)


@pytest.mark.parametrize("task", FIGURES)
def test_a_weight_is_a_count_of_cases_and_their_order_does_not_matter(task: str) -> None:
    generator = np.random.default_rng(2)
    truth, predicted = generator.integers(0, 5, (2, 60)).astype(float)
    weights = generator.integers(0, 4, 60)
    repeated = named(task, np.repeat(truth, weights), np.repeat(predicted, weights))
    assert named(task, truth, predicted, weights[:, None].astype(float)) == pytest.approx(repeated, rel=1e-9)
    order = generator.permutation(60)
    assert named(task, truth[order], predicted[order]) == pytest.approx(named(task, truth, predicted), rel=1e-9)


def test_intervals_are_by_patient(values: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = values
    alone = assess_values(truth, predicted, labels=("x",), task="regression", num_replicates=500)
    # The same cases four times over are no more patients: the interval stays, and without patients it halves.
    four = [np.tile(each, 4) for each in values]
    known = assess_values(
        *four, labels=("x",), task="regression", num_replicates=500, groups=np.tile(np.arange(101), 4)
    )
    unknown = assess_values(*four, labels=("x",), task="regression", num_replicates=500)
    widths = [each.estimates["mae"].high - each.estimates["mae"].low for each in (alone, known, unknown)]
    assert widths[1] == pytest.approx(widths[0], rel=0.15)
    assert widths[2] == pytest.approx(widths[0] / 2, rel=0.2)
    assert known.patients == 101


def test_missing_values_are_refused() -> None:
    with pytest.raises(EvaluationError, match="finite"):
        assess_values([1.0, np.nan], [1.0, 2.0], labels=("x",), task="regression")


def test_ranges_hold_what_they_promise_over_200_splits() -> None:
    """The coverage of a split conformal range over exchangeable cases is ⌈.9(n + 1)⌉/(n + 1) on average."""
    generator = np.random.default_rng(0)
    residuals = np.abs(generator.standard_t(3, 3000))
    count, held = 149, []
    for _ in range(200):
        order = generator.permutation(len(residuals))
        limit = ConformalRange.fit(residuals[order[:count]], 0.9).limit
        held.append(np.mean(residuals[order[count:]] <= limit))
    expected = np.ceil(0.9 * (count + 1)) / (count + 1)
    error = np.std(held) / np.sqrt(len(held))
    assert np.mean(held) == pytest.approx(expected, abs=3 * error)
    assert error < 0.003


def test_too_few_cases_promise_everything() -> None:
    limits = ConformalRange.fit(np.array([1.0, 2.0]), 0.9)
    assert limits.values(np.array([5.0])) == (pytest.approx(-np.inf), pytest.approx(np.inf))
    probabilities = np.array([[0.2, 0.7, 0.1]])
    assert [each.tolist() for each in limits.grades(probabilities)] == [[0], [2]]


def test_runs_of_grades_have_no_gaps_and_hold_what_they_promise() -> None:
    generator = np.random.default_rng(4)
    probabilities = generator.dirichlet(np.full(5, 0.4), 4000)
    truth = np.array([generator.choice(5, p=row) for row in probabilities])
    found = misfits(probabilities)
    assert (found[np.arange(4000), probabilities.argmax(1)] == 0).all()
    limits = ConformalRange.fit(found[np.arange(2000), truth[:2000]], 0.9)
    possible = found <= limits.limit
    low, high = limits.grades(probabilities)
    assert (possible.sum(axis=1) == high - low + 1).all()
    held = (low <= truth) & (truth <= high)
    assert held[2000:].mean() == pytest.approx(0.9, abs=3 * np.sqrt(0.9 * 0.1 / 2000) + 0.01)


def test_a_run_is_extended_to_the_more_probable_neighbour() -> None:
    # By hand: grade 2, then 1 (.25 over .15), then 3, then 0.
    assert misfits(np.array([[0.1, 0.25, 0.5, 0.15]])) == pytest.approx(np.array([[0.9, 0.5, 0, 0.75]]))


def test_readings_are_in_the_unit_of_the_truth_and_probabilities_sum_to_one() -> None:
    aged = readings_of(np.array([[-1.0], [2.0]]), ("age",), "regression", {"mean": 50.0, "deviation": 10.0})
    assert list(aged.values) == [40.0, 70.0]
    # The second row is not monotone, as rounding may make it.
    grades = readings_of(np.array([[0.9, 0.6], [0.4, 0.5]]), ("0", "1", "3"), "ordinal", {})
    assert grades.probabilities == pytest.approx(np.array([[0.1, 0.3, 0.6], [0.6, 0.0, 0.4]]))
    assert grades.grades.tolist() == [2, 0]
    assert list(grades.values) == pytest.approx([0.3 + 1.8, 1.2])


def test_worse_images_are_measured_by_patient(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    cohort = cohort_of(tmp_path, generator.normal(50, 10, 60).tolist())
    cohort = replace(cohort, table=cohort.table.assign(patient=[f"p{row // 3}" for row in range(60)]))
    truth = cohort.table["label"].astype(float).to_numpy()
    clean, worse = truth + generator.normal(0, 2, 60), truth + 4 + generator.normal(0, 3, 60)
    kept = ValueUncertainty(np.abs(generator.normal(0, 2, 99)))
    bundle = SimpleNamespace(
        labels=("size",), task="regression", settings={"mean": 50.0, "deviation": 10.0}, kept=lambda _: kept
    )
    assert DEGRADED is not None
    outputs = (np.stack([clean, worse], axis=1)[:, :, None] - 50) / 10
    before, after = DEGRADED.measure(cast("Bundle", bundle), cohort, outputs, 0.95)
    limit = np.sort(kept.misfit)[89]  # the ⌈.9 · 100⌉-th of 99
    for found, predicted in ((before, clean), (after, worse)):
        assert found.estimates["mae"].value == pytest.approx(reference.mean_absolute_error(truth, predicted))
        assert found.estimates["coverage"].value == np.mean(np.abs(predicted - truth) <= limit)
    assert "shift" not in before.estimates
    assert before.changes == {}
    # All patients have three images, so that their means are a sample of one figure per patient.
    lost = np.abs(worse - truth) - np.abs(clean - truth)
    for found, values in ((after.estimates["shift"], worse - clean), (after.changes["mae"], lost)):
        means = values.reshape(20, 3).mean(axis=1)
        ends = stats.t.interval(0.95, 19, means.mean(), stats.sem(means))
        assert (found.value, found.low, found.high) == pytest.approx((means.mean(), *ends))
    assert after.changes["mae"].p_value == pytest.approx(stats.ttest_1samp(lost.reshape(20, 3).mean(axis=1), 0).pvalue)
    assert after.changes["coverage"].high < 0 < after.changes["mae"].low

    # Of one patient nothing is known of the spread between patients, and of few validation images no range.
    alone = replace(cohort, table=cohort.table.assign(patient="p"))
    kept = ValueUncertainty(kept.misfit[:5])
    after = DEGRADED.measure(cast("Bundle", bundle), alone, outputs, 0.95)[1]
    assert np.isnan([after.estimates["mae"].low, after.changes["mae"].low, after.changes["mae"].p_value]).all()
    assert set(after.estimates) == {"mae", "shift"}


def test_a_planted_gap_between_groups_is_found_and_none_is_made_up() -> None:
    generator = np.random.default_rng(5)
    truth = generator.normal(50, 10, 400)
    table = pd.DataFrame({"site": np.where(np.arange(400) % 2, "a", "b"), "sex": generator.choice(["F", "M"], 400)})
    error = generator.normal(0, 3, 400)

    def found(predicted: np.ndarray) -> set[tuple[str, str]]:
        assessed = assess_values(truth, predicted, labels=("age",), task="regression", num_replicates=100)
        audit = compare_groups(type(assessed)(**{**vars(assessed), "table": table}))
        return {(gap.group, gap.metric) for gap in audit.findings}

    assert found(truth + error) == set()
    biased = found(truth + error + 4 * (table["site"] == "a").to_numpy())
    assert ("site = a", "bias") in biased
    assert not any(group.startswith("sex") for group, _ in biased)


def cohort_of(folder: Path, labels: list[object], column: str = "label", **options: object) -> Cohort:
    generator = np.random.default_rng(0)
    for number in range(len(labels)):
        cv2.imwrite(str(folder / f"{number}.png"), generator.integers(0, 255, (8, 8), np.uint8))
    rows = {"image": [f"{number}.png" for number in range(len(labels))], column: labels}
    pd.DataFrame(rows | {"patient": range(len(labels))}).to_csv(folder / "t.csv", index=False)
    return load_cohort(folder / "t.csv", **options)  # type: ignore[arg-type]


AGES = np.random.default_rng(0).integers(10, 220, 60).tolist()
GRADES = [number % 5 for number in range(60)]


def test_many_numbers_are_values_and_the_note_says_how_to_choose(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, AGES, "months", label_columns="months")
    assert (cohort.task, cohort.labels) == ("regression", ("months",))
    assert any("regression" in note and "--task ordinal" in note for note in cohort.notes)
    assert cohort.targets()[:, 0].tolist() == AGES


def test_few_whole_numbers_are_classes_with_a_note_or_what_is_asked_for(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, GRADES)
    assert (cohort.task, cohort.labels) == ("multi-class", ("0", "1", "2", "3", "4"))
    assert any("classes without order" in note and "--task ordinal" in note for note in cohort.notes)
    ordinal = cohort_of(tmp_path, GRADES, task="ordinal")
    assert (ordinal.task, ordinal.labels) == ("ordinal", cohort.labels)
    assert ordinal.targets()[3].tolist() == [1, 1, 1, 0]
    assert cohort_of(tmp_path, GRADES, task="regression").task == "regression"
    chosen = cohort_of(tmp_path, GRADES, task="multi-class")
    assert chosen.task == "multi-class"
    assert not any("--task" in note for note in chosen.notes)


def test_eleven_rounded_ages_are_classes_with_a_note(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, [number % 11 * 20 for number in range(66)])
    assert len(cohort.labels) == 11
    assert any("11 distinct numbers from 0 to 200" in note for note in cohort.notes)


def test_two_numbers_are_two_labels_as_ever(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, [number % 2 for number in range(20)])
    assert cohort.task == "binary"
    assert not any("--task" in note for note in cohort.notes)


@pytest.mark.parametrize(
    ("labels", "task", "told"),
    [
        (["12 mm", *AGES[1:]], "regression", "12 mm"),
        (["mild", "severe"] * 10, "ordinal", "'mild'"),
        ([0.5, 1.5] * 10, "ordinal", "'0.5'"),
        (list(range(40)), "ordinal", "40 distinct grades"),
        ([7] * 20, "regression", "expected different values"),
    ],
)
def test_a_column_that_does_not_fit_its_task_is_refused(
    labels: list[object], task: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(CohortError, match=told):
        cohort_of(tmp_path, labels, task=task)


def test_other_tasks_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multi-class, ordinal, regression"):
        cohort_of(tmp_path, GRADES, task="detection")


def test_class_indices_of_arrays_stay_classes_and_fractions_are_values(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (120, 8, 8), np.uint8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", np.arange(120) % 30)
    assert load_cohort(tmp_path).task == "multi-class"
    np.save(tmp_path / "labels.npy", np.linspace(0, 1, 120))
    assert load_cohort(tmp_path).task == "regression"


def test_splits_have_the_quantiles_of_the_whole(tmp_path: Path) -> None:
    skewed = np.round(np.random.default_rng(1).lognormal(3, 1, 200), 3).tolist()
    cohort = assign_splits(cohort_of(tmp_path, skewed), seed=0)
    strata, splits = strata_of(cohort), cohort.table["split"]
    assert len(np.unique(strata)) == 10
    for split, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        counts = np.bincount(strata[(splits == split).to_numpy()], minlength=10)
        assert np.abs(counts - 20 * share).max() <= 2
    TARGETS["values"].check_trainable(cohort)


def test_grades_missing_from_training_are_refused(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, GRADES, task="ordinal")
    test = ["test" if grade == 4 else "validation" if row < 10 else "train" for row, grade in enumerate(GRADES)]
    with pytest.raises(CohortError, match="no image of grade 4"):
        TARGETS["values"].check_trainable(cohort.with_splits(test))


def test_anyones_table_of_values_is_evaluated(tmp_path: Path, values: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = values
    pd.DataFrame({"truth": truth, "value": predicted, "patient": range(101)}).to_csv(tmp_path / "t.csv", index=False)
    found = evaluate_table(tmp_path / "t.csv", num_replicates=100)
    assert found.family == "values"
    assert found.estimates["r2"].value == pytest.approx(reference.r2_score(truth, predicted))
    assert any("regression" in note for note in found.notes)


def test_anyones_table_of_grades_is_evaluated(tmp_path: Path) -> None:
    rows = {"label": [0, 1, 3, 3, 1], "prediction": [0, 1, 1, 3, 3], "value": [0.2, 1.1, 1.6, 2.8, 2.9]}
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    found = evaluate_table(tmp_path / "t.csv", num_replicates=100)
    assert found.estimates["accuracy"].value == 0.6
    # Grade 2 occurs nowhere, and 1 and 3 are two steps apart all the same.
    assert found.estimates["within_one"].value == 0.6
    pd.DataFrame(rows).drop(columns="prediction").to_csv(tmp_path / "u.csv", index=False)
    with pytest.raises(EvaluationError, match="whole numbers"):
        evaluate_table(tmp_path / "u.csv", task="ordinal", num_replicates=100)


@pytest.mark.parametrize(
    ("rows", "words"),
    [("0,1,1000000000000\n1,1,1\n", "at most 1,000 steps"), (",1,0\n,1,1\n", "No row of g.csv has a truth")],
)
def test_grades_without_truth_or_bound_are_refused(rows: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(f"truth,value,prediction\n{rows}")
    with pytest.raises(EvaluationError, match=words):
        evaluate_table(tmp_path / "g.csv", num_replicates=100)


def test_a_table_of_values_has_no_threshold(tmp_path: Path) -> None:
    pd.DataFrame({"truth": [1.0, 2.0], "value": [1.5, 2.5]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UsageError, match="threshold"):
        evaluate_table(tmp_path / "t.csv", threshold=0.4)


def test_an_attribute_that_gives_the_value_away_is_a_shortcut_and_cohorts_are_compared_by_value(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    cohort_of(tmp_path / "a", sorted(AGES))
    table = pd.read_csv(tmp_path / "a" / "t.csv").assign(ward=np.arange(60) // 12)
    table.to_csv(tmp_path / "a" / "t.csv", index=False)
    first = load_cohort(tmp_path / "a" / "t.csv")
    found = {one.attribute: one for one in shortcuts(scan(first))}
    assert found["ward"].at_risk
    moved = cohort_of(tmp_path / "b", [age + 80 for age in AGES])
    same = {one.name: one for one in shifts(scan(first), scan(cohort_of(tmp_path / "a", AGES)))}
    assert not same["label"].notable
    changed = {one.name: one for one in shifts(scan(cohort_of(tmp_path / "a", AGES)), scan(moved))}
    assert changed["label"].notable
