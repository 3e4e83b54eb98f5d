"""The recipe of each effort for networks on whole images, and smaller ones for little time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hounsfield.planning.base import Wish
from hounsfield.planning.dial import Rung, ladder
from hounsfield.planning.recipes import Budget, Less
from hounsfield.plans.base import Effort


@dataclass(frozen=True)
class ImageBudget(Budget):
    """The recipe of an effort; where the training images hold fewer than ``ample_values`` values, half the width."""

    ample_values: int = 0


_LARGE = ImageBudget("resnet18", {2: 128, 3: 64}, {2: 32, 3: 16}, {2: 100_000, 3: 50_000}, (15, 80), "medium")
BUDGETS: dict[Effort, ImageBudget] = {
    "quick": ImageBudget("resnet10", {2: 64, 3: 48}, {2: 16, 3: 8}, {2: 40_000, 3: 20_000}, (6, 45), "light"),
    "standard": replace(_LARGE, ample_values=2**23),
    "thorough": replace(_LARGE, folds=4),
}
# What is made smaller, effort by effort, until the time is enough.
SMALLER: dict[Effort, tuple[Less, ...]] = {
    "thorough": (Less(folds=2),),
    "standard": (Less(0.75), Less(0.75, small=True), Less(0.75, 0.5, small=True)),
    "quick": (
        Less(0.75, small=True),
        Less(0.75, 0.5, small=True),
        Less(0.5, 0.5, small=True),
        Less(0.5, 0.25, small=True),
    ),
}
SMALLEST_SIDE = {2: 32, 3: 24}


def image_ladder(wish: Wish) -> list[Rung[ImageBudget]]:
    """The recipes that may be taken, from the largest to the smallest."""
    return ladder(wish, BUDGETS, SMALLER, lambda length, rank: max(SMALLEST_SIDE[rank], round(length)))
