"""The learning rate of a schedule whose pace changes."""

from __future__ import annotations

import keras
import numpy as np

from hounsfield.training.optimizer import optimizer
from hounsfield.training.schedule import Schedule

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
