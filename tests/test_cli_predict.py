"""The commands predict, features and export from the outside: output, exit status, files."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hounsfield.bundle import FORMS
from hounsfield.cli import main as cli
from hounsfield.openvino_runtime import openvino_runtime
from hounsfield.tasks import Family
from networks import tiny_bundle


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    tiny_bundle(run / "bundle")
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 255, (12, 10), np.uint8)
        (run / "pictures").mkdir(exist_ok=True)
        cv2.imwrite(str(run / "pictures" / f"{number}.png"), picture)
    (run / "torn.png").write_bytes((run / "pictures" / "0.png").read_bytes()[:40])
    return run


def hounsfield(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hounsfield", *map(str, arguments)])
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    return int(outcome.value.code or 0)


def test_a_table_on_standard_output(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hounsfield(monkeypatch, "predict", run, run / "pictures") == 0
    captured = capsys.readouterr()
    rows = list(csv.DictReader(captured.out.splitlines()))
    assert [row["image"] for row in rows] == [str(run / "pictures" / f"{number}.png") for number in range(3)]
    for row in rows:
        assert row["prediction"] == ("opacity" if float(row["p_opacity"]) > 0.5 else "normal")
    assert "Engine: OpenVINO" in captured.err


def test_bad_images_end_with_status_1_after_the_good_ones(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    assert hounsfield(monkeypatch, "predict", run, run / "torn.png", run / "pictures", "-o", table) == 1
    captured = capsys.readouterr()
    assert "1 of 4 images" in captured.err
    assert "torn.png" in captured.err
    assert len(table.read_text().splitlines()) == 4
    # How many images there are was not known before: it ends nevertheless.
    assert captured.err.index("predict: started") < captured.err.index("predict: done, ")


def test_a_prediction_loads_nothing_that_it_does_not_need(run: Path) -> None:
    code = (
        "import sys\nfrom hounsfield.cli.main import main\ntry: main()\nexcept SystemExit as end: assert not end.code\n"
        "unneeded = {'keras', 'pandas', 'scipy', 'pydicom', 'highdicom', 'matplotlib', 'hounsfield.explanation'}\n"
        "print(sorted(unneeded & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "predict", str(run), str(next((run / "pictures").rglob("*.png")))]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.stdout.splitlines()[-1:] == ["[]"], finished.stderr


def test_no_good_image_writes_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "table.csv"
    table.write_text("old")
    assert hounsfield(monkeypatch, "predict", run, run / "torn.png", "-o", table) == 1
    assert table.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_no_good_image_is_explained_nowhere(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("explain", run, run / "torn.png", "-o", tmp_path / "maps", "--method", "occlusion")
    assert hounsfield(monkeypatch, *asked) == 1
    told = capsys.readouterr().err
    assert "1 of 1 images could not be used" in " ".join(told.split())
    assert "images in" not in told
    assert not (tmp_path / "maps").exists()


def test_json_is_the_only_output(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        hounsfield(monkeypatch, "predict", run, run / "pictures", run / "torn.png", "--json", "--engine", "keras") == 1
    )
    found = json.loads(capsys.readouterr().out)
    assert found["engine"].startswith("Keras")
    assert found["count"] == len(found["predictions"]) == 3
    first = found["predictions"][0]
    assert set(first) == {"image", "reference", "prediction", "probabilities", "flags"}
    assert set(first["probabilities"]) == {"normal", "opacity"}
    assert found["bad"][0]["image"] == str(run / "torn.png")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "table.xlsx"), ".parquet"),
        (("--engine", "abacus"), "abacus"),
        (("--threshold", "2"), "threshold"),
        (("-o", "absent/table.csv"), "does not exist"),
    ],
)
def test_wrong_usage_has_status_2(
    run: Path,
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hounsfield(monkeypatch, "predict", run, run / "pictures", *arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "{run}", "{run}/pictures", "--engine", "keras"),
        ("features", "{run}", "{run}/pictures", "-o", "f.npz", "--engine", "keras"),
        ("explain", "{run}", "{run}/pictures", "-o", "maps", "--method", "occlusion", "--engine", "keras"),
    ],
    ids=lambda words: words[0],
)
def test_a_backend_that_is_unknown_is_refused_by_what_loads_one(
    run: Path,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    monkeypatch.chdir(tmp_path)
    assert hounsfield(monkeypatch, *(word.format(run=run) for word in words)) == 2
    assert "KERAS_BACKEND is 'theano'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "robustness", "explain"])
def test_a_folder_for_results_that_is_a_file_is_refused_before_the_work(
    run: Path, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    inputs = [run / "pictures"] if command == "explain" else []
    assert hounsfield(monkeypatch, command, run, *inputs, "-o", tmp_path / "file" / "below") == 2
    told = capsys.readouterr().err
    assert "file' is a file, and a folder for the results is expected" in told
    assert "Backend" not in told


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "{run}", "{images}", "--overlay", "{images}"),
        ("predict", "{run}", "{images}/deep/0.png", "--overlay", "{images}/deep"),
        ("predict", "{run}", "{images}", "--overlay", "{images}/deep"),
        ("predict", "{run}", "{images}", "--dicom-results", "{images}/deep"),
        ("explain", "{run}", "{images}/deep/../deep/0.png[0]", "-o", "{images}/deep", "--method", "occlusion"),
    ],
    ids=["the input", "beside a file", "below the input", "DICOM", "explain"],
)
def test_results_never_replace_the_images_that_they_are_of(
    run: Path,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = tmp_path / "images"
    shutil.copytree(run / "pictures", images / "deep")
    before = {file: file.read_bytes() for file in images.rglob("*") if file.is_file()}
    assert hounsfield(monkeypatch, *(word.format(run=run, images=images) for word in words)) == 2
    assert "Name a folder apart from the inputs" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in images.rglob("*") if file.is_file()} == before


def test_a_new_folder_for_results_may_lie_in_the_input(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = shutil.copytree(run / "pictures", tmp_path / "images")
    assert hounsfield(monkeypatch, "predict", run, images, "--overlay", images / "drawn") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert len(list((images / "drawn").iterdir())) == 3


def test_a_run_without_a_bundle_has_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hounsfield(monkeypatch, "predict", tmp_path, tmp_path / "a.png") == 1
    error = capsys.readouterr().err
    assert "has no bundle" in error
    assert "Traceback" not in error


def test_a_multi_class_network_takes_no_threshold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_bundle(tmp_path / "bundle", "multi-class")
    assert hounsfield(monkeypatch, "predict", tmp_path, "a.png", "--threshold", "0.3") == 2
    assert hounsfield(monkeypatch, "evaluate", tmp_path, "data", "--threshold", "0.3") == 2
    table = tmp_path / "table.csv"
    table.write_text("label,p_a,p_b,p_c\n" + "a,0.5,0.3,0.2\nb,0.2,0.6,0.2\nc,0.2,0.2,0.6\n" * 4)
    assert hounsfield(monkeypatch, "evaluate", table, "--threshold", "0.3") == 2


@pytest.mark.parametrize("option", [("--criterion", "centre"), ("--overlap", "0.3")])
def test_options_of_detection_are_refused_for_classifiers_and_their_tables(
    run: Path,
    option: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "table.csv").write_text("label,p_b\na,0.2\nb,0.9\n")
    for target, models, kind in (
        (run, "detectors", "classifier"),
        (tmp_path / "table.csv", "tables of findings", "table of predictions"),
    ):
        assert hounsfield(monkeypatch, "evaluate", target, *option) == 2
        assert f"{option[0]} is for {models}; {target} is a {kind}. Remove it." in capsys.readouterr().err


def test_features(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hounsfield(monkeypatch, "features", run, run / "pictures", "-o", tmp_path / "f.npz") == 0
    with np.load(tmp_path / "f.npz", allow_pickle=False) as archive:
        assert archive["features"].shape == (3, 4)
        assert archive["image"].tolist()[2] == str(run / "pictures" / "2.png")


def test_export_to_onnx_and_openvino(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hounsfield(monkeypatch, "export", run, "--to", "onnx", "-o", tmp_path / "m.onnx") == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "m.onnx")
    assert said.err == "Input 'image': (batch, 12, 10, 1) float32, after the steps of pipeline.json.\n"
    assert (tmp_path / "m.onnx").read_bytes() == (run / "bundle" / "model.onnx").read_bytes()
    assert hounsfield(monkeypatch, "export", run, "--to", "openvino", "-o", tmp_path / "m.xml") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.bin", "m.onnx", "m.xml"]
    core = openvino_runtime("a test").Core()
    outputs = core.compile_model(tmp_path / "m.xml", "CPU")({"image": np.ones((2, 12, 10, 1), np.float32)})
    assert outputs["probabilities"].shape == (2, 1)


@pytest.mark.parametrize("family", ["labels", "values"])
def test_only_networks_of_samples_are_exported_with_a_word_on_joining(family: Family) -> None:
    form = FORMS[family]
    joining = "settings.view_pooling"
    assert joining in form.export_note({"view_pooling": "attention"})
    assert joining not in form.export_note({})


def test_export_to_nowhere(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hounsfield(monkeypatch, "export", run, "--to", "coreml") == 2
    assert hounsfield(monkeypatch, "export", run, "--to", "onnx", "-o", tmp_path / "m.pb") == 2
