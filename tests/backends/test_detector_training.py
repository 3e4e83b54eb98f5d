"""The resumed training of a detector ends where the unbroken one does."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from hounsfield.training import resume, train
from trained import DETECTOR_CHANGES, Trained

pytestmark = pytest.mark.usefixtures("known_speed")

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
