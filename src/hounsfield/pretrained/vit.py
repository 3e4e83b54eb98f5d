"""Vision transformers in the form of Hugging Face's ``vit`` and ``dinov2``, of Keras's layers.

Dosovitskiy et al., "An image is worth 16×16 words", 2021 (arXiv:2010.11929); Oquab et al., "DINOv2", 2023
(arXiv:2304.07193), whose scales of residual branches are folded into the last layer of each branch.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import layers
from pydantic import BaseModel, Field

from hounsfield.errors import UsageError
from hounsfield.pretrained.tensors import Tensors
from hounsfield.pretrained.tokens import AddPositions, FirstToken

# Names of the parts of a block, by kind of model.
NAMES = {
    "vit": ("layernorm_before", "layernorm_after", "intermediate.dense", "output.dense"),
    "dinov2": ("norm1", "norm2", "mlp.fc1", "mlp.fc2"),
}


class ViTSettings(BaseModel):
    """What is read of ``config.json``; the rest of it is for other uses."""

    model_type: Literal["vit", "dinov2"]
    hidden_size: int = Field(gt=0, le=8192)
    num_hidden_layers: int = Field(gt=0, le=128)
    num_attention_heads: int = Field(gt=0, le=256)
    intermediate_size: int | None = Field(default=None, gt=0, le=16384)
    mlp_ratio: int = Field(default=4, gt=0, le=16)
    image_size: int = Field(gt=0, le=4096)
    patch_size: int = Field(gt=0, le=256)
    num_channels: Literal[3] = 3
    layer_norm_eps: float = Field(default=1e-6, gt=0, lt=1)
    hidden_act: Literal["gelu"] = "gelu"
    use_swiglu_ffn: Literal[False] = False

    @property
    def inner(self) -> int:
        """Units of a block's hidden layer."""
        if self.model_type == "vit" and self.intermediate_size is not None:
            return self.intermediate_size
        return self.mlp_ratio * self.hidden_size


def vit(settings: ViTSettings, tensors: Tensors) -> keras.Model:
    """A network from an image to its class token after the last normalisation, the layer "features"."""
    size, patch, width = settings.image_size, settings.patch_size, settings.hidden_size
    image = keras.Input((size, size, settings.num_channels), name="image")
    hidden = layers.Conv2D(width, patch, strides=patch, name="patches")(image)
    hidden = layers.Reshape(((size // patch) ** 2, width), name="tokens")(hidden)
    hidden = AddPositions(name="positions")(hidden)
    for number in range(settings.num_hidden_layers):
        hidden = _block(settings, hidden, f"block{number}")
    hidden = layers.LayerNormalization(epsilon=settings.layer_norm_eps, name="normalisation")(hidden)
    network = keras.Model(image, FirstToken(name="features")(hidden), name=settings.model_type)
    _load(network, settings, tensors)
    return network


def _block(settings: ViTSettings, hidden: Any, name: str) -> Any:
    """Attention, then two dense layers, each on normalised tokens and beside them."""
    heads, width = settings.num_attention_heads, settings.hidden_size
    normalised = layers.LayerNormalization(epsilon=settings.layer_norm_eps, name=f"{name}_norm1")(hidden)
    attention = layers.MultiHeadAttention(heads, width // heads, name=f"{name}_attention")
    hidden = layers.Add(name=f"{name}_attended")([hidden, attention(normalised, normalised)])
    inner = layers.LayerNormalization(epsilon=settings.layer_norm_eps, name=f"{name}_norm2")(hidden)
    inner = layers.Dense(settings.inner, activation="gelu", name=f"{name}_dense1")(inner)
    inner = layers.Dense(width, name=f"{name}_dense2")(inner)
    return layers.Add(name=f"{name}_added")([hidden, inner])


def _load(network: keras.Model, settings: ViTSettings, tensors: Tensors) -> None:
    keys = [key for key in tensors if key.endswith("embeddings.cls_token")]
    if len(keys) != 1:
        raise UsageError(
            f"The weights hold {len(keys)} class tokens of a vision transformer, and one is expected. Give a folder "
            "with a model of the type vit or dinov2."
        )
    root = keys[0].removesuffix("embeddings.cls_token")

    def of(name: str) -> Any:
        return tensors[root + name]

    kernel = np.transpose(of("embeddings.patch_embeddings.projection.weight"), (2, 3, 1, 0))
    network.get_layer("patches").set_weights([kernel, of("embeddings.patch_embeddings.projection.bias")])
    positions = of("embeddings.position_embeddings")[0].copy()
    positions[0] += of("embeddings.cls_token")[0, 0]
    network.get_layer("positions").set_weights([positions])
    network.get_layer("normalisation").set_weights([of("layernorm.weight"), of("layernorm.bias")])
    for number in range(settings.num_hidden_layers):
        _load_block(
            network,
            settings,
            f"block{number}",
            {
                key.removeprefix(f"{root}encoder.layer.{number}."): value
                for key, value in tensors.items()
                if key.startswith(f"{root}encoder.layer.{number}.")
            },
        )


def _load_block(network: keras.Model, settings: ViTSettings, name: str, found: Tensors) -> None:
    first, second, dense1, dense2 = NAMES[settings.model_type]
    width, heads = settings.hidden_size, settings.num_attention_heads
    ones = np.ones(width, np.float32)
    for layer, key in ((f"{name}_norm1", first), (f"{name}_norm2", second)):
        network.get_layer(layer).set_weights([found[f"{key}.weight"], found[f"{key}.bias"]])
    scale1, scale2 = (found.get(f"layer_scale{part}.lambda1", ones) for part in (1, 2))
    weights: list[Any] = []
    for part in ("query", "key", "value"):
        key = f"attention.attention.{part}"
        bias = found.get(f"{key}.bias", np.zeros(width, np.float32))
        weights += [found[f"{key}.weight"].T.reshape(width, heads, -1), bias.reshape(heads, -1)]
    key = "attention.output.dense"
    output = (found[f"{key}.weight"].T * scale1).reshape(heads, -1, width)
    network.get_layer(f"{name}_attention").set_weights([*weights, output, found[f"{key}.bias"] * scale1])
    network.get_layer(f"{name}_dense1").set_weights([found[f"{dense1}.weight"].T, found[f"{dense1}.bias"]])
    network.get_layer(f"{name}_dense2").set_weights(
        [found[f"{dense2}.weight"].T * scale2, found[f"{dense2}.bias"] * scale2]
    )
