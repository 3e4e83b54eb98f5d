"""Bundles of networks that label whole images: one network, with the layers "features" and "probabilities"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hounsfield.bundle.base import Kept, Part
from hounsfield.errors import BundleError, require
from hounsfield.evaluation.uncertainty import Uncertainty
from hounsfield.onnx_export.ends import ATTENTION, OUTPUTS, Ends, classifier_ends
from hounsfield.tasks import Task, fits_labels, num_outputs

PARTS: tuple[Part, ...] = (Part("model.onnx"),)
KEPT: type[Kept] = Uncertainty
LAYERS: str | None = "hounsfield.pretrained.tokens"


def check(network: Any, labels: Sequence[str], task: Task) -> None:
    """Its outputs are those of the labels, and its features can be had; see ``Form``."""
    expected = num_outputs(len(labels), task)
    if not set(OUTPUTS) <= {layer.name for layer in network.layers}:
        raise BundleError(
            "The network has no layers 'features' and 'probabilities'. Build it with hounsfield.models.build, or name "
            "its pooled vector and its last layer so."
        )
    outputs = network.get_layer("probabilities").output.shape[-1]
    if outputs != expected or not fits_labels(len(labels), task):
        raise BundleError(
            f"The network gives {outputs} probabilities, and the task is {task} with the labels {', '.join(labels)}: "
            f"expected {expected} (binary: 1 for 2 labels). Give the labels that it was trained on."
        )


def deployed(network: Any) -> Any:
    """A copy in float32 where layers compute in anything else; see ``Form``."""
    keras = require("keras", "saving a network")
    outputs = network.outputs if len(network.outputs) > 1 else network.outputs[0]
    plain = keras.Model(network.inputs[0], outputs, name=network.name)
    if all(layer.compute_dtype == "float32" for layer in network._flatten_layers(include_self=False)):
        return plain
    copy = keras.Model.from_config(_with_float32(plain.get_config()))
    copy.set_weights(network.get_weights())
    return copy


def settings(network: Any, given: Mapping[str, Any]) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The network's input; see ``Form``."""
    return tuple(network.input_shape[1:]), dict(given)


def export_note(settings: Mapping[str, Any]) -> str:
    """How samples of several images are put together; see ``Form``."""
    if "view_pooling" not in settings:
        return ""
    return (
        "The network takes the images of a sample one by one: settings.view_pooling of bundle.json says how their "
        "features are joined before settings.head."
    )


def ends(network: Any) -> list[tuple[Any, Ends]]:
    """The whole network; see ``Form``."""
    return [(network, classifier_ends(network))]


def outputs(settings: Mapping[str, Any]) -> list[list[str]]:
    """Probabilities and features, and the score of an image where attention joins several; see ``Form``."""
    return [[*OUTPUTS, ATTENTION] if settings.get("view_pooling") == "attention" else list(OUTPUTS)]


def _with_float32(config: Any) -> Any:
    """A layer's configuration in which every dtype policy is float32, also in nested networks."""
    if isinstance(config, dict):
        return {key: "float32" if key == "dtype" else _with_float32(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_with_float32(value) for value in config)
    return config
