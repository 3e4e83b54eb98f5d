"""Residual networks in the forms of Hugging Face (``resnet``) and timm, of Keras's layers.

He et al., "Deep residual learning for image recognition", 2016 (arXiv:1512.03385), with the stride in the convolution
of 3×3 as PyTorch has it, and its paddings: as much before as behind.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import keras
import numpy as np
from keras import layers
from pydantic import BaseModel, Field

from hounsfield.errors import UsageError
from hounsfield.pretrained.tensors import Tensors

EPSILON = 1e-5
Lengths = Annotated[tuple[Annotated[int, Field(gt=0, le=8192)], ...], Field(min_length=1, max_length=8)]
# Architecture of timm -> blocks of each stage, and whether these are bottlenecks.
TIMM: dict[str, tuple[tuple[int, ...], bool]] = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
}


class ResidualSettings(BaseModel):
    """What is read of ``config.json`` in the form of Hugging Face."""

    model_type: Literal["resnet"] = "resnet"
    embedding_size: int = Field(default=64, gt=0, le=8192)
    hidden_sizes: Lengths = (256, 512, 1024, 2048)
    depths: Lengths = (3, 4, 6, 3)
    layer_type: Literal["basic", "bottleneck"] = "bottleneck"
    hidden_act: Literal["relu"] = "relu"
    num_channels: Literal[3] = 3
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: Literal[False] = False

    @classmethod
    def of_timm(cls, architecture: str) -> ResidualSettings:
        """Of a residual network of timm.

        Raises:
            UsageError: it is another one.
        """
        if architecture not in TIMM:
            raise UsageError(
                f"The folder holds timm's '{architecture}', and of timm {', '.join(TIMM)} are read. Choose one of "
                "these, or a model of the type vit, dinov2 or resnet in Hugging Face's form."
            )
        depths, bottleneck = TIMM[architecture]
        widths = tuple((256 if bottleneck else 64) * 2**number for number in range(len(depths)))
        return cls(hidden_sizes=widths, depths=depths, layer_type="bottleneck" if bottleneck else "basic")


def residual(settings: ResidualSettings, tensors: Tensors, side: int) -> keras.Model:
    """A network from an image (side, side, 3) to the mean over its last maps, the layer "features"."""
    image = keras.Input((side, side, settings.num_channels), name="image")
    hidden = _convolution(image, settings.embedding_size, 7, 2, "stem")
    hidden = layers.ZeroPadding2D(1, name="pooling_padding")(hidden)
    hidden = layers.MaxPooling2D(3, 2, name="pooling")(hidden)
    for stage, (width, depth) in enumerate(zip(settings.hidden_sizes, settings.depths, strict=True)):
        for block in range(depth):
            first = block == 0 and (stage > 0 or settings.downsample_in_first_stage)
            hidden = _block(settings, hidden, width, 2 if first else 1, f"stage{stage}_block{block}")
    network = keras.Model(image, layers.GlobalAveragePooling2D(name="features")(hidden), name="resnet")
    _load(network, tensors)
    return network


def _block(settings: ResidualSettings, hidden: Any, width: int, stride: int, name: str) -> Any:
    beside = hidden
    if hidden.shape[-1] != width or stride > 1:
        beside = _convolution(hidden, width, 1, stride, f"{name}_shortcut", relu=False)
    if settings.layer_type == "bottleneck":
        inner = _convolution(hidden, width // 4, 1, 1, f"{name}_conv0")
        inner = _convolution(inner, width // 4, 3, stride, f"{name}_conv1")
        inner = _convolution(inner, width, 1, 1, f"{name}_conv2", relu=False)
    else:
        inner = _convolution(hidden, width, 3, stride, f"{name}_conv0")
        inner = _convolution(inner, width, 3, 1, f"{name}_conv1", relu=False)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_added")([inner, beside]))


def _convolution(hidden: Any, filters: int, kernel: int, stride: int, name: str, *, relu: bool = True) -> Any:
    if kernel > 1:
        hidden = layers.ZeroPadding2D(kernel // 2, name=f"{name}_padding")(hidden)
    hidden = layers.Conv2D(filters, kernel, strides=stride, use_bias=False, name=name)(hidden)
    hidden = layers.BatchNormalization(momentum=0.9, epsilon=EPSILON, name=f"{name}_normalisation")(hidden)
    return layers.ReLU(name=f"{name}_relu")(hidden) if relu else hidden


def _load(network: keras.Model, tensors: Tensors) -> None:
    timm = "conv1.weight" in tensors
    root = "resnet." if any(key.startswith("resnet.") for key in tensors) else ""
    for layer in network.layers:
        if isinstance(layer, layers.Conv2D):
            kernel, normalisation = (_timm if timm else _hugging_face)(layer.name)
            weights = np.transpose(tensors[f"{root}{kernel}.weight"], (2, 3, 1, 0))
            layer.set_weights([weights])
            names = ("weight", "bias", "running_mean", "running_var")
            found = [tensors[f"{root}{normalisation}.{name}"] for name in names]
            network.get_layer(f"{layer.name}_normalisation").set_weights(found)


def _hugging_face(name: str) -> tuple[str, str]:
    """The names of a convolution and its normalisation."""
    if name == "stem":
        place = "embedder.embedder"
    else:
        stage, block, part = name.split("_")
        within = "shortcut" if part == "shortcut" else f"layer.{part.removeprefix('conv')}"
        place = f"encoder.stages.{stage.removeprefix('stage')}.layers.{block.removeprefix('block')}.{within}"
    return f"{place}.convolution", f"{place}.normalization"


def _timm(name: str) -> tuple[str, str]:
    if name == "stem":
        return "conv1", "bn1"
    stage, block, part = name.split("_")
    place = f"layer{int(stage.removeprefix('stage')) + 1}.{block.removeprefix('block')}"
    if part == "shortcut":
        return f"{place}.downsample.0", f"{place}.downsample.1"
    number = int(part.removeprefix("conv")) + 1
    return f"{place}.conv{number}", f"{place}.bn{number}"
