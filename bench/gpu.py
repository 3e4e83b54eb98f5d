"""Training and prediction of a ResNet-18 on a GPU: Keras on each backend beside native PyTorch, in at most 8 minutes.

    python bench/gpu.py [--seconds 3] [--rehearse]

Each contestant has a process of its own and two minutes at most; a backend that is not installed or sees no GPU is
named. The figures are images/s with the copies to and from the GPU, the share of the multiply-adds/s that large
matrices reach in bfloat16 in the same run, the most memory of the GPU so far in the process, and the ratio to the
better of PyTorch's two precisions. A star marks the precision that the planner chooses by its short measurement.
PyTorch runs as it is written, with channels last, cuDNN's benchmark and TF32, without torch.compile. --rehearse runs
every line at tiny sizes, on a CPU too; its figures say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Case(NamedTuple):
    """Side of the images, width of the network's first stage, and images of a training step and of a prediction."""

    side: int
    width: int
    batch: int
    predicted: int


CASES = (Case(28, 64, 1024, 4096), Case(224, 64, 128, 512))
REHEARSED = (Case(16, 4, 4, 8), Case(64, 4, 2, 4))
CONTESTANTS = ("native torch", "keras tensorflow", "keras jax", "keras torch")
# Of a contestant: four of them and what starts them take less than 8 minutes.
LONGEST = 115
WARM_UP = 3
# Forward, and twice as much for the gradients of weights and of inputs.
TRAINING = 3
ENVIRONMENT = {
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

Step = Callable[[], object]
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each figure")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, on a CPU too")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        for row in rows_of(arguments.one, arguments.seconds, rehearse=arguments.rehearse):
            print(json.dumps(row), flush=True)
        return
    found = [row for name in CONTESTANTS for row in in_own_process(name, arguments.seconds, arguments.rehearse)]
    for row in found:
        if "missing" in row:
            print(f"{row['contestant']}: {row['missing']}")
    if not any("images" in row for row in found):
        sys.exit("There is no GPU that a backend can use, so nothing was measured. Run this on a machine that has one.")
    print_rows(found, REHEARSED if arguments.rehearse else CASES)


def in_own_process(name: str, seconds: float, rehearse: bool) -> list[Row]:
    backend = name.split()[1]
    command = [sys.executable, __file__, "--one", name, "--seconds", str(seconds), *["--rehearse"] * rehearse]
    environment = os.environ | ENVIRONMENT | {"KERAS_BACKEND": backend}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False)
        output, fault = done.stdout, done.stderr if done.returncode else ""
    except subprocess.TimeoutExpired as late:
        raw = late.stdout or b""
        output, fault = raw if isinstance(raw, str) else raw.decode(), f"stopped after {LONGEST} s"
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    if fault:
        rows.append({"missing": (fault.strip().splitlines() or ["it failed"])[-1]})
    return [row | {"contestant": name} for row in rows]


def rows_of(contestant: str, seconds: float, *, rehearse: bool) -> Iterator[Row]:
    """What a contestant reaches; of each case, precision and task a row."""
    library, backend = contestant.split()
    device = device_of(backend)
    if device is None and not rehearse:
        yield {"missing": "sees no GPU"}
        return
    if library == "native":
        yield {"device": device or "CPU", "peak": peak(size=64 if rehearse else 8192, seconds=seconds)}
    for number, case in enumerate(REHEARSED if rehearse else CASES):
        chosen, make = None, torch_steps
        if library == "keras":
            chosen, make = chosen_precision(case), keras_steps
        for precision in ("float32", "bfloat16"):
            for task, (step, images) in make(case, precision).items():
                row = {"case": number, "task": task, "precision": precision, "chosen": precision == chosen}
                yield row | {"images": images / seconds_of(step, seconds), "memory": memory_mb(backend)}


def seconds_of(step: Step, seconds: float) -> float:
    """Of one step, in the mean."""
    for _ in range(WARM_UP):
        step()
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        step()
        count += 1
    return (time.perf_counter() - started) / count


def device_of(backend: str) -> str | None:
    """The name of the GPU that a backend uses."""
    if backend == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else None
    from hounsfield.models.devices import accelerators

    return next(iter(accelerators()), None)


def memory_mb(backend: str) -> float:
    """The most memory of the GPU so far; of the process, where there is no GPU."""
    if device_of(backend) is None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if backend == "torch":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    import jax

    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**20


def peak(size: int, seconds: float) -> float:
    """Multiply-adds/s of matrices of this size in bfloat16."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    first, second = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))

    def step() -> None:
        for _ in range(10):
            product = first @ second
        # Waits until all are done.
        product[0, 0].item()

    return 10 * size**3 / seconds_of(step, seconds)


def batch_of(side: int, count: int) -> tuple[Any, Any]:
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.normal(size=(count, side, side, 1)).astype(np.float32)
    return images, generator.integers(0, 2, (count, 1)).astype(np.float32)


def chosen_precision(case: Case) -> str:
    from hounsfield.planning.speed import measure_speed

    return measure_speed((case.side, case.side, 1), case.width, case.batch).precision.removeprefix("mixed_")


def keras_steps(case: Case, precision: str) -> dict[str, tuple[Step, int]]:
    """A training step and a prediction, with their numbers of images."""
    import keras

    from hounsfield.models import build
    from hounsfield.models.training_model import jit_compilation, training_model

    network = build("resnet18", (case.side, case.side, 1), 2, "binary", width=case.width)
    model = training_model(network, "mixed_bfloat16" if precision == "bfloat16" else "float32", [])
    model.compile(keras.optimizers.AdamW(1e-3), "binary_crossentropy", jit_compile=jit_compilation())
    images, targets = batch_of(case.side, case.batch)
    many, _ = batch_of(case.side, case.predicted)
    return {
        "training": (lambda: float(model.train_on_batch(images, targets)), case.batch),
        "prediction": (lambda: model.predict_on_batch(many), case.predicted),
    }


def torch_steps(case: Case, precision: str) -> dict[str, tuple[Step, int]]:
    """The same in native PyTorch."""
    import torch
    from torch_resnet import resnet18

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    network = resnet18(case.width, case.side).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    arrays, (many, _) = batch_of(case.side, case.batch), batch_of(case.side, case.predicted)
    autocast = torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")

    def there(array: Any) -> Any:
        moved = torch.from_numpy(array).to(device, non_blocking=True)
        return moved.permute(0, 3, 1, 2) if array.ndim == 4 else moved

    def train() -> float:
        network.train()
        optimizer.zero_grad()
        images, targets = map(there, arrays)
        with autocast:
            logits = network(images)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), targets)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    @torch.no_grad()
    def predict() -> Any:
        network.eval()
        with autocast:
            logits = network(there(many))
        return torch.sigmoid(logits.float()).cpu().numpy()

    return {"training": (train, case.batch), "prediction": (predict, case.predicted)}


def multiply_adds(case: Case) -> int:
    """Of one image, forward."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    from hounsfield.models import build
    from hounsfield.planning import speed

    return speed.multiply_adds(build("resnet18", (case.side, case.side, 1), 2, "binary", width=case.width))


def print_rows(found: list[Row], cases: tuple[Case, ...]) -> None:
    top = next((row for row in found if "peak" in row), None)
    if top is not None:
        print(f"{top['device']}: {top['peak'] / 1e12:.3g}·10¹² multiply-adds/s of large matrices in bfloat16")
    for number, case in enumerate(cases):
        work = multiply_adds(case)
        for task in ("training", "prediction"):
            rows = [row for row in found if row.get("case") == number and row["task"] == task]
            native = [row["images"] for row in rows if row["contestant"].startswith("native")]
            count = case.batch if task == "training" else case.predicted
            print(f"{task}, ResNet-18 of width {case.width} at {case.side}×{case.side}, batch {count}:")
            print(f"  {'':30s} {'images/s':>10s} {'of peak':>8s} {'MB':>7s} {'ratio':>6s}")
            for row in rows:
                name = f"{row['contestant']} {row['precision']}{' *' if row['chosen'] else ''}"
                reached = row["images"] * work * (TRAINING if task == "training" else 1)
                share = f"{reached / top['peak']:.1%}" if top else ""
                ratio = f"{row['images'] / max(native):.2f}" if native else ""
                print(f"  {name:30s} {row['images']:10,.0f} {share:>8s} {row['memory']:7,.0f} {ratio:>6s}")


if __name__ == "__main__":
    main()
