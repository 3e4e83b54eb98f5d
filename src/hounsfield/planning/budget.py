"""The recipe of each effort for networks on whole images, and smaller ones for little time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hounsfield.planning.base import Wish
from hounsfield.planning.dial import Rung, efforts_from
from hounsfield.plans.augmentation import Strength
from hounsfield.plans.base import Effort


@dataclass(frozen=True)
class Budget:
    """The recipe of an effort: by rank the input's longest side, the network's width and the images it is shown.

    ``images`` counts all passes of one network's training together; ``epochs`` are the fewest and the most passes.
    Where the training images hold fewer than ``ample_values`` values, half the width is taken.
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


# What is made smaller, effort by effort, until the time is enough: shares of the longest side and of the width, and
# whether the network becomes a resnet10.
SMALLER: dict[Effort, tuple[tuple[float, float, bool], ...]] = {
    "thorough": (),
    "standard": ((0.75, 1, False), (0.75, 1, True), (0.75, 0.5, True)),
    "quick": ((0.75, 1, True), (0.75, 0.5, True), (0.5, 0.5, True), (0.5, 0.25, True)),
}
SMALLEST_SIDE = {2: 32, 3: 24}


def ladder(wish: Wish) -> list[Rung[Budget]]:
    """The recipes that may be taken, from the largest to the smallest."""
    return [Rung(effort, budget) for effort in efforts_from(wish) for budget in _recipes(effort)]


def _recipes(effort: Effort) -> Iterator[Budget]:
    budget = BUDGETS[effort]
    yield budget
    if budget.folds > 2:
        yield replace(budget, folds=2)
    for side, width, small in SMALLER[effort]:
        yield replace(
            budget,
            longest_side={
                rank: max(SMALLEST_SIDE[rank], round(side * length)) for rank, length in budget.longest_side.items()
            },
            width={rank: max(4, round(width * channels)) for rank, channels in budget.width.items()},
            network="resnet10" if small else budget.network,
        )
