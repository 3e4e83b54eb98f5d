"""How fast do two workers train one network, beside one process that has one core, and one that has two?

    .venv/bin/python bench/train_workers.py [--network resnet18] [--width 64] [--images 480] [--batch 32] [--epochs 3]

All three train the same plan on the same made-up images, one after the other, so a busy machine slows all of them: give
it two idle cores. The first epoch, in which the network is compiled, is left out, and validation has a few images only.
Losses of the last epoch are printed beside the seconds: they are the same, since the workers share each batch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

RIVALS: dict[str, tuple[int, tuple[str, ...]]] = {
    "one process, 1 core": (1, ()),
    "two workers, 2 cores": (2, ("--workers", "2")),
    "one process, 2 cores": (2, ()),
}


def make(folder: Path, count: int, side: int) -> Path:
    """Images in which a blob lies left or right, with a table of splits."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(count + 32):
        pixels = generator.integers(60, 120, (side, side)).astype(np.float32)
        label = number % 2
        centre = (int(side * (0.3 + 0.4 * label)), int(generator.integers(side // 4, 3 * side // 4)))
        cv2.circle(pixels, centre, side // 8, 180.0, -1)
        cv2.imwrite(str(folder / f"{number:05}.png"), cv2.GaussianBlur(pixels, (0, 0), 1.5).astype(np.uint8))
        split = "train" if number < count else ("validation" if number % 4 < 2 else "test")
        rows.append((f"{number:05}.png", ("left", "right")[label], split, number))
    table = folder / "table.csv"
    pd.DataFrame(rows, columns=["image", "label", "split", "patient"]).to_csv(table, index=False)
    return table


def train(table: Path, run: Path, cores: int, options: list[str]) -> dict[str, Any]:
    """Seconds of an epoch after the first, and the last loss."""
    chosen = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
    command = [sys.executable, "-m", "hounsfield", "train", str(table), "--out", str(run), *options]
    started = time.monotonic()
    done = subprocess.run(["taskset", "-c", chosen, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    history = pd.read_csv(run / "history.csv")
    return {
        "seconds of an epoch": history["seconds"].iloc[1:].round(2).tolist(),
        "loss": float(history["loss"].iloc[-1]),
        "whole command": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rivals", nargs="*", default=list(RIVALS))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HOUNSFIELD_CACHE"] = str(folder / "cache")
        table = make(folder, asked.images, asked.side)
        sizes = (f"batch_size={asked.batch}", f"epochs={asked.epochs}", f"width={asked.width}")
        settings = (*sizes, "minutes=null", "precision=float32")
        options = [
            "--model",
            asked.network,
            "--effort",
            "standard",
            *(word for each in settings for word in ("--set", each)),
        ]
        found = {
            rival: train(table, folder / f"run{number}", RIVALS[rival][0], [*options, *RIVALS[rival][1]])
            for number, rival in enumerate(asked.rivals)
        }
    rates = {rival: asked.images / float(np.median(each["seconds of an epoch"])) for rival, each in found.items()}
    if len(rates) == len(RIVALS):
        one, workers, both = (rates[rival] for rival in RIVALS)
        found["ratios"] = {"of twice one core": workers / (2 * one), "of the process with two cores": workers / both}
    print(json.dumps({"images/s": rates} | found, indent=2))


if __name__ == "__main__":
    main()
