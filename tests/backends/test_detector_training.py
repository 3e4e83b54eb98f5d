"""A detector from training to bundle, and a resumed training that ends where the unbroken one does."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from hounsfield.cohorts.request import DataRequest
from hounsfield.training import resume, train
from scenes import balls, squares
from trained import DETECTOR_CHANGES, Trained, run_of

EXACT = keras.backend.backend() == "tensorflow"


def test_a_resumed_run_is_the_unbroken_one(trained_detector: Trained, tmp_path: Path) -> None:
    def killed(task: str, done: int, total: int | None) -> None:
        if task == "training" and done >= 4:
            raise SystemExit

    with pytest.raises(SystemExit):
        train(trained_detector.data, tmp_path / "broken", effort="quick", changes=DETECTOR_CHANGES, progress=killed)
    assert len(pd.read_csv(tmp_path / "broken" / "history.csv")) == 1
    resume(tmp_path / "broken")
    whole, broken = (
        pd.read_csv(folder / "history.csv") for folder in (trained_detector.run.folder, tmp_path / "broken")
    )
    for name in ("loss", "objectness", "region_boxes"):
        np.testing.assert_allclose(broken[name], whole[name], atol=0 if EXACT else 1e-4)


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
