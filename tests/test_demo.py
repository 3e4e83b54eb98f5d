"""The demo, with few patients: every step runs as the command line it prints, and nothing held out is trained on."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pandas as pd
import pytest

from hounsfield.cli import demo as demo_command
from hounsfield.cli import main as cli
from hounsfield.planning import budget

PATIENTS = 40


def hounsfield(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hounsfield", *map(str, arguments)])
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    return int(outcome.value.code or 0)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the demo wrote, and what it printed beside it."""
    folder = tmp_path_factory.mktemp("demo") / "it's here"
    tiny = dataclasses.replace(budget.BUDGETS["quick"], size={2: 32, 3: 16}, width={2: 4, 3: 4}, epochs=(1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOUNSFIELD_CACHE", str(folder.parent / "cache"))
        patch.setitem(budget.BUDGETS, "quick", tiny)
        with (folder.parent / "printed.txt").open("w", encoding="utf-8") as printed, redirect_stdout(printed):
            assert hounsfield(patch, "demo", "--out", folder, "--patients", PATIENTS, "--seed", 3) == 0
    return folder


def printed(demo: Path) -> str:
    return (demo.parent / "printed.txt").read_text(encoding="utf-8")


def test_the_commands_are_those_of_the_main_job(demo: Path) -> None:
    lines = [shlex.split(line[2:]) for line in printed(demo).splitlines() if line.startswith("$ hounsfield ")]
    assert [line[1] for line in lines] == ["inspect", "train", "evaluate", "predict", "report"]
    assert lines[1][2:5] == [str(demo / "chest"), "--effort", "quick"]
    assert lines[1][5] == "--minutes"
    # How many there are depends on how fast the steps before were; the fewest are after 21 s.
    assert float(lines[1][6]) >= 0.87
    assert lines[1][-4:] == ["--seed", "3", "--out", str(demo / "run")]


@pytest.mark.parametrize(("spent", "seconds"), [(10, 69), (20, 54), (21, 52.5), (30, 75), (60, 150)])
def test_a_slow_machine_gets_more_time_to_train(spent: float, seconds: float) -> None:
    assert demo_command._minutes(spent) * 60 == pytest.approx(seconds)


def test_patients_held_out_are_not_trained_on(demo: Path) -> None:
    truth, trained = pd.read_csv(demo / "held-out.csv"), pd.read_parquet(demo / "run" / "cohort.parquet")
    assert truth["patient"].nunique() == PATIENTS // 10
    assert not set(truth["patient"]) & set(trained["patient"])
    assert trained["patient"].nunique() == PATIENTS - PATIENTS // 10
    assert sorted(path.name for path in (demo / "held-out").iterdir()) == sorted(truth["image"])
    kept = {f"images/{path.name}" for path in (demo / "chest" / "images").iterdir()}
    assert kept == set(pd.read_csv(demo / "chest" / "cohort.csv")["image"])


def test_right_predictions_are_counted(demo: Path) -> None:
    said = pd.read_csv(demo / "predictions.csv").set_index("image")["prediction"]
    truth = pd.read_csv(demo / "held-out.csv").set_index("image")["label"]
    said.index = [Path(image).name for image in said.index]
    assert f"{(said == truth.loc[said.index]).sum()} of {len(truth)} held-out images are right" in printed(demo)


def test_every_place_named_at_the_end_exists(demo: Path) -> None:
    places, _, command = printed(demo).split("What to look at")[1].partition("\n\nServe it")
    listed = [line.split(":", 1)[1].strip() for line in places.splitlines()[1:]]
    assert len(listed) >= 6
    assert all(Path(place).exists() for place in listed)
    assert Path(shlex.split(command.split("hounsfield serve ")[1])[0]).exists()


def test_a_folder_with_something_in_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert hounsfield(monkeypatch, "demo", "--out", tmp_path) == 2
    assert "Name a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
