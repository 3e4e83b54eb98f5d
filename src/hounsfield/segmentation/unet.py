"""A residual-encoder U-Net with deep supervision.

Ronneberger, Fischer, Brox, "U-Net", 2015 (arXiv:1505.04597), with the residual encoder, the light decoder and the deep
supervision of nnU-Net (Isensee et al., 2021, doi:10.1038/s41592-020-01008-z; 2024, arXiv:2404.09556). An axis along
which pixels lie far apart is pooled later than the others, and convolved only once it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import layers

from hounsfield.models.blocks import CONVOLUTIONS, GLOBAL_AVERAGE_POOLINGS
from hounsfield.models.encoder import Encoder, encoder_stages
from hounsfield.segmentation.normalisation import InstanceNormalization

AVERAGE_POOLINGS = {2: layers.AveragePooling2D, 3: layers.AveragePooling3D}
TRANSPOSED_CONVOLUTIONS = {2: layers.Conv2DTranspose, 3: layers.Conv3DTranspose}
# Channels that no stage exceeds, by rank.
MOST_CHANNELS = {2: 512, 3: 320}
NEGATIVE_SLOPE = 0.01


class Supervised(NamedTuple):
    """An output on which the network is trained.

    Attributes:
        name: of its layer.
        reduction: pixels of the input, along each axis, that one of its pixels stands for.
    """

    name: str
    reduction: tuple[int, ...]


def supervised_outputs(strides: Sequence[Sequence[int]]) -> list[Supervised]:
    """The outputs after the first two: each coarser than the one before, but for the lowest stage of the decoder."""
    found, reduction = [], [1] * len(strides[0]) if strides else []
    for stage, stride in enumerate(strides[:-2], 1):
        reduction = [total * step for total, step in zip(reduction, stride, strict=True)]
        found.append(Supervised(f"logits_stage{stage}", tuple(reduction)))
    return found


def stage_channels(width: int, num_stages: int, rank: int) -> list[int]:
    """Channels of each stage: they double from stage to stage, up to a limit."""
    return [min(width * 2**stage, max(MOST_CHANNELS[rank], width)) for stage in range(num_stages)]


def residual_unet(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    width: int,
    strides: Sequence[Sequence[int]],
    kernels: Sequence[Sequence[int]],
    encoder: Encoder | None = None,
) -> keras.Model:
    r"""A U-Net.

    Args:
        input_shape: (rows, columns, channels) or (slices, rows, columns, channels); each axis a multiple of the product
            of its strides.
        num_outputs: classes with the background, or labels where they may overlap.
        width: channels of the first stage; each later one doubles them, up to 320 in 3D and 512 in 2D.
        strides: by stage after the first and by axis: how much it reduces the resolution.
        kernels: by stage and by axis: the size of its convolutions.
        encoder: a residual network for images in the place of the encoder; ``strides`` are then those of its stem and
            its stages, and the first stage is one convolution.

    Returns:
        A ``keras.Model`` from (batch, \*input_shape) to a list: the layer "logits" (batch, \*spatial, num_outputs); the
        layer "features", the mean of the lowest stage's maps; then those of :func:`supervised_outputs`.
    """
    rank = len(input_shape) - 1
    channels = stage_channels(width, len(strides) + 1, rank)
    inputs = keras.Input(input_shape, name="image")
    if encoder is None:
        *skips, hidden = _encoded(inputs, channels, strides, kernels)
    else:
        fine = _normalised(inputs, _convolution(width, kernels[0], rank, name="fine"))
        *skips, hidden = fine, *encoder_stages(inputs, encoder)
    features = GLOBAL_AVERAGE_POOLINGS[rank](name="features", dtype="float32")(hidden)
    heads = {}
    for stage in reversed(range(len(strides))):
        hidden = TRANSPOSED_CONVOLUTIONS[rank](
            channels[stage], strides[stage], strides=strides[stage], use_bias=False, name=f"decoder{stage}_up"
        )(hidden)
        hidden = layers.Concatenate(name=f"decoder{stage}_skip")([hidden, skips[stage]])
        hidden = _normalised(hidden, _convolution(channels[stage], kernels[stage], rank, name=f"decoder{stage}"))
        heads[stage] = hidden
    names = {"logits": 0} | {each.name: stage for stage, each in enumerate(supervised_outputs(strides), 1)}
    logits = [
        CONVOLUTIONS[rank](num_outputs, 1, dtype="float32", name=name)(heads[stage] if heads else hidden)
        for name, stage in names.items()
    ]
    return keras.Model(inputs, [logits[0], features, *logits[1:]], name="residual_unet")


def _encoded(
    inputs: Any, channels: Sequence[int], strides: Sequence[Sequence[int]], kernels: Sequence[Sequence[int]]
) -> list[Any]:
    """The maps of each stage of the encoder."""
    rank = len(kernels[0])
    hidden = _normalised(inputs, _convolution(channels[0], kernels[0], rank, name="stem"))
    maps = [_residual_block(hidden, channels[0], kernels[0], (1,) * rank, name="encoder0")]
    for stage, stride in enumerate(strides, 1):
        maps.append(_residual_block(maps[-1], channels[stage], kernels[stage], stride, name=f"encoder{stage}"))
    return maps


def _residual_block(inputs: Any, filters: int, kernel: Sequence[int], stride: Sequence[int], *, name: str) -> Any:
    rank = len(kernel)
    hidden = _normalised(inputs, _convolution(filters, kernel, rank, strides=tuple(stride), name=f"{name}_1"))
    hidden = _normalised(hidden, _convolution(filters, kernel, rank, name=f"{name}_2"), activated=False)
    shortcut = inputs
    if max(stride) > 1:
        # The mean instead of every second pixel (He et al., "Bag of tricks", 2018, arXiv:1812.01187, section 4.2).
        shortcut = AVERAGE_POOLINGS[rank](tuple(stride), name=f"{name}_pooling")(shortcut)
    if shortcut.shape[-1] != filters:
        shortcut = _normalised(
            shortcut, _convolution(filters, (1,) * rank, rank, name=f"{name}_shortcut"), activated=False
        )
    total = layers.Add(name=f"{name}_sum")([shortcut, hidden])
    return layers.LeakyReLU(NEGATIVE_SLOPE, name=f"{name}_activation")(total)


def _convolution(
    filters: int, kernel: Sequence[int], rank: int, *, strides: int | tuple[int, ...] = 1, name: str
) -> keras.Layer:
    """A convolution with "same" padding, He initialisation and no bias, which the normalisation would remove."""
    return CONVOLUTIONS[rank](
        filters,
        tuple(kernel),
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )


def _normalised(inputs: Any, layer: keras.Layer, *, activated: bool = True) -> Any:
    """Convolution → instance normalisation → leaky ReLU, named after the convolution."""
    outputs = InstanceNormalization(name=f"{layer.name}_normalisation")(layer(inputs))
    return layers.LeakyReLU(NEGATIVE_SLOPE, name=f"{layer.name}_activation")(outputs) if activated else outputs
