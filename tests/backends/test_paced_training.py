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


def test_a_step_is_that_of_adamw() -> None:
    """Beside Keras's AdamW, with a decayed matrix and a bias that is not."""
    draw = np.random.default_rng(0)
    values = [draw.normal(size=shape).astype(np.float32) for shape in ((3, 5), (5,))]
    ours, theirs = ([keras.Variable(value) for value in values] for _ in range(2))
    rate = keras.optimizers.schedules.CosineDecay(0.01 / 25, 24, warmup_target=0.01, warmup_steps=8, alpha=0.005)
    plain = keras.optimizers.AdamW(rate, weight_decay=0.05, beta_2=0.99, global_clipnorm=5.0)
    plain.exclude_from_weight_decay(theirs[1:])
    made = optimizer(SCHEDULE, 4, ours)
    for _ in range(20):
        gradients = [keras.ops.convert_to_tensor(4 * draw.normal(size=value.shape), "float32") for value in values]
        made.apply(gradients)
        plain.apply(gradients, theirs)
    for one, other, before in zip(ours, theirs, values, strict=True):
        found, expected = (keras.ops.convert_to_numpy(each) for each in (one, other))
        assert np.abs(expected - before).max() > 0.03
        np.testing.assert_allclose(found, expected, atol=1e-6)
