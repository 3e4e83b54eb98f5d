"""The shortcut probe: its ridge regression and its AUC against scikit-learn, what it reads and what it must not."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.probe import matched_auc, probe_features, ridge_penalty, ridge_reader
from hounsfield.evaluation.subgroups import read_attributes


def features_of(seed: int, num_patients: int = 150) -> tuple[np.ndarray, np.ndarray, np.ndarray, pd.DataFrame]:
    """Features (n, 20) that know the label, its truth, patients of two images, and attributes unknown to them."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(num_patients), 2)
    truth = (rng.random(num_patients) < 0.4)[patients]
    features = rng.normal(size=(num_patients, 20))[patients] + rng.normal(size=(len(patients), 20))
    features[:, :4] += 2.0 * truth[:, None]
    table = pd.DataFrame(
        {
            "sex": rng.choice(["F", "M"], num_patients)[patients],
            "site": np.where(rng.random(num_patients)[patients] < 0.2 + 0.6 * truth, "north", "south"),
            "scanner": rng.choice(["a", "b", "c"], len(patients)),
            "age": rng.integers(19, 95, num_patients)[patients],
        }
    )
    return features, truth[:, None], patients, table


def test_the_reader_is_a_ridge_regression_of_the_other_folds() -> None:
    rng = np.random.default_rng(0)
    features, targets, fold = rng.normal(size=(60, 8)), rng.normal(size=(60, 2)), np.arange(60) % 3
    read = ridge_reader(features, fold) @ targets
    for number in range(3):
        train, test = fold != number, fold == number
        scaler = StandardScaler().fit(features[train])
        known = scaler.transform(features[train])
        penalty = ridge_penalty(np.linalg.svd(known, compute_uv=False) ** 2, train.sum() / 10)
        model = Ridge(alpha=penalty).fit(known, targets[train])
        expected = model.predict(scaler.transform(features[test])) - model.intercept_
        np.testing.assert_allclose(read[test], expected, atol=1e-9)


def test_the_penalty_leaves_the_degrees_of_freedom_asked_for() -> None:
    squares = np.array([100.0, 30.0, 10.0, 3.0, 1.0, 0.0])
    assert np.sum(squares / (squares + ridge_penalty(squares, 2.0))) == pytest.approx(2.0, abs=1e-9)
    assert ridge_penalty(np.zeros(3), 2.0) > 0


def test_only_cases_of_one_label_are_compared() -> None:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, 200)
    member, scores = rng.random(200) < 0.5, np.round(rng.normal(size=200) + 5 * label, 1)
    parts = [(roc_auc_score(member[label == k], scores[label == k]), label == k) for k in (0, 1)]
    weights = [member[rows].sum() * (~member[rows]).sum() for _, rows in parts]
    expected = np.average([auc for auc, _ in parts], weights=weights)
    assert matched_auc(scores[:, None], member[:, None], label)[0] == pytest.approx(expected, abs=1e-12)


def test_what_the_features_hold_is_read_and_what_they_lack_is_not() -> None:
    features, truth, patients, table = features_of(0)
    features[:, 7] += 2.5 * (table["sex"] == "F")
    features[:, 8] += 0.06 * table["age"]
    features[:, 9] += 3.0 * (table["scanner"] == "b")
    attributes, _ = read_attributes(table)
    found = {probe.attribute: probe for probe in probe_features(features, attributes, truth, groups=patients)}
    assert {name for name, probe in found.items() if probe.readable} == {"sex", "age", "scanner"}
    for probe in found.values():
        assert probe.low < probe.value < probe.high
        assert 0.4 < probe.chance < 0.6
        assert probe.patients == 150
    assert found["sex"].value > 0.75
    assert "sex can be predicted from the features: AUC" in found["sex"].line()
    assert "site cannot be predicted beyond chance" in found["site"].line()
    json.dumps([probe.to_dict() for probe in found.values()], allow_nan=False)


def test_what_is_read_without_an_error_has_an_interval_and_dead_features_tell_nothing() -> None:
    features, truth, patients, table = features_of(0)
    features[:, 7] = 100.0 * (table["sex"] == "F")
    attributes, _ = read_attributes(table[["sex"]])
    (perfect,) = probe_features(features, attributes, truth, groups=patients)
    assert perfect.value == perfect.high == 1
    assert 0.9 < perfect.low < 0.99
    (dead,) = probe_features(np.zeros_like(features), attributes, truth, groups=patients)
    assert (dead.value, dead.p_value, dead.readable) == (0.5, 1.0, False)
    assert dead.low < 0.45
    assert dead.high > 0.55


def test_p_values_are_not_too_small_where_nothing_can_be_read() -> None:
    """The site goes with the label, and the features know the label; the site itself is not in them."""
    p_values = []
    for seed in range(10):
        features, truth, patients, table = features_of(seed, num_patients=60)
        attributes, _ = read_attributes(table)
        p_values += [probe.p_value for probe in probe_features(features, attributes, truth, groups=patients)]
    assert np.sum(np.array(p_values) < 0.05) <= 6  # of 40 tests 2 are expected
    assert 0.3 < np.mean(p_values) < 0.7


def test_what_cannot_be_judged_is_said() -> None:
    features, truth, patients, table = features_of(3)
    attributes, _ = read_attributes(
        pd.DataFrame(
            {
                "rare": np.where(patients < 5, "yes", "no"),
                "given away": np.where(truth[:, 0], "present", "absent"),
                "sex": table["sex"],
            }
        )
    )
    rare, away, sex = probe_features(features, attributes, truth, groups=patients)
    assert "too few patients to judge" in rare.line()
    assert "no label occurs in two of its groups" in away.line()
    assert not sex.note
    assert rare.to_dict()["value"] is None
    with pytest.raises(EvaluationError, match="one row of finite numbers"):
        probe_features(features[:-1], attributes, truth)
