"""How long the MedMNIST authors' recipe takes here, to be set against the time of our standard run.

    python bench/recipe.py PNEUMONIAMNIST.npz [--epochs 2]

ResNet-18 from scratch in PyTorch float32, Adam at 1e-3, batch 128, 100 epochs with the rate falling tenfold
after 50 and 75 (Yang et al., "MedMNIST v2", 2023). A few epochs are timed; all hundred take a hundred times
one, since every epoch does the same work.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch_resnet import resnet18

EPOCHS, BATCH = 100, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    with np.load(arguments.archive, allow_pickle=False) as archive:
        pixels = torch.from_numpy(archive["train_images"][:, None].astype(np.float32) / 127.5 - 1)
        targets = torch.from_numpy(archive["train_labels"].astype(np.float32))
    network = resnet18(64, 28)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    durations = [epoch(network, optimizer, pixels, targets) for _ in range(arguments.epochs)]
    print(f"{len(pixels)} images an epoch; seconds an epoch: {', '.join(f'{value:.1f}' for value in durations)}")
    print(f"the whole recipe of {EPOCHS} epochs: {EPOCHS * min(durations):.0f} s at the fastest epoch's speed")


def epoch(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, pixels: torch.Tensor, targets: torch.Tensor
) -> float:
    started = time.perf_counter()
    for rows in torch.randperm(len(pixels)).split(BATCH):
        optimizer.zero_grad()
        images = pixels[rows].contiguous(memory_format=torch.channels_last)
        torch.nn.functional.binary_cross_entropy_with_logits(network(images), targets[rows]).backward()
        optimizer.step()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
