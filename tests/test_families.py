"""The law of the house: every table has an entry for every family, and every family goes from DATA to report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import keras
import pandas as pd
import pytest

from families import TOYS, hounsfield
from hounsfield.bundle import FORMS
from hounsfield.cohorts import TARGETS
from hounsfield.dicom_results import OBJECTS
from hounsfield.inference import PREDICTORS
from hounsfield.planning import PLANNERS
from hounsfield.plans import PLANS
from hounsfield.reports.table import PAGES
from hounsfield.runs import RUNS
from hounsfield.tasks import TASKS, Family
from hounsfield.testing import TESTS
from hounsfield.training.table import TRAININGS

pytestmark = pytest.mark.usefixtures("known_speed")

TABLES: dict[str, dict[Any, Any]] = {
    "targets": TARGETS,
    "plans": PLANS,
    "planners": PLANNERS,
    "trainings": TRAININGS,
    "forms": FORMS,
    "predictors": PREDICTORS,
    "tests": TESTS,
    "runs": RUNS,
    "pages": PAGES,
    "objects": OBJECTS,
    "toys": TOYS,
}
FAMILIES = get_args(Family)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_every_family(name: str) -> None:
    assert set(TABLES[name]) == set(FAMILIES)


def test_every_task_is_of_a_family() -> None:
    assert {traits.family for traits in TASKS.values()} == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_from_data_to_report(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    data = TOYS[family](tmp_path / "data")
    run = tmp_path / "run"

    assert hounsfield(monkeypatch, "inspect", data, "-o", "inspection") == 0
    changes = [word for change in ("epochs=1", "width=4") for word in ("--set", change)]
    assert hounsfield(monkeypatch, "plan", data, "--effort", "quick", *changes, "-o", "plan.yaml") == 0
    assert hounsfield(monkeypatch, "train", data, "--plan", "plan.yaml", "--out", run) == 0
    capsys.readouterr()

    images = sorted(str(path) for path in data.rglob("*.png") if path.parent.name != "masks")[:3]
    assert hounsfield(monkeypatch, "predict", run, *images, "-o", "predictions.csv") == 0
    assert hounsfield(monkeypatch, "predict", run, *images, "--json") == 0
    assert json.loads(capsys.readouterr().out)
    assert "image" in pd.read_csv(tmp_path / "predictions.csv").columns

    assert hounsfield(monkeypatch, "evaluate", run, "--json") == 0
    again = json.loads(capsys.readouterr().out)["test"]
    kept = json.loads((run / "metrics.json").read_text())["test"]
    shared = [name for name in kept if name in again and kept[name]["value"] is not None]
    assert shared
    for name in shared:
        assert again[name]["value"] == pytest.approx(kept[name]["value"], abs=1e-6), name

    # A family without heat maps says so.
    explained = hounsfield(monkeypatch, "explain", run, images[0], "-o", "evidence") == 0
    assert explained == bool(list(tmp_path.glob("evidence/*.png")))
    assert explained or "`hounsfield explain` is for" in capsys.readouterr().err
    if family == "values":
        assert hounsfield(monkeypatch, "robustness", run, "--max-images", "9") == 0
        worse = json.loads((run / "robustness.json").read_text())
        assert {"mae", "shift"} <= set(worse["corruptions"]["noise"]["severities"][4])
        assert (run / "figures" / "robustness.png").stat().st_size > 20_000
    assert hounsfield(monkeypatch, "report", run) == 0
    assert ("Noise, severity 5" in (run / "report.html").read_text(encoding="utf-8")) == (family == "values")
    assert (run / "report.html").stat().st_size > 10_000
    assert (run / "MODEL_CARD.md").stat().st_size > 500

    capsys.readouterr()
    refused = {
        "robustness": {"boxes", "masks"},
        "forecast": {*FAMILIES} - {"labels"},
        "ablate": {*FAMILIES} - {"labels"},
    }
    for command in (command for command, families in refused.items() if family in families):
        assert hounsfield(monkeypatch, command, run) == 2
        assert f"`hounsfield {command}` is for classifiers" in capsys.readouterr().err
