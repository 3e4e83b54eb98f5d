"""Images that are judged together as one sample: how they are found, split, planned, refused, and trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from families import hounsfield, write_boxes, write_views
from hounsfield.cohorts import Cohort, assign_splits, load_cohort
from hounsfield.cohorts.fingerprint import fingerprint
from hounsfield.errors import CohortError, PlanError, UsageError
from hounsfield.planning import Facts, Wish, make_plan
from hounsfield.training.views import ViewPixels, check_views


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_views(tmp_path_factory.mktemp("studies"))


def test_a_column_says_which_images_are_judged_together(studies: Path) -> None:
    cohort = load_cohort(studies, sample_column="study")
    assert cohort.has_views
    assert cohort.sample_column == "study"
    assert "study" not in cohort.table
    assert len(cohort.samples()) == 30
    assert "Images of one 'study' are judged together: 30 samples of 2 to 4 images" in " ".join(cohort.notes)
    for row in cohort.samples().tolist():
        views = cohort.views(row)
        assert views[0] == row
        assert set(cohort.table["sample"].iloc[views]) == {cohort.table["sample"].iloc[row]}
    # Each image is in one sample.
    assert sorted(np.concatenate([cohort.views(row) for row in cohort.samples()])) == list(range(len(cohort)))
    alone = load_cohort(studies)
    assert not alone.has_views
    assert alone.samples().tolist() == list(range(len(alone)))


def test_folders_and_columns_called_sample_do_too(tmp_path: Path, studies: Path) -> None:
    table = pd.read_csv(studies / "labels.csv")
    for label, study, image in zip(table["label"], table["study"], table["image"], strict=True):
        place = tmp_path / label / study / image
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(studies / image)
    folders = load_cohort(tmp_path, label_level=1, sample_column="folder")
    assert len(folders.samples()) == 30
    assert folders.labels == ("clear", "finding")
    named = studies / "named.csv"
    # Numbers are names of samples, too.
    table.assign(sample=pd.factorize(table["study"])[0]).drop(columns="study").to_csv(named, index=False)
    assert len(load_cohort(named).samples()) == 30
    assert load_cohort(named).table["sample"].iloc[0] == "0"
    named.unlink()


def test_patients_of_samples_stay_together_and_unknown_ones_are_no_patients(studies: Path) -> None:
    cohort = load_cohort(studies, sample_column="study")
    unknown = Cohort(
        cohort.table.assign(patient=None), cohort.task, cohort.labels, cohort.source, cohort.kind, cohort.name
    )
    for each in (cohort, unknown):
        split = assign_splits(each, seed=3).table
        assert len(split[["sample", "split"]].drop_duplicates()) == 30
        assert set(split["split"]) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": ["clear", "finding"] * 3}, r"1 samples differ in the column 'label', first 's' \(clear, finding\)"),
        ({"patient": list("abcdef")}, r"differ in the column 'patient', first 's'\."),
    ],
)
def test_images_of_a_sample_that_contradict_each_other_are_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    rows = {
        "image": [f"{row}.npy" for row in range(6)],
        "label": ["clear"] * 3 + ["finding"] * 3,
        "study": ["s", "s", "t", "u", "v", "w"],
    }
    for image in rows["image"]:
        np.save(tmp_path / image, np.arange(16, dtype=np.uint8).reshape(4, 4))
    table = pd.DataFrame(rows | changes)
    table.to_csv(tmp_path / "index.csv", index=False)
    with pytest.raises(CohortError, match=words):
        load_cohort(tmp_path / "index.csv", sample_column="study")


def test_a_column_that_is_not_there_and_boxes_are_refused(tmp_path: Path, studies: Path) -> None:
    with pytest.raises(CohortError, match=r"no column 'exam'.*patient, study.*'folder'"):
        load_cohort(studies, sample_column="exam")
    with pytest.raises(UsageError, match="cannot be judged together by a detector"):
        load_cohort(write_boxes(tmp_path), sample_column="folder")


def test_the_plan_shows_the_images_of_a_sample_at_once(studies: Path) -> None:
    cohort = assign_splits(load_cohort(studies, sample_column="study"))
    train = cohort.subset(cohort.rows("train"))
    found = fingerprint(train)
    assert found.most_views == 4
    assert found.num_samples == len(train.samples()) < found.num_images
    assert sum(found.balance["train"].values()) == found.num_samples
    plan: Any = make_plan(Facts(found), Wish("thorough"), "binary")
    assert (plan.views, plan.view_pooling, plan.folds, plan.augmentation.mixup) == (4, "attention", 1, 0)
    check_views(plan, cohort)
    with pytest.raises(PlanError, match="views: 4, but the data has one image a sample"):
        check_views(plan, load_cohort(studies))
    with pytest.raises(PlanError, match="folds: 5"):
        check_views(plan.model_copy(update={"folds": 5}), cohort)
    with pytest.raises(PlanError, match="views: null, but the data has samples of several"):
        check_views(plan.model_copy(update={"views": None}), cohort)


class Rows:
    """A store whose pixels are the numbers of its rows."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort

    def batch(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows, np.float32).reshape(-1, 1, 1, 1)


def test_batches_repeat_images_of_small_samples_and_draw_from_large_ones(studies: Path) -> None:
    cohort = load_cohort(studies, sample_column="study")
    store: Any = Rows(cohort)
    rows = cohort.samples()[:3]
    batch = ViewPixels(store, 4).batch(rows)
    assert batch["image"].shape == (3, 4, 1, 1, 1)
    for row, images, present in zip(rows, batch["image"][..., 0, 0, 0], batch["present"], strict=True):
        views = cohort.views(row)
        assert present.sum() == len(views)
        assert images[present > 0].tolist() == views.tolist()
        assert set(images) == set(views)
    # Of a sample of four, two are drawn, others in another epoch, the same for the same seed.
    largest = [row for row in cohort.samples() if len(cohort.views(row)) == 4][:8]
    drawn = [ViewPixels(store, 2, (0, epoch)).batch(np.array(largest))["image"].ravel().tolist() for epoch in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    even = ViewPixels(store, 2).batch(np.array(largest))["image"].reshape(-1, 2)
    assert all(pair.tolist() == cohort.views(row)[[0, 3]].tolist() for row, pair in zip(largest, even, strict=True))


def test_from_data_to_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    data, run = write_views(tmp_path / "data"), tmp_path / "run"
    together = ("--sample-column", "study")
    assert hounsfield(monkeypatch, "inspect", data, *together, "-o", "inspection") == 0
    assert "30 samples of 2 to 4 images" in capsys.readouterr().err
    changes = [word for change in ("epochs=1", "width=4") for word in ("--set", change)]
    assert hounsfield(monkeypatch, "train", data, *together, "--effort", "quick", *changes, "--out", run) == 0
    kept = pd.read_csv(run / "predictions.csv")
    assert kept["image"].str.startswith("study").all()
    assert kept["image"].is_unique

    # A folder is a sample, and so are the rows of a table with one key.
    folder = tmp_path / "one" / "study01"
    folder.mkdir(parents=True)
    for path in data.glob("p01_*.png"):
        (folder / path.name).write_bytes(path.read_bytes())
    assert hounsfield(monkeypatch, "predict", run, tmp_path / "one", "-o", "folder.csv") == 0
    assert hounsfield(monkeypatch, "predict", run, data / "labels.csv", "-o", "table.csv") == 0
    one, table = pd.read_csv("folder.csv"), pd.read_csv("table.csv").set_index("image")
    assert len(one) == 1
    assert len(table) == 30
    assert one["p_finding"].iloc[0] == pytest.approx(table.loc["study01", "p_finding"], abs=1e-6)
    weights = [float(part.rpartition("=")[2]) for part in one["view_weights"].iloc[0].split("; ")]
    assert sum(weights) == pytest.approx(1, abs=1e-3)
    assert weights == sorted(weights, reverse=True)
    assert Path(one["top_view"].iloc[0]).parent == folder

    capsys.readouterr()
    assert hounsfield(monkeypatch, "evaluate", run, "--json") == 0
    again = json.loads(capsys.readouterr().out)["test"]
    assert again["auc"]["value"] == json.loads((run / "metrics.json").read_text())["test"]["auc"]["value"]
    assert hounsfield(monkeypatch, "explain", run, folder, "-o", "evidence", "--json") == 0
    explained = json.loads(capsys.readouterr().out)["explanations"]
    assert [each["weight"] for each in explained] == sorted((each["weight"] for each in explained), reverse=True)
    assert len(list(Path("evidence").glob("*.png"))) == len(explained) == len(list(folder.iterdir()))
    assert hounsfield(monkeypatch, "report", run) == 0
    assert "images, weight" in (run / "report.html").read_text(encoding="utf-8")
    assert hounsfield(monkeypatch, "robustness", run) == 2
    assert "judges several together" in capsys.readouterr().err
