"""Does the memory of a training grow with the cohort? Peak resident memory at 10,000 and at 100,000 images.

    python bench/memory.py [--sizes 10000 100000] [--kind npz|folder]

Synthetic 28×28 images, one epoch of the quick plan's network through the whole command: reading, audit, split,
store, training, evaluation, figures.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

CLASSES = ("blob", "plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--kind", choices=("npz", "folder"), default="npz")
    arguments = parser.parse_args()
    peaks = [peak_of_training(size, arguments.kind) for size in arguments.sizes]
    print(f"growth from {arguments.sizes[0]:,} to {arguments.sizes[-1]:,} images: {peaks[-1] - peaks[0]:+.0f} MB")


def peak_of_training(size: int, kind: str) -> float:
    """Peak resident memory in MB of one ``hounsfield train``."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_cohort(Path(folder), size, kind)
        command = ["train", str(data), "--effort", "quick", "--set", "epochs=1", "--out", str(Path(folder) / "run")]
        environment = os.environ | {"HOUNSFIELD_CACHE": str(Path(folder) / "cache")}
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "hounsfield", *command],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"The training on {size:,} images failed: hounsfield {' '.join(command)}")
        peak = usage.ru_maxrss / 1e3
        print(f"{size:7,} images ({kind}): peak {peak:,.0f} MB, {time.perf_counter() - started:.0f} s", flush=True)
        return peak


def write_cohort(folder: Path, size: int, kind: str) -> Path:
    """Noise with and without a bright blob, as a MedMNIST-like archive or as class folders of PNG files."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, size).astype(np.uint8)
    images = generator.integers(0, 120, (size, 28, 28), dtype=np.uint8)
    images[labels == 0, 10:18, 10:18] += 100
    if kind == "npz":
        part = np.split(np.arange(size), [int(0.7 * size), int(0.8 * size)])
        arrays = {}
        for split, rows in zip(("train", "val", "test"), part, strict=True):
            arrays |= {f"{split}_images": images[rows], f"{split}_labels": labels[rows, None]}
        np.savez(folder / "synthetic.npz", **arrays)
        return folder / "synthetic.npz"
    for name in CLASSES:
        (folder / "images" / name).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        cv2.imwrite(str(folder / "images" / CLASSES[label] / f"{number:06d}.png"), image)
    return folder / "images"


if __name__ == "__main__":
    main()
