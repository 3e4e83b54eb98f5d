"""What a training leaves, and by which figure its epochs are compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Criterion(NamedTuple):
    """By what epochs are compared: a figure of the validation, and whether more of it is better."""

    figure: str
    more_is_better: bool


LEAST_LOSS = Criterion("val_loss", more_is_better=False)


@dataclass
class Fitted:
    """What a training leaves: the best averaged weights, and one history record an epoch."""

    weights: list[np.ndarray]
    history: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    criterion: Criterion = LEAST_LOSS

    @property
    def best_epoch(self) -> int:
        """Epoch (from 1) of the best validation; the last one before any."""
        figure, more = self.criterion
        judged = [index for index, record in enumerate(self.history) if figure in record]
        if not judged:
            return len(self.history)
        return (max if more else min)(judged, key=lambda index: float(self.history[index][figure])) + 1
