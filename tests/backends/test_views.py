"""Samples of several images, judged together: the same answer in training as in use."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from hounsfield.inference.views import Outputs, Views
from hounsfield.models import build
from hounsfield.models.views import head_settings, view_training_model, with_attention
from hounsfield.plans.architecture import ViewPooling


@pytest.mark.parametrize("pooling", ["attention", "mean", "max"])
def test_images_are_joined_in_use_as_in_training(pooling: ViewPooling) -> None:
    keras.utils.set_random_seed(1)
    network = with_attention(build("simple_cnn", (16, 16, 1), 3, "multi-class"), pooling)
    model, plain = view_training_model(network, "float32", [], views=4, pooling=pooling)
    for ours, theirs in zip(plain.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    images = np.random.default_rng(0).normal(size=(2, 4, 16, 16, 1)).astype(np.float32)
    present = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.float32)
    trained = np.asarray(model.predict_on_batch({"image": images, "present": present}))

    head: Any = head_settings(network)
    views = Views(pooling, np.array(head["kernel"]), np.array(head["bias"]), head["activation"])
    scores = [network.outputs[1]] if pooling == "attention" else []
    single = keras.Model(network.inputs[0], [network.outputs[0], network.get_layer("features").output, *scores])
    for sample, count in enumerate((4, 2)):
        outputs = [np.asarray(each) for each in single.predict_on_batch(images[sample, :count])]
        joined = views.join(Outputs(*outputs))
        np.testing.assert_allclose(joined.probabilities[0], trained[sample], atol=1e-5)
        assert joined.weights.sum() == pytest.approx(1)
        # One image is judged as if it were alone.
        alone = views.join(Outputs(*(each[:1] for each in outputs)))
        np.testing.assert_allclose(alone.probabilities[0], outputs[0][0], atol=1e-5)
    if pooling == "mean":
        assert joined.weights.tolist() == [0.5, 0.5]
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1e-3), "categorical_crossentropy")
    data = {"image": images, "present": present}, np.eye(3, dtype=np.float32)[:2]
    losses = [float(model.train_on_batch(*data)) for _ in range(3)]
    assert losses[-1] < losses[0]
    moved = [bool((old != new).any()) for old, new in zip(before, model.get_weights(), strict=True)]
    assert all(moved)
