"""Seconds of a training step of our segmenter against a native PyTorch loop, the same U-Net, patch, batch and loss.

    python bench/segment.py step [--width 16] [--batch 2] [--rounds 3] [--seconds 10]

Every contestant runs in a process of its own, in turn, so that thread pools do not meet; the median over the rounds is
printed with its range, with CPU seconds, and with its ratio to PyTorch in bfloat16.

    python bench/segment.py accuracy RUN [--seconds 1200]

Trains the PyTorch network for so long on the prepared patches, plan and splits of a finished run of ours, and compares
the Dice of the test images of both, case by case.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

CONTESTANTS = ("hounsfield mixed_bfloat16", "hounsfield float32", "torch bfloat16", "torch float32")
PATCH = (40, 56, 40)
STRIDES, KERNELS = ((2, 2, 2),) * 3, ((3, 3, 3),) * 4
NUM_OUTPUTS = 3
WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    step = commands.add_parser("step")
    step.add_argument("--width", type=int, default=16)
    step.add_argument("--batch", type=int, default=2)
    step.add_argument("--rounds", type=int, default=3)
    step.add_argument("--seconds", type=float, default=10)
    step.add_argument("--one", help=argparse.SUPPRESS)
    accuracy = commands.add_parser("accuracy")
    accuracy.add_argument("run", type=Path)
    accuracy.add_argument("--seconds", type=float, default=1200)
    arguments = parser.parse_args()
    if arguments.command == "accuracy":
        compare_accuracy(arguments.run, arguments.seconds)
    elif arguments.one:
        print(json.dumps(measure(arguments)))
    else:
        compare_steps(arguments)


def compare_steps(arguments: argparse.Namespace) -> None:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTESTANTS}
    for _ in range(arguments.rounds):
        for name in CONTESTANTS:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", name]
            environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found[name].append(tuple(json.loads(done.stdout.splitlines()[-1])))
    size = "×".join(map(str, PATCH))
    print(f"U-Net of width {arguments.width}, {arguments.batch} patches of {size}, load {os.getloadavg()[0]:.1f}:")
    peer = [statistics.median(each) for each in zip(*found["torch bfloat16"], strict=True)]
    for name, values in found.items():
        told = [
            f"{middle:.3f} s ({min(each):.3f}–{max(each):.3f}), {middle / of:.2f} times"
            for each, of in zip(zip(*values, strict=True), peer, strict=True)
            for middle in [statistics.median(each)]
        ]
        print(f"  {name:26s} {told[0]}; CPU {told[1]}")


def measure(arguments: argparse.Namespace) -> tuple[float, float]:
    """The median wall seconds and CPU seconds of a step."""
    library, precision = arguments.one.split()
    step = {"hounsfield": hounsfield_step, "torch": torch_step}[library](precision, arguments.width, arguments.batch)
    for _ in range(WARM_UP):
        step()
    walls, cpus, began = [], [], time.perf_counter()
    while time.perf_counter() - began < arguments.seconds or len(walls) < 3:
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def batch_of(count: int):
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.normal(size=(count, *PATCH, 1)).astype(np.float32)
    return images, generator.integers(0, NUM_OUTPUTS, (count, *PATCH, 1)).astype(np.uint8)


def hounsfield_step(precision: str, width: int, count: int):
    import keras

    from hounsfield.models.training_model import jit_compilation, training_copy
    from hounsfield.segmentation import residual_unet
    from hounsfield.segmentation.unet import supervised_outputs
    from hounsfield.training.segmenter import SupervisedNetwork

    network = residual_unet((*PATCH, 1), NUM_OUTPUTS, width=width, strides=STRIDES, kernels=KERNELS)
    supervised = supervised_outputs(STRIDES)
    copy = training_copy(network, precision, ("logits", "features", *(each.name for each in supervised)))
    model = SupervisedNetwork(copy, [(1, 1, 1), *(each.reduction for each in supervised)], overlapping=False)
    model.compile(keras.optimizers.AdamW(1e-3, global_clipnorm=5.0), jit_compile=jit_compilation())
    images, masks = batch_of(count)
    return lambda: float(model.train_on_batch(images, masks))


def torch_step(precision: str, width: int, count: int):
    import torch
    from torch_unet import UNet

    # Channels first: channels last are no faster for volumes.
    network = UNet(1, NUM_OUTPUTS, width, STRIDES, KERNELS)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    arrays = batch_of(count)
    images = torch.from_numpy(arrays[0]).movedim(-1, 1).contiguous()
    labels = torch.from_numpy(arrays[1]).long()[..., 0]
    return lambda: torch_train(network, optimizer, images, labels, precision)


def torch_train(network, optimizer, images, labels, precision: str) -> float:
    import torch
    from torch_unet import loss_of

    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        outputs = network(images)
    loss = loss_of(outputs, labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return loss.item()


def compare_accuracy(folder: Path, seconds: float) -> None:
    import numpy as np
    import pandas as pd
    import torch
    from torch_unet import UNet

    from hounsfield.bundle import Bundle
    from hounsfield.cohorts import MaskStore, assign_splits, load_request
    from hounsfield.cohorts.request import DataRequest
    from hounsfield.inference.sliding import FULL, Sliding
    from hounsfield.plans.masks import MaskPlan
    from hounsfield.training.segmenter import PatchBatches

    plan, bundle = MaskPlan.load(folder / "plan.yaml"), Bundle.load(folder)
    request = DataRequest.from_dict(json.loads((folder / "environment.json").read_text())["data"])
    cohort = assign_splits(load_request(request), seed=plan.seed)
    store = MaskStore.build(cohort, bundle.pipeline)
    train = np.repeat(store.cohort.rows("train"), plan.patches)
    torch.manual_seed(plan.seed)
    network = UNet(plan.input_shape[-1], plan.num_outputs, plan.width, plan.strides, plan.kernels)
    optimizer = torch.optim.AdamW(
        network.parameters(), plan.learning_rate, betas=(0.9, 0.99), weight_decay=plan.weight_decay
    )
    precision = "bfloat16" if plan.precision == "mixed_bfloat16" else "float32"
    steps, epoch, began = 0, 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        batches = PatchBatches(store, train, plan, seed=plan.seed, epoch=epoch)
        for index in range(len(batches)):
            part = (time.perf_counter() - began) / seconds
            if part >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * min(1, part / plan.warmup) * 0.5 * (1 + math.cos(math.pi * part))
            images, masks = batches[index]
            patches = torch.from_numpy(images).movedim(-1, 1).contiguous()
            torch_train(network, optimizer, patches, torch.from_numpy(masks).long()[..., 0], precision)
            steps += 1
        epoch += 1
    sliding, scores = Sliding(plan.input_shape[:-1]), []

    def run(batch):
        with torch.no_grad():
            logits = network(torch.from_numpy(batch).movedim(-1, 1))[0].movedim(1, -1)
        return logits.numpy(), np.zeros((1, 1), np.float32)

    rows = store.cohort.rows("test")
    for row in rows.tolist():
        decided = sliding.decide(sliding.segment(run, np.asarray(store.image(row))).probabilities / np.float32(FULL))
        true = np.stack([store.mask(row)[..., 0] == index + 1 for index in range(len(plan.labels))], axis=-1)
        both = (true & decided).sum((0, 1, 2))
        scores.append((2 * both / (true.sum((0, 1, 2)) + decided.sum((0, 1, 2)))).mean())
    ours = pd.read_csv(folder / "predictions.csv").query("split == 'test'").groupby("image", sort=False)["dice"].mean()
    difference = ours.loc[store.cohort.table["image"].iloc[rows]].to_numpy() - np.array(scores)
    half = 1.96 * difference.std(ddof=1) / math.sqrt(len(difference))
    load = os.getloadavg()[0]
    print(f"PyTorch: {steps:,} steps of {plan.batch_size} patches in {seconds:.0f} s, {precision}, load {load:.1f}")
    print(f"Dice on {len(rows)} test images: ours {ours.mean():.4f}, PyTorch {np.mean(scores):.4f}")
    middle = difference.mean()
    print(f"Difference by image {middle:+.4f} (95 % {middle - half:+.4f} to {middle + half:+.4f})")


if __name__ == "__main__":
    main()
