"""A schedule whose pace changes, and a run whose epochs the clock decided: it can be repeated and continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from hounsfield.plans.loading import load_plan
from hounsfield.training import resume, train
from hounsfield.training.optimizer import optimizer
from hounsfield.training.pace import Pace
from hounsfield.training.schedule import Schedule
from plans import hand_made_plan, write_pair

SCHEDULE = Schedule(
    epochs=8,
    batch_size=4,
    learning_rate=0.01,
    weight_decay=0.05,
    warmup=0.25,
    accumulate=1,
    average_decay=0.5,
    patience=99,
)


def rates(made: keras.optimizers.Optimizer, count: int) -> list[float]:
    found = []
    for _ in range(count):
        found.append(float(keras.ops.convert_to_numpy(made.learning_rate)))
        made._iterations.assign_add(1)
    return found


def test_the_rate_is_that_of_the_schedule_until_its_pace_changes() -> None:
    variable = keras.Variable(np.zeros((2, 2), np.float32))
    plain = keras.optimizers.schedules.CosineDecay(0.01 / 25, 24, warmup_target=0.01, warmup_steps=8, alpha=0.005)
    made = optimizer(SCHEDULE, 4, [variable])
    expected = [float(keras.ops.convert_to_numpy(plain(step))) for step in range(33)]
    np.testing.assert_array_equal(rates(made, 8), np.float32(expected[:8]))
    # Twice as fast from the eighth step on.
    made.follow(8, 8, 2)
    np.testing.assert_allclose(rates(made, 13), expected[8::2], rtol=1e-6)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


class KilledError(Exception):
    """Stands for the death of the process."""


def test_a_run_that_was_limited_can_be_continued_and_repeated(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six epochs are planned, and the clock lets three be trained."""
    wanted = iter([4, 3])

    def decide(pace: Pace, done: int, *_: Any) -> bool:
        if pace.limit is None or done > 2:
            return False
        pace.decided.append((done, next(wanted)))
        return True

    monkeypatch.setattr(Pace, "decide", decide)
    plan = hand_made_plan(network="simple_cnn", width=None, epochs=6, minutes=1.0)
    first = train(data, tmp_path / "first", plan=plan)
    written = load_plan(tmp_path / "first" / "plan.yaml")
    assert written.pacing == ((1, 1, 4), (1, 2, 3))
    assert written.settled().epochs == 3
    assert "pace" in written.reasons["pacing"]
    history = pd.read_csv(tmp_path / "first" / "history.csv")
    assert len(history) == 3
    # The schedule has come to its end.
    assert history["learning_rate"].iloc[-1] == pytest.approx(0.005 * plan.learning_rate, rel=0.1)
    again = train(data, tmp_path / "again", plan=written)
    assert again.metrics == first.metrics

    def killed(task: str, done: int, total: int | None) -> None:
        if task == "training" and (tmp_path / "killed" / "checkpoints" / "member1.npz").exists() and done % 5 == 2:
            raise KilledError

    wanted = iter([4, 3])
    with pytest.raises(KilledError):
        train(data, tmp_path / "killed", plan=plan, progress=killed)
    assert load_plan(tmp_path / "killed" / "plan.yaml").pacing == ((1, 1, 4),)
    # Continued, it follows what was decided.
    resume(tmp_path / "killed")
    resumed = pd.read_csv(tmp_path / "killed" / "history.csv")
    assert len(resumed) == 4
    np.testing.assert_allclose(resumed["loss"].iloc[0], history["loss"].iloc[0], rtol=1e-6)
