"""Residual networks in the forms of Hugging Face (``resnet``) and timm: what they are made of, and their weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import keras
import numpy as np
from keras import layers
from pydantic import BaseModel, Field

from hounsfield.errors import UsageError
from hounsfield.models.encoder import EPSILON, encoder_stages
from hounsfield.plans.encoder import Encoder, Lengths
from hounsfield.pretrained.tensors import Tensors

# Names of the convolutions of ``encoder_stages``.
PART = re.compile(r"stem|stage\d+_block\d+_(conv\d|shortcut)")
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

    @property
    def encoder(self) -> Encoder:
        """What the network is made of."""
        bottleneck = self.layer_type == "bottleneck"
        return Encoder(stem=self.embedding_size, widths=self.hidden_sizes, depths=self.depths, bottleneck=bottleneck)

    @classmethod
    def of_config(cls, config: Mapping[str, object]) -> ResidualSettings:
        """Of ``config.json`` in either form.

        Raises:
            UsageError: it is another network of timm.
            ValidationError: it is another network of Hugging Face.
        """
        if "architecture" in config:
            return cls.of_timm(str(config["architecture"]))
        return cls.model_validate(config)

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
    first = 2 if settings.downsample_in_first_stage else 1
    maps = encoder_stages(image, settings.encoder, normalised=True, first_stride=first)
    network = keras.Model(image, layers.GlobalAveragePooling2D(name="features")(maps[-1]), name="resnet")
    load_residual(network, tensors)
    return network


def load_residual(network: keras.Model, tensors: Tensors) -> None:
    """Give the weights to the layers of ``encoder_stages`` in a network, whatever else it has.

    Raises:
        KeyError, ValueError: they do not fit.
    """
    timm = "conv1.weight" in tensors
    root = "resnet." if any(key.startswith("resnet.") for key in tensors) else ""
    for layer in network.layers:
        if isinstance(layer, layers.Conv2D) and PART.fullmatch(layer.name):
            kernel, normalisation = (_timm if timm else _hugging_face)(layer.name)
            weights = np.transpose(tensors[f"{root}{kernel}.weight"], (2, 3, 1, 0))
            names = ("weight", "bias", "running_mean", "running_var")
            scale, shift, mean, variance = (tensors[f"{root}{normalisation}.{name}"] for name in names)
            if layer.use_bias:
                factor = scale / np.sqrt(variance + EPSILON)
                layer.set_weights([weights * factor, shift - mean * factor])
            else:
                layer.set_weights([weights])
                network.get_layer(f"{layer.name}_normalisation").set_weights([scale, shift, mean, variance])


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
