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
    """What a training leaves.

    Attributes:
        weights: the best averaged ones.
        history: one record per epoch.
        interrupted: whether the user ended it.
        epochs: in all, as they were decided; early stopping may have left some out.
        criterion: by which the best epoch is known.
    """

    weights: list[np.ndarray]
    history: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    epochs: int = 0
    criterion: Criterion = LEAST_LOSS

    @property
    def best_epoch(self) -> int:
        """Epoch (from 1) of the best validation; the last one before any."""
        figure, more = self.criterion
        judged = [index for index, record in enumerate(self.history) if figure in record]
        if not judged:
            return len(self.history)
        return (max if more else min)(judged, key=lambda index: float(self.history[index][figure])) + 1
