"""The commands plan and train from the outside: exit statuses and one-paragraph errors on bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
import pytest

from hounsfield.cli import main as cli
from hounsfield.planning.speed import Speed
from hounsfield.plans.labels import Plan
from plans import hand_made_plan, write_pair


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    speed = Speed("float32", {"float32": 1e10, "mixed_bfloat16": 1e9})
    for module in ("whole_images", "expectations"):
        monkeypatch.setattr(f"hounsfield.planning.{module}.measure_speed", lambda *_: speed)
    monkeypatch.chdir(tmp_path)


def hounsfield(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hounsfield", *map(str, arguments)])
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    return int(outcome.value.code or 0)


def class_folders(folder: Path, counts: dict[str, int]) -> Path:
    generator = np.random.default_rng(0)
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(folder / label / f"{number}.png"), generator.integers(0, 255, (16, 16), np.uint8))
    return folder


def paragraph(text: str) -> str:
    """The error at the end of standard error, which must be one paragraph and no traceback."""
    assert "Traceback" not in text
    found = [line for line in text.splitlines() if line.startswith("hounsfield: ")]
    assert len(found) == 1
    assert text.rstrip().endswith(found[0])
    return found[0]


def test_a_plan_is_printed_as_yaml_or_json_or_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = write_pair(tmp_path)
    assert hounsfield(monkeypatch, "plan", data, "--effort", "quick", "--set", "epochs=2") == 0
    plan = Plan.from_yaml(capsys.readouterr().out)
    assert (plan.effort, plan.epochs, plan.reasons["epochs"]) == ("quick", 2, "set by hand")
    assert hounsfield(monkeypatch, "plan", data, "--model", "simple_cnn", "--json") == 0
    assert json.loads(capsys.readouterr().out)["network"] == "simple_cnn"
    assert hounsfield(monkeypatch, "plan", data, "-o", tmp_path / "plan.yaml", "--seed", 3) == 0
    assert Plan.load(tmp_path / "plan.yaml").seed == 3
    assert capsys.readouterr().out == ""
    assert hounsfield(monkeypatch, "plan", data, "-o", tmp_path / "both.yaml", "--model", "simple_cnn", "--json") == 0
    assert json.loads(capsys.readouterr().out)["network"] == Plan.load(tmp_path / "both.yaml").network == "simple_cnn"


def test_help_names_the_type_of_data(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert hounsfield(monkeypatch, "train", "--help") == 0
    assert "Annotated" not in capsys.readouterr().out


def test_a_plan_goes_into_a_new_folder_and_leaves_nothing_where_it_cannot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = hand_made_plan()
    plan.save(tmp_path / "new" / "plan.yaml")
    assert Plan.load(tmp_path / "new" / "plan.yaml") == plan
    with pytest.raises(OSError, match="directory"):
        plan.save(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    for output, message in (("new", "is a folder"), ("new/plan.yaml/plan.yaml", "is a file")):
        assert hounsfield(monkeypatch, "plan", "nowhere", "-o", output) == 2
        assert message in paragraph(capsys.readouterr().err)


def test_train_prints_metrics_and_places(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = write_pair(tmp_path)
    hand_made_plan(width=None, network="simple_cnn", epochs=1).save(tmp_path / "plan.yaml")
    assert hounsfield(monkeypatch, "train", data, "--plan", tmp_path / "plan.yaml", "--out", "run", "--json") == 0
    captured = capsys.readouterr()
    assert set(json.loads(captured.out)) == {"test", "validation"}
    assert f"Keras on {keras.backend.backend()}" in captured.err
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    for again in (("train", data, "--out", "run"), ("train", "--resume", "run")):
        assert hounsfield(monkeypatch, *again) == 1
        assert "nothing in it was changed" in paragraph(capsys.readouterr().err)
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    Path("run/cohort.parquet").write_bytes(b"no table")
    assert hounsfield(monkeypatch, "evaluate", "run") == 1
    assert "run/cohort.parquet is damaged or was changed" in paragraph(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give either DATA"),
        (("", "--out", "run"), "DATA is empty"),
        (("data", "--resume", "run"), "Give either DATA"),
        (("--resume", "run", "--out", "other"), "keeps its data, plan"),
        (("--resume", "run", "--seed", "0"), "keeps its data, plan"),
        (("--resume", "run", "--effort", "quick"), "keeps its data, plan"),
        (("--resume", "run", "--drop-leaks"), "keeps its data, plan"),
        (("--resume", "run", "--label-column", "label"), "keeps its data, plan"),
        (("data", "--plan", "plan.yaml", "--model", "resnet18"), "give --plan, or --model"),
        (("data", "--model", "resnet99"), "No network is called 'resnet99'"),
        (("data", "--set", "seed=3"), "--seed"),
        (("data", "--set", "epoch=3"), "does not set a field"),
        (("data", "--set", "epochs"), "Write field=value"),
    ],
)
def test_wrong_usage_has_status_2(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hounsfield(monkeypatch, "train", *arguments) == 2
    assert message in paragraph(capsys.readouterr().err)
    assert not list(Path().glob("run*"))
    if "--set" in arguments:
        assert hounsfield(monkeypatch, "plan", *arguments) == 2
        assert message in paragraph(capsys.readouterr().err)


def test_bad_data_has_status_1_and_leaves_no_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    one_class = class_folders(tmp_path / "one", {"normal": 6})
    lonely = class_folders(tmp_path / "lonely", {"normal": 8, "ill": 1})
    outside = tmp_path / "table" / "index.csv"
    outside.parent.mkdir()
    table = {"image": ["../one/normal/0.png", "../one/normal/1.png"], "label": ["a", "b"]}
    pd.DataFrame(table).to_csv(outside, index=False)
    lost = tmp_path / "lost.csv"
    pd.DataFrame({"image": ["no.png", "nothing.png"] * 4, "label": ["a", "b"] * 4}).to_csv(lost, index=False)
    for data in ("nowhere", "empty", one_class, lonely, outside, lost):
        assert hounsfield(monkeypatch, "train", data, "--out", "run") == 1, data
        assert len(paragraph(capsys.readouterr().err)) > 60
        assert not Path("run").exists()


def test_too_many_unreadable_images_stop_and_few_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = class_folders(tmp_path / "data", {"ill": 30, "normal": 30})
    (data / "ill" / "3.png").write_bytes((data / "ill" / "3.png").read_bytes()[:50])
    options = ("--effort", "quick", "--model", "simple_cnn", "--set", "epochs=1", "--out", "run")
    assert hounsfield(monkeypatch, "train", data, *options) == 0
    assert "3.png" in capsys.readouterr().err
    for number in range(4, 12):
        (data / "ill" / f"{number}.png").write_bytes(b"no image")
    assert hounsfield(monkeypatch, "train", data, *options[:-1], "other") == 1
    assert "5.png" in paragraph(capsys.readouterr().err)
    assert not Path("other").exists()
    assert hounsfield(monkeypatch, "plan", data) == 1
    assert "more than the 5%" in paragraph(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("content", "message"),
    [("epochs: 3\n", "'effort'"), ("epochs: [\n", "is not YAML"), (None, "cannot be read")],
)
def test_a_bad_plan_is_one_paragraph(
    content: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    if content is not None:
        (tmp_path / "plan.yaml").write_text(content)
    assert hounsfield(monkeypatch, "train", write_pair(tmp_path), "--plan", "plan.yaml", "--out", "run") == 1
    assert message in paragraph(capsys.readouterr().err)
    assert not Path("run").exists()


def test_a_plan_for_other_labels_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    hand_made_plan(labels=("cat", "dog")).save(tmp_path / "plan.yaml")
    assert hounsfield(monkeypatch, "train", write_pair(tmp_path), "--plan", "plan.yaml", "--out", "run") == 1
    assert "cat, dog" in paragraph(capsys.readouterr().err)
    assert not Path("run").exists()


def test_what_is_no_run_cannot_be_resumed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert hounsfield(monkeypatch, "train", "--resume", tmp_path / "nowhere") == 1
    assert "is no run folder" in paragraph(capsys.readouterr().err)


def test_an_early_interrupt_says_how_to_continue(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    hand_made_plan().save(tmp_path / "plan.yaml")
    monkeypatch.setattr("hounsfield.training.one_network.fit", interrupt)
    assert hounsfield(monkeypatch, "train", write_pair(tmp_path), "--plan", "plan.yaml", "--out", "run") == 1
    assert "Continue with: hounsfield train --resume run" in paragraph(capsys.readouterr().err)


def test_a_full_disk_is_one_paragraph(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    hand_made_plan().save(tmp_path / "plan.yaml")
    data = write_pair(tmp_path)
    monkeypatch.setattr(Plan, "save", full)
    assert hounsfield(monkeypatch, "train", data, "--plan", "plan.yaml", "--out", "run") == 1
    assert "No space left on device" in paragraph(capsys.readouterr().err)
    assert not Path("run").exists()


HIDE = """
import importlib.util, sys
known = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {hidden!r} else known(name, *rest)
sys.argv = ["hounsfield", "train", "nowhere"]
from hounsfield.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("backend", "hidden", "status", "message"),
    [
        ("jax", ["jax"], 1, "pip install 'hounsfield[jax]'"),
        (None, ["tensorflow", "jax", "torch"], 1, "pip install 'hounsfield[tensorflow]'"),
        ("theano", [], 2, "tensorflow, jax, torch"),
        ("tensorflow", ["keras"], 1, "Keras is not installed"),
    ],
)
def test_a_backend_that_is_not_installed_is_named(
    backend: str | None, hidden: list[str], status: int, message: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    if backend is not None:
        environment["KERAS_BACKEND"] = backend
    done = subprocess.run(
        [sys.executable, "-c", HIDE.format(hidden=hidden)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert message in paragraph(done.stderr)
