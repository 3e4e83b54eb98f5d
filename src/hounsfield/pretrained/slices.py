"""Volumes through a network for images: slice by slice, and what it makes of them pooled by attention."""

from __future__ import annotations

import keras
from keras import layers

from hounsfield.pretrained.tokens import AttendedMean, SlicesApart, SlicesTogether

# Units of both branches of the gated attention.
UNITS = 64


def by_slices(known: keras.Model, num_slices: int) -> keras.Model:
    """A network from volumes (slices, rows, columns, channels) to a vector, its layer "features".

    The attention is that of Ilse, Tomczak, Welling, 2018 (arXiv:1802.04712, equation 9). Its scores start at zero, so
    that all slices count alike until it has learned.

    Args:
        known: from an image to its layer "features".
        num_slices: of a volume.
    """
    known.get_layer("features").name = "slice_features"
    volume = keras.Input((num_slices, *known.input_shape[1:]), name="image")
    # Layer by layer, as ``keras.models.clone_model`` does it: Keras has no public walk of the graph.
    found = known._run_through_graph([SlicesApart(name="slices_apart")(volume)])
    vectors = SlicesTogether(num_slices, name="slices_together")(found)
    content = layers.Dense(UNITS, activation="tanh", dtype="float32", name="slice_content")(vectors)
    gate = layers.Dense(UNITS, activation="sigmoid", dtype="float32", name="slice_gate")(vectors)
    gated = layers.Multiply(dtype="float32", name="slice_gated")([content, gate])
    start = keras.initializers.Zeros()
    score = layers.Dense(1, use_bias=False, kernel_initializer=start, dtype="float32", name="slice_score")(gated)
    network = keras.Model(volume, AttendedMean(dtype="float32", name="features")([vectors, score]), name=known.name)
    # New layers: those of the other network were called in both.
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    return copy


def slices_of(network: keras.Model) -> int:
    """How often the layers of a network run for one input: the slices of a volume, or once."""
    found = [layer.num_slices for layer in network.layers if isinstance(layer, SlicesTogether)]
    return int(found[0]) if found else 1
