"""The bias audit as people meet it: the command, the files, the pictures, and a run's own audit and forecast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from hounsfield.cli import ablate as ablate_command
from hounsfield.cli import evaluate as evaluate_command
from hounsfield.cli import forecast as forecast_command
from hounsfield.errors import EvaluationError, RunError, UsageError
from hounsfield.evaluation.assessment import assess
from hounsfield.evaluation.bias import audit_bias
from hounsfield.evaluation.bias_report import report_bias
from hounsfield.evaluation.predictions import predictions_from_table
from hounsfield.images import Image, write_image
from hounsfield.plans.augmentation import Augmentation
from hounsfield.plans.loading import load_plan
from hounsfield.reports.subgroups import PANELS, subgroup_figure
from hounsfield.runs.labels import read_predictions
from hounsfield.training import train
from hounsfield.training.ablation import ablate
from hounsfield.training.forecast import forecast
from hounsfield.training.variants import validation_table
from plans import hand_made_plan


def predictions(num_patients: int = 200) -> pd.DataFrame:
    """Two images a patient; the opacities of the site west score lower."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(num_patients), 2)
    site = rng.choice(["north", "south", "west"], size=num_patients)[patient]
    truth = (rng.random(num_patients) < 0.5)[patient]
    strength = np.where(site == "west", 0.8, 3.0)
    logit = 0.7 * rng.normal(size=num_patients)[patient] + 0.7 * rng.normal(size=len(patient)) + strength * truth - 1.5
    return pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(len(patient))],
            "truth": np.where(truth, "opacity", "normal"),
            "p_opacity": 1 / (1 + np.exp(-logit)),
            "patient": patient,
            "site": site,
            "sex": rng.choice(["F", "M"], num_patients)[patient],
        }
    )


def run_command(command: Any, *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_table_with_attributes_is_audited_by_the_command(tmp_path: Path) -> None:
    predictions().to_csv(tmp_path / "predictions.csv", index=False)
    told = run_command(evaluate_command.command, tmp_path / "predictions.csv", "-o", tmp_path / "out").output
    assert "Subgroups" in told
    assert "site = west" in told
    assert "sensitivity of 'opacity'" in told
    kept = json.loads((tmp_path / "out" / "bias.json").read_text(encoding="utf-8"))
    assert {finding["group"] for finding in kept["findings"]} == {"site = west"}
    assert (tmp_path / "out" / "subgroups.png").stat().st_size > 10_000
    result = run_command(evaluate_command.command, tmp_path / "predictions.csv", "--json", "--replicates", 100)
    assert json.loads(result.stdout)["bias"]["findings"] == kept["findings"]


def test_a_table_without_attributes_is_evaluated_as_before(tmp_path: Path) -> None:
    predictions().drop(columns=["site", "sex"]).to_csv(tmp_path / "predictions.csv", index=False)
    result = run_command(evaluate_command.command, tmp_path / "predictions.csv", "-o", tmp_path / "out")
    assert "ubgroup" not in result.output
    assert not (tmp_path / "out" / "bias.json").exists()
    refused = run_command(evaluate_command.command, tmp_path / "predictions.csv", "--interventions")
    assert isinstance(refused.exception, UsageError)


def test_rows_without_a_truth_leave_the_audit_too() -> None:
    table = predictions()
    table.loc[:9, "truth"] = None
    read = predictions_from_table(table)
    assert len(read.table) == len(read.answers) == len(table) - 10
    assessment = assess(read.answers, groups=read.groups, num_replicates=100)
    with pytest.raises(EvaluationError, match="holds no table"):
        report_bias(assessment)


def test_the_audit_loads_no_keras(tmp_path: Path) -> None:
    predictions().to_csv(tmp_path / "predictions.csv", index=False)
    code = (
        "import sys\nfrom hounsfield.cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
        "print(*(name for name in ('keras', 'tensorflow', 'jax', 'torch', 'matplotlib') if name in sys.modules))"
    )
    command = [sys.executable, "-c", code, "evaluate", str(tmp_path / "predictions.csv"), "--replicates", "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"})
    assert "site = west" in done.stdout
    assert done.stdout.splitlines()[-1] == ""


def test_the_picture_shows_each_group_and_marks_what_was_found() -> None:
    read = predictions_from_table(predictions())
    audit = audit_bias(read.answers, read.table, groups=read.groups)
    panels = subgroup_figure(audit).axes
    assert len(panels) == len(PANELS)
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert [name.partition(" (")[0] for name in names] == [g.group for g in audit.groups if len(g.parts) == 1]
    bold = [label.get_text() for label in panels[0].get_yticklabels() if label.get_fontweight() == "bold"]
    assert len(bold) == 1
    assert bold[0].startswith("site = west")
    row = names.index(bold[0])
    marks = [line.get_marker() for line in panels[1].lines if line.get_ydata()[-1:] == [row]]
    assert "D" in marks


def write_cohort(folder: Path, num_patients: int, sites: tuple[str, ...], wrong: int = 1000) -> str:
    """Images with a bright patch for the label, which is wrong of every so many; a table with sites; returns DATA."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(num_patients):
        sick = number % 2
        label = sick if number % wrong else 1 - sick
        pixels = rng.normal(100, 15, (16, 16, 1)).clip(0, 255)
        pixels[4:9, 4:9] += 70 * sick
        write_image(Image(pixels.clip(0, 255).astype(np.uint8)), folder / f"{number}.png")
        rows.append((f"{number}.png", str(label), f"p{number}", sites[number // 2 % len(sites)]))
    table = pd.DataFrame(rows, columns=["image", "label", "patient", "site"])
    table.to_csv(folder / "index.csv", index=False)
    return str(folder)


@pytest.fixture
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())


def test_a_label_may_be_called_none(tmp_path: Path) -> None:
    rows = pd.DataFrame({"image": ["a", "b"], "split": "validation", "patient": ["1", None], "label": ["None", "NA"]})
    rows.to_csv(tmp_path / "predictions.csv", index=False)
    for table in (
        validation_table(SimpleNamespace(predictions=tmp_path / "predictions.csv")),  # type: ignore[arg-type]
        read_predictions(tmp_path / "predictions.csv"),
    ):
        assert table["label"].tolist() == ["None", "NA"]
        assert table["patient"].isna().tolist() == [False, True]


TINY: dict[str, Any] = {"network": "simple_cnn", "width": None, "epochs": 2}


@pytest.mark.usefixtures("_cache")
def test_a_run_audits_its_test_images_and_takes_shortcuts_out(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = write_cohort(tmp_path / "data", 60, ("north", "south"))
    run = train(data, tmp_path / "run", plan=hand_made_plan(balance_groups="site", **TINY))
    kept = json.loads((run.folder / "bias.json").read_text(encoding="utf-8"))
    assert set(kept["attributes"]) == {"site"}
    assert kept["overall"]["cases"] == 12
    assert kept["probes"][0]["attribute"] == "site"
    assert (run.folder / "figures" / "subgroups.png").is_file()
    told = run_command(evaluate_command.command, run.folder, "--interventions", "--replicates", 100).output
    assert "Upper left corner masked" in told
    again = json.loads((run.folder / "bias.json").read_text(encoding="utf-8"))
    assert len(again["removals"]) == 7
    assert again["groups"] == kept["groups"]
    for option in (("--threshold", 0.9), ("--confidence", 0.6)):
        told = run_command(evaluate_command.command, run.folder, "--replicates", 100, *option).output
        assert "keeps its own subgroup figures" in told
    assert json.loads((run.folder / "bias.json").read_text(encoding="utf-8")) == again


@pytest.mark.usefixtures("_cache")
def test_a_forecast_trains_on_shares_and_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    data = write_cohort(tmp_path / "data", 120, ("north",), wrong=5)
    run = train(data, tmp_path / "run", plan=hand_made_plan(**TINY | {"epochs": 1})).folder
    result = run_command(forecast_command.command, run)
    assert "more data" in result.output.lower()
    assert json.loads((run / "learning_curve.json").read_text(encoding="utf-8"))["sizes"] == [21, 42, 84]
    assert (run / "figures" / "learning_curve.png").is_file()
    trained = {path: path.read_bytes() for path in (run / "learning_curve").rglob("predictions.csv")}
    assert sorted(path.parent.name for path in trained) == ["share-0.25", "share-0.5"]
    # Test images take no part: they would be looked at without being counted, or behind a seal.
    assert "test" in pd.read_csv(run / "predictions.csv")["split"].unique()
    assert all(set(pd.read_csv(path)["split"]) == {"validation"} for path in trained)
    run_command(forecast_command.command, run, "--json")
    assert {path: path.read_bytes() for path in trained} == trained
    (run / "metrics.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        forecast(run)


@pytest.mark.usefixtures("_cache")
def test_an_ablation_trains_without_each_remedy_and_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = write_cohort(tmp_path / "data", 60, ("north",), wrong=5)
    changes = {"epochs": 1, "augmentation": Augmentation(flip_axes=(1,)), "label_smoothing": 0.1}
    kept = {"dropout": 0.0, "weight_decay": 0.0, "average_decay": 0.0}
    run = train(data, tmp_path / "run", plan=hand_made_plan(**TINY | changes | kept)).folder
    result = run_command(ablate_command.command, run)
    assert "Without augmentation: log loss " in result.output
    found = json.loads((run / "ablation.json").read_text(encoding="utf-8"))
    assert [each["remedy"] for each in found["bought"]] == ["augmentation", "label smoothing 0.1"]
    assert (run / "figures" / "ablation.png").is_file()
    without = load_plan(run / "ablation" / "without-label_smoothing" / "plan.yaml")
    assert (without.label_smoothing, without.augmentation.flip_axes) == (0.0, (1,))
    trained = {path: path.read_bytes() for path in (run / "ablation").rglob("predictions.csv")}
    run_command(ablate_command.command, run, "--json")
    assert {path: path.read_bytes() for path in trained} == trained
    nothing = {"augmentation": Augmentation(), "label_smoothing": 0.0, "epochs": 1}
    bare = train(data, tmp_path / "bare", plan=hand_made_plan(**TINY | kept | nothing))
    with pytest.raises(RunError, match="nothing to take out"):
        ablate(bare.folder)
