"""Fixtures of the tests that run on every backend."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from scipy import stats


@pytest.fixture(scope="module")
def drawn_by_numpy() -> Iterator[None]:
    """The first weights of networks: JAX would compile their distribution for each shape, half a second each time."""
    with pytest.MonkeyPatch.context() as patch:
        if keras.backend.backend() == "jax":
            random = importlib.import_module("keras.src.backend.jax.random")

            def draw(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
                generator = np.random.default_rng(np.asarray(random.draw_seed(seed)))
                values = mean + stddev * stats.truncnorm.rvs(-2, 2, size=tuple(shape), random_state=generator)
                return keras.ops.convert_to_tensor(values, dtype or keras.config.floatx())

            patch.setattr(random, "truncated_normal", draw)
        yield
