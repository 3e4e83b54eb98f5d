"""Training images/s: our training step against a native PyTorch loop, the same ResNet-18, in one run.

    python bench/train.py [--rounds 3] [--seconds 8]

Every contestant runs in a process of its own, in turn, so that thread pools do not meet; the median over the
rounds is printed with its range, and its ratio to PyTorch in bfloat16.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(measure(arguments.one[0], CASES[int(arguments.one[1])], arguments.seconds))
        return
    for number, case in enumerate(CASES):
        speeds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
        for _ in range(arguments.rounds):
            for name in CONTESTANTS:
                speeds[name].append(in_own_process(name, number, arguments.seconds))
        print(f"ResNet-18 at {case[0]}, batch {case[3]}, images/s (median, range of {arguments.rounds}), ratio:")
        peer = statistics.median(speeds["torch bfloat16"])
        for name, values in speeds.items():
            median = statistics.median(values)
            print(f"  {name:27s} {median:7.1f}  ({min(values):.1f}–{max(values):.1f})  {median / peer:.2f}")


def in_own_process(name: str, case: int, seconds: float) -> float:
    command = [sys.executable, __file__, "--one", name, str(case), "--seconds", str(seconds)]
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure(name: str, case: tuple[str, int, int, int], seconds: float) -> float:
    library, precision = name.split()
    make = {"hounsfield": hounsfield_step, "keras": keras_step, "torch": torch_step}[library]
    step = make(precision, *case[1:])
    for _ in range(WARM_UP):
        step()
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        step()
        count += 1
    return count * case[3] / (time.perf_counter() - started)


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
