"""How much each row counts in the loss: labels and groups alike."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hounsfield.cohorts import Cohort
from hounsfield.errors import PlanError
from hounsfield.plans.labels import Plan
from hounsfield.training.weights import MOST_WEIGHT, row_weights, training_weights
from plans import hand_made_plan


class NoImages:
    """A source of nothing: weights need no pixels."""

    def read(self, reference: str) -> Any:
        raise NotImplementedError

    def stream(self, references: Any) -> Any:
        raise NotImplementedError

    def digest(self, references: Any) -> str:
        raise NotImplementedError


def cohort(labels: list[str], sites: list[Any], task: Any = "binary") -> Cohort:
    table = pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(len(labels))],
            "label": labels,
            "patient": None,
            "split": "train",
        }
    )
    names = ("0", "1") if task == "binary" else ("a", "b", "c")
    return Cohort(table.assign(site=sites), task, names, NoImages(), "table", "made")


def totals(weights: np.ndarray, *columns: Any) -> dict[Any, float]:
    return pd.Series(weights).groupby([pd.Series(column) for column in columns]).sum().to_dict()


LABELS = ["0"] * 60 + ["1"] * 20
SITES = ["x"] * 50 + ["y"] * 10 + ["x"] * 5 + ["y"] * 15


def weights_of(data: Cohort, train: np.ndarray | None = None, **changes: Any) -> np.ndarray:
    plan: Plan = hand_made_plan(task=data.task, labels=data.labels, **changes)
    return row_weights(plan, data, np.arange(len(data)) if train is None else train)


def test_balanced_classes_weigh_alike() -> None:
    weights = weights_of(cohort(LABELS, SITES))
    assert totals(weights, LABELS) == pytest.approx({"0": 40.0, "1": 40.0})
    assert set(weights_of(cohort(LABELS, SITES), balance_classes=False)) == {np.float32(1)}


def test_with_and_without_each_of_several_labels_training_images_weigh_alike() -> None:
    labels = ["a;b"] * 10 + ["a"] * 20 + [""] * 9 + ["b;c"]
    data = cohort(labels, SITES[:40], "multi-label")
    train = np.arange(38)
    plan: Plan = hand_made_plan(task=data.task, labels=data.labels, balance_classes=True)
    weights, targets = training_weights(plan, data, train)[train], data.targets()[train]
    assert weights.shape == (38, 3)
    for column in range(2):
        present = targets[:, column] == 1
        assert weights[present, column].sum() == pytest.approx(19, rel=1e-5)
        assert weights[~present, column].sum() == pytest.approx(19, rel=1e-5)
    every = training_weights(plan, data, np.arange(40))
    assert every[39, 2] == MOST_WEIGHT  # one image of forty does not weigh as much as the others together
    off = plan.model_copy(update={"balance_classes": False})
    assert set(training_weights(off, data, train)) == {np.float32(1)}


def test_a_label_that_is_not_known_has_no_weight_and_does_not_balance_others() -> None:
    data = cohort(["a"] * 4 + [""] * 4, SITES[:8], "multi-label")
    table = data.table.assign(unknown_labels=["b"] * 4 + ["a"] * 2 + ["", "b"])
    data = dataclasses.replace(data, table=table)
    plan: Plan = hand_made_plan(task=data.task, labels=data.labels, balance_classes=True)
    weights = training_weights(plan, data, np.arange(8))
    assert weights[:, 0] == pytest.approx([0.75] * 4 + [0, 0] + [1.5] * 2)
    assert (weights[[0, 1, 2, 3, 7], 1] == 0).all()
    off = plan.model_copy(update={"balance_classes": False})
    assert training_weights(off, data, np.arange(8))[:, 0].tolist() == [1] * 4 + [0, 0] + [1] * 2


@pytest.mark.parametrize("balanced", [True, False])
def test_within_each_label_groups_weigh_alike_and_labels_as_before(balanced: bool) -> None:
    weights = weights_of(cohort(LABELS, SITES), balance_groups="site", balance_classes=balanced)
    found = totals(weights, LABELS, SITES)
    for label, share in {"0": 40.0 if balanced else 60.0, "1": 40.0 if balanced else 20.0}.items():
        assert found[label, "x"] == pytest.approx(share / 2, rel=1e-6)
        assert found[label, "y"] == pytest.approx(share / 2, rel=1e-6)


def test_only_training_rows_decide_and_a_few_images_do_not_stand_for_many() -> None:
    sites = ["x"] * 59 + ["y"] + ["x"] * 10 + ["y"] * 10
    weights = weights_of(cohort(LABELS, sites), balance_groups="site")
    assert weights[59] / weights[0] == pytest.approx(MOST_WEIGHT / (60 / 2 / 59), rel=1e-6)
    train = np.r_[0:10, 50:65, 70:80]
    weights = weights_of(cohort(LABELS, SITES), train, balance_groups="site", balance_classes=False)
    found = totals(weights[train], np.array(LABELS)[train], np.array(SITES)[train])
    assert found == pytest.approx({("0", "x"): 10.0, ("0", "y"): 10.0, ("1", "x"): 7.5, ("1", "y"): 7.5}, rel=1e-6)


def test_of_several_labels_the_groups_as_a_whole_weigh_alike() -> None:
    labels = ["a;b", "", "c", "a"] * 10
    sites = (["x"] * 3 + ["y"]) * 10
    data = cohort(labels, sites, "multi-label")
    weights = weights_of(data, balance_groups="site", balance_classes=False)
    assert totals(weights, sites) == pytest.approx({"x": 20.0, "y": 20.0})


@pytest.mark.parametrize(
    ("column", "message"), [("scanner", "columns sample, image, label, patient, split, site"), ("image", "80 groups")]
)
def test_a_column_that_makes_no_groups_is_refused(column: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        weights_of(cohort(LABELS, SITES), balance_groups=column)
