"""How fast is prediction, beside bare OpenVINO on the same files and beside `model.predict`?

    python bench/predict.py [--images 1000] [--repeats 5] [--width 64]

A ResNet-18 at 28×28 with random weights in a bundle such as a training leaves it: with the steps of a plan for grey
pictures, a scaling and limits of likeness. The files are smooth pictures in 8-bit grey PNG. Bare OpenVINO runs the same
ONNX file in the same precision (float32, and bfloat16 where the processor has instructions for it) twice: on pixels
that are normalised as the bundle's are, by OpenCV and NumPy, which gives the same output; and on pixels that are merely
divided by 255, which gives none that is of use but is the least that can be done. Neither calibrates, nor tells images
unlike those of training. The parts take turns in one process, so that a busy machine slows all of them alike; each
figure is the median over the turns.
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
from hounsfield.evaluation import Novelty, Uncertainty, as_outcomes
from hounsfield.evaluation.scaling import Temperature
from hounsfield.images import Image
from hounsfield.inference import ENGINES, Predictor, open_engine
from hounsfield.inference.appearance import appearances
from hounsfield.inference.onnx_networks import has_bfloat16
from hounsfield.models import build
from hounsfield.openvino_runtime import openvino_runtime
from hounsfield.preprocessing import Percentile, Pipeline, Resize, ToChannels, ZScore

SHAPE = (28, 28, 1)
BATCH = 16
TOLERANCE = 1e-3


def pictures(count: int, seed: int) -> np.ndarray:
    """Smooth pictures with a little noise: (count, rows, columns) uint8."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(count, *SHAPE[:-1])).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(each, (0, 0), 4) for each in noise])
    found = 127 + 60 * smooth / smooth.std() + 3 * noise
    return np.clip(found, 0, 255).astype(np.uint8)


def make_run(folder: Path, num_images: int, width: int) -> tuple[Bundle, list[str]]:
    network = build("resnet18", SHAPE, 2, "binary", width=width)
    generator = np.random.default_rng(0)
    for weight in network.weights:
        if "gamma" in weight.path:
            weight.assign(generator.uniform(0.5, 1.0, weight.shape))
    steps = (ToChannels(channels=1), Resize(size=SHAPE[:-1]), Percentile(), ZScore())
    bundle = save_bundle(
        folder / "bundle", network, pipeline=Pipeline(steps=steps), labels=("normal", "pneumonia"), task="binary"
    )
    export_onnx(bundle)
    paths = []
    (folder / "images").mkdir()
    for number, picture in enumerate(pictures(num_images, seed=0)):
        paths.append(str(folder / "images" / f"{number:05}.png"))
        cv2.imwrite(paths[-1], picture)
    return with_uncertainty(bundle), paths


def with_uncertainty(bundle: Bundle) -> Bundle:
    """The bundle with a scaling and limits of likeness, from pictures of the kind that it will meet."""
    described = []
    for seed in (1, 2):
        images = [Image(pixels=picture[..., np.newaxis]) for picture in pictures(500, seed)]
        batch = np.stack([bundle.pipeline.apply(image).pixels for image in images])
        outputs = open_engine(bundle).run(batch)
        described.append({"features": outputs.features, "appearance": appearances(batch)})
    truth = np.arange(len(outputs.probabilities))[:, np.newaxis] % 2 == 0
    answers = as_outcomes(truth, outputs.probabilities, labels=bundle.labels, task="binary")
    doubt = Uncertainty.of(answers, np.arange(len(answers)), Novelty.fit(*described))
    return bundle.with_uncertainty(doubt, scaling=Temperature(1.5), threshold=0.5)


def divided(path: str) -> np.ndarray:
    return cv2.imread(path, cv2.IMREAD_UNCHANGED).astype(np.float32)[..., np.newaxis] / 255


def normalised(path: str) -> np.ndarray:
    pixels = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    low, high = np.percentile(pixels, (0.5, 99.5))
    pixels = np.clip((pixels.astype(np.float32) - low) / (high - low), 0, 1)
    return ((pixels - pixels.mean()) / pixels.std()).astype(np.float32)[..., np.newaxis]


class BareOpenVINO:
    """OpenVINO on one file, and on many files with its own asynchronous queue."""

    def __init__(self, bundle: Bundle, precision: str, read: Callable[[str], np.ndarray]) -> None:
        openvino = openvino_runtime("the benchmark")
        core, options = openvino.Core(), {"INFERENCE_PRECISION_HINT": precision}
        latency = core.compile_model(bundle.onnx_files[0], "CPU", {**options, "PERFORMANCE_HINT": "LATENCY"})
        self._one = latency.create_infer_request()
        self._many = core.compile_model(bundle.onnx_files[0], "CPU", {**options, "PERFORMANCE_HINT": "THROUGHPUT"})
        self._queue = openvino.AsyncInferQueue
        self._read = read

    def one(self, path: str) -> np.ndarray:
        outcome = self._one.infer({"image": self._read(path)[np.newaxis]}, share_inputs=True)
        return outcome["probabilities"].copy()

    def many(self, paths: list[str]) -> np.ndarray:
        found: dict[int, np.ndarray] = {}
        queue = self._queue(self._many)
        queue.set_callback(
            lambda request, start: found.update({start: request.get_tensor("probabilities").data.copy()})
        )
        for start in range(0, len(paths), BATCH):
            queue.start_async({"image": np.stack([self._read(path) for path in paths[start : start + BATCH]])}, start)
        queue.wait_all()
        return np.concatenate([found[start] for start in sorted(found)])


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
    same, least = (BareOpenVINO(bundle, precision, read) for read in (normalised, divided))
    require_same(predictor, same, paths)
    network = bundle.network()
    one = compare(
        {
            "predictor": lambda: predictor.predict(paths[0]),
            "same": lambda: same.one(paths[0]),
            "least": lambda: least.one(paths[0]),
            "keras": lambda: network.predict(normalised(paths[0])[np.newaxis], verbose=0),
        },
        repeats,
        20,
    )
    many = compare(
        {
            "predictor": lambda: predictor.predict(paths),
            "same": lambda: same.many(paths),
            "least": lambda: least.many(paths),
        },
        repeats,
        1,
    )
    for title, found, count in (("one image", one, 1), (f"{len(paths)} images", many, len(paths))):
        ours = found["predictor"]
        print(
            f"{precision} {title}: predictor {ours * 1e3:.2f} ms ({count / ours:.0f}/s), bare OpenVINO "
            f"{found['same'] * 1e3:.2f} ms: {ours / found['same']:.2f} times bare; on pixels divided by 255 "
            f"{found['least'] * 1e3:.2f} ms: {ours / found['least']:.2f} times"
        )
    ratio = one["keras"] / one["predictor"]
    print(f"{precision} one image: model.predict {one['keras'] * 1e3:.1f} ms, {ratio:.0f} times ours")


def require_same(predictor: Predictor, bare: BareOpenVINO, paths: list[str]) -> None:
    """Refuse to compare the time of what does not have the same outcome."""
    ours = np.array([each.probabilities[predictor.bundle.labels[1]] for each in predictor.predict(paths)])
    theirs = predictor.bundle.calibrated(bare.many(paths))[:, 0]
    difference = np.abs(ours - theirs).max()
    if difference > TOLERANCE:
        raise SystemExit(f"Bare OpenVINO differs from the predictor by {difference:.1e}: they do not do the same.")


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
