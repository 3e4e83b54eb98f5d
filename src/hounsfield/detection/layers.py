"""Feature pyramid, region proposal head and region head: the layers of a detector on top of its backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from hounsfield.models.blocks import convolution, normalised

UP_SAMPLINGS = {2: layers.UpSampling2D, 3: layers.UpSampling3D}
CROPPINGS = {2: layers.Cropping2D, 3: layers.Cropping3D}
# Layers that compute in float32 whatever the precision of the rest: coordinates and logits need its digits.
FULL_PRECISION = ("objectness", "anchor_offsets", "class_logits", "region_offsets", "mask_logits")
# Convolutions of the mask head; He et al. have four, at half of whose cost two are enough for small networks.
MASK_CONVOLUTIONS = 2


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


def mask_head(bins: int, channels: int, *, num_labels: int) -> keras.Model:
    """Convolutions that outline the object of a region, for each label apart (He et al., 2017, section 3, figure 4).

    Returns:
        A network from (regions, bins, bins, channels) to logits (regions, 2·bins, 2·bins, labels).
    """
    values = inputs = keras.Input((bins, bins, channels), name="region")
    for number in range(1, MASK_CONVOLUTIONS + 1):
        values = convolution(channels, 3, 2, name=f"mask{number}", use_bias=True, activation="relu")(values)
    upsampled: dict[str, Any] = {"activation": "relu", "kernel_initializer": "he_normal"}
    values = layers.Conv2DTranspose(channels, 2, strides=2, name="mask_upsampled", **upsampled)(values)
    logits = convolution(num_labels, 1, 2, name="mask_logits", use_bias=True, kernel_initializer=_small(0.001))(values)
    return keras.Model(inputs, logits, name="mask_head")


def feature_pyramid(stages: Sequence[Any], channels: int, *, num_levels: int) -> list[Any]:
    r"""Top-down path with lateral connections over the stages of a backbone.

    Convolutions are followed by batch normalisation, without which a pyramid trained from scratch learns slowly.

    Args:
        stages: (batch, \*positions, channels), finest first, each of half the resolution of the one before.
        channels: of every level of the pyramid.
        num_levels: how many levels are wanted, from the finest; coarser stages still feed the finer levels.

    Returns:
        The levels, finest first.
    """
    rank = len(stages[0].shape) - 2
    merged = None
    levels = []
    for number in reversed(range(len(stages))):
        lateral = normalised(stages[number], convolution(channels, 1, rank, name=f"lateral{number + 1}"), relu=False)
        merged = lateral if merged is None else _add_upsampled(merged, lateral, name=f"merged{number + 1}")
        if number < num_levels:
            output = convolution(channels, 3, rank, name=f"pyramid{number + 1}")
            levels.append(normalised(merged, output, relu=False))
    return levels[::-1]


def _add_upsampled(coarse: Any, fine: Any, *, name: str) -> Any:
    rank = len(fine.shape) - 2
    doubled = UP_SAMPLINGS[rank](2, name=f"{name}_upsampling")(coarse)
    beyond = [(0, have - want) for have, want in zip(doubled.shape[1:-1], fine.shape[1:-1], strict=True)]
    if any(end for _, end in beyond):
        # A side of odd length was rounded up on the way down.
        doubled = CROPPINGS[rank](beyond, name=f"{name}_cropping")(doubled)
    return layers.Add(name=f"{name}_sum")([fine, doubled])
