"""Boxes of several readers: merged where at least half of an image's readers agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from hounsfield.cohorts import Cohort, load_cohort
from hounsfield.errors import CohortError

NOTHING = ("", "", "", "")
ROWS: list[tuple[str, str, str, Any]] = [
    # Three readers, two agree on a nodule; a mass by one alone.
    ("0.png", "nodule", "R1", (2, 4, 12, 14)),
    ("0.png", "nodule", "R2", (4, 4, 14, 14)),
    ("0.png", "mass", "R3", (20, 20, 30, 30)),
    # Two readers; one of them marks nothing, and half is enough.
    ("1.png", "mass", "R1", (5, 5, 15, 15)),
    ("1.png", "No finding", "R2", NOTHING),
    # One reader marks two findings beside each other, which stay two.
    ("2.png", "mass", "R1", (0, 0, 10, 10)),
    ("2.png", "mass", "R1", (1, 0, 11, 10)),
    ("2.png", "mass", "R2", (1, 0, 11, 10)),
    ("3.png", "No finding", "R3", NOTHING),
]


def load(folder: Path, **options: Any) -> Cohort:
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((32, 32), number * 10, np.uint8))
    rows = [(image, label, reader, *box) for image, label, reader, box in ROWS]
    columns = ["image", "class_name", "rad_id", "x_min", "y_min", "x_max", "y_max"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "boxes.csv", index=False)
    return load_cohort(folder / "boxes.csv", kind="box table", **options)


def boxes(cohort: Cohort) -> dict[str, list[list[float]]]:
    return {image: sorted(cohort.boxes(row)[0].tolist()) for row, image in enumerate(cohort.table["image"])}


def test_findings_of_half_of_the_readers_are_kept_with_the_mean_box(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert boxes(found) == {
        "0.png": [[4, 3, 14, 13]],
        "1.png": [[5, 5, 15, 15]],
        "2.png": [[0, 0, 10, 10], [0, 1, 10, 11]],
        "3.png": [],
    }
    assert any("7 boxes of 3 readers mark 5 findings, 2 of them by several readers" in note for note in found.notes)


def test_every_box_or_those_of_one_reader(tmp_path: Path) -> None:
    assert sum(map(len, boxes(load(tmp_path, readers="all")).values())) == 6  # two are equal
    assert boxes(load(tmp_path, readers="R3")) == {"0.png": [[20, 20, 30, 30]], "3.png": []}
    with pytest.raises(CohortError, match="no reader 'R9'"):
        load(tmp_path, readers="R9")
