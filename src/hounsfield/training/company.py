"""Several processes that train one network: the first decides, the others follow it."""

from __future__ import annotations

import io
import json
import math
import zlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from hounsfield.distributed.hub import Line
from hounsfield.shares import Share
from hounsfield.training.averaging import WeightAverage
from hounsfield.training.batches import Feed
from hounsfield.training.checkpoint import assign, values_of
from hounsfield.training.fitted import Fitted
from hounsfield.training.loop import Epoch, Trainee, follow_pace, ignore
from hounsfield.training.pace import Pace
from hounsfield.training.schedule import Schedule


class Others:
    """The other processes; a ``loop.Company``.

    Args:
        line: to all of them.
        rank: of this one.
        size: number of processes, with this one.
    """

    def __init__(self, line: Line, rank: int, size: int) -> None:
        self._line, self._size = line, size
        self.share = Share(rank, size, line.add_up_at_end)

    def tell(
        self, model: keras.Model, average: WeightAverage, fitted: Fitted, pace: Pace, *, over: bool = False
    ) -> None:
        """See :meth:`loop.Company.tell`.

        After the same steps all have the same state, so only its digest is told, and the state itself where one of them
        has another: one that has just begun, or one whose processor rounds in another way.
        """
        state = [] if over else _state(model, average)
        news = {
            "history": fitted.history,
            "criterion": fitted.criterion,
            "decided": pace.decided,
            "averaged": average.count,
            "digest": _digest(state),
            "over": over,
        }
        self._line.tell(_packed(news, []))
        if not over and self.is_any(wrong=False):
            self._line.tell(_packed(news, state))

    def hear(self, model: keras.Model, average: WeightAverage) -> dict[str, Any]:
        """What the first process tells; the model and the average get its state."""
        news, _ = read_news(self._line.hear())
        if not news["over"] and self.is_any(wrong=_digest(_state(model, average)) != news["digest"]):
            _, state = read_news(self._line.hear())
            length = len(values_of(model))
            assign(model, state[:length])
            average.count, average.weights = news["averaged"], state[length:]
        return news

    def is_any(self, *, wrong: bool) -> bool:
        """Whether any process says so."""
        return bool(self._line.add_up_at_end(np.array([wrong], np.float32))[0])

    def mean(self, figures: dict[str, float]) -> dict[str, float]:
        """See :meth:`loop.Company.mean`."""
        names = sorted(figures)
        summed = self._line.add_up_at_end(np.array([figures[name] for name in names], np.float32))
        return dict(zip(names, (float(value) / self._size for value in summed), strict=False))

    def check(self) -> None:
        """See :meth:`loop.Company.check`."""
        self._line.check()


def _state(model: keras.Model, average: WeightAverage) -> list[np.ndarray]:
    return [*values_of(model), *average.weights]


def _digest(state: Sequence[np.ndarray]) -> int:
    found = 0
    for value in state:
        found = zlib.crc32(np.ascontiguousarray(value).data, found)
    return found


def _packed(news: dict[str, Any], state: Sequence[np.ndarray]) -> bytes:
    """As ``read_news`` reads it: the news are the first array."""
    content = io.BytesIO()
    np.savez(content, np.array(json.dumps(news)), *state)
    return content.getvalue()


def read_news(content: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What the first process told: how far the training is, and the state of the network where it sent that too."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        news, *values = (archive[f"arr_{number}"] for number in range(len(archive.files)))
    return json.loads(str(news)), values


def follow(trainee: Trainee, schedule: Schedule, line: Line, rank: int, size: int) -> None:
    """Train a share of each batch, epoch after epoch, until the first process says that it is over.

    Args:
        trainee: the network in training; its state comes from the first process.
        schedule: the plan's decisions on optimisation.
        line: to the others.
        rank: of this process.
        size: number of processes.

    Raises:
        Lost: another process was lost.
    """
    feed, company, average = Feed(), Others(line, rank, size), WeightAverage(schedule.average_decay)
    while not (news := company.hear(trainee.model, average))["over"]:
        done = len(news["history"])
        pace = Pace(schedule.epochs, None, [(after, epochs) for after, epochs in news["decided"]])
        follow_pace(trainee.model.optimizer, pace, done, schedule.epochs)
        epoch = Epoch(trainee, feed, done, company)
        if math.isfinite(epoch.train(ignore)["loss"]):
            with epoch.averaged(average):
                trainee.validate(done, last=False, share=epoch.share)
