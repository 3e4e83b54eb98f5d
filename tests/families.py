"""A toy cohort of every family, and the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from hounsfield.cli import main as cli
from hounsfield.tasks import Family

SIDE = 32
NUM_PATIENTS = 30


def hounsfield(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of a command."""
    monkeypatch.setattr(sys, "argv", ["hounsfield", *map(str, arguments)])
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    return int(outcome.value.code or 0)


def _noise(generator: np.random.Generator) -> np.ndarray:
    return generator.integers(0, 90, (SIDE, SIDE), np.uint8)


def write_labels(folder: Path) -> Path:
    """Half of the patients have a bright disc; two images of each patient."""
    generator, rows = np.random.default_rng(0), []
    for number in range(2 * NUM_PATIENTS):
        patient = number // 2
        image, label = _noise(generator), "disc" if patient % 2 else "empty"
        if label == "disc":
            cv2.circle(image, tuple(generator.integers(9, SIDE - 9, 2).tolist()), 6, 220, -1)
        cv2.imwrite(str(folder / f"scan{number:02}.png"), image)
        rows.append((f"scan{number:02}.png", label, f"P{patient:02}", "ab"[patient % 2 ^ number % 3 % 2]))
    pd.DataFrame(rows, columns=["image", "label", "patient", "site"]).to_csv(folder / "labels.csv", index=False)
    return folder


def write_boxes(folder: Path) -> Path:
    """One to three bright squares an image."""
    generator, rows = np.random.default_rng(1), []
    for number in range(NUM_PATIENTS):
        image = _noise(generator)
        for _ in range(1 + number % 3):
            y, x = generator.integers(1, SIDE - 9, 2).tolist()
            image[y : y + 8, x : x + 8] = 230
            rows.append((f"field{number:02}.png", "square", y, x, y + 8, x + 8, f"P{number:02}"))
        cv2.imwrite(str(folder / f"field{number:02}.png"), image)
    columns = ["image", "label", "y0", "x0", "y1", "x1", "patient"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "boxes.csv", index=False)
    return folder


def write_values(folder: Path) -> Path:
    """One bright disc an image, and how many pixels it has."""
    generator, rows = np.random.default_rng(2), []
    for number in range(NUM_PATIENTS):
        image, disc = _noise(generator), np.zeros((SIDE, SIDE), np.uint8)
        cv2.circle(disc, tuple(generator.integers(12, SIDE - 12, 2).tolist()), int(generator.integers(2, 11)), 1, -1)
        image[disc > 0] = 220
        cv2.imwrite(str(folder / f"lesion{number:02}.png"), image)
        rows.append((f"lesion{number:02}.png", int(disc.sum()) + 0.5, f"P{number:02}", "ab"[number % 2]))
    pd.DataFrame(rows, columns=["image", "label", "patient", "site"]).to_csv(folder / "areas.csv", index=False)
    return folder


def write_masks(folder: Path) -> Path:
    """One bright disc an image, and where it is."""
    generator = np.random.default_rng(3)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(NUM_PATIENTS):
        image, disc = _noise(generator), np.zeros((SIDE, SIDE), np.uint8)
        cv2.circle(disc, tuple(generator.integers(10, SIDE - 10, 2).tolist()), int(generator.integers(5, 9)), 1, -1)
        image[disc > 0] = 220
        cv2.imwrite(str(folder / "images" / f"case{number:02}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"case{number:02}.png"), disc)
    return folder


def write_views(folder: Path) -> Path:
    """Two to four images of each study; half of the studies have a bright disc in one of them."""
    generator, rows = np.random.default_rng(3), []
    for number in range(NUM_PATIENTS):
        count = 2 + number % 3
        chosen = int(generator.integers(count)) if number % 2 else None
        for view in range(count):
            image, name = _noise(generator), f"p{number:02}_v{view}.png"
            if view == chosen:
                cv2.circle(image, tuple(generator.integers(9, SIDE - 9, 2).tolist()), 6, 220, -1)
            cv2.imwrite(str(folder / name), image)
            rows.append((name, "finding" if number % 2 else "clear", f"P{number:02}", f"study{number:02}"))
    pd.DataFrame(rows, columns=["image", "label", "patient", "study"]).to_csv(folder / "labels.csv", index=False)
    return folder


# Family -> writes its toy cohort into an empty folder, and gives DATA.
TOYS: dict[Family, Callable[[Path], Path]] = {
    "labels": write_labels,
    "values": write_values,
    "boxes": write_boxes,
    "masks": write_masks,
}
