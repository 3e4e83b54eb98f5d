"""What does it cost that files are hashed and flushed to disk?

python bench/integrity.py bundle      loading a bundle of 50 MB, beside SHA-256 of the same bytes alone
python bench/integrity.py commands    the share of a training, and of a prediction of 1,000 files, that it takes
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from hounsfield import atomic, integrity
from hounsfield.bundle import Bundle
from hounsfield.cli import main as cli
from networks import tiny_bundle

MEGABYTES = 50
REPEATS = 15
IMAGES = 1000


def load_beside_hash(folder: Path) -> None:
    """Time to load a bundle with a network of 50 MB, and to hash its files alone."""
    tiny_bundle(folder / "bundle")
    network = folder / "bundle" / "model.keras"
    # Loading checks the bytes and does not open the network.
    network.write_bytes(np.random.default_rng(0).bytes(MEGABYTES * 10**6))
    values = json.loads((folder / "bundle" / "bundle.json").read_text())
    values["sizes"][network.name], values["hashes"][network.name] = network.stat().st_size, integrity.digest(network)
    values.pop("seal")
    atomic.write_text(folder / "bundle" / "bundle.json", integrity.sealed(values))
    # Of the processor, which other work does not lengthen; loading hashes in several threads.
    times = [
        (cost(lambda: Bundle.load(folder / "bundle")), cost(lambda: hashlib.sha256(network.read_bytes())))
        for _ in range(REPEATS)
    ]
    for number, clock in enumerate(("by the clock", "of the processor")):
        load, alone = (1000 * np.median([each[which][number] for each in times]) for which in (0, 1))
        print(
            f"{MEGABYTES} MB, {clock}: loaded in {load:.1f} ms; SHA-256 alone {alone:.1f} ms; ratio {load / alone:.2f}"
        )


def cost(action: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    processor = time.process_time()
    return seconds(action), time.process_time() - processor


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class Clock:
    """Counts the calls of functions and the seconds spent in them; those of several threads at once add up."""

    def __init__(self) -> None:
        self.calls, self.seconds = 0, 0.0

    def around(self, place: Any, name: str) -> None:
        original = getattr(place, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return original(*arguments, **options)
            finally:
                self.calls += 1
                self.seconds += time.perf_counter() - start

        setattr(place, name, timed)


def shares(folder: Path) -> None:
    """Train on a thousand images and predict them; how much of the time is hashing and flushing."""
    generator, rows = np.random.default_rng(0), []
    (folder / "data").mkdir()
    for number in range(IMAGES):
        image = generator.integers(0, 90, (64, 64), np.uint8)
        if number % 2:
            cv2.circle(image, tuple(generator.integers(16, 48, 2).tolist()), 9, 200, -1)
        cv2.imwrite(str(folder / "data" / f"{number:04}.png"), image)
        rows.append((f"{number:04}.png", ("empty", "disc")[number % 2], f"P{number // 2}"))
    pd.DataFrame(rows, columns=["image", "label", "patient"]).to_csv(folder / "data" / "labels.csv", index=False)
    run = f"{folder}/run"
    for words in (
        ["train", f"{folder}/data", "--effort", "quick", "--out", run],
        ["predict", run, f"{folder}/data", "-o", f"{folder}/table.csv"],
    ):
        flushes, hashes = Clock(), Clock()
        original = os.fsync, hashlib.file_digest
        flushes.around(os, "fsync")
        hashes.around(hashlib, "file_digest")
        whole = seconds(lambda words=words: command(words))  # type: ignore[misc]  # a default binds the words
        os.fsync, hashlib.file_digest = original
        print(f"{words[0]}: {whole:.1f} s")
        for name, clock in (("flushes", flushes), ("hashes", hashes)):
            print(f"  {clock.calls} {name}: {clock.seconds:.3f} s, {clock.seconds / whole:.2%}")


def command(words: list[str]) -> None:
    sys.argv = ["hounsfield", *words]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("bundle", "commands"))
    what = parser.parse_args().what
    with tempfile.TemporaryDirectory() as folder:
        (load_beside_hash if what == "bundle" else shares)(Path(folder))


if __name__ == "__main__":
    main()
