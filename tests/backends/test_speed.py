"""The speed of this backend: multiply-adds of a network, and the measurement that chooses the precision."""

from __future__ import annotations

import keras
import pytest
from keras import layers

from hounsfield.planning import speed
from hounsfield.planning.speed import measure_speed, multiply_adds


@pytest.fixture(autouse=True)
def _measured_anew() -> None:
    """A process measures once; each test here measures by itself."""
    measure_speed.cache_clear()


def test_multiply_adds_by_hand() -> None:
    inputs = keras.Input((8, 6, 3))
    hidden = layers.Conv2D(5, 3, strides=2, padding="same")(inputs)
    hidden = layers.Flatten()(layers.BatchNormalization()(hidden))
    network = keras.Model(inputs, layers.Dense(7)(hidden))
    assert multiply_adds(network) == 4 * 3 * (3 * 3 * 3 * 5) + (4 * 3 * 5) * 7


@pytest.mark.parametrize("shape", [(16, 16, 1), (8, 8, 8, 1)])
def test_a_measurement_gives_a_rate_for_each_precision(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "PROBE_STEPS", 1)
    monkeypatch.setattr(speed, "PROBE_BLOCKS", 1)
    measured = measure_speed(shape, 4, 2)
    sound = speed.is_bfloat16_sound(len(shape) - 1)
    assert set(measured.rates) == {"float32", "mixed_bfloat16"} - (set() if sound else {"mixed_bfloat16"})
    assert all(rate > 0 for rate in measured.rates.values())
    assert measured.precision in measured.rates
    assert keras.backend.backend() in measured.describe()


@pytest.mark.parametrize(("gain", "precision"), [(1.5, "mixed_bfloat16"), (1.05, "float32"), (0.2, "float32")])
def test_a_lower_precision_has_to_be_worth_it(gain: float, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def probe(spatial: object, width: object, rank: object, batch: object, wanted: str) -> object:
        # Other work takes two thirds of the processor, but for a moment of either.
        shares = iter([1 / 3] * 5 + [1] + [1 / 3] * 9)

        def step() -> float:
            clock[0] += (1.0 if wanted == "float32" else 1.0 / gain) / next(shares)
            return 0.0

        return step

    monkeypatch.setattr(speed, "_probe", probe)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])
    measured = measure_speed((32, 32, 1), 8, 8)
    assert measured.precision == precision
    # The training gets what is left to it.
    work = 8 * speed.PROBE_BLOCKS * 32 * 32 * 3**2 * 8**2
    assert measured.rates["float32"] == pytest.approx(work / 3)
