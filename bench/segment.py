"""Seconds of a training step of our segmenter against a native PyTorch loop, the same U-Net, patch, batch and loss.

    python bench/segment.py step [--width 16] [--batch 2] [--rounds 3] [--seconds 10]

Every contestant runs in a process of its own, in turn, so that thread pools do not meet; the median over the rounds is
printed with its range, with CPU seconds, and with its ratio to PyTorch in bfloat16.

    python bench/segment.py accuracy RUN [--seconds 900]

Trains our network and the PyTorch one, in turn and each in a process of its own, for so many seconds of processor
time with the plan, the splits and the prepared images of a finished run of ours: the same patches in the same order,
the same augmentation, loss, optimiser and schedule. The last weights of both are judged on the test images, patient by
patient.
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
# PyTorch's threads wait for each other in a loop, which counts as processor time where other programs run beside them.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": "PASSIVE"}


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
    accuracy.add_argument("--seconds", type=float, default=900)
    accuracy.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one = train_one(arguments.one, arguments.run, arguments.seconds) if arguments.command == "accuracy" else None
        print(json.dumps(one or measure(arguments)))
    elif arguments.command == "accuracy":
        compare_accuracy(arguments.run, arguments.seconds)
    else:
        compare_steps(arguments)


def compare_steps(arguments: argparse.Namespace) -> None:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTESTANTS}
    for _ in range(arguments.rounds):
        for name in CONTESTANTS:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", name]
            environment = os.environ | QUIET | {"KERAS_BACKEND": "tensorflow"}
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
    from scipy import stats

    found = {}
    for library, backend in (("hounsfield", "tensorflow"), ("torch", "torch")):
        command = [sys.executable, __file__, "accuracy", str(folder), "--seconds", str(seconds), "--one", library]
        environment = os.environ | QUIET | {"KERAS_BACKEND": backend}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found[library] = json.loads(done.stdout.splitlines()[-1])
    for library, one in found.items():
        labels = ", ".join(f"{each:.4f}" for each in one["labels"])
        print(
            f"{library}: {one['steps']:,} steps of {one['batch']} patches ({one['precision']}) in "
            f"{one['processor']:.0f} s of processor time, {one['wall']:.0f} s by the clock, load {one['load']:.1f}; "
            f"a step {one['step']:.3f} s of processor time; Dice {np.mean(one['dice']):.4f} ({labels})"
        )
    ours, peer = found["hounsfield"], found["torch"]
    difference = np.subtract(ours["dice"], peer["dice"])
    low, high = stats.t.interval(0.95, len(difference) - 1, difference.mean(), stats.sem(difference))
    print(
        f"Paired difference over {len(difference)} patients: {difference.mean():+.4f} (95 % {low:+.4f} to {high:+.4f})"
    )
    print(f"Step: {ours['step'] / peer['step']:.2f} times that of PyTorch in processor time")
    run = pd.read_csv(folder / "predictions.csv").query("split == 'test'").groupby("image")["dice"].mean()
    print(f"The run itself, which averages weights and keeps its best epoch: {run.mean():.4f}")


def train_one(library: str, folder: Path, seconds: float) -> dict[str, object]:
    """Train one network for so much processor time and judge it; the pace of the schedule is that of the time."""
    import numpy as np

    from hounsfield.bundle import Bundle
    from hounsfield.cohorts import MaskStore, assign_splits, load_request
    from hounsfield.cohorts.request import DataRequest
    from hounsfield.plans.masks import MaskPlan
    from hounsfield.training.segmenter import PatchBatches

    plan, bundle = MaskPlan.load(folder / "plan.yaml"), Bundle.load(folder)
    if plan.rank != 3 or plan.overlapping:
        sys.exit("The PyTorch network is one for volumes whose labels exclude each other; RUN is another.")
    request = DataRequest.from_dict(json.loads((folder / "environment.json").read_text())["data"])
    store = MaskStore.build(assign_splits(load_request(request), seed=plan.seed), bundle.pipeline)
    train = np.repeat(store.cohort.rows("train"), plan.patches)
    vary, step, run = {"hounsfield": our_training, "torch": torch_training}[library](plan, store, train)
    wall, load, took, free = time.perf_counter(), [], [], 0.0
    began, epoch = time.process_time(), 0
    while (part := (time.process_time() - began - free) / seconds) < 1:
        batches = PatchBatches(store, train, plan, seed=plan.seed, epoch=epoch)
        for index in range(len(batches)):
            images, masks = batches[index]
            # Our layers change grey values, in both; in PyTorch, where they are not native, that is not counted.
            before = time.process_time()
            images = vary(images)
            free += time.process_time() - before
            part = (time.process_time() - began - free) / seconds
            if part >= 1:
                break
            before = time.process_time()
            step(images, masks, rate_at(plan, part))
            took.append(time.process_time() - before)
        load.append(os.getloadavg()[0])
        epoch += 1
        print(f"{library}: {len(took)} steps, {part:.0%}", file=sys.stderr)
    processor, wall = time.process_time() - began - free, time.perf_counter() - wall
    scores = np.array(judge(plan, store, run))
    return {
        "steps": len(took),
        "batch": plan.batch_size,
        "precision": plan.precision,
        "processor": processor,
        "wall": wall,
        "load": statistics.median(load),
        "step": statistics.median(took),
        "dice": np.nanmean(scores, axis=1).tolist(),
        "labels": np.nanmean(scores, axis=0).tolist(),
    }


def rate_at(plan, part: float) -> float:
    """The learning rate after a part of the training, as ``hounsfield.training.optimizer``."""
    if part < plan.warmup:
        return plan.learning_rate * (1 / 25 + (1 - 1 / 25) * part / plan.warmup)
    fallen = 0.5 * (1 + math.cos(math.pi * (part - plan.warmup) / (1 - plan.warmup)))
    return plan.learning_rate * (0.005 + 0.995 * fallen)


def judge(plan, store, run) -> list[list[float]]:
    """The Dice of each label of each test image, on its prepared grid."""
    import numpy as np

    from hounsfield.inference.sliding import Sliding
    from hounsfield.masks import dice, judged_regions

    sliding, scores = Sliding(plan.input_shape[:-1]), []
    for row in store.cohort.rows("test").tolist():
        found = sliding.segment(run, np.asarray(store.image(row)), keep=False).mask
        pairs = (judged_regions(store.mask(row), found, label, overlapping=False) for label in range(len(plan.labels)))
        scores.append([dice(*pair) for pair in pairs])
    return scores


def our_training(plan, store, train):
    import keras
    import numpy as np

    from hounsfield.models.training_model import jit_compilation
    from hounsfield.planning.masks import network_of
    from hounsfield.training.segmenter import SegmenterTrainee

    keras.utils.set_random_seed(plan.seed)
    network = network_of(plan)
    trainee = SegmenterTrainee(network, store, train, train[:0], plan, seed=plan.seed)
    model = trainee.model
    optimizer = keras.optimizers.AdamW(
        plan.learning_rate, weight_decay=plan.weight_decay, beta_2=0.99, global_clipnorm=5.0
    )
    optimizer.exclude_from_weight_decay([each for each in model.trainable_variables if len(each.shape) < 2])
    model.compile(optimizer, jit_compile=jit_compilation())

    def step(images, masks, rate):
        optimizer.learning_rate = rate
        model.train_on_batch(images, masks)

    def run(batch):
        network.set_weights(trainee.weights())
        logits, features, *_ = network.predict_on_batch(batch)
        return np.asarray(logits), np.asarray(features)

    return lambda images: images, step, run


def torch_training(plan, store, train):  # noqa: ARG001 - as our_training
    import numpy as np
    import torch
    from torch_unet import UNet, initialise

    from hounsfield.augmentation.build import build_layers

    torch.manual_seed(plan.seed)
    network = UNet(plan.input_shape[-1], plan.num_outputs, plan.width, plan.strides, plan.kernels)
    initialise(network)
    parts = [[each for each in network.parameters() if (each.dim() < 2) == small] for small in (False, True)]
    groups = [{"params": parts[0], "weight_decay": plan.weight_decay}, {"params": parts[1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, plan.learning_rate, betas=(0.9, 0.99), eps=1e-7)
    precision = "bfloat16" if plan.precision == "mixed_bfloat16" else "float32"
    layers = build_layers(plan.intensities, plan.seed)

    def vary(images):
        varied = torch.from_numpy(images)
        with torch.no_grad():
            for layer in layers:
                varied = layer(varied, training=True)
        return varied.movedim(-1, 1).contiguous()

    def step(images, masks, rate):
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch_train(network, optimizer, images, torch.from_numpy(masks).long()[..., 0], precision)

    def run(batch):
        with torch.no_grad():
            logits = network(torch.from_numpy(batch).movedim(-1, 1).contiguous())[0].movedim(1, -1)
        return logits.numpy(), np.zeros((1, 1), np.float32)

    return vary, step, run


if __name__ == "__main__":
    main()
