"""Every command given the run of a detector, or data with boxes: it works, or refuses in one clear paragraph."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from detection_runs import make_detection_run
from detectors import LABELS, tiny_detector_bundle
from hounsfield.cli import main as cli
from hounsfield.errors import HounsfieldError
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.runs.record import read_run

# Command -> the lines that it is given here, each with what it says when it works, or why it refuses.
WORKS: dict[str, list[tuple[str, str]]] = {
    "demo": [],
    "inspect": [("inspect data -o page --no-cost", "Objects"), ("inspect data --against data -o shift", "wrote")],
    "plan": [("plan data --effort quick", "task: detection")],
    "train": [],
    "evaluate": [
        ("evaluate run/predictions.csv --truth data/boxes.csv --replicates 100", "AP50"),
        ("evaluate run --replicates 100", "AP50"),
    ],
    "predict": [("predict run data", "scan-000.png")],
    "serve": [],
    "compare": [("compare run run", "Compared on the 12 images that both runs have")],
    "audit": [],
    "samplesize": [("samplesize --width 0.1 --prevalence 0.2", "patients")],
    "features": [("features run data -o features.csv", "36 images")],
    "about": [("about run", "questions answered")],
    "report": [("report run", "CLAIM 2024")],
    "export": [("export run --to onnx", "two networks: trunk")],
    "verify": [("verify run/bundle", "is whole")],
    "preprocess": [],
    "convert": [],
    "data": [],
    "assay": [],
    # All of them are images of the run.
    "label": [("label run data -n 3", "Nothing is left to label.")],
    "readings": [],
    "tune": [],
    "pretrain": [],
}
REFUSES: dict[str, list[tuple[str, str]]] = {
    "robustness": [("robustness run", "`hounsfield robustness` is for classifiers and regressors; run is a detector.")],
    "recalibrate": [("recalibrate run data -o new", "`hounsfield recalibrate` is for classifiers; run is a detector.")],
    "monitor": [
        (
            "monitor run run/predictions.csv",
            "`hounsfield monitor` is for classifiers and regressors; run is a detector.",
        )
    ],
    "forecast": [("forecast run", "`hounsfield forecast` is for classifiers; run is a detector.")],
    "ablate": [("ablate run", "`hounsfield ablate` is for classifiers; run is a detector.")],
    "explain": [
        ("explain run data -o maps", "`hounsfield explain` is for classifiers and regressors; run is a detector.")
    ],
    "evaluate": [
        ("evaluate run/predictions.csv", "--truth"),
        ("evaluate run --truth data/boxes.csv", "--truth is for tables; run is a run. Remove it."),
        (
            "evaluate run/predictions.csv --truth data/boxes.csv --task binary",
            "--task is for tables of predictions and tables of values; run/predictions.csv is a table of findings.",
        ),
        ("evaluate run --interventions", "--interventions is for classifiers; run is a detector. Remove it."),
    ],
}
# Commands that take no run, and those whose work on detection data has tests of its own.
ELSEWHERE = {
    "demo",
    "train",
    "preprocess",
    "convert",
    "data",
    "serve",
    "audit",
    "assay",
    "readings",
    "tune",
    "pretrain",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data`` and ``run``, whose bundle has a network that runs."""
    folder = tmp_path_factory.mktemp("commands")
    run = make_detection_run(folder, labels=LABELS)
    shutil.rmtree(run / "bundle")
    tiny_detector_bundle(run / "bundle")
    return folder


def test_every_command_is_looked_at() -> None:
    assert set(WORKS) | set(REFUSES) == set(cli.COMMANDS)
    assert {name for name, lines in WORKS.items() if not lines} == ELSEWHERE


@pytest.mark.parametrize(("line", "said"), [pair for lines in WORKS.values() for pair in lines])
def test_commands_work(line: str, said: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    done = CliRunner().invoke(cli.app, line.split())
    assert done.exit_code == 0, (done.output, done.exception)
    assert said in done.output


@pytest.mark.parametrize(("line", "why"), [pair for lines in REFUSES.values() for pair in lines])
def test_commands_refuse_in_one_paragraph(line: str, why: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    before = sorted(path.name for path in place.iterdir())
    done = CliRunner().invoke(cli.app, line.split())
    assert isinstance(done.exception, HounsfieldError), (done.output, done.exception)
    assert why in str(done.exception)
    assert "\n" not in str(done.exception)
    assert sorted(path.name for path in place.iterdir()) == before


def test_the_plan_of_the_made_up_run_is_one_that_training_writes(place: Path) -> None:
    plan = DetectionPlan.load(place / "run" / "plan.yaml")
    assert plan.labels == LABELS
    assert plan.reasons["anchors"] == read_run(place / "run").plan.reasons["anchors"]
