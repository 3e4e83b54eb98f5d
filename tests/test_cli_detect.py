"""The commands predict, features and export on a detector from the outside: output, exit status, files."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from detectors import LABELS, tiny_detector_bundle
from hounsfield.boxes import COLUMNS
from hounsfield.bundle import Bundle
from hounsfield.cli import main as cli
from hounsfield.evaluation.detection_uncertainty import DetectionUncertainty
from hounsfield.images import Image, write_image
from hounsfield.inference import Detector
from networks import tiny_bundle


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    tiny_detector_bundle(run / "bundle")
    (run / "pictures").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (50 + 20 * number, 60), np.uint8)
        cv2.imwrite(str(run / "pictures" / f"{number}.png"), pixels)
    (run / "torn.png").write_bytes((run / "pictures" / "0.png").read_bytes()[:40])
    return run


def hounsfield(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hounsfield", *map(str, arguments)])
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    return int(outcome.value.code or 0)


def with_counts(run: Path, num_images: int) -> Path:
    """A copy of the run whose bundle keeps validation counts: one image in ten was miscounted by much."""
    copy = run.parent / f"counted-{num_images}"
    if not copy.exists():
        shutil.copytree(run / "bundle", copy / "bundle")
        bundle = Bundle.load(copy)
        found = np.full((num_images, 2), 8)
        true = found + np.where(np.arange(num_images)[:, None] % 10 == 0, 9, 3)
        bundle.with_uncertainty(DetectionUncertainty(true, found), threshold=0.1)
    return copy


def test_a_row_a_finding_on_standard_output(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hounsfield(monkeypatch, "predict", run, run / "pictures") == 0
    captured = capsys.readouterr()
    rows = list(csv.DictReader(captured.out.splitlines()))
    expected = Detector(run).predict(run / "pictures")
    assert [row["image"] for row in rows] == [each.image for each in expected for _ in each.labels]
    assert [row["label"] for row in rows] == [label for each in expected for label in each.labels]
    boxes = np.array([[float(row[name]) for name in COLUMNS[2]] for row in rows])
    np.testing.assert_allclose(boxes, np.concatenate([each.boxes for each in expected]), atol=0.006)
    np.testing.assert_allclose(
        [float(row["score"]) for row in rows], np.concatenate([e.scores for e in expected]), 1e-6
    )
    assert f"{len(rows)} findings with a score of 0.1 or more in 3 images" in captured.err


def test_tables_hold_the_same_findings(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("found.csv", "found.parquet", "found.json"):
        assert hounsfield(monkeypatch, "predict", run, run / "pictures", "-o", tmp_path / name) == 0
    table = pd.read_csv(tmp_path / "found.csv")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "found.parquet"), table, check_dtype=False)
    content = json.loads((tmp_path / "found.json").read_text())
    assert [(image["file_name"], image["height"], image["width"]) for image in content["images"]] == [
        (str(run / "pictures" / f"{number}.png"), 50 + 20 * number, 60) for number in range(3)
    ]
    assert [category["name"] for category in content["categories"]] == list(LABELS)
    assert [annotation["id"] for annotation in content["annotations"]] == list(range(1, len(table) + 1))
    for annotation, row in zip(content["annotations"], table.to_dict("records"), strict=True):
        left, top, width, height = annotation["bbox"]
        np.testing.assert_allclose([top, left, top + height, left + width], [row[n] for n in COLUMNS[2]], atol=0.02)
        assert annotation["area"] == pytest.approx(width * height, abs=1)
        assert annotation["score"] == row["score"]
        assert LABELS[annotation["category_id"] - 1] == row["label"]
        assert content["images"][annotation["image_id"] - 1]["file_name"] == row["image"]


def test_volumes_are_written_with_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_detector_bundle(tmp_path / "bundle", 3)
    pixels = np.random.default_rng(0).normal(size=(18, 20, 17, 1)).astype(np.float32)
    write_image(Image(pixels=pixels), tmp_path / "volume.nii.gz")
    arguments = ("predict", tmp_path, tmp_path / "volume.nii.gz", "-o")
    assert hounsfield(monkeypatch, *arguments, tmp_path / "found.csv") == 0
    assert hounsfield(monkeypatch, *arguments, tmp_path / "found.json", "--overlay", tmp_path / "drawn") == 0
    table = pd.read_csv(tmp_path / "found.csv")
    content = json.loads((tmp_path / "found.json").read_text())
    (image,) = content["images"]
    assert (image["depth"], image["height"], image["width"]) == (18, 20, 17)
    assert len(content["annotations"]) == len(table) > 3
    first, row = content["annotations"][0], table.iloc[0]
    ends = np.array(first["bbox"][:3]) + first["bbox"][3:]
    expected = row[list(COLUMNS[3])].to_numpy(float)
    np.testing.assert_allclose([*first["bbox"][2::-1], *ends[::-1]], expected, atol=0.02)
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["volume.png"]


def test_pictures_are_drawn_one_an_image(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (run / "pictures", run / "torn.png", "-o", tmp_path / "a.csv", "--overlay", tmp_path / "drawn")
    assert hounsfield(monkeypatch, "predict", run, *arguments) == 1
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["0.png", "1.png", "2.png"]
    picture = cv2.imread(str(tmp_path / "drawn" / "1.png"))
    assert max(picture.shape) > 1000
    # The colour of rods, in OpenCV's order.
    coloured = (np.abs(picture.astype(int) - (0, 94, 213)).max(axis=-1) < 30).sum()
    assert Detector(run).predict(run / "pictures" / "1.png")[0].counts["rod"] > 5
    assert coloured > 5000


def test_counts_come_with_intervals_of_the_true_counts(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = with_counts(run, 40)
    assert hounsfield(monkeypatch, "predict", counted, run / "pictures", "--counts", tmp_path / "counts.csv") == 0
    table = pd.read_csv(tmp_path / "counts.csv")
    expected = Detector(counted).predict(run / "pictures")
    assert list(table) == ["image", *(f"{k}_{label}" for label in LABELS for k in ("count", "low", "high")), "flags"]
    assert table["image"].tolist() == [each.image for each in expected]
    # Of 40 misfits, 36 are 3 / √9 = 1 and the 37th, which is the quantile for .9, is 9 / √9 = 3.
    for label in LABELS:
        count = table[f"count_{label}"].to_numpy()
        assert count.tolist() == [each.counts[label] for each in expected]
        reach = 3 * np.sqrt(count + 1)
        np.testing.assert_array_equal(table[f"low_{label}"], np.maximum(np.ceil(count - reach), 0))
        np.testing.assert_array_equal(table[f"high_{label}"], np.floor(count + reach))


@pytest.mark.parametrize("extra", [("--threshold", "0.2"), ()])
def test_no_interval_is_told_where_none_holds(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    extra: tuple[str, ...],
) -> None:
    source = with_counts(run, 40) if extra else run
    arguments = ("--counts", tmp_path / "counts.parquet", *extra)
    assert hounsfield(monkeypatch, "predict", source, run / "pictures", *arguments) == 0
    assert list(pd.read_parquet(tmp_path / "counts.parquet")) == ["image", *(f"count_{x}" for x in LABELS), "flags"]
    assert "counts come without ranges" in capsys.readouterr().err


def test_few_validation_images_leave_the_upper_end_open(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = with_counts(run, 5)
    assert hounsfield(monkeypatch, "predict", few, run / "pictures", "--counts", tmp_path / "counts.csv") == 0
    table = pd.read_csv(tmp_path / "counts.csv")
    assert table["high_ring"].isna().all()
    assert (table["low_ring"] == 0).all()


def test_json_is_the_only_output(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (run / "torn.png", run / "pictures" / "0.png", "--json", "--engine", "keras")
    assert hounsfield(monkeypatch, "predict", run, *arguments) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["engine"].startswith("Keras")
    (prediction,) = found["predictions"]
    assert found["count"] == 1
    assert prediction["reference"] == {"path": str(run / "pictures" / "0.png")}
    assert prediction["counts"]["ring"] == sum(row["label"] == "ring" for row in prediction["findings"])
    assert sum(prediction["counts"].values()) == len(prediction["findings"]) > 0
    assert prediction["findings"][0].keys() == {"label", "score", *COLUMNS[2]}
    assert [bad["image"] for bad in found["bad"]] == [str(run / "torn.png")]


def test_no_good_image_writes_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("old.csv", "old.json"):
        (tmp_path / name).write_text("old")
        assert hounsfield(monkeypatch, "predict", run, run / "torn.png", "-o", tmp_path / name) == 1
        assert (tmp_path / name).read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sets", "0.9"), "--sets is for classifiers, regressors and segmenters; {run} is a detector. Remove it."),
        (
            ("--sets", "0.9", "--by-class"),
            "--sets and --by-class are for classifiers; {run} is a detector. Remove them.",
        ),
        (("--abstain", "0.1"), "--abstain is for classifiers"),
        (("--counts", "counts.txt"), "expected one of .csv, .parquet"),
        (("--overlay", __file__), "is a file, and a folder for the results is expected"),
    ],
)
def test_what_makes_no_sense_for_a_detector_is_refused(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: str,
) -> None:
    assert hounsfield(monkeypatch, "predict", run, run / "pictures", *options) == 2
    assert words.format(run=run) in " ".join(capsys.readouterr().err.split())


def test_what_makes_no_sense_for_a_classifier_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_bundle(tmp_path / "bundle")
    assert hounsfield(monkeypatch, "predict", tmp_path, tmp_path, "--counts", tmp_path / "x.csv") == 2
    assert f"--counts is for detectors; {tmp_path} is a classifier. Remove it." in " ".join(
        capsys.readouterr().err.split()
    )


def test_features_of_a_detector_are_those_of_its_pyramid(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hounsfield(monkeypatch, "features", run, run / "pictures", "-o", tmp_path / "features.npz") == 0
    with np.load(tmp_path / "features.npz") as arrays:
        expected = [prediction.features for prediction in Detector(run).predict(run / "pictures")]
        np.testing.assert_allclose(arrays["features"], expected, atol=1e-4)


def test_both_networks_are_exported(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    for to, files in (
        ("onnx", ["head.onnx", "trunk.onnx"]),
        ("openvino", ["head.bin", "head.xml", "trunk.bin", "trunk.xml"]),
    ):
        folder = tmp_path / to
        assert hounsfield(monkeypatch, "export", run, "--to", to, "-o", folder) == 0
        assert sorted(path.name for path in folder.iterdir()) == files
        assert capsys.readouterr().out.strip() == str(folder)
    assert Bundle.load(run).onnx_files[0].read_bytes() == (tmp_path / "onnx" / "trunk.onnx").read_bytes()
