"""A tiny functional network and its bundle, for tests of everything that comes after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from hounsfield.bundle import Bundle, SourceRange, export_onnx, save_bundle
from hounsfield.preprocessing import MinMax, Pipeline, Resize, ToChannels

SHAPE = (12, 10, 1)
OUTPUTS = {"binary": (1, "sigmoid"), "multi-class": (3, "softmax"), "multi-label": (3, "sigmoid")}
LABELS = {"binary": ("normal", "opacity"), "multi-class": ("a", "b", "c"), "multi-label": ("a", "b", "c")}


def tiny_network(task: str = "binary", shape: tuple[int, ...] = SHAPE, *, dtype: str = "float32", seed: int = 0) -> Any:
    """Convolution, normalisation with statistics of its own, ReLU, pooling, dense layer; every weight is random."""
    rank = len(shape) - 1
    convolution = {2: layers.Conv2D, 3: layers.Conv3D}[rank]
    pooling = {2: layers.GlobalAveragePooling2D, 3: layers.GlobalAveragePooling3D}[rank]
    units, activation = OUTPUTS[task]
    inputs = keras.Input(shape, name="image")
    hidden = convolution(4, 3, strides=2, padding="same", dtype=dtype)(inputs)
    hidden = layers.ReLU(dtype=dtype)(layers.BatchNormalization(dtype=dtype)(hidden))
    features = pooling(name="features", dtype=dtype)(hidden)
    outputs = layers.Dense(units, activation=activation, dtype="float32", name="probabilities")(features)
    network = keras.Model(inputs, outputs)
    generator = np.random.default_rng(seed)
    network.set_weights(
        [generator.uniform(0.2, 1.0, weight.shape) - 0.3 * (weight.ndim > 1) for weight in network.get_weights()]
    )
    return network


def tiny_pipeline(shape: tuple[int, ...] = SHAPE) -> Pipeline:
    """Any image becomes one of the network's shape with values from 0 to 1."""
    return Pipeline(steps=(ToChannels(channels=shape[-1]), Resize(size=shape[:-1]), MinMax()))


def tiny_bundle(folder: Path, task: str = "binary", shape: tuple[int, ...] = SHAPE, **facts: Any) -> Bundle:
    """A saved bundle with its ONNX form."""
    facts = {"source_range": SourceRange(smallest=shape[:-1], largest=shape[:-1], channels=(1,)), **facts}
    bundle = save_bundle(
        folder, tiny_network(task, shape), pipeline=tiny_pipeline(shape), labels=LABELS[task], task=task, **facts
    )
    export_onnx(bundle)
    return bundle


def keras_outputs(network: Any, images: Any) -> tuple[Any, Any]:
    """Probabilities and features as plain Keras gives them."""
    both = keras.Model(network.inputs[0], [network.get_layer(name).output for name in ("probabilities", "features")])
    probabilities, features = both.predict_on_batch(np.asarray(images, np.float32))
    return np.asarray(probabilities), np.asarray(features)
