"""What the command `label` leaves out of its list."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from families import hounsfield, write_labels
from hounsfield.cohorts.request import DataRequest
from hounsfield.runs.folder import RunFolder
from hounsfield.testing.cohort import places_of_run
from hounsfield.training import prepare
from networks import tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("label") / "bundle"
    tiny_bundle(folder)
    return folder


def pool_of(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    generator = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        cv2.imwrite(str(path), generator.integers(0, 255, (20, 24), np.uint8))
    return paths


def test_copies_of_labelled_images_are_left_out_whatever_they_are_called(bundle, tmp_path, monkeypatch, capsys):
    paths = pool_of(tmp_path / "pool", 4)
    (tmp_path / "read" / "images").mkdir(parents=True)
    for number, path in enumerate(paths[:2]):
        shutil.copyfile(path, tmp_path / "read" / "images" / f"s{number}-1-0.png")
    # Of the same size, and still another image.
    (tmp_path / "read" / "other.png").write_bytes(paths[2].read_bytes()[:-1] + b"x")
    arguments = ("label", bundle, tmp_path / "pool", "--labelled", tmp_path / "read")
    assert hounsfield(monkeypatch, *arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(row["image"] for row in found["images"]) == [str(path) for path in paths[2:]]
    assert (found["pool"], found["known"]) == (2, 2)


def test_nothing_left_to_label_is_told_and_no_failure(bundle, tmp_path, monkeypatch, capsys):
    pool_of(tmp_path / "pool", 2)
    assert hounsfield(monkeypatch, "label", bundle, tmp_path / "pool", "--labelled", tmp_path / "pool") == 0
    told = capsys.readouterr()
    assert "Nothing is left to label." in told.err
    assert told.out.strip() == ""
    assert hounsfield(monkeypatch, "label", bundle, tmp_path / "pool", "--labelled", tmp_path / "none") == 2


def test_the_images_of_a_run_are_found_where_its_data_has_them(tmp_path):
    (tmp_path / "data").mkdir()
    request = DataRequest(str(write_labels(tmp_path / "data")))
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_cohort(prepare(request, seed=0).cohort.table, None)
    folder.environment.write_text(json.dumps({"data": request.to_dict()}))
    assert sorted(places_of_run(folder.path)) == sorted((tmp_path / "data").glob("*.png"))
