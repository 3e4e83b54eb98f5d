"""How many epochs a network is trained for, where the time is limited: decided by its measured pace as it goes.

Every decision is kept, and a training that is given decisions follows them instead of the clock: continued or repeated,
it gives the same result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# What follows the epochs: predicting an image, as a share of the time to train on one; the bundle and its files, in
# seconds, or relative to the first epoch's time for compiling, which shows how busy the machine is, but no more than a
# part of the limit.
PREDICTION_SHARE, FINISH_SECONDS, FINISH_SHARE, FINISH_PART = 0.4, 8.0, 1.6, 0.25
# Epochs are added only in this first part of the schedule, and only if there are so many more: later ones, at low
# learning rates, bring little.
EXTENDED_PART, EXTENDED_SHARE = 0.5, 0.1
# An epoch with validation and the averaging of weights, relative to its steps; for the first epoch.
FIRST_SURPLUS = 1.3
# The pace is the mean over this many last epochs.
RECENT = 3

# Epochs that were trained → epochs in all, as decided then.
Decisions = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class TimeLimit:
    """The time that the training of one network may take.

    Attributes:
        seconds: from the start of the training to the finished run.
        num_images: in an epoch.
        num_predicted: inputs of the network that are predicted after the last epoch.
    """

    seconds: float
    num_images: int
    num_predicted: int


@dataclass
class Pace:
    """The number of epochs of one network, and where in its schedule the network is.

    Attributes:
        epochs: of the plan: the length of the schedule, and the most that are trained.
        limit: of time; ``None`` for none, or where all is decided.
        decided: what was decided so far.
        clock: the time in seconds.
    """

    epochs: int
    limit: TimeLimit | None = None
    decided: list[tuple[int, int]] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Start the clock."""
        self._started = self.clock()

    @property
    def total(self) -> int:
        """Epochs in all, as decided so far."""
        return self.decided[-1][1] if self.decided else self.epochs

    def place(self, done: int) -> float:
        """The part of the schedule, from 0 to 1, that is behind the network after so many epochs.

        At each decision, the rest of the schedule is spread evenly over the remaining epochs.
        """
        since, place, total = self._stretch(done)
        return place + (1 - place) * (done - since) / max(total - since, 1)

    def stride(self, done: int) -> float:
        """The part of the schedule that the next epoch takes."""
        since, place, total = self._stretch(done)
        return (1 - place) / max(total - since, 1)

    def _stretch(self, done: int) -> tuple[int, float, int]:
        """The epochs and the place at the last decision, and the epochs in all since then."""
        since, place, total = 0, 0.0, self.epochs
        for after, decided in self.decided:
            if after > done:
                break
            place += (1 - place) * (after - since) / max(total - since, 1)
            since, total = after, decided
        return since, place, total

    def decide(self, done: int, seconds: Sequence[float], compiling: float) -> bool:
        """Decide after an epoch how many there are to be.

        Args:
            done: epochs that were trained.
            seconds: that each of the last ones took, without compiling.
            compiling: seconds that the first one took longer.

        Returns:
            Whether there is a new decision. The first one is made after the first epoch, whatever it is.
        """
        if self.limit is None:
            return False
        recent = seconds[-RECENT:]
        pace = sum(recent) / len(recent)
        predicting = PREDICTION_SHARE * pace / self.limit.num_images * self.limit.num_predicted
        busy = min(FINISH_SHARE * compiling, FINISH_PART * self.limit.seconds)
        finish = predicting + max(FINISH_SECONDS, busy)
        left = self.limit.seconds - (self.clock() - self._started) - finish
        wanted = min(self.epochs, max(done, done + int(left / pace)))
        if self.decided and not self._worthwhile(done, wanted):
            return False
        self.decided.append((done, wanted))
        return True

    def _worthwhile(self, done: int, wanted: int) -> bool:
        if wanted <= self.total:
            return wanted < self.total
        early = self.place(done) < EXTENDED_PART
        return early and wanted - self.total >= max(1.0, EXTENDED_SHARE * self.total)


class Stopwatch:
    """Measures the epochs of one training; called after each batch, it passes the call on."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.compiling = 0.0
        self._started = 0.0
        self._ends: list[float] = []
        self._listener: Callable[[int, int, int], None] | None = None

    def start(self, listener: Callable[[int, int, int], None]) -> None:
        """Begin an epoch; the listener is told of each batch."""
        self._started, self._ends, self._listener = time.monotonic(), [], listener

    def __call__(self, epoch: int, batch: int, batches: int) -> None:
        """Take the time of a batch."""
        self._ends.append(time.monotonic())
        if self._listener is not None:
            self._listener(epoch, batch, batches)

    def stop(self) -> None:
        """End an epoch. The first one is judged by its steps after the first, since all else compiles."""
        taken = time.monotonic() - self._started
        if self.seconds or len(self._ends) < 2:
            self.seconds.append(taken)
            return
        step = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        steady = min(taken, FIRST_SURPLUS * step * len(self._ends))
        self.compiling = taken - steady
        self.seconds.append(steady)
