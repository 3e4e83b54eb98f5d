"""Presets of KerasHub: what they say of their images, and their networks as plain layers of Keras.

A network of KerasHub is made of layers of its own. Here these are unfolded into the layers of Keras that they call, so
that a bundle needs no KerasHub, can be examined before it is loaded, and becomes an ONNX file. What comes out is
compared with what KerasHub computes, and a network that differs is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from hounsfield.bundle.keras_file import require_known_classes
from hounsfield.errors import UsageError, require
from hounsfield.pretrained.tokens import AddPositions, FirstToken, LayerScale, Probe, RotaryAttention, TanhGelu

CONFIG, WEIGHTS, CONVERTER = "config.json", "model.weights.h5", "image_converter.json"
PACKAGE = "keras_hub"
# Where its networks are; its other classes may read files.
MODELS = "keras_hub.src.models."
# The largest difference from KerasHub's own output, relative to its size.
TOLERANCE = 1e-4
# The largest width, depth or side of a network of images.
LARGEST = 16384
LEVELS = 255
MERGING: dict[str, type[layers.Layer]] = {"Add": layers.Add, "Multiply": layers.Multiply}


def is_preset(config: Mapping[str, Any]) -> bool:
    """Whether ``config.json`` is that of a preset."""
    return str(config.get("registered_name")).startswith(f"{PACKAGE}>")


def network_name(config: Mapping[str, Any]) -> str:
    """Such as "vit", of "ViTBackbone"."""
    return str(config.get("class_name")).removesuffix("Backbone").lower()


def image_facts(config: Mapping[str, Any], converter: Mapping[str, Any]) -> dict[str, Any]:
    """Side, mean and deviation of the images that a preset takes, of values from 0 to 1.

    Args:
        config: the content of ``config.json``.
        converter: that of ``image_converter.json``, which scales values from 0 to 255 and adds an offset.

    Raises:
        KeyError, TypeError, ValueError: it does not say, or images are not square.
    """
    own, steps = _encoder(config["config"]), converter["config"]
    shape = own.get("image_shape") or own.get("input_shape") or (None,)
    sides = set(shape[:2] if shape[0] else steps["image_size"])
    if len(sides) > 1:
        raise ValueError("images that are not square")
    scale, offset = np.ones(3) * (steps.get("scale") or 1.0), np.ones(3) * (steps.get("offset") or 0.0)
    if "variance" in steps:
        # An older form.
        spread = np.sqrt(np.asarray(steps["variance"], float))
        scale, offset = scale / spread, -np.asarray(steps["mean"], float) / spread
    deviation = 1 / (LEVELS * scale)
    return {"side": int(sides.pop()), "mean": tuple(-offset * deviation), "std": tuple(deviation)}


def _encoder(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a network of images and text the part that sees images."""
    found: Mapping[str, Any] = config["vision_encoder"]["config"] if "vision_encoder" in config else config
    return found


def preset_network(folder: Path, config: Mapping[str, Any], side: int) -> keras.Model:
    """The network of a preset from an image (side, side, 3) to a vector, its layer "features".

    Raises:
        MissingDependency: KerasHub is not installed.
        UsageError: it is of a kind that cannot be unfolded, or cannot be loaded.
    """
    hub = require(PACKAGE, "presets of KerasHub")
    _check(config, folder)
    try:
        backbone = hub.models.Backbone.from_preset(str(folder.absolute()), dtype="float32")
        encoder = getattr(backbone, "vision_encoder", backbone)
        return _checked(encoder, side)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, NotImplementedError) as error:
        kind = str(config.get("class_name"))
        raise UsageError(
            f"The preset {folder.name} cannot be used ({type(error).__name__}: {error}): expected weights that fit its "
            f"{CONFIG}, of a network from images to features whose layers are known here; it is a {kind:.60}. Get the "
            "files again, or choose a preset of DINOv2, DINOv3, ViT, SigLIP, ResNet or EfficientNet."
        ) from error


def _check(config: Mapping[str, Any], folder: Path) -> None:
    try:
        require_known_classes(config, lambda name, module: module.startswith(MODELS) and "Tokenizer" not in name)
    except ValueError as error:
        raise UsageError(
            f"The preset {folder.name} is not loaded: {error}, and only networks of Keras and KerasHub are."
        ) from error
    if (largest := max(_numbers(_encoder(config["config"])), default=0)) > LARGEST:
        raise UsageError(
            f"The preset {folder.name} is not loaded: its {CONFIG} describes a network with a width, depth or side of "
            f"{largest:.6g}, and at most {LARGEST:,} is taken. Get the file again."
        )


def _numbers(value: Any) -> Iterator[float]:
    """All numbers in a configuration."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float):
        yield abs(value)


def _checked(encoder: keras.Model, side: int) -> keras.Model:
    """The unfolded network, which gives what KerasHub's gives."""
    images = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)
    # First, because unfolding takes layers apart.
    expected = _outputs(encoder, images)
    plain = Unfolding(encoder, side).network()
    found = _outputs(plain, images)
    if found.shape != expected.shape or not np.abs(found - expected).max() <= TOLERANCE * (1 + np.abs(expected).max()):
        raise ValueError("its layers cannot be unfolded")
    outputs = plain.outputs[0]
    if len(outputs.shape) == 3:
        pooling = FirstToken if _has_class_token(plain) else layers.GlobalAveragePooling1D
    else:
        pooling = layers.GlobalAveragePooling2D if len(outputs.shape) == 4 else layers.Identity
    return keras.Model(plain.inputs[0], pooling(name="features")(outputs), name="preset")


def _outputs(network: keras.Model, images: Any) -> Any:
    if isinstance(network._inputs_struct, dict):
        images = {network.inputs[0].name: images}
    # JAX would compile every operation by itself; the others would compile what is used once.
    found = network.predict_on_batch(images) if keras.backend.backend() == "jax" else network(images, training=False)
    return keras.ops.convert_to_numpy(found)


def _has_class_token(network: keras.Model) -> bool:
    return any(isinstance(layer, AddPositions) and layer.num_prefix > 0 for layer in network.layers)


class Unfolding:
    """Takes a network of KerasHub apart.

    Args:
        encoder: from images to features; its layers become those of the plain network.
        side: of the images.
    """

    def __init__(self, encoder: keras.Model, side: int) -> None:
        self.encoder, self.side = encoder, side

    def network(self) -> keras.Model:
        """The plain network, without a layer of KerasHub."""
        image = keras.Input((self.side, self.side, 3), name="image")
        found, unfolded = keras.Model(image, self._run(self.encoder, image)), False
        while not unfolded:
            # What the last layers of KerasHub called is gone through once more.
            unfolded = not any(_is_of_hub(operation) for operation in found.operations)
            found = keras.Model(image, self._run(found, image))
        if others := [type(each).__name__ for each in found.operations if not isinstance(each, keras.Layer)]:
            raise ValueError(f"its operation {others[0]} is not known here")
        # New layers: these were called in several networks.
        plain = keras.models.clone_model(found)
        plain.set_weights(found.get_weights())
        return plain

    def _run(self, network: keras.Model, image: Any) -> Any:
        # Keras has no public walk of the graph; ``keras.models.clone_model`` uses this one.
        return network._run_through_graph([image], call_fn=self._call)

    def _call(self, operation: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(operation, layers.Identity):
            return arguments[0]
        if isinstance(operation, layers.MultiHeadAttention):
            # A key of its own, a third argument, would be passed over here, and found out by ``_checked``.
            return operation(*arguments[:2] or (options["query"], options["value"]))
        if not _is_of_hub(operation):
            # Operators such as + are no layers, which could be copied in another precision.
            merging = None if isinstance(operation, layers.Layer) else MERGING.get(type(operation).__name__)
            return operation(*arguments, **options) if merging is None else merging()(list(arguments))
        for layer in operation._flatten_layers(include_self=False, recursive=False):
            # Blocks repeat the names of their layers.
            if not layer.name.startswith(operation.name):
                layer.name = f"{operation.name}_{layer.name}"
        known = REPLACED.get(type(operation).__name__)
        if known is not None:
            return known(self, operation, arguments[0])
        return operation.call(*arguments, **options)


def _is_of_hub(operation: Any) -> bool:
    return type(operation).__module__.startswith(f"{PACKAGE}.")


class _Tokens(NamedTuple):
    """What an embedding adds to patches: vectors (prefix + patches, D), of which the first are tokens of their own."""

    positions: Any
    num_prefix: int


def _embedded(patches: layers.Conv2D, tokens: _Tokens, image: Any, name: str) -> Any:
    hidden = patches(image)
    hidden = layers.Reshape((math.prod(hidden.shape[1:3]), hidden.shape[-1]), name=f"{name}_tokens")(hidden)
    layer = AddPositions(tokens.num_prefix, name=f"{name}_positions")
    hidden = layer(hidden)
    layer.set_weights([tokens.positions])
    return hidden


def _array(variable: Any) -> Any:
    return np.array(keras.ops.convert_to_numpy(variable), np.float32)


def _vit_embedding(_: Unfolding, layer: Any, image: Any) -> Any:
    positions = _array(layer.position_embedding.embeddings)
    if layer.use_class_token:
        positions[0] += _array(layer.class_token)[0, 0]
    return _embedded(layer.patch_embedding, _Tokens(positions, int(layer.use_class_token)), image, layer.name)


def _dinov2_embedding(_: Unfolding, layer: Any, image: Any) -> Any:
    positions = _array(layer.interpolated_position_embeddings)[0]
    positions[0] += _array(layer.cls_token)[0, 0]
    if layer.num_register_tokens:
        positions = np.concatenate([positions[:1], _array(layer.register_tokens)[0], positions[1:]])
    tokens = _Tokens(positions, 1 + layer.num_register_tokens)
    return _embedded(layer.patch_embeddings.projection, tokens, image, layer.name)


def _dinov3_embedding(_: Unfolding, layer: Any, image: Any) -> Any:
    prefix = [_array(layer.cls_token)[0]]
    if layer.num_register_tokens:
        prefix.append(_array(layer.register_tokens)[0])
    projection = layer.patch_embeddings.projection
    patches = math.prod(length // projection.kernel_size[0] for length in image.shape[1:3])
    zeros = np.zeros((patches, prefix[0].shape[-1]), np.float32)
    return _embedded(projection, _Tokens(np.concatenate([*prefix, zeros]), sum(map(len, prefix))), image, layer.name)


def _siglip_embedding(_: Unfolding, layer: Any, image: Any) -> Any:
    return _embedded(layer.patch_embedding, _Tokens(_array(layer.position_embedding.embeddings), 0), image, layer.name)


def _scale(_: Unfolding, layer: Any, tokens: Any) -> Any:
    scale = LayerScale(name=f"{layer.name}_scale")
    hidden = scale(tokens)
    scale.set_weights([_array(layer.lambda1)])
    return hidden


def _siglip_dense(_: Unfolding, layer: Any, tokens: Any) -> Any:
    if layer.activation != "gelu_approximate":
        return layer.call(tokens)
    # The activation is a function of KerasHub.
    layer.fc1.activation = keras.activations.linear
    return layer.fc2(TanhGelu(name=f"{layer.name}_gelu")(layer.fc1(tokens)))


def _siglip_pooling(_: Unfolding, layer: Any, tokens: Any) -> Any:
    probe = Probe(name=f"{layer.name}_probe")
    hidden = layer.attention(probe(tokens), tokens)
    probe.set_weights([_array(layer.probe)[0, 0]])
    added = layers.Add(name=f"{layer.name}_added")([hidden, layer.mlp(layer.layer_norm(hidden))])
    return FirstToken(name=f"{layer.name}_token")(added)


def _rotations(_: Unfolding, __: Any, image: Any) -> tuple[Any, Any]:
    """Stand for what ``RotaryAttention`` computes itself."""
    return image, image


def _rotary_attention(unfolding: Unfolding, layer: Any, tokens: Any) -> Any:
    encoder, side = unfolding.encoder, unfolding.side
    grid = (side // encoder.patch_size, side // encoder.patch_size)
    attention = RotaryAttention(
        layer.num_heads, 1 + encoder.num_register_tokens, grid, encoder.rope_theta, name=f"{layer.name}_rotary"
    )
    hidden = attention(tokens)
    parts = (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense)
    kernels = [_array(part.kernel) for part in parts]
    biases = [_array(part.bias) if part.use_bias else np.zeros(layer.hidden_dim, np.float32) for part in parts]
    attention.set_weights([*kernels, *biases])
    return hidden


# Layers of KerasHub with weights of their own, or whose calls cannot be followed -> what stands for them.
REPLACED: dict[str, Callable[[Unfolding, Any, Any], Any]] = {
    "ViTPatchingAndEmbedding": _vit_embedding,
    "DINOV2Embedding": _dinov2_embedding,
    "DINOV2LayerScale": _scale,
    "DINOV3Attention": _rotary_attention,
    "DINOV3Embedding": _dinov3_embedding,
    "DINOV3LayerScale": _scale,
    "DINOV3RopePositionEmbedding": _rotations,
    "SigLIPMLP": _siglip_dense,
    "SigLIPMultiHeadAttentionPooling": _siglip_pooling,
    "SigLIPVisionEmbedding": _siglip_embedding,
}
