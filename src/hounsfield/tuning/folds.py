"""One fold of one trial: a training whose best epoch is its score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hounsfield.errors import RunError
from hounsfield.training.base import Specification
from hounsfield.training.fitted import Criterion
from hounsfield.training.one_network import train_network


def train_fold(specification: Specification[Any, Any]) -> tuple[float, Criterion]:
    """Train one fold, in this process or in that of a worker.

    Returns:
        The figure of the best epoch, less being better, NaN where the training diverged; and by what it was judged.

    Raises:
        KeyboardInterrupt: the user stopped the training.
    """
    try:
        fitted = train_network(specification).fitted
    except RunError:
        return math.nan, Criterion("", more_is_better=False)
    if fitted.interrupted:
        # Half a training is no score, and who stops it means the search.
        raise KeyboardInterrupt
    record: Mapping[str, Any] = fitted.history[fitted.best_epoch - 1]
    figure, more = fitted.criterion
    score = float(record.get(figure, math.nan))
    return (-score if more else score), fitted.criterion
