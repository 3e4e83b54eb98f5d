"""The network as it is trained: the plain network's layers in a given precision, with faster normalisation.

Networks are built plain and in float32, and are saved so. For training they are cloned layer by layer; the
clone has the same weights in the same order, so trained weights are copied back by ``set_weights``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import layers

from hounsfield.errors import require
from hounsfield.models.devices import accelerators
from hounsfield.models.fused_normalisation import FusedBatchNormalization
from hounsfield.shares import SharedBatchNormalization, SharedDropout, current_share

Precision = Literal["float32", "mixed_bfloat16"]


def training_model(
    network: keras.Model, precision: Precision, augmentation: list[keras.Layer], *, seed: int = 0
) -> keras.Model:
    """A copy of ``network`` for training, with the augmentation in front and the same weights.

    Args:
        network: a plain functional network in float32.
        precision: of all layers but the head and the augmentation.
        augmentation: random layers that act on the input in training.
        seed: of dropout.

    Returns:
        A model with the same input and output. Its layer "network" is the copy without augmentation.
    """
    copy = training_copy(network, precision, ("severity", "probabilities"), seed=seed)
    copy.name = "network"
    inputs = keras.Input(network.input_shape[1:], name="image")
    hidden = inputs
    for layer in augmentation:
        hidden = layer(hidden)
    return keras.Model(inputs, copy(hidden), name="training_model")


def training_copy(
    network: keras.Model, precision: Precision, full_precision: Sequence[str], *, seed: int = 0
) -> keras.Model:
    """A copy of a plain functional network for training, layer by layer, with the same weights.

    Args:
        network: in float32.
        precision: of the copy's layers.
        full_precision: names of layers that keep their type.
        seed: of dropout.
    """
    fused = keras.backend.backend() == "tensorflow"
    seeds = itertools.count(seed)

    def clone_layer(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if layer.name not in full_precision and not (fused and _outgrows_its_input(layer)):
            config["dtype"] = precision
        if config.get("seed", seed) is None:
            # Without a seed, PyTorch's dropout draws from a state of the process, which no checkpoint holds.
            config["seed"] = next(seeds)
        return _kind_in_training(layer).from_config(config)

    copy = keras.models.clone_model(network, clone_function=clone_layer)
    copy.set_weights(network.get_weights())
    return copy


def _kind_in_training(layer: keras.Layer) -> type[keras.Layer]:
    kind: type[keras.Layer] = layer.__class__
    if kind is layers.BatchNormalization and keras.backend.backend() == "tensorflow":
        return FusedBatchNormalization
    if not current_share().is_whole:
        return {layers.BatchNormalization: SharedBatchNormalization, layers.Dropout: SharedDropout}.get(kind, kind)
    return kind


def _outgrows_its_input(layer: keras.Layer) -> bool:
    """Whether a convolution of volumes has a kernel that is longer than its input along some axis.

    TensorFlow 2.21 leaves parts of such a kernel's gradient unwritten on CPUs in bfloat16: sometimes it is 10³⁷ or
    NaN, which ends a training. In float32 it is right, and costs nothing on maps as small as that.
    """
    if not isinstance(layer, layers.Conv3D):
        return False
    # A layer that several levels of a pyramid share has an input of each.
    inputs = [node.input_tensors[0].shape[1:-1] for node in layer._inbound_nodes]
    return any(side > length for shape in inputs for side, length in zip(layer.kernel_size, shape, strict=True))


def jit_compilation() -> bool | str:
    """The value of ``compile(jit_compile=…)`` for this backend and device.

    On CPUs, XLA's convolutions are several times slower than oneDNN's, which TensorFlow uses without XLA; JAX
    has no alternative.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return True
    # What is compiled for TensorFlow's XLA cannot call the process that adds up the gradients.
    alone = current_share().is_whole or backend != "tensorflow"
    return "auto" if alone and accelerators() else False


def compiled_forward(model: keras.Model, forward: Callable[[Any], Any]) -> Callable[[np.ndarray], Any]:
    """A forward pass in training mode, compiled where that pays; it is called for its update of moving statistics.

    Args:
        model: whose variables the pass uses and updates.
        forward: the pass.
    """
    # Uncompiled, both spend more time between the operations, or on compiling each one, than in them.
    if keras.backend.backend() == "tensorflow":
        tensorflow = require("tensorflow", "training on the TensorFlow backend")
        compiled: Callable[[np.ndarray], Any] = tensorflow.function(forward, reduce_retracing=True)
        return compiled
    return _jitted(model, forward) if keras.backend.backend() == "jax" else forward


def _jitted(model: keras.Model, forward: Callable[[Any], Any]) -> Callable[[np.ndarray], Any]:
    jax = require("jax", "training on the JAX backend")
    variables, updated = model.variables, model.non_trainable_variables

    @jax.jit  # type: ignore[untyped-decorator]  # JAX is imported by name
    def passed(values: list[Any], images: Any) -> list[Any]:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))) as scope:
            forward(images)
        return [scope.get_current_value(variable) for variable in updated]

    def run(images: np.ndarray) -> None:
        values = passed([variable.value for variable in variables], images)
        for variable, value in zip(updated, values, strict=True):
            variable.assign(value)

    return run
