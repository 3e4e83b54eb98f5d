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
        start: the same figure of the weights that the training began with, where these are kept unless an epoch is
            better.
    """

    weights: list[np.ndarray]
    history: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    epochs: int = 0
    criterion: Criterion = LEAST_LOSS
    start: float | None = None

    @classmethod
    def begun(cls, criterion: Criterion, start: Fitted | None) -> Fitted:
        """Nothing trained yet; the weights of ``start``, if there are any, are kept until an epoch is better."""
        weights, figure = ([], None) if start is None else (start.weights, start.best_figure)
        return cls(weights, criterion=criterion, start=figure)

    @property
    def best_epoch(self) -> int:
        """Epoch (from 1) of the best validation; the last one before any."""
        figure, more = self.criterion
        judged = [index for index, record in enumerate(self.history) if figure in record]
        if not judged:
            return len(self.history)
        return (max if more else min)(judged, key=lambda index: float(self.history[index][figure])) + 1

    @property
    def best_figure(self) -> float:
        """The criterion of the weights that are kept; NaN where nothing was judged."""
        figure, more = self.criterion
        found = float(self.history[self.best_epoch - 1].get(figure, np.nan)) if self.history else np.nan
        return found if self.start is None else float((np.fmax if more else np.fmin)(found, self.start))

    @property
    def kept_epoch(self) -> int:
        """Epoch (from 1) of the weights that are kept; 0 where those that the training began with are."""
        return 0 if self.start is not None and self.best_figure == self.start else self.best_epoch
