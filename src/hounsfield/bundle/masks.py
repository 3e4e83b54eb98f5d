"""Bundles of segmenters: one network, with the layers "logits" and "features"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hounsfield.bundle.base import Kept, Part
from hounsfield.errors import BundleError, require
from hounsfield.evaluation.mask_uncertainty import MaskUncertainty
from hounsfield.onnx_export.ends import INPUT, Ends
from hounsfield.tasks import Task

PARTS: tuple[Part, ...] = (Part("model.onnx"),)
KEPT: type[Kept] = MaskUncertainty
LAYERS: str | None = "hounsfield.segmentation"
OUTPUTS = ("logits", "features")


def export_note(settings: Mapping[str, Any]) -> str:  # noqa: ARG001 - the same for all
    """What lies around the networks; see ``Form``."""
    return (
        "A segmenter takes windows of the shape input_shape of bundle.json. Its output 'logits' has for each pixel one "
        "number a class, the background first: softmax makes them probabilities; where settings.overlapping is true, "
        "one number a label for a sigmoid. docs/segmentation-prediction.md describes how windows are put together."
    )


def check(network: Any, labels: Sequence[str], task: Task) -> None:  # noqa: ARG001 - there is one task
    """It has an output for each label, and its features can be had; see ``Form``."""
    if not set(OUTPUTS) <= {layer.name for layer in network.layers}:
        raise BundleError(
            "The network has no layers 'logits' and 'features'. Build it with hounsfield.segmentation.residual_unet."
        )
    outputs = network.get_layer(OUTPUTS[0]).output.shape[-1]
    if outputs - len(labels) not in (0, 1):
        raise BundleError(
            f"The network has {outputs} outputs, and {len(labels)} labels were given: {', '.join(labels)}. Expected "
            "one more, for the background, or as many where labels overlap. Give the labels that it was trained on."
        )


def deployed(network: Any) -> Any:
    """Without the outputs that serve training alone; see ``Form``."""
    keras = require("keras", "saving a network")
    return keras.Model(network.inputs[0], [network.get_layer(name).output for name in OUTPUTS], name=network.name)


def settings(network: Any, given: Mapping[str, Any]) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The network's input, and what was given; see ``Form``.

    Args:
        network: a U-Net.
        given: ``strides``, ``overlapping`` and ``spacing`` of the plan, and ``largest_component``: the labels of which
            only the largest connected part is kept.

    Raises:
        BundleError: the network has another number of axes than the spacing.
    """
    shape = tuple(network.input_shape[1:])
    known = {"largest_component": []} | dict(given)
    if len(known.get("spacing", ())) != len(shape) - 1 or not isinstance(known.get("overlapping"), bool):
        raise BundleError(
            f"A segmenter needs the settings spacing, with {len(shape) - 1} axes, and overlapping; found "
            f"{known.get('spacing')} and {known.get('overlapping')}. Give both as they are in the plan."
        )
    return shape, known


def ends(network: Any) -> list[tuple[Any, Ends]]:
    """The whole network; see ``Form``."""
    return [(network, Ends(INPUT, {name: network.get_layer(name).output for name in OUTPUTS}))]


def outputs(settings: Mapping[str, Any]) -> list[list[str]]:  # noqa: ARG001 - the same for every network
    """Logits and features; see ``Form``."""
    return [list(OUTPUTS)]
