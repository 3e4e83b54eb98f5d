"""Small scenes with boxes, and what makes a detector of them tiny, for tests that train one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from hounsfield.images import Image, write_image

TINY = (
    "width=4",
    "pyramid_channels=8",
    "head_units=8",
    "roi_bins=2",
    "network=resnet10",
    "precision=float32",
    "num_proposals=16",
    "num_candidates=32",
    "batch_size=2",
)


def squares(folder: Path, *, num: int = 12, shape: tuple[int, int] = (48, 64), objects: int = 2) -> Path:
    """Noise with bright squares and dark ones, as PNG files beside a table of boxes; every sixth image has none."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for number in range(num):
        pixels = generator.normal(100, 8, shape)
        known = {
            "image": f"{number:02d}.png",
            "patient": f"p{number}",
            "split": ("train", "train", "validation", "test")[number % 4],
        }
        for place in range(0 if number % 6 == 5 else objects):
            side, label = int(generator.integers(10, 16)), ("bright", "dark")[place % 2]
            y, x = (int(generator.integers(0, length - side)) for length in shape)
            pixels[y : y + side, x : x + side] += 100 if label == "bright" else -80
            rows.append({**known, "label": label, "y0": y, "x0": x, "y1": y + side, "x1": x + side})
        if number % 6 == 5:
            rows.append(known)
        assert cv2.imwrite(str(folder / known["image"]), np.clip(pixels, 0, 255).astype(np.uint8))
    pd.DataFrame(rows).to_csv(folder / "boxes.csv", index=False)
    return folder / "boxes.csv"


def balls(folder: Path, *, num: int = 8) -> Path:
    """The same in 3D, as NIfTI volumes with label maps."""
    generator = np.random.default_rng(0)
    for number in range(num):
        pixels, labels = generator.normal(0, 5, (16, 24, 24, 1)), np.zeros((16, 24, 24, 1), np.uint8)
        z, y, x = (int(generator.integers(0, length - 8)) for length in (16, 24, 24))
        labels[z : z + 8, y : y + 8, x : x + 8] = 1
        for name, values in (("images", pixels + 60 * labels), ("labels", labels)):
            path = folder / name / f"v{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(Image(values.astype(np.float32 if name == "images" else np.uint8), affine=np.eye(4)), path)
    return folder
