"""Whole trainings: the run folder that they leave, their refusals, and the rows that they train on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Store, load_cohort
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import CohortError, PlanError, RunError, UsageError
from hounsfield.plans.loading import load_plan
from hounsfield.preprocessing import Pipeline
from hounsfield.runs.folder import RunFolder
from hounsfield.training import resume, train
from hounsfield.training.pace import Pace
from hounsfield.training.table import TRAININGS
from hounsfield.training.weights import row_weights
from hounsfield.training.whole_images import share_of
from plans import PLAIN, hand_made_plan, small_plan, write_pair, write_table
from shared import contents
from trained import Trained

pytestmark = pytest.mark.usefixtures("known_speed")


class KilledError(Exception):
    """Stands for the death of the process: nothing catches it."""


@pytest.fixture(scope="module")
def data(trained_classifier: Trained) -> str:
    return trained_classifier.data


@pytest.fixture(scope="module")
def unbroken(trained_classifier: Trained) -> Path:
    return trained_classifier.run.folder


def test_the_bundle_keeps_whether_it_decides_the_same_in_bfloat16(unbroken: Path) -> None:
    events = [json.loads(line) for line in (unbroken / "log.jsonl").read_text().splitlines()]
    (found,) = [event["bfloat16_same_decisions"] for event in events if event["event"] == "engine check"]
    assert Bundle.load(unbroken).engine_checks == {"bfloat16": found}


def test_metrics_have_the_declared_form_and_agree_with_the_predictions(unbroken: Path) -> None:
    metrics = json.loads((unbroken / "metrics.json").read_text())
    assert set(metrics) == {"test", "validation"}
    table = pd.read_csv(unbroken / "predictions.csv")
    assert list(table.columns[:2]) == ["image", "prediction"]
    np.testing.assert_allclose(table["p_0"] + table["p_1"], 1, atol=1e-6)
    for split, estimates in metrics.items():
        rows = table[table["split"] == split]
        accuracy = estimates["accuracy"]
        assert set(accuracy) >= {"value", "low", "high", "n"}
        assert accuracy["n"] == len(rows)
        assert accuracy["value"] == pytest.approx((rows["label"] == rows["prediction"]).mean())
        assert estimates["auc"]["low"] <= estimates["auc"]["value"] <= estimates["auc"]["high"]


def test_the_time_of_a_resumed_run_counts_the_epochs_before(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    assert folder.seconds_in_epochs() == 0
    folder.history.write_text("member,epoch,seconds\n1,1,2.5\n1,2,1.5\n")
    assert folder.seconds_in_epochs() == 4


def test_a_finished_run_is_not_trained_again(unbroken: Path) -> None:
    before = contents(unbroken)
    # A process that is dead had begun to remove what a finished run does not need.
    code = "import os, sys; from hounsfield.atomic import scratch_folder as made\n"
    code += "with made(sys.argv[1]): os._exit(0)"
    subprocess.run([sys.executable, "-c", code, str(unbroken / "checkpoints")], check=True)
    assert list(unbroken.glob("*.part.checkpoints"))
    with pytest.raises(RunError, match="is finished"):
        resume(unbroken)
    assert contents(unbroken) == before
    assert not list(unbroken.glob("*.part.checkpoints"))


def test_a_run_folder_that_exists_is_left_alone(data: str, unbroken: Path) -> None:
    before = contents(unbroken)
    with pytest.raises(RunError, match="exists already"):
        train(data, unbroken, plan=small_plan())
    assert contents(unbroken) == before


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (["labels=[a, b]"], PlanError, "labels a, b"),
        (["input_shape=[8, 8, 1]"], PlanError, r"\(16, 16, 1\)"),
        (["test_time_flips=[2]"], PlanError, "axis 2"),
        (["network=simple_cnn"], UsageError, "does not take these options"),
        (["seed=3"], UsageError, "--seed"),
        (["epochs=0"], PlanError, "epochs"),
    ],
)
def test_a_plan_that_does_not_fit_leaves_nothing_behind(
    data: str, tmp_path: Path, changes: list[str], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hounsfield.planning.labels.expected", lambda plan, *_: plan)
    with pytest.raises(error, match=message):
        train(data, tmp_path / "runs" / "one", plan=small_plan(), changes=changes)
    assert not (tmp_path / "runs").exists()


def test_data_that_changed_is_not_trained_on(data: str, tmp_path: Path) -> None:
    def kill(task: str, done: int, total: int | None) -> None:
        if task == "training":
            raise KilledError

    own = write_pair(tmp_path)
    with pytest.raises(KilledError):
        train(own, tmp_path / "run", plan=small_plan(**PLAIN), progress=kill)
    write_pair(tmp_path, count=50)
    with pytest.raises(RunError, match="has changed"):
        resume(tmp_path / "run")


def test_a_plan_takes_no_other_network_or_effort(data: str, tmp_path: Path) -> None:
    for other in ({"network": "simple_cnn"}, {"effort": "quick"}):
        with pytest.raises(UsageError, match="its own network, weights and effort"):
            train(data, tmp_path / "run", plan=small_plan(), **other)
    assert not (tmp_path / "run").exists()


def test_an_empty_folder_that_was_there_stays_there(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(CohortError):
        train(tmp_path / "nowhere", tmp_path / "run", plan=small_plan())
    assert (tmp_path / "run").is_dir()


def store_of(tmp_path: Path, table: dict[str, list[Any]]) -> Store:
    write_table(tmp_path, table)
    cohort = load_cohort(tmp_path / "index.csv")
    return Store.build(cohort, Pipeline.from_dict({"steps": [{"name": "to_channels", "channels": 1}]}))


def test_class_weights_let_each_label_count_the_same(tmp_path: Path) -> None:
    labels = ["0"] * 12 + ["1"] * 4
    table = {
        "image": [f"{number}.npy" for number in range(16)],
        "label": labels,
        "patient": [f"p{number}" for number in range(16)],
        "split": (["train"] * 9 + ["validation"] * 3) + (["train"] * 3 + ["validation"]),
    }
    cohort = store_of(tmp_path, table).cohort
    train = cohort.rows("train")
    weights, positive = row_weights(small_plan(), cohort, train)[train], cohort.targets()[train, 0] == 1
    np.testing.assert_allclose(weights[positive], 12 / 2 / 3)
    np.testing.assert_allclose(weights[~positive], 12 / 2 / 9)
    assert weights.mean() == pytest.approx(1)


def test_a_share_of_training_takes_whole_patients_of_each_label(tmp_path: Path) -> None:
    table = {
        "image": [f"{number}.npy" for number in range(24)],
        "label": ["0"] * 20 + ["1"] * 4,
        "patient": [f"p{number // 2}" for number in range(24)],
        "split": ["train"] * 18 + ["validation"] * 2 + ["train"] * 2 + ["validation"] * 2,
    }
    cohort = store_of(tmp_path, table).cohort
    train = share_of(cohort, cohort.rows("train"), 0.3, seed=0)
    patients = cohort.table["patient"]
    chosen = set(patients.iloc[train])
    # 0.3 of 9 and of 1 patients: 3, and at least one.
    assert len(chosen) == 4
    whole = patients.isin(chosen) & (cohort.table["split"] == "train")
    assert whole.sum() == len(train)
    assert cohort.targets()[train].sum() == 2


def test_a_run_asks_for_its_data_with_the_settings_of_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def prepare(request: DataRequest, **_: object) -> None:
        asked.append(request)
        raise KilledError

    monkeypatch.setattr("hounsfield.training.run.prepare", prepare)
    monkeypatch.setenv("HOUNSFIELD_VOLUME", "1")
    with pytest.raises(KilledError):
        train("phantom:chest", tmp_path / "run")
    assert asked == [DataRequest("phantom:chest", volume=1)]


def test_a_request_becomes_absolute_and_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pair(tmp_path)
    monkeypatch.chdir(tmp_path)
    request = DataRequest("images.npy,labels.npy", label_columns=("a b",), drop_leaks=True)
    kept = DataRequest.from_dict(json.loads(json.dumps(request.to_dict())))
    assert kept.data == f"{tmp_path / 'images.npy'},{tmp_path / 'labels.npy'}"
    assert kept.command_line() == f"{kept.data} --label-column 'a b' --drop-leaks"
    assert DataRequest("phantom:chest").to_dict()["data"] == "phantom:chest"


def test_an_interrupted_run_can_be_used_and_continued_to_the_unbroken_one(
    data: str, unbroken: Path, tmp_path: Path
) -> None:
    def interrupt(task: str, done: int, total: int | None) -> None:
        if task == "training" and done == 7:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    run = train(data, folder, plan=small_plan(), progress=interrupt)
    assert run.metrics["test"]["auc"]["n"] == 12
    assert len(pd.read_csv(folder / "history.csv")) == 1
    assert Bundle.load(folder).labels == ("0", "1")
    resume(folder)
    numbers = ["epoch", "loss", "val_loss", "val_accuracy", "learning_rate"]
    found, expected = (pd.read_csv(run / "history.csv")[numbers] for run in (folder, unbroken))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    weights = [Bundle.load(path).network().get_weights() for path in (folder, unbroken)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not (folder / "checkpoints").exists()


def test_three_classes_in_folds_with_mirrored_views(tmp_path: Path) -> None:
    plan = small_plan(
        task="multi-class", labels=("0", "1", "2"), folds=2, test_time_flips=(1,), epochs=1, train_share=0.7, **PLAIN
    )
    run = train(write_pair(tmp_path, labels=3), tmp_path / "run", plan=plan)
    assert pd.read_csv(run.folder / "history.csv")["member"].tolist() == [1, 2]
    # Each row of training and validation is predicted by the network that has not seen it.
    assert run.metrics["validation"]["accuracy"]["n"] == 48
    bundle = Bundle.load(run.folder)
    network = bundle.network()
    assert network.get_layer("features").output.shape == (None, 2 * 128)
    # What the bundle keeps to tell how far its networks differ makes up the ensemble.
    images = np.random.default_rng(0).normal(size=(5, *bundle.input_shape)).astype(np.float32)
    seen = keras.Model(network.inputs[0], [network.get_layer("features").output, network.output])
    features, together = (keras.ops.convert_to_numpy(value) for value in seen(images))
    logits = np.log(bundle.uncertainty.heads.probabilities(features, "multi-class")).mean(axis=0)
    exponents = np.exp(logits)
    np.testing.assert_allclose(together, exponents / exponents.sum(axis=1, keepdims=True), atol=1e-5)


def test_several_labels_few_images_no_patients_and_no_test_split(tmp_path: Path) -> None:
    """Eight training images in a batch of 64; figures are those of validation."""
    table = {
        "image": [f"{number}.npy" for number in range(14)],
        "a": [0, 1] * 7,
        "b": [1, 1, 0, 0] * 3 + [1, 0],
        "split": ["train"] * 8 + ["validation"] * 6,
    }
    write_table(tmp_path, table)
    pipeline = Pipeline.from_dict({"steps": [{"name": "to_channels", "channels": 1}]})
    plan = hand_made_plan(
        task="multi-label",
        labels=("a", "b"),
        batch_size=64,
        epochs=1,
        balance_classes=True,
        label_thresholds=True,
        pipeline=pipeline,
        **PLAIN,
    )
    run = train(DataRequest(str(tmp_path / "index.csv"), label_columns=("a", "b")), tmp_path / "run", plan=plan)
    threshold = Bundle.load(run.folder).threshold
    assert isinstance(threshold, tuple)
    assert len(threshold) == 2
    validation = pd.read_csv(run.folder / "predictions.csv", keep_default_na=False)
    for label, limit in zip(("a", "b"), threshold, strict=True):
        decided = validation["prediction"].str.split(";").map(lambda found, label=label: label in found)
        assert (decided == (validation[f"p_{label}"] > limit)).all()
    assert set(run.metrics) == {"validation"}
    assert run.metrics["validation"]["accuracy"]["n"] == 6
    columns = list(pd.read_csv(run.folder / "predictions.csv").columns)
    assert columns[-4:] == ["p_a", "p_b", "mean_intensity", "sd_intensity"]
    assert (run.folder / "figures" / "roc_validation.png").is_file()
    binary = SimpleNamespace(task="binary", labels=("a", "b"), multi_label=False)
    with pytest.raises(PlanError, match="label_thresholds"):
        TRAININGS["labels"].check(plan.model_copy(update={"task": "binary"}), binary)


def test_a_run_that_was_limited_can_be_continued_and_repeated(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six epochs are planned, and the clock lets three be trained."""
    wanted = iter([4, 3])

    def decide(pace: Pace, done: int, *_: Any) -> bool:
        if pace.limit is None or done > 2:
            return False
        pace.decided.append((done, next(wanted)))
        return True

    monkeypatch.setattr(Pace, "decide", decide)
    plan = hand_made_plan(network="simple_cnn", width=None, epochs=6, minutes=1.0)
    first = train(data, tmp_path / "first", plan=plan)
    written = load_plan(tmp_path / "first" / "plan.yaml")
    assert written.pacing == ((1, 1, 4), (1, 2, 3))
    assert written.settled().epochs == 3
    assert "pace" in written.reasons["pacing"]
    history = pd.read_csv(tmp_path / "first" / "history.csv")
    assert len(history) == 3
    # The schedule has come to its end.
    assert history["learning_rate"].iloc[-1] == pytest.approx(0.005 * plan.learning_rate, rel=0.1)
    again = train(data, tmp_path / "again", plan=written)
    assert again.metrics == first.metrics

    def killed(task: str, done: int, total: int | None) -> None:
        if task == "training" and (tmp_path / "killed" / "checkpoints" / "member1.npz").exists() and done % 5 == 2:
            raise KilledError

    wanted = iter([4, 3])
    with pytest.raises(KilledError):
        train(data, tmp_path / "killed", plan=plan, progress=killed)
    assert load_plan(tmp_path / "killed" / "plan.yaml").pacing == ((1, 1, 4),)
    # Continued, it follows what was decided.
    resume(tmp_path / "killed")
    resumed = pd.read_csv(tmp_path / "killed" / "history.csv")
    assert len(resumed) == 4
    np.testing.assert_allclose(resumed["loss"].iloc[0], history["loss"].iloc[0], rtol=1e-6)
