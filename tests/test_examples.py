"""The examples run as a reader would run them."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hounsfield.inference import Predictor
from hounsfield.phantoms import micrograph
from networks import tiny_bundle

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_plain_keras_says_what_the_predictor_says(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    images = np.random.default_rng(0).normal(size=(3, *bundle.input_shape)).astype(np.float32)
    np.save(tmp_path / "test_images.npy", images)
    command = [sys.executable, str(EXAMPLES / "keras_in_ten_lines.py"), str(bundle.folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("image ")]
    expected = Predictor(bundle).run(images).probabilities.ravel()
    assert lines == [
        f"image {number}: class {int(probability > 0.5)}, probability {probability:.3f}"
        for number, probability in enumerate(expected)
    ]


def test_particles_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(micrograph, "SIZE", 128)
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "particles"
    small = ["epochs=1", "width=4", "pyramid_channels=8", "head_units=16"]
    options = [part for change in small for part in ("--set", change)]
    monkeypatch.setattr(sys, "argv", ["count_particles.py", str(folder), "--specimens", "10", *options])
    runpy.run_path(str(EXAMPLES / "count_particles.py"), run_name="__main__")
    counts = pd.read_csv(folder / "counts.csv")
    images = sorted(path.name for path in (folder / "new" / "images").iterdir())
    assert counts["image"].tolist() == images
    assert {"stranger-blurred.png", "stranger-noise.png"} < set(images)
    assert sorted(path.stem for path in (folder / "overlays").iterdir()) == sorted(Path(name).stem for name in images)
    said = capsys.readouterr().out
    assert all(name in said for name in images)
    labels = [column.removeprefix("count_") for column in counts.columns if column.startswith("count_")]
    assert f" of {(len(images) - 2) * len(labels)} intervals hold the true number" in said
