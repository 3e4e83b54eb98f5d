"""What a run keeps of its validation images: the scaling, the threshold that goes with it, and the limit of novelty."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special

from hounsfield.bundle import Bundle
from hounsfield.cli import main as cli
from hounsfield.evaluation import METRICS, Novelty
from hounsfield.images import Image
from hounsfield.inference import Predictor
from hounsfield.inference.appearance import appearances
from hounsfield.preprocessing.corruption import corrupted, corruption_names
from hounsfield.reports.robustness import write_robustness
from hounsfield.testing import evaluate_run
from hounsfield.testing.engine_runs import EngineRun, evenly
from hounsfield.testing.robustness import evaluate_robustness, seed_of
from hounsfield.testing.uncertainty import unlike_lines
from hounsfield.training import train
from hounsfield.training.calibration import calibrate
from hounsfield.training.whole_images import OutOfFold, fit_novelty, novelty_rows
from networks import tiny_bundle
from plans import PLAIN, hand_made_plan, write_pair
from trained import Trained


def cohort(truth: np.ndarray, patients: list[str] | None) -> Any:
    """What calibration needs of a cohort."""
    return SimpleNamespace(
        targets=lambda: truth.astype(np.float32),
        table=pd.DataFrame({"patient": patients if patients is not None else [None] * len(truth)}),
    )


def novelty(count: int = 30) -> Novelty:
    rows = {"features": np.random.default_rng(0).normal(size=(count, 4))}
    return Novelty.fit(rows, rows)


def shifted(count: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes, and probabilities whose log odds are 1.5 too low, as after a training on balanced classes."""
    rng = np.random.default_rng(0)
    logits = rng.normal(1, 1.5, (count, 1))
    return rng.random((count, 1)) < special.expit(logits), special.expit(logits - 1.5)


def test_with_known_patients_a_shift_is_taken_out_and_the_threshold_goes_with_it(tmp_path: Path) -> None:
    truth, scores = shifted()
    held = OutOfFold(np.arange(900), scores, np.zeros(900, np.int64))
    plan = hand_made_plan(labels=("normal", "opacity"), threshold=0.4)
    known = cohort(truth, [f"p{number // 2}" for number in range(900)])
    bundle, line = calibrate(tiny_bundle(tmp_path / "bundle"), plan, known, held, novelty())
    assert bundle.scaling.name == "platt"
    assert bundle.threshold == pytest.approx(special.expit(special.logit(0.4) + 1.5), abs=0.05)
    np.testing.assert_array_equal(bundle.calibrated(scores) > bundle.threshold, scores > 0.4)
    record = Bundle.load(bundle.folder).calibration
    assert record["ece"]["before"]["low"] > 0.1
    assert record["ece"]["after"]["value"] < 0.05
    assert record["threshold"] == {"network": 0.4, "calibrated": bundle.threshold}
    assert set(record["log_loss"]) == {"none", "temperature", "platt"}
    assert "no decision changes" in line
    assert len(np.unique(bundle.uncertainty.patients)) == 450
    assert bundle.uncertainty.scores == pytest.approx(bundle.calibrated(scores), abs=1e-6)


def test_with_unknown_patients_no_probability_is_moved_towards_a_label(tmp_path: Path) -> None:
    truth, scores = shifted()
    held = OutOfFold(np.arange(900), scores, np.zeros(900, np.int64))
    plan = hand_made_plan(labels=("normal", "opacity"))
    bundle, line = calibrate(tiny_bundle(tmp_path / "bundle"), plan, cohort(truth, None), held, novelty())
    assert set(bundle.calibration["log_loss"]) == {"none", "temperature"}
    assert bundle.threshold == 0.5
    assert "patients are unknown" in line


def test_a_temperature_keeps_the_decisions_of_several_labels_at_a_threshold_set_by_hand(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.2, (600, 3))
    truth, scores = rng.random((600, 3)) < special.expit(logits), special.expit(2.5 * logits)
    held = OutOfFold(np.arange(600), scores, np.zeros(600, np.int64))
    plan = hand_made_plan(task="multi-label", labels=("a", "b", "c"), threshold=0.2)
    taught = tiny_bundle(tmp_path / "bundle", "multi-label")
    bundle, line = calibrate(taught, plan, cohort(truth, None), held, novelty())
    assert bundle.scaling.name == "temperature"
    np.testing.assert_array_equal(bundle.calibrated(scores) > bundle.threshold, scores > 0.2)
    assert "no decision changes" in line


def test_of_an_ensemble_at_most_the_promised_share_is_expected_to_be_unlike() -> None:
    """Its limit is that of single networks, and the mean over them spreads less; few images give a bound as well."""
    described = {"features": np.random.default_rng(1).normal(size=(20, 4))}
    for heads, count, told in (
        (None, 120, "; 0.8% are expected"),
        (object(), 120, "; at most 0.8% are expected"),
        (None, 30, "; at most 3.2% are expected"),
    ):
        kept = SimpleNamespace(heads=heads)
        bundle = SimpleNamespace(novelty=novelty(count), kept=lambda _, kept=kept: kept)
        (line,) = unlike_lines(bundle, SimpleNamespace(descriptions=described), "test images")
        assert told in line


def member(train: list[int], validation: list[int]) -> Any:
    return SimpleNamespace(specification=SimpleNamespace(train=np.array(train), validation=np.array(validation)))


def test_rows_of_one_network_and_of_an_ensemble() -> None:
    fit, limit = novelty_rows([member([0, 1, 2, 5], [3, 4])])
    assert (fit.tolist(), limit.tolist()) == ([0, 1, 2, 5], [3, 4])
    fit, limit = novelty_rows([member([1, 3], [0, 2, 7]), member([0, 2, 7], [1, 3])])
    assert (fit.tolist(), limit.tolist()) == ([0, 2, 7], [1, 3])
    assert evenly(np.arange(10), 4).tolist() == [0, 3, 6, 9]


def test_of_an_ensemble_the_features_of_the_network_that_did_not_see_the_row_count() -> None:
    """Each member is told nothing by rows it was trained on: their features are put far inside."""
    rng = np.random.default_rng(0)
    rows = np.arange(80)
    unseen = rows % 2
    features = rng.normal(size=(80, 8))
    for number in range(2):
        features[np.ix_(np.flatnonzero(unseen != number), np.arange(4) + 4 * number)] *= 0.01
    run = EngineRun(rows, np.zeros((80, 1)), features, np.zeros((80, 2)))
    held = OutOfFold(rows, np.zeros((80, 1)), unseen)
    found = fit_novelty(run.take(rows[:40]), run.take(rows[40:]), held, 2)
    distances = found.gaussians["features"].distances(features[40:])
    assert found.limits["features"] == pytest.approx(distances[np.arange(40), unseen[40:]].max())
    assert found.gaussians["features"].mean.shape == (2, 4)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("ensemble")
    data = write_pair(folder)
    return Trained(data, train(data, folder / "run", plan=hand_made_plan(**PLAIN, epochs=1, folds=2, batch_size=4)))


def images_of(trained: Trained) -> np.ndarray:
    return np.load(trained.data.split(",")[0])


@pytest.mark.parametrize(("kind", "folds", "features"), [("trained_classifier", 1, 32), ("ensemble", 2, 128)])
def test_a_run_knows_its_calibration_and_the_images_it_was_made_for(
    kind: str, folds: int, features: int, request: pytest.FixtureRequest
) -> None:
    trained = request.getfixturevalue(kind)
    run = trained.run
    bundle = Bundle.load(run.folder)
    doubt = bundle.uncertainty
    assert doubt is not None
    assert doubt.novelty is not None
    assert doubt.novelty.gaussians["features"].mean.shape == (folds, features)
    assert len(doubt.truth) == run.metrics["validation"]["accuracy"]["n"]
    assert bundle.source_range.colour is False
    assert any(line.startswith("Calibration: ") for line in run.uncertainty)
    assert any(line.startswith("Out of distribution: ") for line in run.uncertainty)
    assert json.loads((run.folder / "metrics.json").read_text()) == run.metrics
    again = evaluate_run(run.folder, num_replicates=100).assessment
    assert again.estimates["auc"].value == pytest.approx(run.metrics["test"]["auc"]["value"])
    assert again.estimates["ece"].value == pytest.approx(run.metrics["test"]["ece"]["value"], abs=1e-6)
    assert ("ece_uncalibrated" in again.estimates) == (bundle.scaling.name != "none")
    assert any(note.startswith("Out of distribution: ") for note in again.notes)
    images = images_of(trained)
    table = pd.read_csv(run.folder / "predictions.csv")
    rows = table["image"].str.extract(r"(\d+)")[0].astype(int)
    found = Predictor(bundle).predict(images[rows[table["split"] == "test"]])
    expected = table[table["split"] == "test"]
    np.testing.assert_allclose([one.probabilities["1"] for one in found], expected["p_1"], atol=1e-4)
    assert [one.label for one in found] == expected["prediction"].astype(str).tolist()
    disagreement = [one.disagreement for one in found]
    assert all(value is None if folds == 1 else 0 < value <= 0.5 for value in disagreement)
    assert any(line.startswith("Disagreement of the 2 networks") for line in run.uncertainty) == (folds == 2)
    assert ("disagreement" in Predictor(bundle).postprocessor.columns) == (folds == 2)
    noise = np.random.default_rng(0).choice([0, 1e4], size=(3, *images.shape[1:])).astype(np.float32)
    assert all(one.ood_score > 1 for one in Predictor(bundle).predict(noise))
    assert appearances(noise[..., None]).shape == (3, doubt.novelty.gaussians["appearance"].mean.shape[1])


def test_figures_under_corruption_are_those_of_corrupted_images(trained_classifier: Trained, tmp_path: Path) -> None:
    run = trained_classifier.run
    found = evaluate_robustness(run.folder, seed=4)
    for metric in ("auc", "accuracy"):
        assert found.clean.estimates[metric].value == pytest.approx(run.metrics["test"][metric]["value"])
    assert set(found.curves) == set(corruption_names(2)) - {"crop"}
    assert any(note.startswith("Cropping is left out") for note in found.notes)
    images, truth = (np.load(path) for path in trained_classifier.data.split(","))
    table = pd.read_csv(run.folder / "predictions.csv")
    rows = table["image"].str.extract(r"(\d+)")[0].astype(int)[table["split"] == "test"].to_numpy()
    spoiled = [
        corrupted(Image(pixels=images[row][..., None]), "noise", 5, seed=seed_of(4, number))
        for number, row in enumerate(rows)
    ]
    predicted = Predictor(run.folder).predict(spoiled)
    expected = METRICS["auc"](truth[rows], [one.probabilities["1"] for one in predicted])
    noisy = found.curves["noise"][4]
    assert noisy.estimates["auc"].value == pytest.approx(expected)
    assert noisy.changes["auc"].value == pytest.approx(expected - found.clean.estimates["auc"].value)
    assert noisy.unlike == pytest.approx(np.mean([one.ood_score > 1 for one in predicted]))
    assert noisy.strength == 0.18
    report = found.to_dict()
    written = write_robustness(report, found.example, tmp_path)
    assert json.loads(written[0].read_text()) == json.loads(json.dumps(report, allow_nan=False))
    assert [path.name for path in written[1:]] == ["robustness.png", "corruptions.png"]
    assert all(path.stat().st_size > 20_000 for path in written[1:])
    assert len(found.lines()) == 2


def test_robustness_from_the_command_line(
    trained_classifier: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(trained_classifier.run.folder, tmp_path / "run"))
    monkeypatch.setattr(sys, "argv", ["hounsfield", "robustness", str(run), "phantom:chest"])
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    assert outcome.value.code == 2
    assert "--out" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["hounsfield", "robustness", str(run), "--max-images", "9"])
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    assert not outcome.value.code
    assert "Robustness: mean loss of AUC" in capsys.readouterr().out
    assert json.loads((run / "robustness.json").read_text())["images"] == 9
