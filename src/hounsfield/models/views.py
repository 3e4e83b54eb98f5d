"""One network for all images of a sample, whose features become one vector before the last layer.

Ilse, Tomczak, Welling, "Attention-based deep multiple instance learning", 2018 (arXiv:1802.04712): gated attention
(equation 9), or the mean or the maximum of the features (section 3.2). The network itself takes single images, so that
whatever runs, exports or explains it needs to know nothing of samples; what joins the images has a handful of lines
here for training and in ``inference.views`` for use.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from hounsfield.models.training_model import Precision, training_copy
from hounsfield.plans.architecture import ViewPooling

# Units of both branches of the gated attention.
UNITS = 64
# The layer that gives the score of an image, and those that it is made of.
ATTENTION = "attention"
CONTENT, GATE, GATED = "attention_content", "attention_gate", "attention_gated"
# The layers between pooled features and probabilities, as ``blocks.classification_head`` names them.
HEAD = ("dropout", "severity", "probabilities")
# Added to the score of an image that is none: its weight becomes zero in any precision.
ABSENT = -1e9


def with_attention(network: keras.Model, pooling: ViewPooling) -> keras.Model:
    """A network with a second output, the score (batch, 1) of each image, where attention joins the images.

    Args:
        network: with the layers "features" and "probabilities".
        pooling: how the images of a sample are joined.
    """
    if pooling != "attention":
        return network
    features = network.get_layer("features").output
    content = layers.Dense(UNITS, activation="tanh", dtype="float32", name=CONTENT)(features)
    gate = layers.Dense(UNITS, activation="sigmoid", dtype="float32", name=GATE)(features)
    gated = layers.Multiply(dtype="float32", name=GATED)([content, gate])
    score = layers.Dense(1, use_bias=False, dtype="float32", name=ATTENTION)(gated)
    return keras.Model(network.inputs[0], [network.outputs[0], score], name=network.name)


def with_attention_of(network: keras.Model, source: keras.Model) -> keras.Model:
    """A network with the attention of another one, where that has any; both have features of the same length.

    Args:
        network: such as the mean of a network over mirrored images.
        source: as ``with_attention`` made it.
    """
    if ATTENTION not in {layer.name for layer in source.layers}:
        return network
    features = network.get_layer("features").output
    content, gate = (source.get_layer(name)(features) for name in (CONTENT, GATE))
    score = source.get_layer(ATTENTION)(source.get_layer(GATED)([content, gate]))
    return keras.Model(network.inputs[0], [network.outputs[0], score], name=network.name)


def view_training_model(
    network: keras.Model,
    precision: Precision,
    augmentation: list[keras.Layer],
    *,
    views: int,
    pooling: ViewPooling,
    seed: int = 0,
) -> tuple[keras.Model, keras.Model]:
    """A model that judges samples of several images, for training.

    Args:
        network: as ``with_attention`` made it, in float32.
        precision: of all layers but the head, the attention and the augmentation.
        augmentation: random layers that act on each image in training.
        views: images of each sample in a batch.
        pooling: how they are joined.
        seed: of dropout.

    Returns:
        The model from {"image": (batch, views, …image), "present": (batch, views)}, ones and zeros, to (batch,
        outputs); and the network in it, whose layers it shares, with the same weights in the same order as ``network``.
    """
    kept = (ATTENTION, CONTENT, GATE, GATED, *HEAD)
    plain = training_copy(network, precision, kept, seed=seed)
    shape = network.input_shape[1:]
    images = keras.Input((views, *shape), name="image")
    present = keras.Input((views,), name="present")
    hidden = ops.reshape(images, (-1, *shape))
    for layer in augmentation:
        hidden = layer(hidden)
    features = plain.get_layer("features").output
    parts = [features, plain.outputs[1]] if pooling == "attention" else [features]
    found = keras.Model(plain.inputs[0], parts, name="encoder")(hidden)
    found = found if isinstance(found, list | tuple) else [found]
    vectors = ops.reshape(ops.cast(found[0], "float32"), (-1, views, features.shape[-1]))
    scores = ops.reshape(found[1], (-1, views)) if pooling == "attention" else None
    outputs = _joined(vectors, scores, present, pooling)
    for name in HEAD:
        if name in {layer.name for layer in plain.layers}:
            outputs = plain.get_layer(name)(outputs)
    model = keras.Model({"image": images, "present": present}, outputs, name="training_model")
    return model, plain


def _joined(vectors: Any, scores: Any, present: Any, pooling: ViewPooling) -> Any:
    """(batch, features) of (batch, views, features), by the images that are present."""
    if pooling == "max":
        return ops.max(vectors + ops.expand_dims((1 - present) * ABSENT, -1), axis=1)
    if pooling == "mean":
        weights = present / ops.sum(present, axis=1, keepdims=True)
    else:
        weights = ops.softmax(scores + (1 - present) * ABSENT, axis=1)
    return ops.sum(vectors * ops.expand_dims(weights, -1), axis=1)


def head_settings(network: keras.Model) -> dict[str, Any]:
    """The last layer of a network as it is deployed, one dense layer on the features, as plain values."""
    kernel, bias = network.get_layer("probabilities").get_weights()
    activation = network.get_layer("probabilities").activation.__name__
    return {"kernel": kernel.tolist(), "bias": bias.tolist(), "activation": activation}
