"""``hounsfield inspect``: what it prints, what it writes, and what it never shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from hounsfield.cli.main import app
from hounsfield.drawing.pictures import preview
from hounsfield.images.image import Image, Metadata

runner = CliRunner()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve images of eight patients; one image is cut off, one patient is in train and test, one picture too."""
    generator = np.random.default_rng(0)
    rows = ["image,label,patient,split"]
    for row in range(12):
        pixels = cv2.resize(generator.integers(0, 255, (12, 12)).astype(np.uint8), (48, 40))
        if row == 11:
            pixels = cv2.imread(str(tmp_path / "image0.png"), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(tmp_path / f"image{row}.png"), pixels)
        rows.append(f"image{row}.png,{'ill' if row % 2 else 'normal'},DOE-{row % 8},{'test' if row > 8 else 'train'}")
    broken = tmp_path / "image5.png"
    broken.write_bytes(broken.read_bytes()[:60])
    path = tmp_path / "scans.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_prints_the_table_and_writes_the_page(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    result = runner.invoke(app, ["inspect", "--no-cost", str(table), "-o", str(folder)])
    assert result.exit_code == 0, result.output
    assert "Leaks into test" in result.stdout
    assert "unreadable: image5.png" in result.stdout
    assert {path.name for path in folder.iterdir()} == {"inspection.html", "inspection.json", "montage.png"}
    page = (folder / "inspection.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 11 + 2
    # One file: nothing is loaded from elsewhere, and no patient is in it.
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "DOE" not in page
    assert cv2.imread(str(folder / "montage.png")).ndim == 3


def test_json_alone_writes_nothing(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    result = runner.invoke(app, ["inspect", "--no-cost", str(table), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["fingerprint"]["num_readable"] == 11
    assert {leak["kind"] for leak in found["leaks"]} == {"patient", "duplicate"}
    assert "DOE" not in result.stdout
    assert list(elsewhere.iterdir()) == []


def test_the_default_folder_bears_the_name(table: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert runner.invoke(app, ["inspect", "--no-cost", str(table)]).exit_code == 0
    assert (tmp_path / "inspection-scans" / "inspection.html").is_file()


def test_names_in_the_data_are_shown_as_text(tmp_path: Path) -> None:
    for label in ("<b>ill", "[bold]well["):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 255, (16, 16)).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "set" / label / f"{number}.png"), pixels)
    told = runner.invoke(app, ["inspect", "--no-cost", str(tmp_path / "set"), "-o", str(tmp_path / "out")])
    assert told.exit_code == 0
    assert "[bold]well[" in told.output
    page = (tmp_path / "out" / "inspection.html").read_text(encoding="utf-8")
    assert "<b>ill" not in page
    assert "&lt;b&gt;ill" in page


def test_preview_applies_the_window_and_squares_the_pixels() -> None:
    pixels = np.repeat(np.array([-100.0, 0.0, 50.0, 100.0], np.float32)[None, :, None], 4, axis=0)
    shown = preview(Image(pixels, (2.0, 1.0), metadata=Metadata(windows=((50.0, 100.0),))), 8)
    assert shown.shape == (8, 4)
    assert shown[0].tolist() == [0, 0, 128, 255]


def test_preview_of_a_volume_is_its_middle_slice() -> None:
    pixels = np.zeros((5, 8, 8, 1), np.uint8)
    pixels[2] = 200
    assert (preview(Image(pixels), 8) == 200).all()


def test_of_many_unreadable_images_a_few_are_named(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / "set" / ("ab"[number % 2]) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            cv2.imencode(".png", np.full((8, 8), number, np.uint8))[1].tobytes()[: 30 if number > 7 else None]
        )
    out = runner.invoke(app, ["inspect", "--no-cost", str(tmp_path / "set"), "-o", str(tmp_path / "out")]).stdout
    assert out.count("cannot be read as an image") == 5
    assert "unreadable: 7 more" in out
    kept = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert len(kept["fingerprint"]["bad"]) == 12
