"""Samples of several images, judged together: from DATA to report, and the same answer in training as in use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from families import hounsfield, write_views
from hounsfield.inference.views import Outputs, Views
from hounsfield.models import build
from hounsfield.models.views import head_settings, view_training_model, with_attention
from hounsfield.plans.architecture import ViewPooling


@pytest.mark.parametrize("pooling", ["attention", "mean", "max"])
def test_images_are_joined_in_use_as_in_training(pooling: ViewPooling) -> None:
    keras.utils.set_random_seed(1)
    network = with_attention(build("simple_cnn", (16, 16, 1), 3, "multi-class"), pooling)
    model, plain = view_training_model(network, "float32", [], views=4, pooling=pooling)
    for ours, theirs in zip(plain.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    images = np.random.default_rng(0).normal(size=(2, 4, 16, 16, 1)).astype(np.float32)
    present = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.float32)
    trained = np.asarray(model.predict_on_batch({"image": images, "present": present}))

    head: Any = head_settings(network)
    views = Views(pooling, np.array(head["kernel"]), np.array(head["bias"]), head["activation"])
    scores = [network.outputs[1]] if pooling == "attention" else []
    single = keras.Model(network.inputs[0], [network.outputs[0], network.get_layer("features").output, *scores])
    for sample, count in enumerate((4, 2)):
        outputs = [np.asarray(each) for each in single.predict_on_batch(images[sample, :count])]
        joined = views.join(Outputs(*outputs))
        np.testing.assert_allclose(joined.probabilities[0], trained[sample], atol=1e-5)
        assert joined.weights.sum() == pytest.approx(1)
        # One image is judged as if it were alone.
        alone = views.join(Outputs(*(each[:1] for each in outputs)))
        np.testing.assert_allclose(alone.probabilities[0], outputs[0][0], atol=1e-5)
    if pooling == "mean":
        assert joined.weights.tolist() == [0.5, 0.5]


def test_from_data_to_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    data, run = write_views(tmp_path / "data"), tmp_path / "run"
    together = ("--sample-column", "study")
    assert hounsfield(monkeypatch, "inspect", data, *together, "-o", "inspection") == 0
    assert "30 samples of 2 to 4 images" in capsys.readouterr().err
    changes = [word for change in ("epochs=1", "width=4") for word in ("--set", change)]
    assert hounsfield(monkeypatch, "train", data, *together, "--effort", "quick", *changes, "--out", run) == 0
    kept = pd.read_csv(run / "predictions.csv")
    assert kept["image"].str.startswith("study").all()
    assert kept["image"].is_unique

    # A folder is a sample, and so are the rows of a table with one key.
    folder = tmp_path / "one" / "study01"
    folder.mkdir(parents=True)
    for path in data.glob("p01_*.png"):
        (folder / path.name).write_bytes(path.read_bytes())
    assert hounsfield(monkeypatch, "predict", run, tmp_path / "one", "-o", "folder.csv") == 0
    assert hounsfield(monkeypatch, "predict", run, data / "labels.csv", "-o", "table.csv") == 0
    one, table = pd.read_csv("folder.csv"), pd.read_csv("table.csv").set_index("image")
    assert len(one) == 1
    assert len(table) == 30
    assert one["p_finding"].iloc[0] == pytest.approx(table.loc["study01", "p_finding"], abs=1e-6)
    weights = [float(part.rpartition("=")[2]) for part in one["view_weights"].iloc[0].split("; ")]
    assert sum(weights) == pytest.approx(1, abs=1e-3)
    assert weights == sorted(weights, reverse=True)
    assert Path(one["top_view"].iloc[0]).parent == folder

    capsys.readouterr()
    assert hounsfield(monkeypatch, "evaluate", run, "--json") == 0
    again = json.loads(capsys.readouterr().out)["test"]
    assert again["auc"]["value"] == json.loads((run / "metrics.json").read_text())["test"]["auc"]["value"]
    assert hounsfield(monkeypatch, "explain", run, folder, "-o", "evidence", "--json") == 0
    explained = json.loads(capsys.readouterr().out)["explanations"]
    assert [each["weight"] for each in explained] == sorted((each["weight"] for each in explained), reverse=True)
    assert len(list(Path("evidence").glob("*.png"))) == len(explained) == len(list(folder.iterdir()))
    assert hounsfield(monkeypatch, "report", run) == 0
    assert "images, weight" in (run / "report.html").read_text(encoding="utf-8")
    assert hounsfield(monkeypatch, "robustness", run) == 2
    assert "judges several together" in capsys.readouterr().err
