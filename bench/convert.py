"""How long does `hounsfield convert` take from a CT series to NIfTI, and how large is the file, beside dcm2niix?

    python bench/convert.py [--slices 200] [--size 512] [--repeats 3]

A simulated CT of whole Hounsfield units is written as a DICOM series; both programs convert it in turns, plain and
gzipped, as a person calls them. Printed are the medians of wall-clock and processor seconds, and the sizes in MiB.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from hounsfield.images import Image
from hounsfield.images.dicom_writer import write_series

GZIP = {".nii": "n", ".nii.gz": "i"}


def write_ct(folder: Path, slices: int, size: int) -> None:
    """Noise with the grain of a reconstruction in an ellipse of soft tissue, air around it."""
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    body = (columns / 0.4) ** 2 + (rows / 0.3) ** 2 < 1
    random = np.random.default_rng(0)
    grain = [cv2.GaussianBlur(random.normal(40, 150, (size, size)), (0, 0), 1) for _ in range(slices)]
    pixels = np.where(body, np.stack(grain), -1000).round().astype(np.int16)[..., np.newaxis]
    affine = np.array([[0, 0, 0.7, -180], [0, 0.7, 0, -180], [1.0, 0, 0, 0], [0, 0, 0, 1]])
    write_series(Image(pixels=pixels, affine=affine, spacing=(1.0, 0.7, 0.7), modality="CT"), folder)


def seconds(command: list[str]) -> tuple[float, float]:
    """Wall-clock and processor seconds of a program."""
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    dcm2niix = shutil.which("dcm2niix")
    if dcm2niix is None:
        sys.exit("dcm2niix is not installed: on Debian, apt-get install dcm2niix.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ct").mkdir()
        write_ct(folder / "ct", arguments.slices, arguments.size)
        for suffix, form in GZIP.items():
            theirs, ours = folder / f"theirs{suffix}", folder / f"ours{suffix}"
            commands = {
                "dcm2niix": [dcm2niix, "-z", form, "-b", "n", "-w", "1", "-f", "theirs", "-o", name, f"{name}/ct"],
                "hounsfield": [sys.executable, "-m", "hounsfield", "convert", f"{name}/ct", str(ours), "--overwrite"],
            }
            taken: dict[str, list[tuple[float, float]]] = {program: [] for program in commands}
            for _ in range(arguments.repeats):
                for program, command in commands.items():
                    taken[program].append(seconds(command))
            for program, path in (("dcm2niix", theirs), ("hounsfield", ours)):
                wall, used = (statistics.median(times) for times in zip(*taken[program], strict=True))
                size = path.stat().st_size / 2**20
                print(f"{suffix:8}{program:12}{wall:7.2f} s wall {used:7.2f} s processor {size:8.2f} MiB")


if __name__ == "__main__":
    main()
