"""Training a detector: plan, batches, loop, run folder, and the evaluation of the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hounsfield.bundle import Bundle
from hounsfield.cohorts import SceneStore
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import CohortError, PlanError, RunError, UsageError
from hounsfield.planning import boxes
from hounsfield.plans.augmentation import SceneAugmentation
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.plans.loading import load_plan
from hounsfield.runs.record import read_run
from hounsfield.testing import evaluate_run
from hounsfield.training import prepare, resume, train
from hounsfield.training.detector import DetectionBatches
from scenes import TINY, balls, squares
from trained import Trained, run_of

pytestmark = pytest.mark.usefixtures("known_speed")


@pytest.fixture(scope="module")
def data(trained_detector: Trained) -> Path:
    return Path(trained_detector.data)


def plan_of(data: Path, *changes: str) -> DetectionPlan:
    prepared = prepare(DataRequest(str(data)), seed=0)
    plan = prepared.plan(effort="quick")
    changed = prepared.changed(plan, changes) if changes else plan
    assert isinstance(changed, DetectionPlan)
    return changed


def test_a_run_of_a_detector_holds_what_it_promises(trained_detector: Trained) -> None:
    run, metrics = trained_detector.run.folder, trained_detector.run.metrics
    written = {path.name for path in run.iterdir()}
    assert {"plan.yaml", "cohort.parquet", "boxes.parquet", "history.csv", "metrics.json", "predictions.csv"} <= written
    assert json.loads((run / "metrics.json").read_text()) == metrics
    assert {"ap", "ap50", "ap75", "ap50_bright", "ap50_dark", "luna16", "count_mae"} <= set(metrics["test"])
    history = pd.read_csv(run / "history.csv")
    assert history["val_ap"].notna().tolist() == [False, True, True]
    assert {"loss", "objectness", "anchor_boxes", "classes", "region_boxes"} <= set(history.columns)
    found = pd.read_csv(run / "predictions.csv")
    assert set(found["split"]) <= {"validation", "test"}
    assert list(found.columns) == ["image", "label", "score", "y0", "x0", "y1", "x1", "split"]
    assert {"learning_curves.png", "free_response_test.png", "precision_recall_test.png"} <= {
        path.name for path in (run / "figures").iterdir()
    }
    bundle = Bundle.load(run)
    assert (bundle.task, bundle.labels, bundle.settings["num_labels"]) == ("detection", ("bright", "dark"), 2)
    assert bundle.uncertainty.counts_true.shape == (3, 2)
    tested = evaluate_run(run, num_replicates=100)
    assert tested.assessment.estimates["ap"].value == pytest.approx(metrics["test"]["ap"]["value"], abs=1e-6)
    assert tested.read(0).shape == (48, 64)
    with pytest.raises(UsageError, match="no option interventions: expected some of"):
        evaluate_run(run, interventions=True)
    with pytest.raises(UsageError, match="criterion 'nearest' is not known"):
        evaluate_run(run, criterion="nearest")


def test_a_run_whose_boxes_have_changed_is_not_resumed(tmp_path: Path) -> None:
    def killed(task: str, done: int, total: int | None) -> None:
        if task == "training":
            raise SystemExit

    table = squares(tmp_path / "data")
    with pytest.raises(SystemExit):
        train(str(table), tmp_path / "run", effort="quick", changes=TINY, progress=killed)
    boxes = pd.read_csv(table)
    boxes.loc[0, "x1"] -= 1
    boxes.to_csv(table, index=False)
    with pytest.raises(RunError, match=r"boxes\.parquet holds other boxes"):
        resume(tmp_path / "run")


def test_images_larger_than_the_canvas_are_trained_by_parts(tmp_path: Path) -> None:
    table = squares(tmp_path / "data", shape=(160, 96))
    metrics = run_of(table, tmp_path / "run", "input_shape=[64, 64, 1]", "augmentation=medium")
    assert np.isfinite(metrics["test"]["ap"]["value"])
    # Parts of the canvas's size, laid side by side, reach the whole image.
    found = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert found["y1"].between(64, 160, inclusive="right").any()
    assert found["x1"].max() <= 96


@pytest.mark.parametrize("step", [None, {"name": "zoom", "factor": 0.5}, {"name": "zoom", "longest": 40}])
def test_the_disk_is_that_of_images_at_their_own_size(step: dict[str, Any] | None, tmp_path: Path) -> None:
    prepared = prepare(DataRequest(str(squares(tmp_path / "data", shape=(160, 96)))), seed=0)
    steps = [{"name": "to_channels", "channels": 1}, *([step] if step else [])]
    plan = prepared.changed(prepared.plan(effort="quick"), ["input_shape=[64, 64, 1]", f"pipeline={{steps: {steps}}}"])
    cohort = prepared.cohort
    plan = boxes.expect(plan, prepared.facts)
    stored = sum(plan.pipeline.apply(one).pixels.nbytes for one in cohort.stream())
    assert plan.expected_disk_mb == pytest.approx(stored / 2**20, abs=0.05)


def test_an_unreadable_image_is_neither_tested_nor_reported(tmp_path: Path) -> None:
    table = squares(tmp_path / "data", num=24)
    unreadable = "03.png"  # of the test split
    (table.parent / unreadable).write_bytes(b"no picture")
    run_of(table, tmp_path / "run", "epochs=1")
    run = read_run(tmp_path / "run")
    assert len(run.rows("test")) == run.num_cases == 5
    assert unreadable not in set(run.cohort["image"])
    assert any(unreadable in note for note in run.notes)


def test_the_plan_says_why_and_survives_its_file(data: Path, tmp_path: Path) -> None:
    plan = plan_of(data)
    assert (plan.task, plan.labels, plan.input_shape) == ("detection", ("bright", "dark"), (48, 64, 1))
    assert plan.max_objects >= 2
    assert "where" in plan.reasons["task"]
    assert "IoU" in plan.reasons["anchors"]
    plan.save(tmp_path / "plan.yaml")
    again = load_plan(tmp_path / "plan.yaml")
    assert isinstance(again, DetectionPlan)
    assert again.model_dump(exclude={"reasons"}) == plan.model_dump(exclude={"reasons"})
    stronger = plan.changed(["augmentation=strong"])
    assert stronger.augmentation.flip_axes == plan.augmentation.flip_axes
    assert stronger.augmentation.mosaic > 0.4


def test_small_objects_in_large_images_are_trained_by_parts_of_them(tmp_path: Path) -> None:
    plan = plan_of(squares(tmp_path / "data", shape=(420, 600)))
    assert max(plan.input_shape[:2]) == 256
    assert "zoom" not in str(plan.pipeline.to_dict())
    assert "windows" in plan.reasons["input_shape"]


def test_large_objects_in_large_images_are_made_smaller(tmp_path: Path) -> None:
    table = squares(tmp_path / "data", shape=(420, 600))
    rows = pd.read_csv(table)
    rows[["y1", "x1"]] = rows[["y0", "x0"]] + 60
    rows[["y1", "x1"]] = rows[["y1", "x1"]].clip(upper=pd.Series({"y1": 420, "x1": 600}), axis=1)
    rows.to_csv(table, index=False)
    plan = plan_of(table)
    assert {"name": "zoom", "factor": pytest.approx(256 / 600)}.items() <= plan.pipeline.to_dict()["steps"][1].items()


def test_no_object_is_dropped_silently(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="max_objects to 2"):
        train(str(data), tmp_path / "run", effort="quick", changes=(*TINY, "max_objects=1"))
    assert not (tmp_path / "run").exists()


def test_a_mosaic_that_holds_too_many_objects_is_left_out(data: Path, tmp_path: Path) -> None:
    plan = plan_of(data, "max_objects=2").model_copy(update={"augmentation": SceneAugmentation(mosaic=1.0)})
    cohort = prepare(DataRequest(str(data)), seed=0).cohort
    store = SceneStore.build(cohort, plan.pipeline, folder=tmp_path)

    def epoch(max_objects: int) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
        roomy = plan.model_copy(update={"max_objects": max_objects})
        batches = DetectionBatches(store, np.asarray(cohort.rows("train")), roomy, seed=0, epoch=0)
        return [batches[index] for index in range(len(batches))]

    def objects(batches: list[tuple[np.ndarray, dict[str, np.ndarray]]]) -> list[int]:
        return [int(count) for _, truth in batches for count in (truth["classes"] >= 0).sum(axis=1)]

    drawn = objects(epoch(20))
    assert max(drawn) > 2  # or the draws would tell nothing
    narrow = epoch(2)
    assert all(images.shape[1:] == plan.input_shape for images, _ in narrow)
    # Those with room for them are the same mosaics; the others are single images with all of theirs.
    assert all(count == wanted for count, wanted in zip(objects(narrow), drawn, strict=True) if wanted <= 2)
    assert max(objects(narrow)) == 2


def test_a_training_split_without_a_box_is_refused(tmp_path: Path) -> None:
    table = squares(tmp_path / "data")
    rows = pd.read_csv(table)
    rows.loc[rows["split"] == "train", ["y0", "x0", "y1", "x1", "label"]] = np.nan
    rows.drop_duplicates().to_csv(table, index=False)
    with pytest.raises(CohortError):
        prepare(DataRequest(str(table)), seed=0)


def test_a_plan_of_other_labels_or_axes_is_refused(data: Path, tmp_path: Path) -> None:
    plan = plan_of(data)
    for change, told in (({"labels": ("a", "b")}, "detector of a, b"), ({"input_shape": (16, 48, 64, 1)}, "2 axes")):
        with pytest.raises(PlanError, match=told):
            train(str(data), tmp_path / "run", plan=plan.model_copy(update=change))


def test_volumes_are_trained_by_the_same_code(tmp_path: Path) -> None:
    data = DataRequest(str(balls(tmp_path / "data")), kind="label maps")
    metrics = run_of(data, tmp_path / "run", "width=2")
    assert metrics["test"]["ap"]["n"] > 0
    columns = list(pd.read_csv(tmp_path / "run" / "predictions.csv").columns)
    assert columns == ["image", "label", "score", "z0", "y0", "x0", "z1", "y1", "x1", "split"]


def test_odd_boxes_in_bfloat16_leave_finite_losses(tmp_path: Path) -> None:
    table = squares(tmp_path / "data")
    rows = pd.read_csv(table)
    # One pixel, the whole image, and images without an object.
    rows.loc[0, ["y0", "x0", "y1", "x1"]] = [5, 5, 6, 6]
    rows.loc[1, ["y0", "x0", "y1", "x1"]] = [0, 0, 48, 64]
    rows.to_csv(table, index=False)
    run_of(table, tmp_path / "run", "precision=mixed_bfloat16")
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert np.isfinite(history[["loss", "objectness", "anchor_boxes", "classes", "region_boxes"]].to_numpy()).all()
