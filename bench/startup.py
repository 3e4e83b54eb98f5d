"""How fast does the command line answer, beside bare Python and beside the libraries that draw it?

    python bench/startup.py [--repeats 9] [--run RUN --image IMAGE]

The commands take turns, so that a busy machine slows all of them alike; medians and ranges in seconds, and the median
of the time on processors. With a run of 2D images, `predict` of one of them stands beside a bare process that reads
the image with OpenCV, prepares it with NumPy (percentiles and z score, as a plan for radiographs does) and runs the
bundle's ONNX file on OpenVINO.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import typer, rich'": [sys.executable, "-c", "import typer, rich"],
    "hounsfield --help": [sys.executable, "-m", "hounsfield", "--help"],
    "hounsfield train --help": [sys.executable, "-m", "hounsfield", "train", "--help"],
}

# IMAGE, the ONNX file, rows, columns -> what it predicts.
BARE = """
import sys
sys.modules["openvino_telemetry"] = None
import cv2, numpy, openvino
image = cv2.imread(sys.argv[1], cv2.IMREAD_GRAYSCALE).astype(numpy.float32)
image = cv2.resize(image, (int(sys.argv[4]), int(sys.argv[3])))
image = numpy.clip(image, *numpy.percentile(image, (0.5, 99.5)))
image = (image - image.mean()) / image.std()
network = openvino.Core().compile_model(sys.argv[2], "CPU", {"PERFORMANCE_HINT": "LATENCY"})
print(network(image[None, :, :, None].astype(numpy.float32))["probabilities"])
"""


def prediction_commands(run: Path, image: Path) -> dict[str, list[str]]:
    bundle = json.loads((run / "bundle" / "bundle.json").read_text())
    rows, columns, _ = bundle["input_shape"]
    sizes = [str(rows), str(columns)]
    return {
        "bare OpenVINO": [sys.executable, "-c", BARE, str(image), str(run / "bundle" / "model.onnx"), *sizes],
        "hounsfield predict": [sys.executable, "-m", "hounsfield", "predict", str(run), str(image)],
    }


class Taken(NamedTuple):
    """Seconds by the clock, and on processors."""

    clock: float
    processors: float


def seconds(command: list[str]) -> Taken:
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Taken(clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--image", type=Path)
    arguments = parser.parse_args()
    commands, peer = dict(COMMANDS), dict.fromkeys(COMMANDS, "python -c 'import typer, rich'")
    if arguments.run and arguments.image:
        pair = prediction_commands(arguments.run, arguments.image)
        commands |= pair
        peer |= dict.fromkeys(pair, "bare OpenVINO")
    for command in commands.values():
        seconds(command)  # compiles what has not been compiled yet
    taken: dict[str, list[Taken]] = {name: [] for name in commands}
    for _ in range(arguments.repeats):
        for name, command in commands.items():
            taken[name].append(seconds(command))
    middles = {name: Taken(*map(statistics.median, zip(*times, strict=True))) for name, times in taken.items()}
    for name, times in taken.items():
        clocks, middle, other = [each.clock for each in times], middles[name], middles[peer[name]]
        print(
            f"{name:<34}{middle.clock:6.3f} s ({min(clocks):.3f} to {max(clocks):.3f}), on processors "
            f"{middle.processors:.3f}; {middle.clock / other.clock:.2f} and {middle.processors / other.processors:.2f} "
            f"× {peer[name]}"
        )


if __name__ == "__main__":
    main()
