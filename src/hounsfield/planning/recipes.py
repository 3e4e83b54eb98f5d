"""What an effort may spend, and what is given up where its time is too short: the same for every family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np

from hounsfield.plans.augmentation import Strength
from hounsfield.plans.decision import Decision

FEWEST_CHANNELS = 4
SMALL_NETWORK = "resnet10"
# A length or a number of pixels, and the rank -> the one that is taken.
Rounded = Callable[[float, int], int]


class Less(NamedTuple):
    """What a smaller recipe has less of: shares of the size and of the width, a small network, fewer folds."""

    size: float = 1.0
    width: float = 1.0
    small: bool = False
    folds: int | None = None


@dataclass(frozen=True)
class Budget:
    """The recipe of an effort.

    Attributes:
        network: its name.
        size: by rank the longest side of the network's input; of patches, how many pixels they have.
        width: by rank the channels of the network's first stage.
        images: by rank the images that one network is shown, all passes together.
        epochs: the fewest and the most passes.
        augmentation: how strongly images are varied.
        folds: networks that are trained.
    """

    network: str
    size: dict[int, int]
    width: dict[int, int]
    images: dict[int, int]
    epochs: tuple[int, int]
    augmentation: Strength
    folds: int = 1

    def reduced(self, less: Less, rounded: Rounded) -> Self:
        """The recipe with less of something."""
        return replace(
            self,
            network=SMALL_NETWORK if less.small else self.network,
            size={rank: rounded(less.size * size, rank) for rank, size in self.size.items()},
            width={rank: max(FEWEST_CHANNELS, round(less.width * width)) for rank, width in self.width.items()},
            folds=min(self.folds, less.folds or self.folds),
        )

    def epochs_for(self, num_images: float, rank: int) -> int:
        """The passes over so many training images."""
        return int(np.clip(round(self.images[rank] / num_images), *self.epochs))

    def passes(self, num_images: int, rank: int, what: str = "images") -> Decision[int]:
        """The same with the reason; ``what`` is shown to the network."""
        why = (
            f"{num_images:,} training {what}; this effort shows the network {self.images[rank]:,} {what}, "
            f"in {self.epochs[0]} to {self.epochs[1]} passes"
        )
        return Decision(self.epochs_for(num_images, rank), why)


def to_the_end(epochs: int, figure: str) -> dict[str, Decision[Any]]:
    """The patience of a training whose schedule is run to its end."""
    why = f"the schedule is run to its end, and the epoch with the best validation {figure} is kept"
    return {"patience": Decision(epochs, why)}
