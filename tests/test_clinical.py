"""Models of clinical columns: what was planted is found, against scikit-learn and by its interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.clinical import BOTH, CLINICAL, IMAGE, ClinicalCases, contribution, read_columns


def cases(count: int, *, image: float, age: float, seed: int, per_patient: int = 1) -> ClinicalCases:
    """A label that depends on what the image shows and on the age."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(count // per_patient), per_patient)
    shown, years = rng.normal(size=len(patients)), rng.normal(size=count // per_patient)[patients]
    truth = rng.random(len(patients)) < 1 / (1 + np.exp(-(image * shown + age * years)))
    table = pd.DataFrame({"age": 60 + 10 * years, "sex": rng.choice(["F", "M"], len(patients))})
    return ClinicalCases(table, truth.astype(float), shown, patients)


def judged(image: float, age: float, **options: int) -> tuple[ClinicalCases, ClinicalCases]:
    return cases(400, image=image, age=age, seed=1, **options), cases(800, image=image, age=age, seed=2, **options)


@pytest.mark.parametrize(
    ("image", "age", "adds"), [(1.5, 1.0, {"image", "clinical"}), (1.5, 0.0, {"image"}), (0.0, 1.5, {"clinical"})]
)
def test_what_adds_something_is_told_by_its_interval(image: float, age: float, adds: set[str]) -> None:
    fitted, others = judged(image, age)
    found = contribution(fitted, others, name="sick", kind="label")
    assert {name for name, (_, low, _) in found.differences["auc"].items() if low > 0} == adds
    figures = found.figures["auc"]
    value, low, high = found.differences["auc"]["image"]
    assert value == pytest.approx(figures[BOTH][0] - figures[CLINICAL][0])
    assert low < value < high
    # A monotone function of one number has its AUC.
    if image:
        assert figures[IMAGE][0] == pytest.approx(roc_auc_score(others.truth, others.score))


def test_the_model_of_both_is_a_logistic_regression() -> None:
    fitted, others = judged(1.5, 1.0)
    found = contribution(fitted, others, name="sick", kind="label")

    def inputs(each: ClinicalCases) -> np.ndarray:
        return np.column_stack([(each.table["age"] - 60) / 10, each.table["sex"] == "M", each.score])

    plain = LogisticRegression(C=np.inf).fit(inputs(fitted), fitted.truth)
    expected = roc_auc_score(others.truth, plain.decision_function(inputs(others)))
    assert found.figures["auc"][BOTH][0] == pytest.approx(expected, abs=0.01)


def test_intervals_are_by_patient() -> None:
    fitted, others = judged(1.5, 1.0)
    widths = []
    for copies in (1, 3):
        rows = np.repeat(np.arange(len(others.truth)), copies)
        several = ClinicalCases(
            others.table.iloc[rows].reset_index(drop=True), others.truth[rows], others.score[rows], rows
        )
        _, low, high = contribution(fitted, several, name="sick", kind="label").differences["auc"]["clinical"]
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0], rel=0.05)


def test_values_have_r2_and_error() -> None:
    fitted, others = judged(1.0, 1.0)

    def valued(each: ClinicalCases) -> ClinicalCases:
        rng = np.random.default_rng(len(each.truth))
        truth = each.score + (each.table["age"].to_numpy() - 60) / 10 + 0.5 * rng.normal(size=len(each.truth))
        return ClinicalCases(each.table, truth, each.score, each.groups)

    found = contribution(valued(fitted), valued(others), name="size", kind="value", num_replicates=200)
    # Half of the explained variance each, of 2.25 in all.
    assert found.figures["r2"][IMAGE][0] == pytest.approx(1 / 2.25, abs=0.07)
    assert found.figures["r2"][BOTH][0] == pytest.approx(2 / 2.25, abs=0.03)
    assert found.differences["r2"]["clinical"][1] > 0
    assert found.differences["mae"]["clinical"][2] < 0
    assert found.figures["mae"][BOTH][0] == pytest.approx(0.5 * np.sqrt(2 / np.pi), abs=0.03)


def test_missing_cells_and_new_levels_are_taken() -> None:
    fitted, others = judged(1.5, 1.0)
    fitted.table.loc[:30, "age"] = np.nan
    fitted.table.loc[20:40, "sex"] = np.nan
    others.table.loc[:5, "sex"] = "X"
    found = contribution(fitted, others, name="sick", kind="label")
    assert found.differences["auc"]["clinical"][1] > 0


def test_columns_are_numbers_ages_or_texts() -> None:
    table = pd.DataFrame(
        {
            "age": ["045Y", "006M", None],
            "weight": ["70", "80.5", ""],
            "sex": ["F", None, "M"],
            "name": ["a", "b", "c"],
        }
    ).replace("", None)
    read = read_columns(table, ["age", "weight", "sex"])
    assert read["age"].tolist()[:2] == [45.0, 0.5]
    assert read["weight"].tolist()[:2] == [70.0, 80.5]
    assert read["age"].isna().tolist() == read["weight"].isna().tolist() == [False, False, True]
    assert read["sex"].dropna().tolist() == ["F", "M"]
    with pytest.raises(EvaluationError, match="names smoker, and the table has age, weight, sex, name"):
        read_columns(table, ["smoker"])
    with pytest.raises(EvaluationError, match="30 different texts"):
        read_columns(pd.DataFrame({"name": [f"p{number}" for number in range(30)]}), ["name"])


def test_too_few_cases_are_refused() -> None:
    fitted, others = judged(1.5, 1.0)
    few = ClinicalCases(fitted.table[:30], fitted.truth[:30], fitted.score[:30], fitted.groups[:30])
    with pytest.raises(EvaluationError, match="rarer kind for 'sick': at least 20"):
        contribution(few, others, name="sick", kind="label")
    alike = ClinicalCases(others.table, np.ones(len(others.truth)), others.score, others.groups)
    with pytest.raises(EvaluationError, match="of one kind"):
        contribution(fitted, alike, name="sick", kind="label")
