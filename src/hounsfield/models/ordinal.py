"""Networks for grades in order as they are deployed: one dense layer on the features, like all others."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers


def folded(network: keras.Model) -> keras.Model:
    """The network with its score and its thresholds in one dense layer; any other network as it is.

    The logit of "above the k-th grade" is severity − threshold k. As one layer it has the kernel of the severity in
    each column, and the thresholds as biases, sorted so that the probability of exceeding a grade never rises with the
    grade. Ensembles, mirrored views, explanations and engines then treat it like every other head.

    Args:
        network: with the layers "features", "severity" and "probabilities" of ``classification_head``.
    """
    names = {layer.name for layer in network.layers}
    if "severity" not in names:
        return network
    head = network.get_layer("probabilities")
    features = network.get_layer("features").output
    (score,) = network.get_layer("severity").get_weights()
    weights, biases = head.get_weights()
    layer = layers.Dense(head.units, activation=head.activation, dtype="float32", name="probabilities")
    model = keras.Model(network.inputs[0], layer(features), name=network.name)
    layer.set_weights([score @ weights, np.sort(biases)[::-1]])
    return model
