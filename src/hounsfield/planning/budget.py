"""What each effort may spend on the training of a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hounsfield.plans.augmentation import Strength
from hounsfield.plans.base import Effort


@dataclass(frozen=True)
class Budget:
    """What an effort may spend: by rank the input's longest side, the network's width and the images seen.

    ``images`` is how often an image is seen in one network's training, all passes together; ``epochs`` the
    fewest and the most passes. Where the training images hold fewer than ``ample_values`` values, half the width is
    taken.
    """

    network: str
    longest_side: dict[int, int]
    width: dict[int, int]
    images: dict[int, int]
    epochs: tuple[int, int]
    augmentation: Strength
    ample_values: int = 0
    folds: int = 1


BUDGETS: dict[Effort, Budget] = {
    "quick": Budget("resnet10", {2: 64, 3: 48}, {2: 16, 3: 8}, {2: 40_000, 3: 20_000}, (6, 45), "light"),
    "standard": Budget("resnet18", {2: 128, 3: 64}, {2: 32, 3: 16}, {2: 100_000, 3: 50_000}, (15, 80), "medium", 2**23),
    "thorough": Budget(
        "resnet18", {2: 128, 3: 64}, {2: 32, 3: 16}, {2: 100_000, 3: 50_000}, (15, 80), "medium", folds=4
    ),
}


def epochs_for(num_images: float, rank: int, budget: Budget) -> int:
    """The passes over so many training images that an effort has."""
    return int(np.clip(round(budget.images[rank] / num_images), *budget.epochs))
