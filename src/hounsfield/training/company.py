"""Several processes that train one network: the first decides, the others follow it."""

from __future__ import annotations

import io
import json
from typing import Any

import keras
import numpy as np

from hounsfield.distributed.hub import Line
from hounsfield.training.batches import Feed
from hounsfield.training.checkpoint import assign, values_of
from hounsfield.training.fitted import Fitted
from hounsfield.training.loop import Epoch, Trainee, follow_pace, ignore
from hounsfield.training.pace import Pace
from hounsfield.training.schedule import Schedule


class Followers:
    """The other processes, as the first one sees them; a ``loop.Company``.

    Args:
        line: to all of them.
        size: number of processes, with this one.
    """

    def __init__(self, line: Line, size: int) -> None:
        self._line, self._size = line, size

    def tell(self, model: keras.Model, fitted: Fitted, pace: Pace, *, over: bool = False) -> None:
        """See :meth:`loop.Company.tell`."""
        news = {"history": fitted.history, "criterion": fitted.criterion, "decided": pace.decided, "over": over}
        # The news are the first array.
        arrays = [np.array(json.dumps(news)), *([] if over else values_of(model))]
        content = io.BytesIO()
        np.savez(content, *arrays)
        self._line.tell(content.getvalue())

    def mean(self, figures: dict[str, float]) -> dict[str, float]:
        """See :meth:`loop.Company.mean`."""
        names = sorted(figures)
        summed = self._line.add_up_at_end(np.array([figures[name] for name in names], np.float32))
        return dict(zip(names, (float(value) / self._size for value in summed), strict=False))

    def check(self) -> None:
        """See :meth:`loop.Company.check`."""
        self._line.check()


def read_news(content: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What the first process told: how far the training is, and the state of the network."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        news, *values = (archive[f"arr_{number}"] for number in range(len(archive.files)))
    return json.loads(str(news)), values


def follow(trainee: Trainee, schedule: Schedule, line: Line, size: int) -> None:
    """Train a share of each batch, epoch after epoch, until the first process says that it is over.

    Args:
        trainee: the network in training; its state comes from the first process.
        schedule: the plan's decisions on optimisation.
        line: to the others.
        size: number of processes.

    Raises:
        Lost: another process was lost.
    """
    feed, company = Feed(), Followers(line, size)
    while True:
        news, values = read_news(line.hear())
        if news["over"]:
            return
        assign(trainee.model, values)
        done = len(news["history"])
        pace = Pace(schedule.epochs, None, [(after, epochs) for after, epochs in news["decided"]])
        follow_pace(trainee.model.optimizer, pace, done, schedule.epochs)
        Epoch(trainee, feed, done, company).train(ignore)
