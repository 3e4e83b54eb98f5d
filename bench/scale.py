"""Bulk prediction over workers: how fast beside one process, and whether a lost actor and a lost node leave any trace.

    .venv/bin/python bench/scale.py speed --images 1000      # one process on 1 and 2 cores, two workers, in turn
    .venv/bin/python bench/scale.py cluster --images 5000    # two nodes; an actor, then a node is killed; then resumed
    .venv/bin/python bench/scale.py cluster --images 52000 --dicom 2000 --small

The bundle is an untrained residual network of width 32 on 96 × 96 pixels. Images are PNG files of 128 × 128, a tenth of
them DICOM unless their number is given; with ``--small`` images and network are 28 × 28, of width 8. ``cluster``
compares the shards with the table of one process, row by row.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import psutil


class Size(NamedTuple):
    """How many images, how many of them DICOM, their side, that of the network's input, and the network's width."""

    images: int
    dicom: int
    side: int = 128
    input: int = 96
    width: int = 32


def make(folder: Path, size: Size) -> tuple[Path, Path]:
    """A bundle and images."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from hounsfield.bundle import export_onnx, save_bundle
    from hounsfield.images import Image, write_image
    from hounsfield.models import build
    from hounsfield.preprocessing import MinMax, Pipeline, Resize, ToChannels

    pipeline = Pipeline(steps=(ToChannels(channels=1), Resize(size=(size.input, size.input)), MinMax()))
    run, images = folder / "run", folder / "images"
    network = build("resnet10", (size.input, size.input, 1), 2, "binary", width=size.width)
    bundle = save_bundle(run / "bundle", network, pipeline=pipeline, task="binary", labels=("normal", "opacity"))
    export_onnx(bundle)
    images.mkdir()
    generator = np.random.default_rng(0)
    every = size.images // size.dicom if size.dicom else size.images + 1
    for number in range(size.images):
        pixels = cv2.GaussianBlur(generator.integers(0, 255, (size.side, size.side), np.uint8), (5, 5), 2)
        if number % every or number // every >= size.dicom:
            cv2.imwrite(str(images / f"{number:06}.png"), pixels)
        else:
            write_image(Image(pixels=pixels[..., None].astype(np.int16)), images / f"{number:06}.dcm")
    return run, images


def command(run: Path, images: Path, output: Path, *options: str) -> list[str]:
    """The call of the command line."""
    return [sys.executable, "-m", "hounsfield", "predict", str(run), str(images), "-o", str(output), *options]


def timed(arguments: list[str], cores: int) -> float:
    """Seconds of a call that may use so many cores."""
    chosen = sorted(os.sched_getaffinity(0))[:cores]
    started = time.monotonic()
    subprocess.run(["taskset", "-c", ",".join(map(str, chosen)), *arguments], check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


def resources(folder: Path, run: Path, images: Path, count: int) -> dict[str, float]:
    """Bytes of a row in the shards, and the most memory of the command and of one of its two workers, MiB."""
    shards = folder / "shards"
    most = {"command": 0.0, "worker": 0.0}
    with subprocess.Popen(command(run, images, shards, "--workers", "2"), stderr=subprocess.DEVNULL) as job:
        watched = psutil.Process(job.pid)
        while job.poll() is None:
            with contextlib.suppress(psutil.Error):
                most["command"] = max(most["command"], watched.memory_info().rss / 2**20)
                for child in watched.children():
                    most["worker"] = max(most["worker"], child.memory_info().rss / 2**20)
            time.sleep(0.2)
    size = sum(path.stat().st_size for path in shards.glob("part-*"))
    return {"bytes a row": size / count, **{f"MiB of the {name}": value for name, value in most.items()}}


def speed(folder: Path, size: Size, rounds: int) -> dict[str, object]:
    """Images a second without what a command needs for a single image."""
    (run, images), count = make(folder, size), size.images
    one = next(iter(sorted(images.iterdir())))
    rivals = {
        "one process, 1 core": (1, ()),
        "one process, 2 cores": (2, ()),
        "two workers, 2 cores": (2, ("--workers", "2")),
    }
    found: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, (cores, options) in rivals.items():
            start = timed(command(run, one, folder / "table.csv", *options), cores)
            whole = timed(command(run, images, folder / "table.csv", *options), cores)
            found[name].append((count - 1) / (whole - start))
    middle = {name: float(np.median(rates)) for name, rates in found.items()}
    workers = middle["two workers, 2 cores"]
    return {
        "images/s": middle,
        "range": {name: (min(rates), max(rates)) for name, rates in found.items()},
        "resources": resources(folder, run, images, count),
        "beside twice one core": workers / (2 * middle["one process, 1 core"]),
        "beside one process": workers / middle["one process, 2 cores"],
    }


def cluster(folder: Path, size: Size) -> dict[str, object]:
    """Two nodes of one core; an actor is killed after three shards, a node after six, the command after nine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    (run, images), count = make(folder, size), size.images
    started = time.monotonic()
    subprocess.run(command(run, images, folder / "one.csv"), check=True, stderr=subprocess.DEVNULL)
    alone = time.monotonic() - started
    few = {"object_store_memory": 2 * 10**8}
    home = Cluster(initialize_head=True, head_node_args={"num_cpus": 0} | few)
    nodes = [home.add_node(num_cpus=1, **few) for _ in range(2)]
    shards = folder / "shards"
    arguments = command(run, images, shards, "--ray", home.address, "--workers", "2")
    events: list[str] = []
    first = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)

    def at(number: int) -> None:
        while len(list(shards.glob("part-*"))) < number and first.poll() is None:
            time.sleep(0.02)

    def disturb() -> None:
        at(3)
        actor = subprocess.run(["pgrep", "-f", "ray::RemoteWorker"], capture_output=True, text=True, check=False)
        if actor.stdout.split():
            os.kill(int(actor.stdout.split()[0]), signal.SIGKILL)
            events.append("actor killed")
        at(6)
        home.remove_node(nodes[1], allow_graceful=False)
        events.append("node killed")
        at(9)
        first.kill()
        events.append("command killed")

    threading.Thread(target=disturb, daemon=True).start()
    first.wait()
    done = len(list(shards.glob("part-*")))
    left = first.returncode
    started = time.monotonic()
    second = subprocess.run(arguments, capture_output=True, text=True, check=False)
    resumed = time.monotonic() - started
    home.shutdown()
    one, table = pd.read_csv(folder / "one.csv"), pd.read_parquet(shards)
    pd.testing.assert_frame_equal(
        table.fillna({"flags": ""}), one.fillna({"flags": ""}), check_exact=True, check_dtype=False
    )
    return {
        "images": count,
        "of them DICOM": len(list(images.glob("*.dcm"))),
        "events": events,
        "shards before the command was killed": done,
        "shards": json.loads((shards / "_summary.json").read_text())["shards"],
        "status": [left, second.returncode],
        "rows equal to one process": len(table),
        "doubled": int(table["image"].duplicated().sum()),
        "seconds": {"one process": alone, "resumed": resumed},
    }


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speed", "cluster"))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--dicom", type=int, help="how many of them are DICOM; by default a tenth")
    parser.add_argument("--small", action="store_true", help="images and network of 28 x 28 pixels, width 8")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    dicom = asked.images // 10 if asked.dicom is None else asked.dicom
    size = Size(asked.images, dicom, 28, 28, 8) if asked.small else Size(asked.images, dicom)
    with tempfile.TemporaryDirectory() as folder:
        measure = speed(Path(folder), size, asked.rounds) if asked.what == "speed" else None
        print(json.dumps(measure or cluster(Path(folder), size), indent=2))


if __name__ == "__main__":
    main()
