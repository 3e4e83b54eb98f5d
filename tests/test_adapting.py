"""Trainings that start from pretrained weights, from the command line to the bundle; probes against scikit-learn."""

from __future__ import annotations

import json
import pickle
import struct
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from families import hounsfield, write_labels, write_values
from hounsfield.bundle import Bundle
from hounsfield.errors import UsageError
from hounsfield.inference import open_predictor
from hounsfield.plans import load_plan
from hounsfield.pretrained.fetching import hub_folder
from hounsfield.pretrained.source import check_licence, find_source
from hounsfield.pretrained.tensors import read_tensors
from hounsfield.training.probing import Regression
from weights import vit_folder, write_safetensors


class Head:
    """The part of a layer that a regression looks at."""

    def __init__(self, kind: str) -> None:
        self.activation = SimpleNamespace(__name__=kind)


def problem(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(80, 5))
    logits = features @ draw.normal(size=(5, 3)) + draw.normal(size=(80, 3))
    weights = draw.uniform(0.5, 2, 80)
    if kind == "softmax":
        return features, np.eye(3)[logits.argmax(1)], weights
    return features, (logits[:, :1] > 0.3).astype(float) if kind == "sigmoid" else logits[:, :1], weights


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_logistic_regression(kind: str, penalty: float) -> None:
    features, targets, weights = problem(kind)
    kernel, bias = Regression(features, targets, weights, Head(kind)).fit(penalty)
    truth = targets.argmax(1) if kind == "softmax" else targets[:, 0]
    # Its loss is the sum over cases, ours the mean of weights of the mean 1.
    reference = LogisticRegression(C=1 / (penalty * len(truth)), tol=1e-8, max_iter=10_000)
    reference.fit(features, truth, sample_weight=weights / weights.mean())
    ours = features @ kernel + bias
    theirs = reference.decision_function(features).reshape(len(truth), -1)
    np.testing.assert_allclose(ours - ours.mean(1, keepdims=True) * (kind == "softmax"), theirs, atol=2e-3)


def test_ridge_regression() -> None:
    features, targets, weights = problem("linear")
    kernel, bias = Regression(features, targets, weights, Head("linear")).fit(0.1)
    reference = Ridge(alpha=0.1 * len(targets)).fit(features, targets[:, 0], sample_weight=weights / weights.mean())
    np.testing.assert_allclose((features @ kernel + bias)[:, 0], reference.predict(features), atol=1e-4)


def test_unknown_truths_do_not_count() -> None:
    features, targets, _ = problem("sigmoid")
    two, known = np.hstack([targets, 1 - targets]), np.ones((80, 2))
    two[10:30, 1], known[10:30, 1] = np.nan, 0
    kernel, bias = Regression(features, two, known, Head("sigmoid")).fit(0.01)
    two[10:30, 1] = 1
    again, same = Regression(features, two, known, Head("sigmoid")).fit(0.01)
    np.testing.assert_allclose(np.vstack([kernel, bias]), np.vstack([again, same]), atol=1e-6)


def test_probe_then_finetune_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A folder in DINOv2's form is probed; the run, in turn, is finetuned."""
    (tmp_path / "data").mkdir()
    data, (folder, _) = write_labels(tmp_path / "data"), vit_folder(tmp_path / "made-up", "dinov2", "cc-by-nc-4.0")
    out = tmp_path / "probe"
    assert hounsfield(monkeypatch, "train", data, "--weights", folder, "--out", out) == 2
    assert "--accept-licence cc-by-nc-4.0" in capsys.readouterr().err
    assert not out.exists()
    accepted = ("--weights", folder, "--accept-licence", "cc-by-nc-4.0")
    assert hounsfield(monkeypatch, "train", data, *accepted, "--out", out) == 0
    plan = load_plan(out / "plan.yaml")
    assert plan.adapt == "probe"  # type: ignore[attr-defined]  # plans of labels have it
    assert plan.minutes is None
    assert "too few" in plan.reasons["adapt"]
    assert [step.name for step in plan.pipeline.steps][-1] == "dataset_z_score"
    assert plan.pipeline.steps[-1].mean == (0.5, 0.4, 0.3)  # type: ignore[attr-defined]  # a z-score
    bundle = Bundle.load(out)
    origin = bundle.settings["origin"]
    assert (origin["licence"], origin["adapt"], origin["weights"]) == ("cc-by-nc-4.0", "probe", "made-up")
    assert origin["sha256"] == find_source(str(folder)).sha256
    assert bundle.has_onnx
    history = pd.read_csv(out / "history.csv")
    assert len(history) == 13
    assert history["penalty"].is_monotonic_decreasing
    assert hounsfield(monkeypatch, "report", out) == 0
    assert "licence cc-by-nc-4.0" in (out / "MODEL_CARD.md").read_text()
    # Another split of the same data would judge the run's network by images that it was trained on.
    options = ("--adapt", "finetune", "--set", "epochs=2", "--accept-licence", "cc-by-nc-4.0")
    again = tmp_path / "finetuned"
    assert hounsfield(monkeypatch, "train", data, "--weights", out, "--seed", "1", *options, "--out", again) == 1
    assert "too good" in capsys.readouterr().err
    assert hounsfield(monkeypatch, "train", data, "--weights", out, *options, "--out", again) == 0
    assert Bundle.load(again).settings["origin"]["licence"] == "cc-by-nc-4.0"
    assert len(pd.read_csv(again / "history.csv")) == 2
    image = next(data.glob("*.png"))
    assert open_predictor(again).predict(image)[0].label in ("disc", "empty")


def test_probe_of_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    data, (folder, _) = write_values(tmp_path / "data"), vit_folder(tmp_path / "made-up", "vit")
    assert hounsfield(monkeypatch, "train", data, "--weights", folder, "--out", tmp_path / "run") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert np.isfinite(metrics["test"]["mae"]["value"])


@pytest.mark.parametrize(
    ("licence", "free"),
    [("mit", True), ("bsd-3-clause", True), ("apache-2.0", True), ("cc-by-4.0", True), ("cc-by-nc-4.0", False),
     ("cc-by-nd-4.0", False), ("other", False), ("mit-nc", False),
        ("own", False), ("", False)],
)  # fmt: skip
def test_licences(licence: str, free: bool, tmp_path: Path) -> None:
    source = find_source(str(vit_folder(tmp_path / "model", "vit", licence)[0]))
    if free:
        check_licence(source, "")
        return
    with pytest.raises(UsageError, match=f"--accept-licence {licence or 'unknown'}"):
        check_licence(source, "")
    with pytest.raises(UsageError):
        check_licence(source, "another")
    check_licence(source, licence or "unknown")


def test_weights_without_any_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path))
    with pytest.raises(UsageError) as refused:
        hub_folder("microsoft/rad-dino")
    assert str(tmp_path / "weights" / "microsoft" / "rad-dino") in str(refused.value)
    assert "config.json" in str(refused.value)
    vit_folder(tmp_path / "weights" / "microsoft" / "rad-dino", "dinov2")
    assert hub_folder("microsoft/rad-dino") == tmp_path / "weights" / "microsoft" / "rad-dino"
    for name in ("rad-dino", "../x/y", "a/..", "a/b/c"):
        with pytest.raises(UsageError, match="ORG/NAME"):
            hub_folder(name)


def test_weights_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, tensors = vit_folder(tmp_path / "served", "vit")
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            file = folder / self.path.rpartition("/")[2]
            self.send_response(200 if file.is_file() else 404)
            self.end_headers()
            if file.is_file():
                self.wfile.write(file.read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
        source = find_source("hf:org/model")
        count = len(asked)
        hub_folder("org/model")
    finally:
        server.shutdown()
        server.server_close()
    assert len(asked) == count == 5
    assert (source.licence, source.name) == ("mit", "org/model")
    assert read_tensors(source.weights).keys() == tensors.keys()


class Harmful:
    def __reduce__(self) -> tuple[Any, Any]:
        return (print, ("run",))


@pytest.mark.parametrize("number", range(6))
def test_weights_that_are_no_tensors_are_refused(number: int, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / ("model.safetensors" if number < 4 else "pytorch_model.bin")
    write_safetensors(path, {"a": np.ones((2, 3))})
    good = path.read_bytes()
    contents = [
        good[:-1],
        struct.pack("<Q", 2**40) + good[8:],
        good.replace(b'"shape": [2, 3]', b'"shape": [9, 9]'),
        good.replace(b'"F32"', b'"F99"'),
        pickle.dumps(Harmful()),
        b"PK\x03\x04" + good,
    ]
    path.write_bytes(contents[number])
    with pytest.raises(UsageError, match="Fetch the file again"):
        read_tensors(path)
    assert capsys.readouterr().out == ""


def test_torch_files_are_read_without_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch writes the files")
    made = {
        "a": torch.arange(12, dtype=torch.float32).reshape(3, 4),
        "turned": torch.arange(12, dtype=torch.float16).reshape(3, 4).T,
        "n": torch.tensor(3),
    }
    for new in (True, False):
        torch.save(made, tmp_path / "w.bin", _use_new_zipfile_serialization=new)
        found = read_tensors(tmp_path / "w.bin")
        assert all((found[name] == value.numpy()).all() for name, value in made.items())
        assert found["turned"].dtype == np.float32
