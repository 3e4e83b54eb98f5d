"""Training on a run's data with others added: who stays in which split, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from families import write_boxes, write_labels, write_masks, write_values
from hounsfield.cohorts import load_request, read_mask
from hounsfield.cohorts.extension import first_request
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import CohortError
from hounsfield.images import Image
from hounsfield.runs.folder import RunFolder
from hounsfield.training import prepare

WRITERS = {"labels": write_labels, "boxes": write_boxes, "values": write_values, "masks": write_masks}


def begun_run(folder: Path, request: DataRequest) -> Path:
    """What an extension reads of a run: its request, and its rows with their splits."""
    folder.mkdir()
    run, prepared = RunFolder(folder), prepare(request, seed=0)
    run.write_cohort(prepared.cohort.table, prepared.cohort.box_table)
    (folder / "environment.json").write_text(json.dumps({"data": request.to_dict()}))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family → a run on a toy cohort."""
    folder, found = tmp_path_factory.mktemp("extended"), {}
    for family, write in WRITERS.items():
        (folder / family).mkdir()
        found[family] = begun_run(folder / f"run-{family}", DataRequest(str(write(folder / family))))
    return found


def splits_of(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run / "cohort.parquet")[["image", "label", "patient", "split"]]


def disc(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 90, (32, 32), np.uint8)
    return cv2.circle(image, (int(generator.integers(8, 24)), 16), 6, 220, -1)


def write_added(folder: Path, rows: list[tuple[np.ndarray, str, str]]) -> str:
    """A table of images, labels and patients."""
    folder.mkdir()
    names = [f"scan{number:02}.png" for number in range(len(rows))]
    for name, (image, _, _) in zip(names, rows, strict=True):
        cv2.imwrite(str(folder / name), image)
    table = [(name, label, patient) for name, (_, label, patient) in zip(names, rows, strict=True)]
    pd.DataFrame(table, columns=["image", "label", "patient"]).to_csv(folder / "labels.csv", index=False)
    return str(folder)


def test_every_patient_stays_and_the_test_is_the_same(runs, tmp_path):
    old = splits_of(runs["labels"])
    patient = {split: old["patient"][old["split"] == split].iloc[0] for split in ("train", "validation", "test")}
    rows = [(disc(number), "disc", name) for number, name in enumerate(patient.values())]
    rows += [(disc(10 + number), ("disc", "empty")[number % 2], f"N{number // 2}") for number in range(24)]
    request = DataRequest(write_added(tmp_path / "added", rows), extend=str(runs["labels"]))

    prepared = prepare(request, seed=0)

    found = prepared.cohort.table.set_index("image")
    by_name = found.loc[old["image"]]
    assert by_name["split"].tolist() == old["split"].tolist()
    added = found.drop(index=old["image"])
    assert set(found[found["split"] == "test"].index) == set(old["image"][old["split"] == "test"])
    assert added.loc[added["patient"] == patient["train"], "split"].tolist() == ["train"]
    assert added.loc[added["patient"] == patient["validation"], "split"].tolist() == ["validation"]
    assert patient["test"] not in set(added["patient"])
    assert found.groupby("patient")["split"].nunique().max() == 1
    assert set(added["split"]) == {"train", "validation"}
    assert any("1 added images of patients in the test split were left out" in note for note in prepared.cohort.notes)
    # The same from the request that a run keeps.
    again = prepare(DataRequest.from_dict(request.to_dict()), seed=0).cohort.table
    pd.testing.assert_frame_equal(again, prepared.cohort.table)


def test_a_patient_under_another_name_is_known_by_a_picture(runs, tmp_path):
    folder = Path(first_request(DataRequest("", extend=str(runs["labels"]))).data)
    old = splits_of(runs["labels"])
    tested = old["image"][old["split"] == "test"].iloc[0]
    known = cv2.imread(str(folder / tested), cv2.IMREAD_GRAYSCALE)
    rows = [(known, "disc", "X1"), (disc(50), "disc", "X1"), (disc(51), "empty", "X2"), (disc(52), "disc", "X3")]
    request = DataRequest(write_added(tmp_path / "added", rows), extend=str(runs["labels"]))

    table = prepare(request, seed=0).cohort.table

    assert "X1" not in set(table["patient"])
    assert {"X2", "X3"} <= set(table["patient"])


def test_a_later_reading_of_a_training_image_replaces_the_earlier_one(runs, tmp_path):
    folder = Path(first_request(DataRequest("", extend=str(runs["labels"]))).data)
    old = splits_of(runs["labels"])
    trained = old[old["split"] == "train"].iloc[0]
    image = cv2.imread(str(folder / trained["image"]), cv2.IMREAD_GRAYSCALE)
    other = "empty" if trained["label"] == "disc" else "disc"
    request = DataRequest(write_added(tmp_path / "added", [(image, other, "")]), extend=str(runs["labels"]))

    prepared = prepare(request, seed=0)

    table = prepared.cohort.table.set_index("image")
    assert trained["image"] not in table.index
    assert table.loc[f"{tmp_path / 'added'}/scan00.png", ["label", "split"]].tolist() == [other, "train"]
    assert any("1 images of the run were replaced" in note for note in prepared.cohort.notes)


def test_only_test_patients_leave_nothing_to_train_on(runs, tmp_path):
    old = splits_of(runs["labels"])
    tested = old["patient"][old["split"] == "test"].iloc[0]
    request = DataRequest(write_added(tmp_path / "added", [(disc(1), "disc", tested)]), extend=str(runs["labels"]))
    with pytest.raises(CohortError, match="nothing to train on"):
        prepare(request, seed=0)


def test_an_unknown_label_and_another_task_are_refused(runs, tmp_path):
    request = DataRequest(write_added(tmp_path / "added", [(disc(1), "ring", "N1")]), extend=str(runs["labels"]))
    with pytest.raises(CohortError, match="ring"):
        prepare(request, seed=0)
    with pytest.raises(CohortError):
        prepare(DataRequest(request.data, extend=str(runs["boxes"])), seed=0)


def test_a_changed_truth_of_test_images_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    run = begun_run(tmp_path / "run", DataRequest(str(write_labels(tmp_path / "data"))))
    table = pd.read_csv(tmp_path / "data" / "labels.csv")
    old = splits_of(run).set_index("image")
    row = table.index[table["image"].map(old["split"]) == "test"][0]
    table.loc[row, "label"] = "empty" if table["label"][row] == "disc" else "disc"
    table.to_csv(tmp_path / "data" / "labels.csv", index=False)
    request = DataRequest(write_added(tmp_path / "added", [(disc(1), "disc", "N1")]), extend=str(run))
    with pytest.raises(CohortError, match="truth of 1 test images"):
        load_request(request)


def test_a_chain_of_runs_is_read_and_the_same_data_twice_refused(runs, tmp_path):
    first = DataRequest(write_added(tmp_path / "first", [(disc(1), "disc", "N1")]), extend=str(runs["labels"]))
    run = begun_run(tmp_path / "run", first)
    second = DataRequest(write_added(tmp_path / "second", [(disc(2), "disc", "N1")]), extend=str(run))

    table = prepare(second, seed=0).cohort.table

    splits = table[table["patient"] == "N1"]["split"]
    assert len(splits) == 2
    assert len(set(splits)) == 1
    with pytest.raises(CohortError, match="already"):
        prepare(DataRequest(first.data, extend=str(run)), seed=0)


def test_boxes_values_and_masks_of_added_images_are_those_of_their_data(runs, tmp_path):
    for family in ("boxes", "values", "masks"):
        (tmp_path / family).mkdir()
        data = WRITERS[family](tmp_path / family)
        # Other patients, whose files have the names of the run's.
        for name in {"boxes": ["boxes.csv"], "values": ["areas.csv"], "masks": []}[family]:
            path = data / name
            path.write_text(path.read_text().replace(",P", ",Q"))
        for path in data.rglob("*.png"):
            if "masks" not in path.parts[-2:]:
                image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
                cv2.imwrite(str(path), 255 - image)
        alone = load_request(DataRequest(str(data)))
        both = load_request(DataRequest(str(data), extend=str(runs[family])))
        start = len(both) - len(alone)
        assert start > 0
        for row in range(len(alone)):
            image, own = both.read(start + row), alone.read(row)
            np.testing.assert_array_equal(image.pixels, own.pixels)
            assert both.table["label"].iloc[start + row] == alone.table["label"].iloc[row]
            if family == "boxes":
                np.testing.assert_array_equal(both.boxes(start + row)[0], alone.boxes(row)[0])
            if family == "masks":
                np.testing.assert_array_equal(
                    read_mask(both, start + row, image).pixels, read_mask(alone, row, own).pixels
                )
        images = list(both.stream([0, start, 1, start + 1]))
        assert all(isinstance(image, Image) for image in images)
        np.testing.assert_array_equal(images[1].pixels, alone.read(0).pixels)
