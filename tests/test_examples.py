"""The examples run as a reader would run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hounsfield.inference import Predictor
from networks import tiny_bundle

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.network
def test_plain_keras_says_what_the_predictor_says(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    images = np.random.default_rng(0).normal(size=(3, *bundle.input_shape)).astype(np.float32)
    np.save(tmp_path / "test_images.npy", images)
    command = [sys.executable, str(EXAMPLES / "keras_in_ten_lines.py"), str(bundle.folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("image ")]
    expected = Predictor(bundle).engine.run(images).probabilities.ravel()
    assert lines == [
        f"image {number}: class {int(probability > 0.5)}, probability {probability:.3f}"
        for number, probability in enumerate(expected)
    ]
