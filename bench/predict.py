"""How fast is prediction, beside bare OpenVINO on the same files and beside `model.predict`?

    python bench/predict.py [--images 1000] [--repeats 5] [--width 64]

A ResNet-18 at 28×28 with random weights; the files are 8-bit grey PNG. Bare OpenVINO reads them with OpenCV, divides
by 255 and runs the same ONNX file in the same precision: float32, and bfloat16 where the processor has instructions for
it. The parts take turns in one process, so that a busy machine slows all of them alike; each figure is the median over
the turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from hounsfield.bundle import Bundle, export_onnx, save_bundle
from hounsfield.inference import ENGINES, Predictor, open_engine
from hounsfield.inference.onnx_networks import has_bfloat16
from hounsfield.models import build
from hounsfield.openvino_runtime import openvino_runtime
from hounsfield.preprocessing import Pipeline, Resize, ToChannels, Window

SHAPE = (28, 28, 1)
BATCH = 16


def make_run(folder: Path, num_images: int, width: int) -> tuple[Bundle, list[str]]:
    network = build("resnet18", SHAPE, 2, "binary", width=width)
    generator = np.random.default_rng(0)
    for weight in network.weights:
        if "gamma" in weight.path:
            weight.assign(generator.uniform(0.5, 1.0, weight.shape))
    steps = (ToChannels(channels=1), Resize(size=SHAPE[:-1]), Window(center=127.5, width=255.0))
    bundle = save_bundle(
        folder / "bundle", network, pipeline=Pipeline(steps=steps), labels=("normal", "pneumonia"), task="binary"
    )
    export_onnx(bundle)
    paths = []
    (folder / "images").mkdir()
    for number in range(num_images):
        paths.append(str(folder / "images" / f"{number:05}.png"))
        cv2.imwrite(paths[-1], generator.integers(0, 256, SHAPE[:-1], np.uint8))
    return bundle, paths


def bare_reader(path: str) -> np.ndarray:
    return cv2.imread(path, cv2.IMREAD_UNCHANGED).astype(np.float32)[..., None] / 255


def bare_openvino(bundle: Bundle, precision: str) -> tuple[Callable[[list[str]], None], Callable[[list[str]], None]]:
    """Bare OpenVINO on one file, and on many files with its own asynchronous queue."""
    openvino = openvino_runtime("the benchmark")
    core, options = openvino.Core(), {"INFERENCE_PRECISION_HINT": precision}
    one = core.compile_model(bundle.onnx, "CPU", {**options, "PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
    many = core.compile_model(bundle.onnx, "CPU", {**options, "PERFORMANCE_HINT": "THROUGHPUT"})

    def run_one(paths: list[str]) -> None:
        one.infer({"image": bare_reader(paths[0])[None]}, share_inputs=True)["probabilities"].copy()

    def run_many(paths: list[str]) -> None:
        found: dict[int, np.ndarray] = {}
        queue = openvino.AsyncInferQueue(many)
        queue.set_callback(
            lambda request, start: found.update({start: request.get_tensor("probabilities").data.copy()})
        )
        for start in range(0, len(paths), BATCH):
            queue.start_async({"image": np.stack([bare_reader(path) for path in paths[start : start + BATCH]])}, start)
        queue.wait_all()

    return run_one, run_many


def seconds(work: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times


def compare(rivals: dict[str, Callable[[], object]], repeats: int, times: int) -> dict[str, float]:
    for work in rivals.values():
        work()
    turns = [{name: warm_seconds(work, times) for name, work in rivals.items()} for _ in range(repeats)]
    return {name: statistics.median(turn[name] for turn in turns) for name in rivals}


def warm_seconds(work: Callable[[], object], times: int) -> float:
    """Time of one call; whoever comes after Keras would otherwise pay for its threads, which spin on for a while."""
    if times > 1:
        seconds(work, times)
    return seconds(work, times)


def cold_start(run: Path, path: str, repeats: int) -> float:
    command = [sys.executable, "-c", "from hounsfield.cli.main import main; main()", "predict", str(run), path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return statistics.median(
        seconds(lambda: subprocess.run(command, check=True, capture_output=True, env=environment), 1)
        for _ in range(repeats)
    )


def report_speed(bundle: Bundle, paths: list[str], repeats: int, precision: str) -> None:
    predictor = Predictor(dataclasses.replace(bundle, engine_checks={"bfloat16": precision == "bf16"}), "openvino")
    run_one, run_many = bare_openvino(bundle, precision)
    network = bundle.network()
    one = compare(
        {
            "predictor": lambda: predictor.predict(paths[0]),
            "bare": lambda: run_one(paths),
            "keras": lambda: network.predict(bare_reader(paths[0])[None], verbose=0),
        },
        repeats,
        20,
    )
    many = compare({"predictor": lambda: predictor.predict(paths), "bare": lambda: run_many(paths)}, repeats, 1)
    for title, found, count in (("one image", one, 1), (f"{len(paths)} images", many, len(paths))):
        print(
            f"{precision} {title}: predictor {found['predictor'] * 1e3:.2f} ms ({count / found['predictor']:.0f}/s), "
            f"bare OpenVINO {found['bare'] * 1e3:.2f} ms: {found['predictor'] / found['bare']:.2f} times bare"
        )
    ratio = one["keras"] / one["predictor"]
    print(f"{precision} one image: model.predict {one['keras'] * 1e3:.1f} ms, {ratio:.0f} times ours")


def report_agreement(bundle: Bundle) -> None:
    images = np.random.default_rng(1).random((64, *SHAPE), np.float32)
    outputs = {name: open_engine(bundle, name).run(images) for name in ENGINES}
    for name in ("openvino", "onnxruntime"):
        probabilities = np.abs(outputs[name].probabilities - outputs["keras"].probabilities).max()
        features = np.abs(outputs[name].features - outputs["keras"].features).max()
        print(f"{name} against Keras in float32: within {probabilities:.1e} (features {features:.1e})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int, default=64, help="64 is the paper's; plans take 16 or 32")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        bundle, paths = make_run(Path(folder), arguments.images, arguments.width)
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"cold start of the command on one image: {cold_start(Path(folder), paths[0], arguments.repeats):.2f} s")
        for precision in ("f32", "bf16") if has_bfloat16() else ("f32",):
            report_speed(bundle, paths, arguments.repeats, precision)
        report_agreement(bundle)


if __name__ == "__main__":
    main()
