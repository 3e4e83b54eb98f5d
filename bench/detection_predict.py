"""How fast is the prediction of a detector, beside ``FasterRCNN.predict`` of Keras on the same files?

    python bench/detection_predict.py [--images 100] [--repeats 5]

A ResNet-18 of width 64 with a pyramid of three levels on colour images of 640×480, with random weights; the files are
PNG. Both read the files; ours also brings boxes back to the pixels of the file. The parts take turns in one process, so
that a busy machine slows both; each figure is the median over the turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from hounsfield.bundle import Bundle, export_onnx, save_bundle
from hounsfield.detection import FasterRCNN
from hounsfield.inference import Detector
from hounsfield.inference.onnx_networks import has_bfloat16
from hounsfield.plans.detector_settings import DetectorSettings
from hounsfield.preprocessing import Pipeline, ToChannels, Window

SHAPE = (480, 640, 3)
ANCHORS = (((16, 16), (24, 24), (32, 20)), ((40, 40), (56, 56), (64, 40)), ((80, 80), (112, 112), (128, 80)))


def make_run(folder: Path, num_images: int) -> tuple[Bundle, list[str]]:
    network = FasterRCNN(DetectorSettings(input_shape=SHAPE, num_labels=3, anchors=ANCHORS))
    steps = (ToChannels(channels=3), Window(center=127.5, width=255.0))
    bundle = save_bundle(
        folder / "bundle",
        network,
        pipeline=Pipeline(steps=steps),
        labels=("platelet", "red", "white"),
        task="detection",
        settings={"window_overlap": 0.25},
    )
    export_onnx(bundle)
    generator = np.random.default_rng(0)
    paths = [str(folder / f"{number:05}.png") for number in range(num_images)]
    for path in paths:
        smooth = cv2.resize(generator.integers(0, 256, (60, 80, 3), np.uint8), (SHAPE[1], SHAPE[0]))
        cv2.imwrite(path, smooth)
    return bundle, paths


def bare_reader(path: str) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB).astype(np.float32) / 255


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def medians(rivals: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    for work in rivals.values():
        work()
    turns = [{name: seconds(work) for name, work in rivals.items()} for _ in range(repeats)]
    return {name: statistics.median(turn[name] for turn in turns) for name in rivals}


def report(bundle: Bundle, paths: list[str], repeats: int) -> None:
    detectors = {
        words: Detector(dataclasses.replace(bundle, engine_checks={"bfloat16": words == "bfloat16"}), "openvino")
        for words in (("float32", "bfloat16") if has_bfloat16() else ("float32",))
    }
    network = bundle.network()

    def keras(names: list[str]) -> None:
        for path in names:
            network.predict(bare_reader(path)[None], verbose=0)

    for title, some, turns in (("one image", paths[:1], 4 * repeats), (f"{len(paths)} images", paths, repeats)):
        rivals: dict[str, Callable[[], object]] = {
            words: lambda detector=detector, some=some: detector.predict(some) for words, detector in detectors.items()
        }
        found = medians(rivals | {"keras": lambda some=some: keras(some)}, turns)
        for words in detectors:
            print(
                f"{title}, {words}: {1e3 * found[words] / len(some):.0f} ms an image, FasterRCNN.predict "
                f"{1e3 * found['keras'] / len(some):.0f} ms: {found['keras'] / found[words]:.1f} times ours"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        bundle, paths = make_run(Path(folder), arguments.images)
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        report(bundle, paths, arguments.repeats)


if __name__ == "__main__":
    main()
