"""Test images are counted at each use, and a seal keeps them for one look."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from hounsfield.errors import RunError
from hounsfield.reports.sections.summary import limitations
from hounsfield.reports.sections.wording import test_use as told_of_use
from hounsfield.reports.table import PAGES
from hounsfield.runs import read_run
from hounsfield.runs.manifest import verify
from hounsfield.runs.test_use import record_test_use
from hounsfield.testing import evaluate_run
from hounsfield.testing.clinical import clinical_value
from hounsfield.testing.recalibration import _local_cohort
from hounsfield.testing.robustness import evaluate_robustness
from hounsfield.testing.seal import open_test

# Of tests of a run, which are quick.
QUICK = {"num_replicates": 100}


@pytest.fixture
def run(trained_classifier: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_classifier.run.folder, tmp_path / "run"))


@pytest.fixture
def sealed(run: Path) -> Path:
    """The run as its training leaves it with ``--seal``."""
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(environment | {"sealed": True}))
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({"validation": metrics["validation"]}))
    table = pd.read_csv(run / "predictions.csv", dtype=str, keep_default_na=False)
    table[table["split"] != "test"].to_csv(run / "predictions.csv", index=False)
    lines = (run / "log.jsonl").read_text().splitlines(keepends=True)
    (run / "log.jsonl").write_text("".join(line for line in lines if "test images used" not in line))
    (run / "manifest.json").unlink()
    return run


def test_every_use_is_counted(run: Path, trained_classifier: Any) -> None:
    before = read_run(run).test_uses
    assert [use["by"] for use in before][:1] == ["train"]
    evaluate_run(run, **QUICK)
    evaluate_run(run, trained_classifier.data, **QUICK)
    record = read_run(run)
    assert [use["by"] for use in record.test_uses[len(before) :]] == ["evaluate", "evaluate"]
    assert verify(run).whole
    used = sorted({use["by"] for use in record.test_uses})
    assert f"({', '.join(used[:-1])} and {used[-1]})" in told_of_use(record)
    assert any("Whoever chooses by them" in line for line in limitations(record, PAGES["labels"]))


def test_a_seal_is_opened_once(sealed: Path, trained_classifier: Any) -> None:
    record = read_run(sealed)
    assert record.sealed
    assert record.split == "validation"
    assert "sealed" in limitations(record, PAGES["labels"])[0]
    for data in (None, trained_classifier.data):
        with pytest.raises(RunError, match=r"sealed.*--open-seal"):
            evaluate_run(sealed, data)
    assert not read_run(sealed).test_uses
    open_test(sealed)
    record, original = read_run(sealed), Path(trained_classifier.run.folder)
    assert not record.sealed
    assert [use["by"] for use in record.test_uses] == ["evaluate"]
    assert "sealed in training and opened on" in told_of_use(record)
    # What is in the run then is what its training would have written.
    assert record.metrics == read_run(original).metrics
    assert (sealed / "predictions.csv").read_bytes() == (original / "predictions.csv").read_bytes()
    with pytest.raises(RunError, match="can be opened once"):
        open_test(sealed)
    evaluate_run(sealed, **QUICK)
    assert len(read_run(sealed).test_uses) == 2


def moved(data: str, folder: Path) -> tuple[str, str]:
    """The images of DATA as files with a table, and another table of the same files."""
    images, labels = (np.load(part) for part in data.split(","))
    folder.mkdir()
    names = [f"{number}.png" for number in range(len(images))]
    for name, pixels in zip(names, images, strict=True):
        cv2.imwrite(str(folder / name), pixels)
    table = pd.DataFrame({"image": names, "label": labels})
    for name in ("table.csv", "again.csv"):
        table.to_csv(folder / name, index=False)
    return str(folder / "table.csv"), str(folder / "again.csv")


def test_a_seal_holds_however_the_images_are_named(sealed: Path, trained_classifier: Any, tmp_path: Path) -> None:
    own, again = moved(trained_classifier.data, tmp_path / "files")
    environment = json.loads((sealed / "environment.json").read_text())
    environment["data"]["data"] = own
    (sealed / "environment.json").write_text(json.dumps(environment))
    splits = pd.read_parquet(sealed / "cohort.parquet")
    splits.assign(image=[f"{number}.png" for number in range(len(splits))]).to_parquet(sealed / "cohort.parquet")
    for run in (sealed, sealed / "bundle"):
        for data in (own, again):
            with pytest.raises(RunError, match=r"sealed.*--open-seal"):
                evaluate_run(run, data)
            with pytest.raises(RunError, match=r"sealed.*--open-seal"):
                evaluate_robustness(run, data)
    assert not read_run(sealed).test_uses
    # Images at another place are other data.
    _, elsewhere = moved(trained_classifier.data, tmp_path / "elsewhere")
    evaluate_run(sealed, elsewhere, **QUICK)
    assert not read_run(sealed).test_uses


def test_uses_are_counted_however_the_images_are_named(run: Path, trained_classifier: Any) -> None:
    before = len(read_run(run).test_uses)
    tested = evaluate_run(run / "bundle", trained_classifier.data, **QUICK)
    assert len(read_run(run).test_uses) == before + 1
    splits = pd.read_parquet(run / "cohort.parquet")["split"]
    assert tested.trained == (splits != "test").sum() > 0
    assert any(
        f"{tested.trained} of which the run was trained or chosen on" in note for note in tested.assessment.notes
    )
    # What was fitted on validation cases is not judged on them.
    with pytest.raises(RunError, match="training or validation"):
        clinical_value(run, tested, ["age"], num_replicates=100, seed=0, confidence=0.95)
    assert evaluate_run(run, **QUICK).trained == 0
    # Nor is a bundle fitted to a place on test images, or on those that it was trained on.
    local, note = _local_cohort(run, trained_classifier.data, tested.bundle)
    assert len(local) == (splits == "validation").sum()
    assert "test rows were left for a test" in note
    assert f"{(splits == 'train').sum()} rows that the run was trained on were left out" in note


def test_an_opening_that_was_interrupted_is_completed(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hounsfield.testing.seal.write_json", stopped)
        with pytest.raises(KeyboardInterrupt):
            open_test(sealed)
    # Dated before anything was computed.
    assert not read_run(sealed).sealed
    open_test(sealed)
    table = pd.read_csv(sealed / "predictions.csv")
    assert not table["image"].duplicated().any()
    assert read_run(sealed).split == "test"


def test_a_run_without_a_seal_has_none_to_open(run: Path) -> None:
    with pytest.raises(RunError, match="without --seal"):
        open_test(run)


def test_a_bundle_by_itself_counts_nothing(tmp_path: Path) -> None:
    record_test_use(tmp_path, "evaluate")
    assert not list(tmp_path.iterdir())
