"""The bias audit: its permutation test against enumeration and SciPy, its groups, and what it finds and does not."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.bias import audit_bias
from hounsfield.evaluation.gaps import Comparable, contrast, difference_interval, mean_interval, tail
from hounsfield.evaluation.group_figures import GROUP_METRICS, Question, clusters_of
from hounsfield.evaluation.intervals import Interval
from hounsfield.evaluation.outcomes import Outcomes, as_outcomes
from hounsfield.evaluation.proportions import wilson_interval
from hounsfield.evaluation.subgroups import make_attribute, paired_groups, read_attributes, single_groups

LABELS = ("normal", "opacity")


def cohort(
    seed: int = 0, num_patients: int = 240, weak: tuple[str, str] | None = None, weakness: float = 0.0
) -> tuple[Outcomes, pd.DataFrame, np.ndarray]:
    """Simulated answers, three images a patient; the cases of the patients with sex and site ``weak`` score lower."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(num_patients), 3)
    sex = rng.choice(["F", "M"], size=num_patients)[patients]
    site = rng.choice(["north", "south", "west"], p=[0.5, 0.3, 0.2], size=num_patients)[patients]
    scanner = rng.choice(["a", "b"], size=len(patients))
    truth = (rng.random(num_patients) < 0.5)[patients]
    concerned = np.zeros(len(patients), dtype=bool)
    if weak is not None:
        concerned = np.isin(sex, list(weak[0])) & (site == weak[1])
    noise = np.sqrt(0.4) * rng.normal(size=num_patients)[patients] + np.sqrt(0.6) * rng.normal(size=len(patients))
    logit = 1.6 * (noise + 2.4 * np.where(concerned, 1 - weakness, 1.0) * truth - 1.2)
    answers = as_outcomes(truth, 1 / (1 + np.exp(-logit)), labels=LABELS, task="binary")
    return answers, pd.DataFrame({"sex": sex, "site": site, "scanner": scanner}), patients


def test_the_error_of_a_contrast_is_that_of_all_permutations() -> None:
    values = np.array([0.1, 0.9, 0.3, 0.3, 0.7, 1.0, 0.2, 0.4])
    group = np.arange(8) < 3
    found = contrast(Comparable(values, np.zeros(8, dtype=np.int64)), group, np.arange(8))
    every = []
    for chosen in itertools.combinations(range(8), 3):
        inside = np.isin(np.arange(8), chosen)
        every.append(values[inside].mean() - values[~inside].mean())
    assert found.value == pytest.approx(values[:3].mean() - values[3:].mean(), abs=1e-12)
    assert found.error == pytest.approx(np.std(every), abs=1e-12)
    skewness = float(stats.skew(every))
    assert found.p_value == pytest.approx(tail(found.value / np.std(every), skewness), abs=1e-9)


def test_strata_are_permuted_apart_and_averaged_by_mantel_and_haenszel() -> None:
    values = np.array([0.0, 1.0, 4.0, 10.0, 12.0, 17.0, 11.0])
    stratum = np.array([0, 0, 0, 1, 1, 1, 1])
    group = np.array([True, False, False, True, True, False, False])
    found = contrast(Comparable(values, stratum), group, np.arange(7))
    weights = np.array([1 * 2 / 3, 2 * 2 / 4])
    differences = np.array([0.0 - 2.5, 11.0 - 14.0])
    assert found.value == pytest.approx(float(weights @ differences / weights.sum()), abs=1e-12)
    every = []
    for one in itertools.combinations(range(3), 1):
        for two in itertools.combinations(range(3, 7), 2):
            inside = np.isin(np.arange(7), one + two)
            each = [values[inside & (stratum == s)].mean() - values[~inside & (stratum == s)].mean() for s in (0, 1)]
            every.append(weights @ each / weights.sum())
    assert found.error == pytest.approx(np.std(every), abs=1e-12)


def test_patients_with_identical_cases_count_once() -> None:
    rng = np.random.default_rng(3)
    values, group = rng.normal(size=40), np.arange(40) < 14
    once = contrast(Comparable(values, np.zeros(40, dtype=np.int64)), group, np.arange(40))
    five = contrast(
        Comparable(np.repeat(values, 5), np.zeros(200, dtype=np.int64)),
        np.repeat(group, 5),
        np.repeat(np.arange(40), 5),
    )
    assert five == pytest.approx(once, abs=1e-12)


def test_the_tail_is_pearsons_and_never_lighter_than_the_normal_one() -> None:
    assert tail(2.5, 0.0) == pytest.approx(2 * stats.norm.sf(2.5), rel=1e-12)
    assert tail(3.0, 0.8) == pytest.approx(2 * stats.pearson3.sf(3.0, 0.8), rel=1e-9)
    assert tail(-3.0, -0.8) == pytest.approx(2 * stats.pearson3.sf(3.0, 0.8), rel=1e-9)
    assert tail(-2.6, 0.8) == pytest.approx(2 * stats.norm.sf(2.6), rel=1e-12)  # type III has nothing below −2.5


@pytest.mark.parametrize("missed", [3, 5, 7])
def test_the_test_of_sensitivity_is_close_to_fishers(missed: int) -> None:
    """Of 20 cases in the group ``missed`` are missed, of 100 others 5; the p-value is near Fisher's mid-p."""
    decided = np.concatenate([np.arange(20) >= missed, np.arange(100) >= 5])
    group, truth = np.arange(120) < 20, np.ones(120, dtype=bool)
    question = Question(truth, decided.astype(np.float64), decided, np.arange(120))
    found = contrast(GROUP_METRICS["sensitivity"].comparable(question), group, question.of_case)
    exact = stats.hypergeom(120, missed + 5, 20)
    mid = 2 * (exact.sf(missed) + exact.pmf(missed) / 2)
    assert found.p_value == pytest.approx(mid, rel=0.5)


@pytest.mark.parametrize("name", GROUP_METRICS)
def test_p_values_are_not_too_small_where_groups_are_alike(name: str) -> None:
    """Patients of one to four images: at most about one in twenty tests is below .05."""
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(60), rng.integers(1, 5, 60))
    below = 0
    for _ in range(400):
        truth = (rng.random(60) < 0.5)[patients]
        scores = 1 / (1 + np.exp(-rng.normal(size=60)[patients] - 0.7 * rng.normal(size=len(patients)) - truth))
        question = Question(truth, scores, scores > 0.5, patients)
        group = (rng.random(60) < 0.3)[patients]
        below += contrast(GROUP_METRICS[name].comparable(question), group, patients).p_value < 0.05
    assert 2 <= below <= 32  # 20 expected, standard deviation 4.4


def test_the_difference_of_proportions_equals_newcombes_example() -> None:
    """56/70 − 48/80 by method 10 of Newcombe 1998, table II."""
    found = difference_interval(56 / 70, wilson_interval(56, 70), 48 / 80, wilson_interval(48, 80))
    assert tuple(found) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_interval_of_a_mean_is_students_where_patients_have_one_case() -> None:
    values = np.random.default_rng(1).normal(size=25)
    expected = stats.t.interval(0.95, 24, values.mean(), stats.sem(values))
    assert mean_interval(values, clusters_of(np.arange(25)), 0.0, confidence=0.95) == pytest.approx(expected, abs=1e-12)
    flat = mean_interval(np.zeros(25), clusters_of(np.arange(25)), 0.04, confidence=0.95)
    assert flat == pytest.approx((-stats.t.ppf(0.975, 24) * 0.2, stats.t.ppf(0.975, 24) * 0.2))


def test_attributes_are_columns_that_describe_cases() -> None:
    table = pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(40)],
            "label": ["a", "b"] * 20,
            "p_a": np.linspace(0, 1, 40),
            "StudyInstanceUID": [f"1.2.{number}" for number in range(40)],
            "y0": range(40),
            "age": [5, 30, 50, 70, 90] * 8,
            "dose": np.linspace(0.5, 3.4, 40),
            "sex": ["F", "M", None, "F"] * 10,
            "visit": [1, 2, 10, 2] * 10,
            "comment": [f"text {number}" for number in range(40)],
            "modality": "DX",
            "gender": ["w", "m", None, "w"] * 10,
        }
    )
    found, notes = read_attributes(table.assign(age=table["age"] + np.arange(40) % 4))
    by_name = {attribute.name: attribute for attribute in found}
    assert list(by_name) == ["age", "dose", "sex", "visit"]
    assert by_name["age"].levels == ("below 18", "18 to below 40", "40 to below 60", "60 to below 80", "80 and above")
    assert np.bincount(by_name["dose"].codes).tolist() == [10, 10, 10, 10]
    assert by_name["sex"].levels == ("F", "M", "not recorded")
    assert by_name["visit"].levels == ("1", "2", "10")
    assert sum("too many" in note for note in notes) == 1
    assert sum("divided into bins" in note for note in notes) == 2
    assert "'gender' was left out: it makes the same groups as 'sex'." in notes


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (pd.Categorical(["b", "a", None, "b"]), ("a", "b", "not recorded")),
        (
            pd.to_datetime(["2020-01-01", "2021-01-01", None, "2020-01-01"]),
            ("2020-01-01", "2021-01-01", "not recorded"),
        ),
        ([[1], [1, 2], None, [1]], ("[1, 2]", "[1]", "not recorded")),
        ([True, False, None, True], ("False", "True", "not recorded")),
        ([1.0, 2.0, np.nan, 1.0], ("1", "2", "not recorded")),
        (pd.array(["x", pd.NA, "y", "x"], dtype="string"), ("x", "y", "not recorded")),
    ],
)
def test_any_kind_of_column_makes_groups(values: Any, levels: tuple[str, ...]) -> None:
    attribute = make_attribute("column", pd.Series(values))
    assert [level.partition(" 00:")[0] for level in attribute.levels] == list(levels)
    assert attribute.codes[0] == attribute.codes[3]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6), st.integers(-5, 5)), min_size=1, max_size=60))
def test_every_case_is_in_one_group_of_an_attribute(values: list[float | None]) -> None:
    attribute = make_attribute("dose", pd.Series(values, dtype=object))
    groups = single_groups([attribute])
    assert np.sum([group.rows for group in groups], axis=0).tolist() == [1] * len(values)
    assert all(group.rows.any() for group in groups)


def test_a_weak_site_is_found_named_and_sized() -> None:
    answers, table, patients = cohort(weak=("FM", "west"), weakness=0.7)
    audit = audit_bias(answers, table, groups=patients)
    assert {each.group for each in audit.findings} == {"site = west"}
    gap = next(each for each in audit.findings if each.metric == "sensitivity")
    west = (table["site"] == "west").to_numpy()
    truth, decided = answers.truth[:, 0], answers.decisions[:, 0]
    assert gap.inside == pytest.approx(reference.recall_score(truth[west], decided[west]), abs=1e-12)
    assert gap.outside == pytest.approx(reference.recall_score(truth[~west], decided[~west]), abs=1e-12)
    assert gap.value == pytest.approx(gap.inside - gap.outside)
    assert gap.low < gap.value < gap.high < 0
    assert audit.worst["auc"].group == "site = west"
    told = "\n".join(audit.lines())
    assert "site = west: sensitivity of 'opacity'" in told
    assert "Worst group by AUC: site = west" in told


def test_a_weak_pair_is_found_as_a_pair_and_its_site_does_not_accuse_the_other_sex() -> None:
    answers, table, patients = cohort(num_patients=600, weak=("F", "west"), weakness=0.9)
    audit = audit_bias(answers, table, groups=patients)
    pairs = {each.group for each in audit.findings if len(each.parts) == 2}
    assert pairs == {"sex = F and site = west"}
    assert not any("sex = M" in each.group for each in audit.findings)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_found_where_nothing_is_planted(seed: int) -> None:
    answers, table, patients = cohort(seed, num_patients=120)
    audit = audit_bias(answers, table, groups=patients)
    assert not audit.findings
    assert "no difference beyond chance" in audit.lines()[0]


def test_figures_of_groups_equal_scikit_learn() -> None:
    answers, table, patients = cohort(seed=2)
    audit = audit_bias(answers, table, groups=patients)
    for group in (*single_groups(audit.attributes), *paired_groups(audit.attributes)[0]):
        report = next(each for each in audit.groups if each.group == group.name)
        truth, scores = answers.truth[group.rows, 0], answers.scores[group.rows, 0]
        decided = answers.decisions[group.rows, 0]
        assert report.figures["auc"].value == pytest.approx(reference.roc_auc_score(truth, scores), abs=1e-12)
        assert report.figures["specificity"].value == pytest.approx(reference.recall_score(~truth, ~decided), abs=1e-12)
        assert report.figures["calibration"].value == pytest.approx(float(np.mean(truth - scores)), abs=1e-12)
        for estimate in report.figures.values():
            assert estimate.low <= estimate.value <= estimate.high


def test_order_of_the_cases_does_not_matter() -> None:
    answers, table, patients = cohort(seed=4, weak=("FM", "west"), weakness=0.4)
    order = np.random.default_rng(0).permutation(len(answers))
    shuffled = audit_bias(answers.take(order), table.iloc[order], groups=patients[order])
    for one, two in zip(
        sorted(audit_bias(answers, table, groups=patients).gaps, key=lambda each: (each.group, each.metric)),
        sorted(shuffled.gaps, key=lambda each: (each.group, each.metric)),
        strict=True,
    ):
        assert (one.group, one.metric) == (two.group, two.metric)
        numbers = [(each.value, each.low, each.high, each.p_value) for each in (one, two)]
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-9, nan_ok=True)


def test_small_and_one_sided_groups_are_said_to_be_so() -> None:
    answers, table, patients = cohort()
    table = table.assign(ward=np.where(patients < 4, "rare", "usual"))
    table["marker"] = np.where(answers.truth[:, 0], "present", "absent")
    audit = audit_bias(answers, table, groups=patients)
    rare = next(group for group in audit.groups if group.group == "ward = rare")
    assert rare in audit.too_small
    assert rare.figures["calibration"].note == "too small to judge: 4 patients; at least 10 are needed"
    assert not any("ward = rare" in each.group for each in audit.gaps)
    assert any("marker = present: every case is 'opacity'" in note for note in audit.notes)
    assert any(line.startswith("Too small to judge: ward = rare (4 patients)") for line in audit.lines())
    json.dumps(audit.to_dict(), allow_nan=False)


def test_a_group_that_lacks_one_of_several_labels_is_judged_by_the_others() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 900, p=[0.4, 0.4, 0.2])
    site = np.where(truth == 2, "north", rng.choice(["north", "south"], size=900))
    site[(truth == 0) & (rng.random(900) < 0.3)] = "west"
    scores = np.exp(rng.normal(size=(900, 3)) + 2.0 * np.eye(3)[truth])
    scores /= scores.sum(axis=1, keepdims=True)
    table = pd.DataFrame({"site": site})
    audit = audit_bias(as_outcomes(truth, scores, labels=("a", "b", "rare"), task="multi-class"), table)
    lacking = (
        "site = south: no case is 'rare', so the attribute determines this label in these data, and performance on it "
        "cannot be judged in the group."
    )
    of_groups = [note for note in audit.notes if note.startswith("site = ")]
    assert of_groups[0] == lacking
    assert of_groups[1].startswith("site = west: every case is 'a', so the attribute determines the label")
    assert len(of_groups) == 2
    assert any(each.group == "site = south" and each.question == "a" for each in audit.gaps)
    several = as_outcomes(np.eye(3)[truth], scores, labels=("a", "b", "rare"), task="multi-label")
    of_groups = [note for note in audit_bias(several, table).notes if note.startswith("site = ")]
    assert [note.split(", ")[0] for note in of_groups] == [
        "site = south: no case is 'rare'",
        *(f"site = west: {found}" for found in ("every case is 'a'", "no case is 'b'", "no case is 'rare'")),
    ]
    assert not any("the group is served" in note for note in of_groups)


def test_group_thresholds_give_equal_opportunity() -> None:
    answers, table, patients = cohort(weak=("FM", "west"), weakness=0.5)
    rows = audit_bias(answers, table, groups=patients).opportunity
    overall = float(answers.decisions[answers.truth].mean())
    assert {(row.attribute, row.level) for row in rows} >= {("site", "west"), ("sex", "F"), ("scanner", "a")}
    for row in rows:
        group = (table[row.attribute] == row.level).to_numpy()
        truth, scores = answers.truth[group, 0], answers.scores[group, 0]
        assert np.mean(scores[truth] > row.threshold) >= overall - 1e-12
        assert np.mean(scores[~truth] <= row.threshold) == pytest.approx(row.specificity_there)
        assert row.specificity_low <= row.specificity_there <= row.specificity_high
    west = next(row for row in rows if row.level == "west")
    assert west.sensitivity < overall
    assert west.threshold < 0.5
    assert west.specificity_there < west.specificity


def test_several_labels_are_audited_one_by_one() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 900)
    site = rng.choice(["north", "south"], size=900)
    logits = rng.normal(size=(900, 3)) + 3.0 * np.eye(3)[truth]
    poor = (site == "south") & (truth == 2)
    logits[poor] = rng.normal(size=(int(poor.sum()), 3))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = as_outcomes(truth, scores, labels=("a", "b", "c"), task="multi-class")
    audit = audit_bias(answers, pd.DataFrame({"site": site}))
    assert {each.question for each in audit.findings if each.metric == "sensitivity"} == {"c"}
    assert {"auc_a", "sensitivity_c"} <= set(audit.overall.figures)
    assert not audit.opportunity
    several = as_outcomes(np.eye(3)[truth], scores, labels=("a", "b", "c"), task="multi-label", threshold=0.4)
    assert {row.question for row in audit_bias(several, pd.DataFrame({"site": site})).opportunity} == {"a", "b", "c"}


def test_many_columns_and_pairs_are_bounded() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({f"column {number}": rng.integers(0, 10, 300) for number in range(23)})
    attributes, notes = read_attributes(table)
    assert [attribute.name for attribute in attributes] == [f"column {number}" for number in range(20)]
    assert sum("was left out: only the first 20" in note for note in notes) == 3
    pairs, left = paired_groups(attributes)
    assert 900 <= len(pairs) <= 1000
    assert left[0].startswith("Pairs with too many groups were left out: column 0 and column 11")


def test_a_table_without_attributes_or_of_other_length_is_told_of() -> None:
    answers, table, _ = cohort(num_patients=12)
    empty = audit_bias(answers, table[[]])
    assert not empty.gaps
    assert "no column such as sex" in empty.lines()[0]
    with pytest.raises(EvaluationError, match="one a case is needed"):
        audit_bias(answers, table.iloc[:-1])
    with pytest.raises(EvaluationError, match="strictly between 0 and 1"):
        audit_bias(answers, table, significance=1.0)


@pytest.mark.data
def test_a_hundred_images_allow_no_firm_statement_on_groups(data_folder: Path) -> None:
    table = pd.read_csv(data_folder / "chest-xray-subgroups" / "index.csv")
    rng = np.random.default_rng(0)
    truth = (table["finding"] == "COVID-19").to_numpy()
    scores = 1 / (1 + np.exp(-rng.normal(size=len(table)) - 1.5 * (truth - 0.5)))
    answers = as_outcomes(truth, scores, labels=("other", "COVID-19"), task="binary")
    audit = audit_bias(answers, table.drop(columns="finding"), groups=table["patient"])
    assert {"sex", "age", "view"} <= {attribute.name for attribute in audit.attributes}
    assert not audit.findings
    assert len(audit.too_small) > 5
    widths = [each.high - each.low for each in audit.gaps if each.metric == "sensitivity"]
    assert widths
    assert min(widths) > 0.25


def test_an_interval_of_nothing_stays_nothing() -> None:
    found = contrast(Comparable(np.ones(4), np.zeros(4, dtype=np.int64)), np.ones(4, dtype=bool), np.arange(4))
    assert all(math.isnan(number) for number in found)
    assert contrast(Comparable(np.ones(4), np.zeros(4, dtype=np.int64)), np.arange(4) < 2, np.arange(4)).p_value == 1.0
    assert difference_interval(0.5, Interval(0.5, 0.5), 0.5, Interval(0.5, 0.5)) == (0.0, 0.0)
