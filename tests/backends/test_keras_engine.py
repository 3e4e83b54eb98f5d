"""Every engine on a bundle written by this backend gives what Keras gives."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from hounsfield.bundle import Bundle
from hounsfield.inference import (
    ENGINES,
    open_engine,
)
from hounsfield.inference.labels import run as run_labels
from networks import keras_outputs, tiny_bundle, tiny_network

IMAGES = np.random.default_rng(3).random((5, 12, 10, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("run") / "bundle", "multi-class")


@pytest.mark.parametrize("name", list(ENGINES))
@pytest.mark.parametrize("alone", [True, False])
def test_engines_give_what_keras_gives(bundle: Bundle, name: str, alone: bool) -> None:
    engine = open_engine(bundle, name)
    assert engine.name == name
    for batch in (IMAGES, IMAGES[:1]):
        outputs = run_labels(engine, batch, alone=alone)
        probabilities, features = keras_outputs(tiny_network("multi-class"), batch)
        np.testing.assert_allclose(outputs.probabilities, probabilities, atol=1e-4)
        np.testing.assert_allclose(outputs.features, features, atol=1e-4)
        assert outputs.probabilities.dtype == outputs.features.dtype == np.float32


@pytest.mark.parametrize("name", list(ENGINES))
def test_batches_of_any_length_and_layout_follow_each_other(bundle: Bundle, name: str) -> None:
    engine = open_engine(bundle, name)
    expected, _ = keras_outputs(tiny_network("multi-class"), IMAGES)
    fixed, strided = IMAGES.copy(), np.repeat(IMAGES, 2, axis=-1)[..., :1]
    fixed.flags.writeable = False
    for batch in (IMAGES[:1], IMAGES, fixed[1:2], fixed, strided[2:3], strided, IMAGES[3:]):
        first = next(row for row, image in enumerate(IMAGES) if np.array_equal(image, batch[0]))
        found = run_labels(engine, batch).probabilities
        np.testing.assert_allclose(found, expected[first : first + len(batch)], atol=1e-4)


@pytest.mark.parametrize("name", list(ENGINES))
def test_outputs_outlive_the_next_call_and_other_threads(bundle: Bundle, name: str) -> None:
    engine = open_engine(bundle, name)
    first = run_labels(engine, IMAGES[:2])
    kept = first.probabilities.copy()
    found: dict[int, np.ndarray] = {}

    def run(number: int) -> None:
        for _ in range(5):
            found[number] = run_labels(engine, IMAGES[number : number + 1], alone=False).probabilities

    threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(first.probabilities, kept)
    expected, _ = keras_outputs(tiny_network("multi-class"), IMAGES)
    np.testing.assert_allclose(np.concatenate([found[number] for number in range(5)]), expected, atol=1e-4)
