"""Several networks, or one network on several views of an image, as one plain network.

The last layer is linear before its activation, so the mean of the members' logits is one dense layer on their
concatenated features, and the mean of logits over views is the dense layer on the mean features. Exporters,
engines and explanations therefore get one network with one "features" layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers


def flip_averaged(network: keras.Model, axes: Sequence[int]) -> keras.Model:
    """Average the logits over the image and its mirror image along each of ``axes``.

    Args:
        network: a classification network with the layers "features" and "probabilities".
        axes: spatial axes of the image, 0 for the first; each adds one mirrored view.

    Returns:
        A network with the same input, features of the same length, and the same weights (shared).
    """
    if not axes:
        return network
    backbone = _backbone(network)
    inputs = keras.Input(network.input_shape[1:], name="image")
    views = [backbone(inputs)]
    views += [backbone(keras.ops.flip(inputs, axis=axis + 1)) for axis in axes]
    features = layers.Average(name="features")(views)
    return _with_head(inputs, features, network.get_layer("probabilities"), f"{network.name}_flips")


def ensemble(networks: Sequence[keras.Model]) -> keras.Model:
    """Average the logits of several networks of one input shape and one head.

    Args:
        networks: classification networks with the layers "features" and "probabilities".

    Returns:
        One network whose features are the members' features side by side.
    """
    inputs = keras.Input(networks[0].input_shape[1:], name="image")
    members = []
    for number, network in enumerate(networks):
        backbone = _backbone(network)
        backbone.name = f"member{number + 1}"
        members.append(backbone(inputs))
    features = layers.Concatenate(name="features")(members)
    head = networks[0].get_layer("probabilities")
    merged = _with_head(inputs, features, head, "ensemble")
    weights = [network.get_layer("probabilities").get_weights() for network in networks]
    kernel = np.concatenate([kernel for kernel, _ in weights]) / len(networks)
    merged.get_layer("probabilities").set_weights([kernel, np.mean([bias for _, bias in weights], axis=0)])
    return merged


def _backbone(network: keras.Model) -> keras.Model:
    return keras.Model(network.inputs[0], network.get_layer("features").output, name=network.name)


def _with_head(inputs: keras.KerasTensor, features: keras.KerasTensor, head: keras.Layer, name: str) -> keras.Model:
    new_head = layers.Dense(head.units, activation=head.activation, dtype="float32", name="probabilities")
    network = keras.Model(inputs, new_head(features), name=name)
    if new_head.kernel.shape == head.kernel.shape:
        new_head.set_weights(head.get_weights())
    return network
