"""Under which names the ONNX file of a network has its input and its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

INPUT = "image"
OUTPUTS = ("probabilities", "features")
# Of networks whose images are joined to samples by attention: the score of an image.
ATTENTION = "attention"

Shape = tuple[int | None, ...]


class Ends(NamedTuple):
    """Under which names an ONNX file has a network's input, and which symbols of Keras it has as outputs."""

    input: str
    outputs: Mapping[str, Any]


def classifier_ends(network: Any) -> Ends:
    """The input "image", and the layers "probabilities", "features" and, where there is one, "attention"."""
    known = {layer.name for layer in network.layers}
    return Ends(INPUT, {name: network.get_layer(name).output for name in (*OUTPUTS, ATTENTION) if name in known})


def numbered_ends(network: Any) -> Ends:
    """The names that a detector's network has in its file: its own of the input, and outputs by their number."""
    return Ends(network.inputs[0].name, dict(zip(output_names(len(network.outputs)), network.outputs, strict=True)))


def output_names(count: int) -> list[str]:
    """Of so many numbered outputs."""
    return [f"output{number}" for number in range(count)]
