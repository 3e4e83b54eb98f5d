"""A family that only this test knows goes from DATA to report, with nothing of the product changed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal, cast

import keras
import pandas as pd
import pytest

from families import hounsfield, write_labels
from hounsfield.bundle.table import FORMS
from hounsfield.cohorts.sources import LOADERS
from hounsfield.cohorts.targets import TARGETS
from hounsfield.inference.table import PREDICTORS
from hounsfield.planning import labels as label_planner
from hounsfield.planning.base import Facts, Wish
from hounsfield.planning.table import PLANNERS
from hounsfield.plans.labels import Plan
from hounsfield.plans.table import PLANS
from hounsfield.reports.table import PAGES
from hounsfield.runs.record import RUNS
from hounsfield.tasks import MODEL_NAMES, TASKS, Family
from hounsfield.testing.table import TESTS
from hounsfield.training.table import TRAININGS

pytestmark = pytest.mark.usefixtures("known_speed")

TOY = cast("Family", "toy")


class ToyPlan(Plan):
    """A classifier's plan for another task."""

    task: Literal["toy"]  # type: ignore[assignment]


class ToyPlanner:
    """Plans as for two labels."""

    networks, measure, expect = (
        staticmethod(each) for each in (label_planner.networks, label_planner.measure, label_planner.expect)
    )

    def make(self, facts: Facts, wish: Wish) -> ToyPlan:
        found = dataclasses.replace(facts.fingerprint, task="binary")
        plan = label_planner.make(dataclasses.replace(facts, fingerprint=found), wish)
        return ToyPlan.model_validate(plan.model_dump() | {"task": "toy", "pipeline": plan.pipeline})


@pytest.fixture(autouse=True)
def _toy_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "toy", dataclasses.replace(TASKS["binary"], family=TOY))
    tables: list[dict[Any, Any]] = [TARGETS, TRAININGS, FORMS, PREDICTORS, TESTS, PAGES, RUNS, MODEL_NAMES]
    for table in tables:
        monkeypatch.setitem(table, "toy", table["labels"])
    monkeypatch.setitem(PLANS, TOY, ToyPlan)
    monkeypatch.setitem(PLANNERS, TOY, ToyPlanner())
    monkeypatch.setattr("hounsfield.explanation.FAMILIES", ("labels", TOY))
    load = LOADERS["table"]
    monkeypatch.setitem(
        LOADERS, "table", lambda path, options: dataclasses.replace(load(path, options), task=cast("Any", "toy"))
    )


def test_a_toy_family_goes_from_data_to_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    data, run = write_labels(tmp_path / "data"), tmp_path / "run"
    assert hounsfield(monkeypatch, "inspect", data, "-o", "inspection") == 0
    changes = ("--set", "epochs=1", "--set", "width=4")
    assert hounsfield(monkeypatch, "train", data, "--effort", "quick", *changes, "--out", run) == 0
    assert ToyPlan.load(run / "plan.yaml").task == json.loads((run / "bundle" / "bundle.json").read_text())["task"]
    assert hounsfield(monkeypatch, "predict", run, data / "scan00.png", "-o", "predictions.csv") == 0
    assert {"prediction", "p_disc"} <= set(pd.read_csv("predictions.csv").columns)
    capsys.readouterr()
    assert hounsfield(monkeypatch, "evaluate", run, "--json") == 0
    assert json.loads(capsys.readouterr().out)["task"] == "toy"
    assert hounsfield(monkeypatch, "explain", run, data / "scan00.png", "-o", "evidence") == 0
    assert hounsfield(monkeypatch, "report", run) == 0
    assert "disc" in (run / "report.html").read_text(encoding="utf-8")
