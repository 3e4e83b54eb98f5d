"""One fold of one trial: a training whose best epoch is its score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hounsfield.errors import RunError
from hounsfield.training.base import Specification
from hounsfield.training.fitted import Criterion
from hounsfield.training.loop import ignore
from hounsfield.training.one_network import train_network
from hounsfield.training.table import TRAININGS

# Called after each epoch with its number and the score so far, NaN before any.
ScoreReport = Callable[[int, float], None]


def train_fold(specification: Specification[Any, Any], on_score: ScoreReport = ignore) -> float:
    """Train one fold, in this process or in that of a worker.

    Args:
        specification: of its network.
        on_score: told of each epoch.

    Returns:
        The figure of the best epoch, less being better, NaN where the training diverged.

    Raises:
        KeyboardInterrupt: the user stopped the training.
    """
    criterion = TRAININGS[specification.plan.family].CRITERION
    try:
        fitted = train_network(
            specification, on_epoch=lambda history: on_score(len(history), _best(history, criterion))
        ).fitted
    except RunError:
        return math.nan
    if fitted.interrupted:
        # Half a training is no score, and who stops it means the search.
        raise KeyboardInterrupt
    # Also of what a finetuning began with, where no epoch was better.
    return -fitted.best_figure if criterion.more_is_better else fitted.best_figure


def _best(history: Sequence[Mapping[str, Any]], criterion: Criterion) -> float:
    """The score of the best epoch of those that were judged."""
    sign = -1.0 if criterion.more_is_better else 1.0
    return min(
        (sign * float(record[criterion.figure]) for record in history if criterion.figure in record), default=math.nan
    )
