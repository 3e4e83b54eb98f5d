"""The two heads: one rates every anchor, the other classifies every region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from hounsfield.models.blocks import convolution

# Layers that compute in float32 whatever the precision of the rest: coordinates and logits need its digits.
FULL_PRECISION = ("objectness", "anchor_offsets", "class_logits", "region_offsets")


def _small(deviation: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=deviation)


def proposal_head(levels: Sequence[Any], num_anchors: int) -> tuple[list[Any], list[Any]]:
    r"""The region proposal network: one small convolution over all levels (Ren et al., 2015, section 3.1).

    Args:
        levels: feature maps of equal channels.
        num_anchors: at each position.

    Returns:
        For each level the objectness logits (batch, \*positions, anchors) and the offsets
        (batch, \*positions, anchors · 2·rank).
    """
    rank, channels = len(levels[0].shape) - 2, levels[0].shape[-1]
    window = convolution(channels, 3, rank, name="window", use_bias=True, activation="relu")
    outputs: dict[str, Any] = {"use_bias": True, "kernel_initializer": _small(0.01)}
    objectness = convolution(num_anchors, 1, rank, name="objectness", **outputs)
    offsets = convolution(num_anchors * 2 * rank, 1, rank, name="anchor_offsets", **outputs)
    seen = [window(level) for level in levels]
    return [objectness(hidden) for hidden in seen], [offsets(hidden) for hidden in seen]


def region_head(bins: int, rank: int, channels: int, *, units: int, num_labels: int) -> keras.Model:
    r"""Two dense layers that classify a region (Girshick, "Fast R-CNN", 2015, section 2); classes share the offsets.

    Returns:
        A network from (regions, \*bins, channels) to logits (regions, labels + 1), the background first, and offsets
        (regions, 2·rank).
    """
    inputs = keras.Input((*[bins] * rank, channels), name="region")
    hidden = layers.Flatten(name="flatten")(inputs)
    for number in (1, 2):
        hidden = layers.Dense(units, use_bias=False, kernel_initializer="he_normal", name=f"judge{number}")(hidden)
        # Without it, a few large steps can leave every unit at zero for good.
        hidden = layers.LayerNormalization(name=f"judge{number}_normalisation")(hidden)
        hidden = layers.ReLU(name=f"judge{number}_relu")(hidden)
    logits = layers.Dense(num_labels + 1, kernel_initializer=_small(0.01), name="class_logits")(hidden)
    offsets = layers.Dense(2 * rank, kernel_initializer=_small(0.001), name="region_offsets")(hidden)
    return keras.Model(inputs, [logits, offsets], name="region_head")
