"""How much faster is a bundle in 8-bit integers than the same network in float32?

    hounsfield export RUN --to int8 -o INTEGERS
    python bench/int8.py RUN INTEGERS [--batch 64] [--repeats 30]

Both ONNX files run on bare OpenVINO, the first in float32, and through our engines, on the same random batch; all four
take turns in one process, so that a busy machine slows all of them alike. Printed are medians, the ratio to bare
OpenVINO in float32, and what the processor has instructions for.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hounsfield.bundle import Bundle
from hounsfield.inference.engines import OpenVINOEngine
from hounsfield.openvino_runtime import openvino_runtime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("integers", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    openvino = openvino_runtime("this benchmark")
    core = openvino.Core()
    bundles = {"float32": Bundle.load(options.run), "int8": Bundle.load(options.integers)}
    shape = (options.batch, *bundles["float32"].input_shape)
    batch = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    calls: dict[str, Callable[[], object]] = {}
    for name, bundle in bundles.items():
        bare = core.compile_model(bundle.onnx_files[0], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        engine = OpenVINOEngine(bundle, "f32")
        calls[f"bare OpenVINO, {name}"] = lambda bare=bare: bare({"image": batch})
        calls[f"our engine, {name}"] = lambda engine=engine: engine.run(batch)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(options.repeats + 3):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if number >= 3:
                times[name].append(time.perf_counter() - started)
    reference = statistics.median(times["bare OpenVINO, float32"])
    print(f"{shape[0]} images of {shape[1:]}; {core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')}")
    for name, found in times.items():
        median = statistics.median(found)
        print(f"{name}: {1000 * median:.2f} ms, {reference / median:.2f} times float32")


if __name__ == "__main__":
    main()
