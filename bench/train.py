"""Training images/s: our training step against a native PyTorch loop, the same ResNet-18, in one run.

    python bench/train.py [--rounds 3] [--seconds 4]

Every contestant has a process of its own, which is started once and waits while the others are measured in turn, so
that thread pools do not meet; the median over the rounds is printed with its range, and its ratio to PyTorch's better.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

# What the network is called, its input size, its width, and the batch size.
CASES = (("28×28, width 64", 28, 64, 128), ("128×128, width 32", 128, 32, 32))
CONTESTANTS = (
    "hounsfield mixed_bfloat16",
    "hounsfield float32",
    "keras mixed_bfloat16",
    "torch bfloat16",
    "torch float32",
)
WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        answer(arguments.one[0], CASES[int(arguments.one[1])], arguments.seconds)
        return
    for number, case in enumerate(CASES):
        speeds = measured(number, arguments.rounds, arguments.seconds)
        print(f"ResNet-18 at {case[0]}, batch {case[3]}, images/s (median, range of {arguments.rounds}), ratio:")
        peer = max(statistics.median(values) for name, values in speeds.items() if name.startswith("torch"))
        for name, values in speeds.items():
            median = statistics.median(values)
            print(f"  {name:27s} {median:7.1f}  ({min(values):.1f}–{max(values):.1f})  {median / peer:.2f}", flush=True)


def measured(case: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Images/s of each contestant in each round."""
    speeds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    processes = {name: started(name, case, seconds) for name in CONTESTANTS}
    try:
        for _ in range(rounds):
            for name, process in processes.items():
                speeds[name].append(asked(process))
    finally:
        for process in processes.values():
            process.communicate()
    return speeds


def started(name: str, case: int, seconds: float) -> subprocess.Popen[str]:
    """A contestant's process, ready to be asked."""
    command = [sys.executable, __file__, "--one", name, str(case), "--seconds", str(seconds)]
    quiet = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=os.environ | quiet, text=True, **pipes)
    asked(process)
    return process


def asked(process: subprocess.Popen[str]) -> float:
    """The next figure of a process: 0 once it is ready, then images/s of another round."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("images/s "):
            return float(line.split()[1])
    raise SystemExit(f"{' '.join(process.args[2:4])} ended with status {process.wait()}")


def answer(name: str, case: tuple[str, int, int, int], seconds: float) -> None:
    """Train when asked to, and print how fast."""
    library, precision = name.split()
    make = {"hounsfield": hounsfield_step, "keras": keras_step, "torch": torch_step}[library]
    step = make(precision, *case[1:])
    for _ in range(WARM_UP):
        step()
    for number, _ in enumerate(sys.stdin):
        print(f"images/s {measure(step, case[3], seconds) if number else 0}", flush=True)


def measure(step: Callable[[], float], batch: int, seconds: float) -> float:
    """Images/s of a training step, over some seconds."""
    step()
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        step()
        count += 1
    return count * batch / (time.perf_counter() - started)


def batch_of(size: int, batch: int):
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.normal(size=(batch, size, size, 1)).astype(np.float32)
    return images, generator.integers(0, 2, (batch, 1)).astype(np.float32)


def hounsfield_step(precision: str, size: int, width: int, batch: int):
    import keras

    from hounsfield.models import build
    from hounsfield.models.training_model import jit_compilation, training_model

    twin = training_model(build("resnet18", (size, size, 1), 2, "binary", width=width), precision, [])
    twin.compile(keras.optimizers.AdamW(1e-3), "binary_crossentropy", jit_compile=jit_compilation())
    images, targets = batch_of(size, batch)
    return lambda: float(twin.train_on_batch(images, targets))


def keras_step(precision: str, size: int, width: int, batch: int):
    import keras

    from hounsfield.models import build

    keras.mixed_precision.set_global_policy(precision)
    network = build("resnet18", (size, size, 1), 2, "binary", width=width)
    network.compile(keras.optimizers.AdamW(1e-3), "binary_crossentropy")
    images, targets = batch_of(size, batch)
    return lambda: float(network.train_on_batch(images, targets))


def torch_step(precision: str, size: int, width: int, batch: int):
    import torch
    from torch_resnet import resnet18

    network = resnet18(width, size)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    arrays = batch_of(size, batch)
    images = torch.from_numpy(arrays[0]).permute(0, 3, 1, 2).to(memory_format=torch.channels_last)
    targets = torch.from_numpy(arrays[1])

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = network(images)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    main()
