"""Training images/s: our training step against a native PyTorch loop, the same ResNet-18, in one run.

    python bench/train.py [--rounds 3] [--seconds 3]
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python bench/train.py

Every contestant has a process of its own, which is started once and waits while the others are measured in turn, so
that thread pools do not meet; the median over the rounds is printed with its range, and its ratio to PyTorch's better.
Where a processor has no instructions for bfloat16, a step in it can take many seconds: a contestant that has not a
quarter of another's speed is measured twice, and one whose first steps are not done in time is left out. The second
line keeps both libraries' convolutions to the instructions of such a processor; TensorFlow's in bfloat16 then end with
an error, since it looks at the processor itself.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from threading import Timer

# What the network is called, its input size, its width, and the batch size.
CASES = (("28×28, width 64", 28, 64, 128), ("128×128, width 32", 128, 32, 32))
CONTESTANTS = (
    "hounsfield float32",
    "torch float32",
    "hounsfield mixed_bfloat16",
    "torch bfloat16",
    "keras mixed_bfloat16",
)
IMPORTED = {"hounsfield": "hounsfield.models", "keras": "hounsfield.models", "torch": "torch_resnet"}
WARM_UP = 3
# Seconds until a contestant must have done its first steps.
PATIENCE = 20.0
# A contestant with less than this share of the best speed is measured twice.
SLOW = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        answer(arguments.one, arguments.seconds)
        return
    processes = {name: started(name, arguments.seconds) for name in CONTESTANTS}
    try:
        for process in processes.values():
            asked(process, "imported")
        for number, case in enumerate(CASES):
            report(case, measured(processes, number, arguments.rounds), arguments.rounds)
            for name, process in processes.items():
                if process.poll() is not None:
                    why = f"no steps within {PATIENCE:g} s" if process.returncode == -9 else "ended with an error"
                    print(f"  {name:27s} left out: {why}", flush=True)
    finally:
        for process in processes.values():
            process.communicate()


def report(case: tuple[str, int, int, int], speeds: dict[str, list[float]], rounds: int) -> None:
    """Print the figures of one case."""
    print(f"ResNet-18 at {case[0]}, batch {case[3]}, images/s (median, range of {rounds} or 2), ratio:")
    peer = max(statistics.median(values) for name, values in speeds.items() if name.startswith("torch") and values)
    for name, values in speeds.items():
        if values:
            median = statistics.median(values)
            print(f"  {name:27s} {median:7.1f}  ({min(values):.1f}–{max(values):.1f})  {median / peer:.2f}", flush=True)


def measured(processes: dict[str, subprocess.Popen[str]], case: int, rounds: int) -> dict[str, list[float]]:
    """Images/s of each contestant in each round; none of one that is too slow to be measured, which is ended."""
    speeds: dict[str, list[float]] = {name: [] for name in processes}
    ready = {name: process for name, process in processes.items() if is_ready(process, case)}
    for _ in range(rounds):
        best = max((max(values) for values in speeds.values() if values), default=0.0)
        for name, process in ready.items():
            if len(speeds[name]) < 2 or max(speeds[name]) >= SLOW * best:
                speeds[name].append(float(asked(process, "images/s")))
    return speeds


def started(name: str, seconds: float) -> subprocess.Popen[str]:
    """A contestant's process."""
    command = [sys.executable, __file__, "--one", name, "--seconds", str(seconds)]
    quiet = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=os.environ | quiet, text=True, **pipes)


def is_ready(process: subprocess.Popen[str], case: int) -> bool:
    """Whether a contestant did its first steps of a case in time; if not, it is ended."""
    if process.poll() is not None:
        return False
    timer = Timer(PATIENCE, process.kill)
    timer.start()
    try:
        tell(process, str(case))
        return bool(asked(process, "ready"))
    finally:
        timer.cancel()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def asked(process: subprocess.Popen[str], what: str) -> str:
    """What a process answers; nothing if it has ended."""
    if what == "images/s":
        tell(process, "go")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(what):
            return line.split()[1]
    process.wait()
    return ""


def answer(name: str, seconds: float) -> None:
    """Train when asked to, and print how fast."""
    library, precision = name.split()
    importlib.import_module(IMPORTED[library])
    make = {"hounsfield": hounsfield_step, "keras": keras_step, "torch": torch_step}[library]
    print("imported yes", flush=True)
    step: Callable[[], float] = float
    batch = 0
    for line in sys.stdin:
        if line != "go\n":
            case = CASES[int(line)]
            step, batch = make(precision, *case[1:]), case[3]
            for _ in range(WARM_UP):
                step()
            print("ready yes", flush=True)
        else:
            print(f"images/s {measure(step, batch, seconds)}", flush=True)


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
    from hounsfield.models import build
    from hounsfield.models.training_model import jit_compilation, training_model
    from hounsfield.training.optimizer import PacedAdamW

    twin = training_model(build("resnet18", (size, size, 1), 2, "binary", width=width), precision, [])
    twin.compile(PacedAdamW(1e-3), "binary_crossentropy", jit_compile=jit_compilation())
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
