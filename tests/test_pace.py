"""A limit of time: how many epochs are decided by the pace."""

from __future__ import annotations

import numpy as np
import pytest

from hounsfield.training.pace import FINISH_SECONDS, Pace, Stopwatch, TimeLimit
from plans import hand_made_plan


class Clock:
    """Stands where it is put."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def limited(seconds: float, clock: Clock, epochs: int = 40) -> Pace:
    return Pace(epochs, TimeLimit(seconds + FINISH_SECONDS, num_images=100, num_predicted=0), clock=clock)


def run(pace: Pace, clock: Clock, *seconds: float) -> int:
    """Epochs that take so long, the last again and again, until there are as many as were decided."""
    taken: list[float] = []
    while len(taken) < pace.total:
        taken.append(seconds[min(len(taken), len(seconds) - 1)])
        clock.now += taken[-1]
        pace.decide(len(taken), taken, 0.0)
    return len(taken)


def test_as_many_epochs_are_trained_as_fit_into_the_time() -> None:
    for epoch, expected in ((1.0, 20), (3.0, 6), (0.4, 40), (100.0, 1)):
        clock = Clock()
        assert run(limited(20, clock), clock, epoch) == expected
        assert clock.now <= max(20, epoch)


def test_a_machine_that_becomes_slower_or_faster_changes_the_number() -> None:
    clock = Clock()
    assert run(limited(20, clock), clock, 1, 1, 1, 1, 2) == 12
    assert clock.now <= 21
    clock = Clock()
    pace = limited(20, clock)
    assert run(pace, clock, 4, 1) > 14
    assert pace.decided[0] == (1, 5)
    assert clock.now <= 20.5


def test_late_epochs_are_not_added() -> None:
    clock = Clock()
    pace = limited(20, clock)
    assert run(pace, clock, *[1.0] * 15, 0.1) == 20
    assert pace.decided == [(1, 20)]


def test_what_follows_the_epochs_has_its_time() -> None:
    clock = Clock()
    pace = Pace(40, TimeLimit(20 + FINISH_SECONDS, num_images=100, num_predicted=1000), clock=clock)
    # A prediction takes .4 times as long as a training image: 4 s of 20 for ten epochs' worth of images.
    assert run(pace, clock, 1.0) == 16
    clock = Clock()
    pace = limited(20, clock)
    clock.now = 1.0
    pace.decide(1, [1.0], compiling=6.0)
    # What is compiled slowly is finished slowly, but in a quarter of the time at most: 7 s, or 9.6 s instead of 8.
    assert pace.decided == [(1, 20)]
    clock.now = 1.0
    pace = limited(40, clock)
    pace.decide(1, [1.0], compiling=6.0)
    assert pace.decided == [(1, 39)]


def test_the_schedule_is_run_to_its_end_whatever_is_decided() -> None:
    pace = Pace(40, decided=[(1, 10), (4, 6)])
    places = [pace.place(done) for done in range(7)]
    assert places[0] == 0
    assert places[1] == pytest.approx(1 / 40)
    assert places[4] == pytest.approx(1 / 40 + 39 / 40 * 3 / 9)
    assert places[6] == pytest.approx(1)
    assert np.diff(places) == pytest.approx([pace.stride(done) for done in range(6)])
    assert [Pace(8).place(done) for done in range(9)] == pytest.approx(np.arange(9) / 8)


def test_what_was_decided_needs_no_clock() -> None:
    pace = Pace(40, decided=[(1, 10)])
    assert not pace.decide(5, [1.0], 0.0)
    assert pace.total == 10


def test_the_first_epoch_is_judged_by_its_steps_without_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 50.0, 51.0, 52.0, 53.0, 60.0, 60.0, 61.0, 62.0, 65.0])
    monkeypatch.setattr("hounsfield.training.pace.time.monotonic", lambda: next(now))
    watch = Stopwatch()
    watch.start(lambda *_: None)
    for batch in range(1, 5):
        watch(1, batch, 4)
    watch.stop()
    assert watch.seconds == pytest.approx([1.3 * 4])
    assert watch.compiling == pytest.approx(60 - 5.2)
    watch.start(lambda *_: None)
    for batch in range(1, 3):
        watch(2, batch, 2)
    watch.stop()
    assert watch.seconds[1] == 5


def test_epochs_set_by_hand_lift_the_limit() -> None:
    plan = hand_made_plan(minutes=2.0, pacing=((1, 1, 4),), epoch_images=12)
    longer = plan.changed(["epochs=9"])
    assert (longer.minutes, longer.pacing, longer.epochs, longer.epoch_images) == (None, (), 9, None)
    assert "by hand" in longer.reasons["minutes"]
    assert plan.changed(["epochs=9", "epoch_images=30"]).epoch_images == 30
    limited = plan.changed(["epochs=9", "minutes=1"])
    assert (limited.minutes, limited.epoch_images) == (1, 12)
    assert plan.changed(["width=4"]).pacing == ((1, 1, 4),)
