"""Networks without their heads: from an image to feature maps at falling resolution."""

from __future__ import annotations

import keras

from hounsfield.errors import UsageError
from hounsfield.models.applications import application_names, application_stages
from hounsfield.models.encoder import encoder_stages
from hounsfield.models.resnet import feature_stages, stem_block
from hounsfield.plans.architecture import STEM_REDUCTION, Stem, Weights
from hounsfield.plans.encoder import Encoder

RESNET_DEPTHS = {"resnet10": 10, "resnet18": 18, "resnet34": 34, "resnet50": 50}


def backbone_names() -> tuple[str, ...]:
    """Every backbone that a detector can be built on."""
    return (*RESNET_DEPTHS, *application_names())


def backbone(
    name: str,
    input_shape: tuple[int, ...],
    *,
    width: int | None = 64,
    stem: Stem = "large",
    weights: Weights = None,
    encoder: Encoder | None = None,
) -> tuple[keras.Model, tuple[int, ...]]:
    """A network from an image to one feature map per resolution, finest first.

    Args:
        name: "resnet10", "resnet18", "resnet34", "resnet50", or a network of ``keras.applications`` in lower case.
        input_shape: (rows, columns, channels) or (slices, rows, columns, channels); volumes need a resnet.
        width: channels of the first stage of a resnet.
        stem: of a resnet.
        weights: that the network starts from (keras.applications only).
        encoder: a residual network with weights of its own form, instead of the one that is named.

    Returns:
        The network and the strides of its outputs, each twice the one before.

    Raises:
        UsageError: no such network, or it cannot be built on this input.
    """
    inputs = keras.Input(input_shape, name="image")
    if encoder is not None:
        stages = encoder_stages(inputs, encoder)[1:]
        strides = tuple(STEM_REDUCTION["large"] * 2**number for number in range(len(stages)))
    elif name in RESNET_DEPTHS:
        if width is None or weights is not None:
            raise UsageError(
                f"A {name} needs a width and has no pretrained weights. Got width {width} and weights {weights} "
                "instead."
            )
        rank = len(input_shape) - 1
        stages = feature_stages(stem_block(inputs, width, rank, stem), rank, depth=RESNET_DEPTHS[name], width=width)
        strides = tuple(STEM_REDUCTION[stem] * 2**number for number in range(len(stages)))
    elif name in application_names():
        stages, strides = application_stages(name, inputs, weights=weights)
    else:
        raise UsageError(f"No backbone is called '{name}'. Known are: {', '.join(backbone_names())}.")
    return keras.Model(inputs, stages, name=name), strides
