"""``hounsfield preprocess``: real files in, real files out, bad ones named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hounsfield.cli.main import main
from hounsfield.errors import UsageError
from hounsfield.images.image import Image, Metadata
from hounsfield.images.reading import read_image
from hounsfield.images.writers import write_image
from hounsfield.preprocessing import Clahe, Gamma, Pipeline, Resize, Window, ZScore
from hounsfield.preprocessing.batch import named_sources, preprocess_files
from hounsfield.preprocessing.display import contact_sheet, to_display

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line in this process; returns exit status, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hounsfield", "preprocess", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "scans"
    (folder / "left").mkdir(parents=True)
    for name in ("a.png", "b.png", "left/a.png"):
        write_image(Image(rng.integers(0, 256, (40, 30, 1), dtype=np.uint8)), folder / name)
    return folder


def test_steps_are_applied_in_the_order_of_the_command_line(run: Run, scans: Path, tmp_path: Path) -> None:
    source = read_image(scans / "a.png")
    for folder, options, steps in (
        ("one", ("--clahe=3", "--gamma=0.5", "--resize=16"), (Clahe(clip_limit=3), Gamma(gamma=0.5), Resize(size=16))),
        ("two", ("--gamma=0.5", "--resize=16", "--clahe=3"), (Gamma(gamma=0.5), Resize(size=16), Clahe(clip_limit=3))),
    ):
        status, _, errors = run(scans / "a.png", "-o", tmp_path / folder, *options)
        assert status == 0, errors
        expected = Pipeline(steps=steps).apply_steps(source).pixels
        np.testing.assert_array_equal(read_image(tmp_path / folder / "a.png").pixels, expected)
    pixels = [read_image(tmp_path / folder / "a.png").pixels for folder in ("one", "two")]
    assert (pixels[0] != pixels[1]).any()


def test_a_step_may_come_twice_and_before_the_inputs(run: Run, scans: Path, tmp_path: Path) -> None:
    status, _, _ = run("--resize=20", "--resize=10x8", "-o", tmp_path / "out", scans / "b.png")
    assert status == 0
    assert read_image(tmp_path / "out" / "b.png").shape == (10, 8)


def test_folder_keeps_its_tree_and_results_are_listed(run: Run, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, output, errors = run(scans, "-o", out, "--min-max")
    assert status == 0
    assert output.split() == [str(out / name) for name in ("a.png", "b.png", "left/a.png")]
    assert "3 images are in" in errors


def test_bad_images_are_named_and_counted_and_the_good_ones_written(run: Run, scans: Path, tmp_path: Path) -> None:
    (scans / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    np.save(scans / "holes.npy", np.array([[[np.nan], [1.0]]], dtype=np.float32))
    out = tmp_path / "out"
    status, output, errors = run(scans, "-o", out, "--min-max")
    assert status == 1
    assert len(output.split()) == 3
    assert "broken.png" in errors
    assert "'min_max' got an image with 1 NaN" in errors.replace("\n", " ")
    assert "2 of 5 images could not be preprocessed" in errors
    assert "Traceback" not in errors
    assert sorted(path.name for path in out.rglob("*.*")) == ["a.png", "a.png", "b.png"]


def test_steps_come_from_a_file_and_are_saved_with_what_they_learned(run: Run, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "steps.yaml").write_text("- {name: resize, size: 8}\n- dataset_z_score\n")
    saved = tmp_path / "fitted.json"
    arguments = ("--steps", tmp_path / "steps.yaml", "--format", "npy", "--save-steps", saved)
    status, _, errors = run(scans, "-o", tmp_path / "out", *arguments)
    assert status == 0, errors
    assert "fitted on the 3 images" in errors
    results = np.stack([read_image(path).pixels for path in sorted((tmp_path / "out").rglob("*.npy"))])
    assert abs(results.mean()) < 1e-5
    assert abs(results.std() - 1) < 1e-4
    fitted = Pipeline.from_json(saved)
    np.testing.assert_allclose(
        fitted.apply(read_image(scans / "b.png")).pixels, read_image(tmp_path / "out" / "b.npy").pixels
    )


def test_json_result_names_sources_results_and_steps(run: Run, scans: Path, tmp_path: Path) -> None:
    status, output, _ = run(scans / "a.png", "-o", tmp_path / "out", "--gamma=2", "--json")
    assert status == 0
    found = json.loads(output)
    assert found["written"] == [{"source": str(scans / "a.png"), "result": str(tmp_path / "out" / "a.png")}]
    assert found["steps"] == [{"name": "gamma", "gamma": 2.0}]
    assert found["bad"] == []


def test_results_are_not_replaced_unless_asked_and_sources_never(run: Run, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(scans / "a.png", "-o", out, "--resize=8")[0] == 0
    status, _, errors = run(scans / "a.png", "-o", out, "--resize=9")
    assert status == 1
    assert "exists already" in errors
    assert read_image(out / "a.png").shape == (8, 8)
    assert run(scans / "a.png", "-o", out, "--resize=9", "--overwrite")[0] == 0
    assert read_image(out / "a.png").shape == (9, 9)
    before = (scans / "a.png").read_bytes()
    status, _, errors = run(scans / "a.png", "-o", scans, "--resize=9", "--overwrite")
    assert status == 1
    assert "would replace the source" in errors
    assert (scans / "a.png").read_bytes() == before


def test_a_folder_for_results_inside_the_input_is_no_input(
    run: Run, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in scans.rglob("*.png")}
    monkeypatch.chdir(scans)
    for size, overwrite in ((8, ()), (9, ("--overwrite",))):
        status, output, errors = run(".", "-o", "out", f"--resize={size}", *overwrite)
        assert status == 0, errors
        assert output.split() == ["out/a.png", "out/b.png", "out/left/a.png"]
        assert "'out' lies in the input and is left out of it" in errors
        assert {read_image(path).shape for path in Path("out").rglob("*.png")} == {(size, size)}
    assert {path: path.read_bytes() for path in before} == before
    assert run(".", "-o", "out", "--resize=7")[0] == 1
    assert read_image("out/a.png").shape == (9, 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{scans}", "-o", "{out}"), "No step was given"),
        (("{scans}", "--min-max"), "Name one with -o"),
        (("-o", "{out}", "--min-max"), "No input was given"),
        (("{scans}", "-o", "{out}", "--min-mx"), "Did you mean '--min-max'"),
        (("{scans}", "-o", "{out}", "--clahe", "3"), "joined to it by '='"),
        (("{scans}", "-o", "{scans}/a.png", "--clahe"), "is a file, and a folder"),
        (("{scans}", "-o", "{out}", "--clahe", "--format", "gif"), "cannot be written as 'gif'"),
        (("{scans}", "-o", "{scans}/left", "--clahe", "--overwrite"), "1 images that no earlier run wrote there"),
        (("{scans}", "-o", "{scans}", "--clahe"), "is an input"),
        (("{scans}", "-o", "{scans}/out", "--clahe", "--format", "gif"), "cannot be written as 'gif'"),
        (("{scans}", "{empty}", "-o", "{out}", "--clahe"), "holds no image file"),
        (("{scans}", "-o", "{out}", "--clahe", "--montage", "{empty}/sheet.doc"), "a .png is expected"),
        (("{scans}", "-o", "{out}", "--clahe", "--save-steps", "{scans}/a.png/steps.json"), "is a file, and a folder"),
        (("{scans}", "-o", "{out}", "--clahe", "--save-steps", "{empty}"), "is a folder, and a file"),
        (("{scans}", "-o", "{out}", "--clahe", "--montage", "{scans}/sheet.png"), "lies in the input"),
        (("{scans}/a.png", "-o", "{out}", "--clahe", "--montage", "{scans}/a.png"), "lies in the input"),
        (("", "-o", "{out}", "--clahe"), "has an empty name"),
    ],
)
def test_wrong_usage_ends_with_2_and_writes_nothing(
    run: Run, scans: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    empty, out = tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    before = {path: path.read_bytes() for path in scans.rglob("*") if path.is_file()}
    status, _, errors = run(*(part.format(scans=scans, out=out, empty=empty) for part in arguments))
    assert status == 2
    assert message in errors
    assert not out.exists()
    assert {path: path.read_bytes() for path in scans.rglob("*") if path.is_file()} == before


def test_montage_shows_before_and_after(run: Run, scans: Path, tmp_path: Path) -> None:
    assert run(scans, "-o", tmp_path / "out", "--gamma=0.3", "--montage", tmp_path / "sheet.png")[0] == 0
    sheet = read_image(tmp_path / "sheet.png")
    assert sheet.channels == 3
    before, after = sheet.pixels[100:160, 100:160].mean(), sheet.pixels[100:160, 357:417].mean()
    assert after > before + 20


def test_list_of_steps(run: Run) -> None:
    status, output, _ = run("--list-steps")
    assert status == 0
    assert "--resize=size, letterbox=false, interpolation=linear, fill=minimum" in output


def test_volumes_become_nifti_with_their_geometry(scans: Path, tmp_path: Path) -> None:
    affine = np.array([[0, 0, 0.8, -50.0], [0, 0.9, 0, 20.0], [1.5, 0, 0, 7.0], [0, 0, 0, 1]])
    pixels = np.random.default_rng(0).normal(0, 1, (8, 20, 24, 1)).astype(np.float32)
    write_image(Image(pixels, spacing=(1.5, 0.9, 0.8), affine=affine), tmp_path / "scan.nii.gz")
    write_image(Image(pixels), tmp_path / "bare.npz")
    sources = named_sources([tmp_path / "scan.nii.gz"])
    result = preprocess_files(sources, tmp_path / "out", Pipeline(steps=(Resize(size=(4, 10, 12)),)))
    assert result.written == ((tmp_path / "scan.nii.gz", tmp_path / "out" / "scan.nii.gz"),)
    read = read_image(tmp_path / "out" / "scan.nii.gz")
    np.testing.assert_allclose(read.spacing, (3.0, 1.8, 1.6), rtol=1e-6)
    np.testing.assert_allclose(read.affine[:3, 3], [-49.6, 20.45, 7.75], rtol=1e-6)


def test_same_names_are_told_apart(scans: Path, tmp_path: Path) -> None:
    write_image(read_image(scans / "a.png"), scans / "a.tif")
    names = [name.as_posix() for _, name in named_sources([scans / "a.png", scans / "a.tif", scans / "left" / "a.png"])]
    assert names == ["a", "a.tif", "a.png"]
    assert len({name for _, name in named_sources([scans, scans])}) == 8
    with pytest.raises(UsageError, match="no file or folder"):
        named_sources([tmp_path / "absent.png"])


def test_display_uses_window_then_unit_range_then_extremes() -> None:
    def shown(*values: float) -> list[int]:
        return to_display(Image(np.array(values, dtype=np.float32).reshape(1, -1, 1))).pixels.ravel().tolist()

    assert shown(0, 0.2, 0.4) == [0, 51, 102]
    assert shown(-1, 0, 1) == [0, 128, 255]
    image = Image(np.array([[[0.0], [40.0]]], dtype=np.float32), metadata=Metadata(windows=((40.0, 41.0),)))
    assert to_display(image).pixels.ravel().tolist() == [0, round(255 * (40 - 39.5 + 20) / 40)]
    assert to_display(ZScore().apply(image)).pixels.ravel().tolist() == [0, 255]
    assert to_display(Window().apply(image)).pixels.ravel().tolist() == to_display(image).pixels.ravel().tolist()


def test_contact_sheet_holds_slices_colours_and_volumes() -> None:
    pictures = [Image(np.full(shape, 200, dtype=np.uint8)) for shape in ((9, 5, 1), (5, 9, 3), (3, 9, 9, 1), (9, 9, 2))]
    sheet = contact_sheet([(picture, picture) for picture in pictures], cell=32, columns=3)
    assert sheet.pixels.shape == (2 * 36 + 4, 3 * 72 + 4, 3)
    assert (sheet.pixels == 200).all(axis=-1).sum() == 2 * (32 * 18 + 18 * 32 + 2 * 32 * 32)


def test_help_names_the_list_of_steps_and_loads_nothing_heavy() -> None:
    script = [sys.executable, "-c", "from hounsfield.cli.main import main; main()", "preprocess", "--help"]
    text = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert "--list-steps" in text
    imports = "import sys, hounsfield.cli.preprocess; print({'cv2', 'SimpleITK', 'pydantic'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
