"""Bulk prediction over workers: how fast beside one process, and whether a lost actor and a lost node leave any trace.

    .venv/bin/python bench/scale.py speed --images 1000      # one process on 1 and 2 cores, two workers, in turn
    .venv/bin/python bench/scale.py cluster --images 5000    # two nodes; an actor, then a node is killed; then resumed
    .venv/bin/python bench/scale.py cluster --images 52000 --dicom 2000 --small
    .venv/bin/python bench/scale.py cost                     # seconds, memory and bytes by the size of images

The bundle is an untrained residual network of width 32 on 96 × 96 pixels. Images are PNG files of 128 × 128, a tenth of
them DICOM unless their number is given; with ``--small`` images and network are 28 × 28, of width 8. ``cluster``
compares the shards with the table of one process, row by row. ``cost`` fits the processor time and the peak memory of
one worker as a constant, which has the network in it, and a part for each megapixel, on images of four sizes.
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
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import psutil

from hounsfield.distributed.worker import THREADS

BATCH, TURNS = 64, 2
# Of the images of the cost model, ascending, since memory is not given back.
SIDES = (128, 512, 1024, 2048)


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
        kind = "png" if number % every or number // every >= size.dicom else "dcm"
        write(pixels, images / f"{number:06}.{kind}")
    return run, images


def write(pixels: np.ndarray, path: Path) -> None:
    """A picture, or a DICOM image without compression."""
    from hounsfield.images import Image, write_image

    if path.suffix == ".png":
        cv2.imwrite(str(path), pixels)
    else:
        write_image(Image(pixels=pixels[..., None].astype(np.int16)), path)


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


def cost_of(run: Path, folders: list[Path]) -> list[tuple[float, float]]:
    """Of each folder seconds of the processor for an image, and the most memory so far, MiB; in its own process."""
    from hounsfield.bundle import Bundle
    from hounsfield.distributed.predicting import BundleCopy, PredictionWork
    from hounsfield.inference.sources import sources

    opened = PredictionWork(BundleCopy.of(Bundle.load(run))).open()
    found = []
    for folder in folders:
        items = list(sources([str(folder)], 2))
        opened.run(items, lambda _: None)
        started = time.process_time()
        for _ in range(TURNS):
            opened.run(items, lambda _: None)
        seconds = (time.process_time() - started) / (TURNS * len(items))
        # Not the system's own figure, which begins with that of the parent.
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        found.append((seconds, int(status["VmHWM"].split()[0]) / 1024))
    return found


def cost(folder: Path) -> dict[str, object]:
    """The constants of the model, and how far off it is at each size."""
    run, _ = make(folder, Size(BATCH, 0))
    generator = np.random.default_rng(0)
    found: dict[str, object] = {}
    os.environ |= dict.fromkeys(THREADS, "1")
    for kind in ("png", "dcm"):
        places = [folder / f"{kind}{side}" for side in SIDES]
        for side, place in zip(SIDES, places, strict=True):
            place.mkdir()
            for number in range(BATCH):
                noise = generator.integers(0, 255, (side, side), np.uint8)
                write(cv2.GaussianBlur(noise, (5, 5), 2), place / f"{number:04}.{kind}")
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            measured = process.submit(cost_of, run, places).result()
        found[kind] = fitted(np.array([(side**2 / 1e6, *each) for side, each in zip(SIDES, measured, strict=True)]))
    return found


def fitted(measured: np.ndarray) -> dict[str, object]:
    """Constant and slope of seconds and of memory over megapixels, weighted by the inverse of the value."""
    told: dict[str, object] = {}
    for name, values in (("milliseconds", measured[:, 1] * 1000), ("MiB", measured[:, 2])):
        design = np.stack([np.ones(len(measured)), measured[:, 0]], axis=1)
        constant, slope = np.linalg.lstsq(design / values[:, None], np.ones(len(values)), rcond=None)[0]
        told[name] = {
            "constant": constant,
            "a megapixel": slope,
            "measured": values.round(2).tolist(),
            "model over measured": ((constant + slope * measured[:, 0]) / values).round(3).tolist(),
        }
    return told


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speed", "cluster", "cost"))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--dicom", type=int, help="how many of them are DICOM; by default a tenth")
    parser.add_argument("--small", action="store_true", help="images and network of 28 x 28 pixels, width 8")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    dicom = asked.images // 10 if asked.dicom is None else asked.dicom
    size = Size(asked.images, dicom, 28, 28, 8) if asked.small else Size(asked.images, dicom)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        questions = {
            "speed": lambda: speed(place, size, asked.rounds),
            "cluster": lambda: cluster(place, size),
            "cost": lambda: cost(place),
        }
        print(json.dumps(questions[asked.what](), indent=2))


if __name__ == "__main__":
    main()
