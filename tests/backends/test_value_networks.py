"""Grades in order and values on every backend: folded networks, ensembles, volumes, ranges, engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from hounsfield import training
from hounsfield.bundle import Bundle
from hounsfield.cohorts.request import DataRequest
from hounsfield.explanation import Explainer
from hounsfield.inference import open_engine, open_predictor
from hounsfield.inference.values import read
from hounsfield.models import build, ensemble, flip_averaged
from hounsfield.models.ordinal import folded
from hounsfield.planning.speed import measure_speed

SHAPE = (12, 12, 1)


def graded(seed: int = 0) -> Any:
    """An ordinal network of 4 grades with random weights, those of the score at one."""
    keras.utils.set_random_seed(seed)
    network = build("resnet10", SHAPE, 4, "ordinal", width=4)
    generator = np.random.default_rng(seed)
    for layer in network.layers:
        if layer.name == "severity":
            layer.set_weights([generator.normal(0, 1, weight.shape) for weight in layer.get_weights()])
        if layer.name == "probabilities":
            layer.set_weights([np.ones((1, 3)), np.array([1.0, 0.2, -1.0])])
    return network


def test_a_folded_network_says_the_same_from_one_dense_layer() -> None:
    images = np.random.default_rng(0).normal(size=(5, *SHAPE)).astype(np.float32)
    network = graded()
    plain = folded(network)
    assert np.asarray(plain.predict_on_batch(images)) == pytest.approx(
        np.asarray(network.predict_on_batch(images)), abs=1e-5
    )
    assert "severity" not in {layer.name for layer in plain.layers}
    assert folded(plain) is plain


def test_an_ensemble_of_views_is_monotone() -> None:
    images = np.random.default_rng(1).normal(size=(20, *SHAPE)).astype(np.float32)
    crossed = graded(1)
    crossed.get_layer("probabilities").set_weights([np.ones((1, 3)), np.array([-1.0, 0.5, 0.1])])
    network = flip_averaged(ensemble([folded(graded(0)), folded(crossed)]), (1,))
    found = np.asarray(network.predict_on_batch(images))
    assert (np.diff(found, axis=1) <= 1e-6).all()


def test_the_weights_of_the_score_stay_at_one_in_training() -> None:
    network = graded()
    network.compile(keras.optimizers.AdamW(0.05, weight_decay=0.1), "binary_crossentropy")
    images = np.random.default_rng(2).normal(size=(8, *SHAPE)).astype(np.float32)
    targets = (np.arange(8)[:, None] % 4 > np.arange(3)).astype(np.float32)
    before = network.get_layer("probabilities").get_weights()[1].copy()
    for _ in range(3):
        network.train_on_batch(images, targets)
    weights, biases = network.get_layer("probabilities").get_weights()
    assert weights == pytest.approx(np.ones((1, 3)), abs=1e-5)
    assert np.abs(biases - before).max() > 1e-3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Two networks for grades of volumes: a cube of 2 to 8 voxels a side."""
    folder = tmp_path_factory.mktemp("grades")
    generator, grades = np.random.default_rng(0), np.arange(80) % 4
    volumes = generator.integers(0, 60, (80, 12, 12, 12)).astype(np.uint8)
    for volume, grade in zip(volumes, grades, strict=True):
        volume[2 : 4 + 2 * grade, 2 : 4 + 2 * grade, 2 : 4 + 2 * grade] = 220
    np.save(folder / "images.npy", volumes)
    np.save(folder / "labels.npy", grades)
    prepared = training.prepare(DataRequest(str(folder), task="ordinal"), seed=0)
    changes = ["epochs=2", "folds=2", "width=4", "network=resnet10", "test_time_flips=[2]"]
    plan = prepared.changed(prepared.plan(effort="quick"), changes)
    training.train(DataRequest(str(folder), task="ordinal"), folder / "run", plan=plan)
    return folder / "run", volumes


def test_grades_of_volumes_by_an_ensemble(run: tuple[Path, np.ndarray]) -> None:
    folder, volumes = run
    bundle = Bundle.load(folder)
    assert (bundle.task, bundle.labels) == ("ordinal", ("0", "1", "2", "3"))
    (found,) = open_predictor(bundle, coverage=0.8).predict(volumes[5])
    row = found.rows()[0]
    assert row["prediction"] in bundle.labels
    assert sum(row[f"p_{grade}"] for grade in bundle.labels) == pytest.approx(1, abs=1e-6)
    assert int(row["low"]) <= int(row["prediction"]) <= int(row["high"])
    assert row["value"] == pytest.approx(sum(float(grade) * row[f"p_{grade}"] for grade in bundle.labels), abs=1e-5)


def test_engines_say_the_same(run: tuple[Path, np.ndarray]) -> None:
    bundle = Bundle.load(run[0])
    batch = np.random.default_rng(1).normal(size=(3, *bundle.input_shape)).astype(np.float32)
    found = [read(bundle, open_engine(bundle, name).run(batch)[0]).values.copy() for name in ("keras", "onnxruntime")]
    assert found[0] == pytest.approx(found[1], abs=1e-4)


@pytest.mark.parametrize("method", ["grad_cam", "occlusion", "integrated_gradients"])
def test_a_heat_map_is_the_evidence_for_a_higher_grade(run: tuple[Path, np.ndarray], method: str) -> None:
    folder, volumes = run
    (found,) = Explainer(folder, method).explain(volumes[3])
    assert found.label == "a higher grade"
    assert found.heat.shape == (12, 12, 12)
    assert np.isfinite(found.heat).all()
    assert np.abs(found.heat).max() > 0


def test_volumes_are_not_planned_in_a_precision_that_spoils_their_gradients() -> None:
    speed = measure_speed((8, 8, 8, 1), 4, 2)
    if keras.backend.backend() == "torch":
        assert speed.precision == "float32"
        assert "not used for volumes" in speed.describe()
    assert set(speed.rates) == {"float32", *(["mixed_bfloat16"] if keras.backend.backend() != "torch" else [])}
    assert speed.rate("mixed_bfloat16") > 0
