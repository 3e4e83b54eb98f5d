"""Trackers: MLflow and Weights & Biases get figures and nothing else, and a dead server stops no training."""

from __future__ import annotations

import getpass
import logging
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from families import hounsfield, write_labels
from hounsfield.errors import MissingDependency, UsageError
from hounsfield.inference import open_predictor
from hounsfield.plans import load_plan
from hounsfield.runs.folder import RunFolder
from hounsfield.training.tracking import Ending, check_tracking, described, tracking
from hounsfield.training.tracking.background import MOST_FAILURES, InBackground
from hounsfield.training.tracking.memory import Memory
from hounsfield.training.tracking.mlflow import MLflowTracker, mlflow_package
from hounsfield.training.tracking.wandb import WandbTracker, wandb_package
from plans import hand_made_plan

RECORDS = [{"epoch": 1, "loss": 0.7, "val_loss": 0.6}, {"epoch": 2, "loss": 0.5, "val_loss": 0.55}]
# mlflow-skinny and its database layer warn of one another.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def follow(tracker: Any, run: Any) -> None:
    """Tell a tracker of a whole training."""
    tracker.begin(described(load_plan(run.folder / "plan.yaml")))
    for record in RECORDS:
        tracker.log("member1", record)
    tracker.end(Ending.of(run.metrics, run.folder / "bundle"))
    tracker.close(failed=False)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    # The registry in files asks MLflow's default store, too.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    return (tmp_path / "mlruns").as_uri()


@pytest.fixture
def followed(store: str, tmp_path: Path, trained_classifier: Any) -> Any:
    """The client, and the run of a followed training whose model is registered."""
    memory = Memory(tmp_path / "tracking.json", "mlflow")
    follow(MLflowTracker(store, memory, "chest@candidate"), trained_classifier.run)
    client = mlflow_package().MlflowClient(store)
    return client, client.get_run(memory.recall())


def test_mlflow_predicts_as_predict_does(followed: Any, trained_classifier: Any) -> None:
    model = mlflow_package().pyfunc.load_model("models:/chest@candidate")
    images = [trained_classifier.data.partition(",")[0]]
    found = model.predict(pd.DataFrame({"image": images}))
    predictor = open_predictor(trained_classifier.run.folder)
    expected = pd.DataFrame(
        [row for each in predictor.predict(images) for row in each.rows()],
        columns=predictor.columns,
    )
    assert len(found) == 60
    assert list(found["image"]) == list(expected["image"])
    assert list(found["prediction"]) == list(expected["prediction"])
    numbers = expected.select_dtypes("number").columns
    assert len(numbers) >= 3
    np.testing.assert_allclose(found[numbers], expected[numbers], rtol=0, atol=1e-6)


def test_mlflow_has_settings_figures_and_metrics(followed: Any, trained_classifier: Any) -> None:
    client, run = followed
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == "hounsfield"
    assert [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "member1/val_loss")] == [
        (1, 0.6),
        (2, 0.55),
    ]
    estimate = trained_classifier.run.metrics["test"]["auc"]
    assert run.data.metrics["test/auc"] == pytest.approx(estimate["value"])
    assert run.data.metrics["test/auc_low"] == pytest.approx(estimate["low"])
    plan = load_plan(trained_classifier.run.folder / "plan.yaml")
    assert run.data.params["network"] == plan.network
    assert run.data.params["learning_rate"] == str(plan.learning_rate)


def test_a_label_of_any_characters_is_a_name_that_mlflow_takes(store: str, tmp_path: Path) -> None:
    tracker = MLflowTracker(store, Memory(tmp_path / "tracking.json", "mlflow"), "")
    tracker.begin({"weights.GGO (?)": 1})
    tracker.log("member1", {"epoch": 1, "dice_GGO (?)": 0.5, "dice_GGO {?}": 0.25})
    (run,) = (
        mlflow_package()
        .MlflowClient(store)
        .search_runs([mlflow_package().MlflowClient(store).get_experiment_by_name("hounsfield").experiment_id])
    )
    assert run.data.metrics == {"member1/dice_GGO _28__3f__29_": 0.5, "member1/dice_GGO _7b__3f__7d_": 0.25}
    assert run.data.params == {"weights.GGO _28__3f__29_": "1"}


def test_wandb_reports_no_errors_to_its_makers(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: the package reads it when it is imported."""
    monkeypatch.delenv("WANDB_ERROR_REPORTING", raising=False)
    code = (
        "from hounsfield.training.tracking.wandb import wandb_package\n"
        "print(wandb_package().env.error_reporting_enabled())"
    )
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent / "src"))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_mlflow_goes_on_in_the_run_of_before(followed: Any, store: str, tmp_path: Path) -> None:
    client, run = followed
    again = MLflowTracker(store, Memory(tmp_path / "tracking.json", "mlflow"), "")
    again.begin({"network": "another"})
    again.log("member1", {"epoch": 3, "val_loss": 0.5})
    assert len(client.search_runs([run.info.experiment_id])) == 1
    assert client.get_run(run.info.run_id).data.metrics["member1/val_loss"] == 0.5
    other = MLflowTracker(store, Memory(tmp_path / "other.json", "mlflow"), "")
    other.begin({})
    assert len(client.search_runs([run.info.experiment_id])) == 2


def test_the_folder_of_weights_is_not_told() -> None:
    for weights, told in (
        ("hf:org/name", "hf:org/name"),
        ("hub:dinov2_base", "hub:dinov2_base"),
        ("/home/mary/anna-smith", "a folder"),
        ("imagenet", "imagenet"),
    ):
        assert described(hand_made_plan(weights=weights, adapt="probe"))["weights"] == told


def secrets(trained: Any) -> list[bytes]:
    """What must not be sent: this machine, its user, where things lie, and patients."""
    table = pd.read_parquet(trained.run.folder / "cohort.parquet")
    names = {Path(str(image)).name for image in table["image"]} | {str(each) for each in table["patient"].dropna()}
    known = {socket.gethostname(), str(trained.run.folder), str(Path.cwd()), *(each for each in names if len(each) > 5)}
    if len(getpass.getuser()) > 5:
        known.add(getpass.getuser())
    assert len(known) > 3
    return [each.encode() for each in known]


def files_with(folder: Path, texts: list[bytes]) -> list[tuple[str, bytes]]:
    found = [(path, path.read_bytes()) for path in folder.rglob("*") if path.is_file()]
    assert found
    return [(str(path), text) for path, content in found for text in texts if text in content]


def test_no_identifiers_reach_mlflow(followed: Any, tmp_path: Path, trained_classifier: Any) -> None:
    assert files_with(tmp_path / "mlruns", secrets(trained_classifier)) == []


def test_wandb_gets_figures_and_nothing_else(
    tmp_path: Path, trained_classifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    memory = Memory(tmp_path / "tracking.json", "wandb")
    follow(WandbTracker("team/chest", memory, tmp_path / "wandb"), trained_classifier.run)
    (log,) = (tmp_path / "wandb").rglob(f"run-{memory.recall()}.wandb")
    expected = (b"member1/val_loss", b"test/auc_low", b"learning_rate", b"chest", b"team")
    # The process of the package writes the file after its last answer.
    deadline = time.monotonic() + 30
    while not all(text in log.read_bytes() for text in expected):
        assert time.monotonic() < deadline, log.read_bytes()[:1000]
        threading.Event().wait(0.1)
    # The other files, which are not sent, are the package's own logs.
    assert [text for text in secrets(trained_classifier) if text in log.read_bytes()] == []


def test_wandb_without_a_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(type(wandb_package().api), "api_key", None)
    with pytest.raises(Exception, match="wandb login"):
        WandbTracker("", Memory(tmp_path / "tracking.json", "wandb"), tmp_path / "wandb").begin({})


class Broken:
    """A server that is gone."""

    def __init__(self) -> None:
        self.calls = 0

    def _fail(self, *_: object, **__: object) -> None:
        self.calls += 1
        raise ConnectionError("nobody there")

    begin = log = end = close = _fail


class Stuck:
    """A server that never answers."""

    def __init__(self) -> None:
        self.calls = 0

    def _wait(self, *_: object, **__: object) -> None:
        self.calls += 1
        threading.Event().wait(60)

    begin = log = end = close = _wait


def test_a_dead_server_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    broken = Broken()
    tracker = InBackground("mlflow", broken)
    with caplog.at_level(logging.WARNING):
        tracker.begin({})
        for record in 5 * RECORDS:
            tracker.log("member1", record)
        tracker.close(failed=False)
    assert broken.calls == MOST_FAILURES
    assert [record.message.count("nobody there") for record in caplog.records] == [1, 0]


def test_a_server_that_never_answers_is_not_waited_for() -> None:
    stuck = Stuck()
    tracker = InBackground("mlflow", stuck, patience=0.2)
    tracker.begin({})
    tracker.close(failed=False)
    assert stuck.calls == 1


def test_nothing_is_imported_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_classifier: Any
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_tracking((), None)
    with tracking(RunFolder.create(tmp_path / "run"), (), None) as tracker:
        tracker.begin({})
        for record in RECORDS:
            tracker.log("member1", record)
        tracker.end(Ending.of(trained_classifier.run.metrics, trained_classifier.run.folder / "bundle"))
    assert list((tmp_path / "run" / "tensorboard" / "member1").iterdir())
    with pytest.raises(MissingDependency, match=r"hounsfield\[mlflow\]"):
        check_tracking(["mlflow"], None)


@pytest.mark.parametrize(
    ("tracks", "register", "message"),
    [
        (["clearml:x"], None, "clearml"),
        (["mlflow:https://me:secret@host/x"], None, "MLFLOW_TRACKING_PASSWORD"),
        (["mlflow:postgresql+psycopg2://me:secret@host/x"], None, "MLFLOW_TRACKING_URI"),
        ([], "chest", "--track mlflow"),
        (["wandb:x"], "chest@a", "--track mlflow"),
        (["mlflow:x"], "chest@a@b", "NAME@ALIAS"),
        (["mlflow:x"], "@a", "NAME@ALIAS"),
    ],
)
def test_what_cannot_be_meant_is_refused(tracks: list[str], register: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        check_tracking(tracks, register)
    assert "secret" not in str(refused.value)


def test_a_training_outlives_its_trackers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").mkdir()
    run = tmp_path / "run"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"mlflow:http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("WANDB_MODE", "offline")
    arguments = ["--effort", "quick", "--set", "epochs=1", "--set", "width=4", "--track", dead, "--track", "wandb:toy"]
    with caplog.at_level(logging.WARNING):
        assert hounsfield(monkeypatch, "train", write_labels(tmp_path / "data"), "--out", run, *arguments) == 0
    assert "cannot be reached" in caplog.text
    assert list((run / "wandb").rglob("*.wandb"))
    assert hounsfield(monkeypatch, "verify", run) == 0
