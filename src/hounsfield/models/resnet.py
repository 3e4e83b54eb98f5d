"""Residual networks of any width, in 2D and in 3D, with a stem that suits the input's size.

He et al., "Deep residual learning for image recognition", 2015 (arXiv:1512.03385), with the stride of a
bottleneck on its 3×3 convolution and the last normalisation of each block starting at zero
(Goyal et al., 2017, arXiv:1706.02677, section 5.1).
"""

from __future__ import annotations

from typing import Any, get_args

import keras
from keras import layers

from hounsfield.errors import UsageError
from hounsfield.models.blocks import (
    AVERAGE_POOLINGS,
    GLOBAL_AVERAGE_POOLINGS,
    GLOBAL_MAX_POOLINGS,
    MAX_POOLINGS,
    classification_head,
    convolution,
    normalised,
)
from hounsfield.plans.architecture import Pooling, Stem
from hounsfield.tasks import Task

# Depth -> (blocks per stage, whether blocks are bottlenecks).
DEPTHS: dict[int, tuple[tuple[int, int, int, int], bool]] = {
    10: ((1, 1, 1, 1), False),
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
}
EXPANSION = 4
# Initial scale of normalised features: about the spread of mean features, at which the head learns well.
FEATURE_SPREAD = 0.1


# Rank -> longest axis up to which the stem is small, and up to which it is medium. A volume has so many positions that
# its resolution is halved earlier: at 28³ that saves seven eighths of the work.
STEM_LIMITS: dict[int, tuple[int, int]] = {2: (48, 112), 3: (20, 64)}


def fitting_stem(spatial_shape: tuple[int, ...]) -> Stem:
    """The stem for an input size: the last stage then sees 4 to 16 positions along the longest axis, 2 to 4 in 3D."""
    longest, (small, medium) = max(spatial_shape), STEM_LIMITS[len(spatial_shape)]
    return "small" if longest <= small else "medium" if longest <= medium else "large"


def resnet(  # noqa: PLR0913 - an option each
    input_shape: tuple[int, ...],
    num_labels: int,
    task: Task,
    *,
    depth: int = 18,
    width: int = 64,
    stem: Stem | None = None,
    pooling: Pooling = "mean",
    dropout: float = 0.0,
    shrink: int = 1,
    standardise: bool = False,
) -> keras.Model:
    r"""A residual network for classification.

    Args:
        input_shape: (rows, columns, channels) or (slices, rows, columns, channels).
        num_labels: number of labels of the task.
        task: decides the last layer's units and activation.
        depth: 10, 18, 34 (two 3×3 convolutions per block) or 50 (bottlenecks).
        width: channels of the first stage; each of the three later stages doubles them.
        stem: "small" keeps the resolution, "medium" halves it, "large" quarters it (the paper's 7×7 and
            pooling); chosen by the input's size where not given.
        pooling: "mean" averages the last stage's maps; "stages" concatenates the mean and the maximum of every
            stage's maps, normalised, so that a small finding in a large image can decide.
        dropout: share of the pooled features that is dropped in training.
        shrink: of how many pixels along each axis the mean is taken before all else; what is left over at the end of an
            axis is not seen.
        standardise: whether each channel of an image then gets the mean 0 and the deviation 1.

    Returns:
        A ``keras.Model`` from (batch, \*input_shape) to (batch, 1) or (batch, num_labels), whose layer
        "features" gives the pooled vector: width × 8 values, or width × 30 with all stages (both × 4 for depth 50).

    Raises:
        UsageError: the depth is not 10, 18, 34 or 50, there is no such pooling, or images are smaller than ``shrink``.
    """
    if depth not in DEPTHS:
        raise UsageError(f"The depth of a resnet must be one of {sorted(DEPTHS)}. Got {depth} instead.")
    if pooling not in get_args(Pooling):
        raise UsageError(f"The pooling of a resnet must be 'mean' or 'stages'. Got '{pooling}' instead.")
    if shrink > min(input_shape[:-1]):
        raise UsageError(
            f"A resnet cannot average {shrink} pixels of images of the shape {input_shape}: set shrink lower."
        )
    rank = len(input_shape) - 1
    inputs = keras.Input(input_shape, name="image")
    hidden = AVERAGE_POOLINGS[rank](shrink, name="shrunk")(inputs) if shrink > 1 else inputs
    stem = stem or fitting_stem(tuple(hidden.shape[1:-1]))
    if standardise:
        hidden = layers.GroupNormalization(-1, epsilon=1e-5, center=False, scale=False, name="standardised")(hidden)
    hidden = stem_block(hidden, width, rank, stem)
    stages = feature_stages(hidden, rank, depth=depth, width=width)
    features = (
        GLOBAL_AVERAGE_POOLINGS[rank](name="features")(stages[-1]) if pooling == "mean" else _joined(stages, rank)
    )
    outputs = classification_head(features, num_labels, task, dropout=dropout)
    return keras.Model(inputs, outputs, name=f"resnet{depth}")


def feature_stages(hidden: Any, rank: int, *, depth: int, width: int) -> list[Any]:
    """The outputs of the four residual stages, at 1, 1/2, 1/4 and 1/8 of the stem's resolution."""
    repeats, bottleneck = DEPTHS[depth]
    stages = []
    for stage, count in enumerate(repeats):
        for block in range(count):
            strides = 2 if stage and not block else 1
            build_block = _bottleneck_block if bottleneck else _basic_block
            hidden = build_block(hidden, width * 2**stage, rank, strides, name=f"stage{stage + 1}_block{block + 1}")
        stages.append(hidden)
    return stages


def stem_block(inputs: Any, width: int, rank: int, stem: Stem) -> Any:
    """The first layers, which bring an image to ``width`` channels and the stem's resolution."""
    if stem == "small":
        return normalised(inputs, convolution(width, 3, rank, name="stem"))
    if stem == "medium":
        return normalised(inputs, convolution(width, 5, rank, strides=2, name="stem"))
    hidden = normalised(inputs, convolution(width, 7, rank, strides=2, name="stem"))
    return MAX_POOLINGS[rank](3, strides=2, padding="same", name="stem_pooling")(hidden)


def _joined(stages: list[Any], rank: int) -> Any:
    """Means and maxima of all stages as one vector, each normalised over the batch."""
    poolings = {"mean": GLOBAL_AVERAGE_POOLINGS[rank], "greatest": GLOBAL_MAX_POOLINGS[rank]}
    pooled = [
        pooling(name=f"stage{number}_{what}")(maps)
        for number, maps in enumerate(stages, 1)
        for what, pooling in poolings.items()
    ]
    spread = keras.initializers.Constant(FEATURE_SPREAD)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer=spread, name="features")(
        layers.Concatenate(name="pooled")(pooled)
    )


def _basic_block(inputs: Any, filters: int, rank: int, strides: int, *, name: str) -> Any:
    hidden = normalised(inputs, convolution(filters, 3, rank, strides=strides, name=f"{name}_1"))
    hidden = normalised(hidden, convolution(filters, 3, rank, name=f"{name}_2"), relu=False, gamma="zeros")
    return _add_shortcut(inputs, hidden, rank, strides, name=name)


def _bottleneck_block(inputs: Any, filters: int, rank: int, strides: int, *, name: str) -> Any:
    hidden = normalised(inputs, convolution(filters, 1, rank, name=f"{name}_1"))
    hidden = normalised(hidden, convolution(filters, 3, rank, strides=strides, name=f"{name}_2"))
    last = convolution(filters * EXPANSION, 1, rank, name=f"{name}_3")
    return _add_shortcut(inputs, normalised(hidden, last, relu=False, gamma="zeros"), rank, strides, name=name)


def _add_shortcut(inputs: Any, hidden: Any, rank: int, strides: int, *, name: str) -> Any:
    filters = hidden.shape[-1]
    if strides != 1 and rank == 2:
        # Then a convolution of stride 1: TensorFlow 2.21 writes beyond its memory in the gradient of a strided 1×1
        # convolution of images with fewer than 16 channels (oneDNN on AVX-512), and may crash.
        inputs = layers.AveragePooling2D(1, strides=strides, padding="same", name=f"{name}_thinning")(inputs)
        strides = 1
    if strides != 1 or inputs.shape[-1] != filters:
        inputs = normalised(inputs, convolution(filters, 1, rank, strides=strides, name=f"{name}_shortcut"), relu=False)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_sum")([inputs, hidden]))
