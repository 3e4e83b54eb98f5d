"""Which normalisation of the U-Net has the better masks after the same steps, and what does a step cost?

    python bench/segment_normalisation.py RUN [--steps 600] [--seeds 0 1] [--kinds instance group batch]

RUN is a finished segmenter: its plan, splits and prepared images are taken, with instance normalisation, groups of
eight channels, or the statistics of the batch. Every network is trained in a process of its own, for the same steps on
the same patches in the same order; its last weights are judged on the test images. A step is measured in processor
time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from segment import QUIET, judge, our_training, rate_at

GROUP = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--kinds", nargs="+", default=["instance", "group", "batch"])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(train(options.run, options.kinds[0], options.steps, options.seeds[0])))
        return
    for seed in options.seeds:
        for kind in options.kinds:
            command = [sys.executable, __file__, str(options.run), "--one", "--steps", str(options.steps)]
            command += ["--seeds", str(seed), "--kinds", kind]
            environment = os.environ | QUIET | {"KERAS_BACKEND": "tensorflow"}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            labels = ", ".join(f"{each:.3f}" for each in found["labels"])
            print(f"seed {seed}, {kind}: Dice {found['dice']:.4f} ({labels}), a step {found['step']:.3f} s", flush=True)


def train(folder: Path, kind: str, steps: int, seed: int) -> dict[str, object]:
    import numpy as np

    from hounsfield.bundle import Bundle
    from hounsfield.cohorts import MaskStore, assign_splits, load_request
    from hounsfield.cohorts.request import DataRequest
    from hounsfield.plans.masks import MaskPlan
    from hounsfield.training.segmenter import PatchBatches

    use(kind)
    planned = MaskPlan.load(folder / "plan.yaml")
    request = DataRequest.from_dict(json.loads((folder / "environment.json").read_text())["data"])
    store = MaskStore.build(assign_splits(load_request(request), seed=planned.seed), Bundle.load(folder).pipeline)
    plan = planned.model_copy(update={"seed": seed})
    rows = np.repeat(store.cohort.rows("train"), plan.patches)
    _, step, run = our_training(plan, store, rows)
    took: list[float] = []
    while len(took) < steps:
        batches = PatchBatches(store, rows, plan, seed=seed, epoch=len(took))
        for index in range(min(len(batches), steps - len(took))):
            images, masks = batches[index]
            before = time.process_time()
            step(images, masks, rate_at(plan, len(took) / steps))
            took.append(time.process_time() - before)
    scores = np.array(judge(plan, store, run))
    return {
        "dice": float(np.nanmean(scores)),
        "labels": np.nanmean(scores, axis=0).tolist(),
        "step": statistics.median(took),
    }


def use(kind: str) -> None:
    """Have every network made with this normalisation."""
    import keras

    from hounsfield.segmentation import unet

    def group(name: str):
        return Group(name=name)

    class Group(keras.layers.GroupNormalization):
        """Groups of eight channels, however many there are."""

        def build(self, input_shape):
            self.groups = max(1, input_shape[-1] // GROUP)
            super().build(input_shape)

    def batch(name: str):
        return keras.layers.BatchNormalization(momentum=0.9, name=name)

    if kind != "instance":
        unet.InstanceNormalization = {"group": group, "batch": batch}[kind]


if __name__ == "__main__":
    main()
