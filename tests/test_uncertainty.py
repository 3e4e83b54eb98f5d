"""Predictions that know what they do not know: calibration, sets, abstention, images unlike those of training."""

from __future__ import annotations

import csv
import logging
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import special

from hounsfield.bundle import Bundle
from hounsfield.cli import main as cli
from hounsfield.errors import BundleError, EvaluationError
from hounsfield.evaluation import ConformalSets, Novelty, Outcomes, Uncertainty, as_outcomes
from hounsfield.evaluation.predictions import UNCERTAINTY_COLUMNS
from hounsfield.evaluation.recalibration import carried_threshold
from hounsfield.evaluation.scaling import Platt, Temperature, Unscaled
from hounsfield.images import Image
from hounsfield.inference import Predictor, open_engine
from hounsfield.inference.appearance import appearances
from hounsfield.inference.labels import run
from networks import LABELS, SHAPE, tiny_bundle


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Dark discs on a bright ground, never of two grey values alone: (count, rows, columns) uint8."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    found = []
    for _ in range(count):
        centre, radius = rng.uniform(4, 7, 2), rng.uniform(2, 4)
        distance = np.hypot(rows - centre[0], columns - centre[1])
        found.append(220 - 180 / (1 + np.exp(3 * (distance - radius))) + rng.normal(0, 3, SHAPE[:2]))
    return np.clip(np.array(found), 0, 255).astype(np.uint8)


def doubting(bundle: Bundle) -> tuple[Bundle, Outcomes]:
    """The bundle with doubt learned from pictures, and its validation answers.

    The network is random, so a steep scaling spreads its nearly equal probabilities; half of them become a yes.
    """
    prepared = [
        np.stack([bundle.pipeline.apply(Image(pixels=each[..., None])).pixels for each in pictures(*arguments)])
        for arguments in ((200, 1), (150, 2))
    ]
    outputs = [run(open_engine(bundle, "openvino"), images) for images in prepared]
    described = [
        {"features": output.features, "appearance": appearances(images)}
        for output, images in zip(outputs, prepared, strict=True)
    ]
    raw = outputs[1].probabilities
    scaling: Platt | Temperature = Temperature(0.05)
    if bundle.task == "binary":
        scaling = Platt((20.0,), (0.4 - 20 * float(special.logit(np.median(raw))),))
    threshold = carried_threshold(scaling, float(np.median(raw))) if bundle.task == "binary" else 0.5
    scores = scaling.apply(raw, bundle.task)
    truth = np.random.default_rng(0).random(scores.shape) < scores
    if bundle.task == "multi-class":
        truth = np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None]
    answers = as_outcomes(truth, scores, labels=bundle.labels, task=bundle.task, threshold=threshold)
    doubt = Uncertainty.of(answers, np.arange(len(answers)), Novelty.fit(*described))
    return bundle.with_uncertainty(doubt, scaling=scaling, threshold=threshold), answers


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Outcomes]:
    return doubting(tiny_bundle(tmp_path_factory.mktemp("run") / "bundle"))


@pytest.fixture(scope="module")
def bundle(taught: tuple[Bundle, Outcomes]) -> Bundle:
    return Bundle.load(taught[0].folder)


def test_probabilities_are_calibrated_and_decisions_stay(bundle: Bundle) -> None:
    own = Predictor(replace(bundle, scaling=Unscaled())).predict(pictures(60))
    raw = np.array([[prediction.probabilities["opacity"]] for prediction in own])
    found = Predictor(bundle).predict(pictures(60))
    expected = bundle.scaling.apply(raw, "binary")
    np.testing.assert_allclose([[prediction.probabilities["opacity"]] for prediction in found], expected, rtol=1e-5)
    assert bundle.threshold == pytest.approx(special.expit(0.4))
    said = [prediction.label == "opacity" for prediction in found]
    assert said == (expected[:, 0] > bundle.threshold).tolist()
    assert 10 < sum(said) < 50


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "keras"])
def test_unlike_images_are_flagged_and_named(bundle: Bundle, engine: str, caplog: pytest.LogCaptureFixture) -> None:
    usual = pictures(3, seed=9)
    noise = np.random.default_rng(0).integers(0, 256, (2, *SHAPE[:2])).astype(np.uint8)
    batch = np.concatenate([usual, 255 - usual[:2], noise, np.full((2, *SHAPE[:2]), 77, np.uint8)])
    with caplog.at_level(logging.WARNING, "hounsfield"):
        found = Predictor(bundle, engine).predict(batch)
    assert [prediction.ood_score > 1 for prediction in found] == [False] * 3 + [True] * 6
    assert all(not prediction.flags for prediction in found[:3])
    assert all(prediction.flags[0] == "inverted" and "appearance" in prediction.flags for prediction in found[3:5])
    assert all({"inverted", "blank"}.isdisjoint(prediction.flags) for prediction in found[5:7])
    assert all(prediction.flags[0] == "blank" for prediction in found[7:])
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("Out of distribution: 6 of 9 images")
    assert "array[3] (inverted)" in message
    assert ", …" in message


def with_limits(bundle: Bundle, folder: Path, **limits: float) -> Bundle:
    """A copy of the bundle with other limits of unlikeness."""
    copied = Bundle.load(shutil.copytree(bundle.folder, folder / "bundle"))
    doubt = replace(bundle.uncertainty, novelty=replace(bundle.uncertainty.novelty, limits=limits))
    return copied.with_uncertainty(doubt, scaling=bundle.scaling, threshold=bundle.threshold)


def test_a_picture_that_looks_like_training_is_not_called_inverted(bundle: Bundle, tmp_path: Path) -> None:
    """Both it and its negative are within the limit, so nothing speaks for the negative."""
    (found,) = Predictor(with_limits(bundle, tmp_path, features=1e-6, appearance=1e6)).predict(pictures(1))
    assert found.flags == ("features",)


def test_a_blank_image_is_called_so_whatever_its_distance(bundle: Bundle, tmp_path: Path) -> None:
    blank = np.full((1, *SHAPE[:2]), 77, np.uint8)
    (found,) = Predictor(with_limits(bundle, tmp_path, features=1e6, appearance=1e6)).predict(blank)
    assert found.ood_score < 1
    assert found.flags == ("blank",)


def test_one_image_is_judged_as_in_a_batch(bundle: Bundle) -> None:
    batch = np.concatenate([pictures(4, seed=3), 255 - pictures(1, seed=3)])
    together, predictor = Predictor(bundle).predict(batch), Predictor(bundle)
    for image, expected in zip(batch, together, strict=True):
        (alone,) = predictor.predict(image)
        assert alone.ood_score == pytest.approx(expected.ood_score, rel=1e-4)
        assert (alone.label, alone.flags) == (expected.label, expected.flags)


def test_a_photograph_is_seen_to_be_in_colour(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    known = replace(bundle, source_range=bundle.source_range.model_copy(update={"channels": (1, 3), "colour": False}))
    grey = np.repeat(pictures(1)[0][..., None], 3, axis=-1)
    photograph = grey.copy()
    photograph[..., 0] //= 3
    with caplog.at_level(logging.WARNING, "hounsfield"):
        found = Predictor(known).predict([grey, photograph])
    assert "colour" not in found[0].flags
    assert "colour" in found[1].flags
    assert any("is in colour" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("by_class", [False, True])
def test_sets_are_those_of_the_validation_answers(taught: tuple[Bundle, Outcomes], by_class: bool) -> None:
    bundle, answers = taught
    predictor = Predictor(bundle, coverage=0.8, by_class=by_class)
    found = predictor.predict(pictures(40, seed=5))
    positive = np.array([[prediction.probabilities["opacity"]] for prediction in found])
    expected = ConformalSets.fit(answers, coverage=0.8, by_class=by_class).sets(positive, "binary")
    assert [set(prediction.possible) for prediction in found] == [
        {label for label, held in zip(LABELS["binary"], row, strict=True) if held} for row in expected
    ]
    assert len({prediction.possible for prediction in found}) > 1
    assert predictor.postprocessor.columns == ("ood_score", "out_of_distribution", "flags", "set")


def test_below_the_promised_confidence_no_answer_is_given(bundle: Bundle) -> None:
    least = bundle.uncertainty.least_confidence(bundle.labels, bundle.task, threshold=bundle.threshold, max_risk=0.2)
    batch = np.concatenate([pictures(40, seed=5), np.full((1, *SHAPE[:2]), 9, np.uint8)])
    found = Predictor(bundle, max_risk=0.2).predict(batch)
    for prediction in found[:-1]:
        positive = prediction.probabilities["opacity"]
        side = 1 - bundle.threshold if positive > bundle.threshold else bundle.threshold
        assert prediction.confidence == pytest.approx(abs(positive - bundle.threshold) / side)
        assert prediction.answered == (prediction.confidence >= least and prediction.ood_score <= 1)
    assert {prediction.answered for prediction in found[:-1]} == {True, False}
    assert not found[-1].answered
    rows = [row for prediction in found for row in prediction.rows()]
    assert all(row["answer"] in {row["prediction"], "abstain"} for row in rows)
    assert rows[-1]["answer"] == "abstain"


@pytest.mark.parametrize("task", ["multi-class", "multi-label"])
def test_doubt_in_other_tasks(task: str, tmp_path: Path) -> None:
    bundle, answers = doubting(tiny_bundle(tmp_path / "bundle", task))
    if task == "multi-label":
        with pytest.raises(EvaluationError, match="multi-label"):
            Predictor(bundle, coverage=0.9)
        found = Predictor(bundle, max_risk=0.9).predict(pictures(5))
    else:
        found = Predictor(bundle, coverage=0.9, max_risk=0.9).predict(pictures(5))
        assert all(prediction.label in prediction.possible for prediction in found if prediction.possible)
        assert sum(found[0].probabilities.values()) == pytest.approx(1)
    assert all(0 <= prediction.confidence <= 1 for prediction in found)
    assert len(answers) == 150


def test_a_risk_that_cannot_be_promised_is_an_error(bundle: Bundle) -> None:
    with pytest.raises(EvaluationError, match="cannot be promised"):
        Predictor(bundle, max_risk=0.001)


def test_a_bundle_without_validation_images_says_so(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    for options in ({"coverage": 0.9}, {"max_risk": 0.1}):
        with pytest.raises(BundleError, match="keeps no validation images"):
            Predictor(bundle, **options)
    (found,) = Predictor(bundle).predict(pictures(1))
    assert (found.ood_score, found.flags, found.possible, found.answered) == (None, (), None, None)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_tables_hold_the_doubt(bundle: Bundle, tmp_path: Path, suffix: str) -> None:
    predictor = Predictor(bundle, coverage=0.8, max_risk=0.2)
    found = predictor.predict(np.concatenate([pictures(3), 255 - pictures(1)]))
    # Who evaluates the table leaves these out of the attributes of patients.
    assert set(predictor.postprocessor.columns) <= set(UNCERTAINTY_COLUMNS)
    columns = predictor.columns
    path = tmp_path / f"table{suffix}"
    predictor.write(path, found)
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".json": pd.read_json}[suffix](path)
    assert list(read.columns) == columns
    assert columns[-6:] == ["ood_score", "out_of_distribution", "flags", "set", "confidence", "answer"]
    assert read["flags"].fillna("").str.startswith("inverted").tolist() == [False, False, False, True]
    assert read["out_of_distribution"].tolist() == [False, False, False, True]
    np.testing.assert_allclose(read["ood_score"], [p.ood_score for p in found], rtol=1e-3)


def hounsfield(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hounsfield", *map(str, arguments)])
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    return int(outcome.value.code or 0)


def test_the_command_asks_for_sets_and_abstention(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, picture in enumerate(pictures(3)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    options = ("--sets", "0.8", "--by-class", "--abstain", "0.2")
    assert hounsfield(monkeypatch, "predict", bundle.folder, tmp_path, *options) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert all(set(row["set"].split(";")) <= {"", "normal", "opacity"} for row in rows)
    assert all(row["answer"] in {"abstain", "normal", "opacity"} for row in rows)
    assert hounsfield(monkeypatch, "predict", bundle.folder, tmp_path, "--by-class") == 2
    assert "Give --sets" in capsys.readouterr().err
    for option in ("--sets", "--abstain"):
        for end in ("0", "1"):
            assert hounsfield(monkeypatch, "predict", bundle.folder, tmp_path, option, end) == 2
            assert "strictly between 0 and 1" in capsys.readouterr().err
