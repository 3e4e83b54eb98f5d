"""Pretraining from the command line, and what becomes of its weights; patients that were seen are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from families import hounsfield, write_boxes, write_labels, write_masks
from hounsfield.bundle import Bundle
from hounsfield.cohorts import load_request
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import CohortError, UsageError
from hounsfield.evaluation.mask_uncertainty import MaskUncertainty
from hounsfield.inference import open_predictor
from hounsfield.onnx_export import quantised
from hounsfield.plans import load_plan
from hounsfield.pretrained.folder import MANIFEST
from hounsfield.pretrained.source import find_source
from hounsfield.pretraining.run import PretrainingFolder
from hounsfield.testing import mask_quantisation

SMALL = ("--set", "width=4", "--set", "epochs=2")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("labels"))


@pytest.fixture(scope="module")
def pretrained(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretraining on the training rows that a split with the seed 0 gives."""
    folder = tmp_path_factory.mktemp("pretrained") / "weights"
    with pytest.MonkeyPatch.context() as patch:
        assert hounsfield(patch, "pretrain", labels, *SMALL, "--out", folder) == 0
    return folder


def test_weights_of_ones_own_images_start_a_training(
    labels: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    known = json.loads((pretrained / MANIFEST).read_text())
    assert (known["method"], known["licence"], known["for_masks"]) == ("VICReg", "own", False)
    history = pd.read_csv(pretrained / "history.csv")
    assert len(history) == 2
    assert (history["embedding_std"] > 0.1).all()
    assert not (pretrained / "checkpoints").exists()
    assert pretrained.stat().st_mode & 0o077 == 0
    run = tmp_path / "run"
    options = ("--adapt", "probe", "--out", run)
    # Another split judges by patients that the pretraining has seen.
    assert hounsfield(monkeypatch, "train", labels, "--weights", pretrained, "--seed", 1, *options) == 1
    assert "too good" in capsys.readouterr().err
    assert hounsfield(monkeypatch, "train", labels, "--weights", pretrained, *options) == 0
    origin = Bundle.load(run).settings["origin"]
    assert (origin["weights"], origin["licence"], origin["adapt"]) == ("weights", "own", "probe")
    assert origin["sha256"] == find_source(str(pretrained)).sha256
    plan: Any = load_plan(run / "plan.yaml")
    assert plan.pipeline == load_plan(pretrained / "pretraining.yaml").pipeline
    # Weights of weights: the run that started from the pretraining knows its patients too.
    again = ("--weights", run, "--seed", 1, "--adapt", "probe", "--out", tmp_path / "again")
    assert hounsfield(monkeypatch, "train", labels, *again) == 1


def test_a_pretraining_is_no_run(pretrained: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for command in (("train", "--resume", pretrained), ("report", pretrained), ("evaluate", pretrained)):
        assert hounsfield(monkeypatch, *command) == 1
    assert hounsfield(monkeypatch, "pretrain", "--resume", pretrained) == 1
    assert "nothing to continue" in capsys.readouterr().err


def test_images_are_known_again_by_their_pixels(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for number, image in enumerate(sorted(labels.glob("*.png"))):
        shutil.copy(image, archive / f"{number}.png")
    weights = tmp_path / "weights"
    assert hounsfield(monkeypatch, "pretrain", archive, "--out", weights) == 1
    assert "--unlabelled" in capsys.readouterr().err
    options = ("--unlabelled", *SMALL, "--set", "epochs=1", "--out", weights)
    assert hounsfield(monkeypatch, "pretrain", archive, *options) == 0
    assert hounsfield(monkeypatch, "train", labels, "--weights", weights, "--out", tmp_path / "run") == 1
    assert "are images, that the weights" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


# Of NNCF and what it imports.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_segmenter_starts_from_what_filled_in_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Continued after its death, a pretraining ends as if it had run through; its segmenter is brought to 8 bits."""
    (tmp_path / "data").mkdir()
    data, whole, killed = write_masks(tmp_path / "data"), tmp_path / "whole", tmp_path / "killed"
    assert hounsfield(monkeypatch, "pretrain", data, *SMALL, "--out", whole) == 0

    def die(self: PretrainingFolder, event: str, **_: Any) -> None:
        raise RuntimeError(event)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainingFolder, "write_history", die)
        assert hounsfield(patch, "pretrain", data, *SMALL, "--out", killed) == 1
    assert not (killed / MANIFEST).exists()
    assert hounsfield(monkeypatch, "pretrain", "--resume", killed) == 0
    assert (killed / "model.keras").read_bytes() == (whole / "model.keras").read_bytes()
    options = ("--effort", "quick", "--set", "epochs=1", "--out", tmp_path / "run")
    assert hounsfield(monkeypatch, "train", data, "--weights", whole, *options) == 0
    bundle, integers = Bundle.load(tmp_path / "run"), tmp_path / "integers"
    assert bundle.settings["origin"]["weights"] == "whole"
    pytest.importorskip("nncf", reason="NNCF is not installed")
    for loss, outcome in ((-1.0, 1), (1.0, 0)):
        monkeypatch.setattr(quantised, "KEPT", (0, 1))
        monkeypatch.setattr(mask_quantisation, "DICE_LOSS", loss)
        monkeypatch.setattr(mask_quantisation, "CHANGED", 1.0)
        monkeypatch.setattr(mask_quantisation, "ERROR_RISE", 1.0)
        assert hounsfield(monkeypatch, "export", tmp_path / "run", "--to", "int8", "-o", integers) == outcome
        assert integers.exists() is (outcome == 0)
        assert ("1 layer in float32" in " ".join(capsys.readouterr().err.split())) is (outcome == 1)
    made, image = Bundle.load(integers), next((data / "images").iterdir())
    assert made.settings["precision"] == "int8"
    assert made.settings["quantised"]["float32"] == bundle.identity
    assert hounsfield(monkeypatch, "verify", integers) == 0
    pairs = [open_predictor(each).predict(image)[0].features for each in (bundle, made)]
    assert 0 < np.abs(pairs[0] - pairs[1]).mean() < 0.25 * np.abs(pairs[0]).mean()
    kept = made.kept(MaskUncertainty)
    assert kept is not None
    assert kept.novelty is not None
    assert load_plan(tmp_path / "run" / "plan.yaml").width == 4
    # Another width is found before anything is trained.
    wider = ("--set", "width=8", "--out", tmp_path / "wider")
    assert hounsfield(monkeypatch, "train", data, "--weights", whole, *wider) == 2


def test_what_does_not_fit_is_refused(
    labels: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in ("masks", "boxes"):
        (tmp_path / name).mkdir()
    masks, boxes = write_masks(tmp_path / "masks"), write_boxes(tmp_path / "boxes")
    out = ("--out", tmp_path / "out")
    assert hounsfield(monkeypatch, "train", masks, "--weights", pretrained, *out) == 2
    assert "not of a network for segmentation" in " ".join(capsys.readouterr().err.split())
    assert hounsfield(monkeypatch, "pretrain", boxes, *out) == 2
    assert "A detector cannot be pretrained" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="leave --positive out"):
        load_request(DataRequest(str(labels), positive="disc", unlabelled=True))
    with pytest.raises(CohortError, match="is no folder"):
        load_request(DataRequest(str(labels / "labels.csv"), unlabelled=True))
    damaged = tmp_path / "damaged"
    shutil.copytree(pretrained, damaged)
    (damaged / "cohort.parquet").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        find_source(str(damaged))
    shutil.copy(pretrained / "pipeline.json", damaged / "cohort.parquet")
    with pytest.raises(UsageError, match=r"damaged: cohort\.parquet"):
        find_source(str(damaged))
