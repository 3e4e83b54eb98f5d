"""What an ONNX graph is written with: tensors that know their Keras shape, the writer of nodes, and activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hounsfield.errors import require


class NotConvertible(Exception):  # noqa: N818  (a signal between two modules, never shown to a user)
    """The network has a layer, or a setting of one, that this converter does not know."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph.

    Attributes:
        name: its name in the ONNX graph.
        shape: its shape in Keras's order (batch, *spatial, channels), ``None`` where not known. Where it has
            spatial axes the ONNX tensor is (batch, channels, *spatial).
    """

    name: str
    shape: tuple[int | None, ...]

    @property
    def rank(self) -> int:
        """The number of axes, with the batch."""
        return len(self.shape)

    def axis(self, axis: int) -> int:
        """The ONNX axis of an axis counted in Keras's order."""
        axis = axis % self.rank
        if self.rank < 3 or axis == 0:
            return axis
        return 1 if axis == self.rank - 1 else axis + 1


class GraphWriter:
    """Collects the nodes and the weights of one graph."""

    def __init__(self) -> None:
        self.onnx = require("onnx", "writing the network for OpenVINO and ONNX Runtime")
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._names_of_weights: dict[int, str] = {}
        # Arrays are kept alive while their identity is a key.
        self._kept: list[Any] = []

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output, and return that output's name."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, values: Any, *, of: Any = None) -> str:
        """Store an array; the same variable ``of`` a shared layer is stored once."""
        if of is not None and id(of) in self._names_of_weights:
            return self._names_of_weights[id(of)]
        name = f"weight_{len(self.weights)}"
        array = np.ascontiguousarray(values)
        self.weights.append(
            self.onnx.numpy_helper.from_array(array.astype(np.float32) if array.dtype.kind == "f" else array, name)
        )
        if of is not None:
            self._names_of_weights[id(of)] = name
            self._kept.append(of)
        return name

    def channels_last(self, tensor: Tensor) -> str:
        """The name of the tensor in Keras's order of axes."""
        if tensor.rank < 3:
            return tensor.name
        return self.node("Transpose", tensor.name, perm=[0, *range(2, tensor.rank), 1])

    def channels_first(self, name: str, shape: tuple[int | None, ...]) -> Tensor:
        """The tensor of a name that is in Keras's order of axes."""
        rank = len(shape)
        if rank < 3:
            return Tensor(name, shape)
        return Tensor(self.node("Transpose", name, perm=[0, rank - 1, *range(1, rank - 1)]), shape)


def _times(function: Callable[[GraphWriter, str], str]) -> Callable[[GraphWriter, str], str]:
    return lambda writer, name: writer.node("Mul", name, function(writer, name))


def clipped(writer: GraphWriter, name: str, low: float, high: float) -> str:
    """Write the clipping of a tensor to [low, high]."""
    return writer.node("Clip", name, writer.constant(np.float32(low)), writer.constant(np.float32(high)))


def _hard_sigmoid(writer: GraphWriter, name: str) -> str:
    return writer.node("HardSigmoid", name, alpha=1 / 6, beta=0.5)


def _half_erf(writer: GraphWriter, name: str) -> str:
    """The share of a standard normal below x, so that x times it is GELU (arXiv:1606.08415)."""
    erf = writer.node("Erf", writer.node("Mul", name, writer.constant(np.float32(math.sqrt(0.5)))))
    return writer.node("Mul", writer.node("Add", erf, writer.constant(np.float32(1))), writer.constant(np.float32(0.5)))


# Keras's name of the function, at its default arguments -> the nodes that compute it.
ACTIVATIONS: dict[str, Callable[[GraphWriter, str], str]] = {
    "linear": lambda _writer, name: name,
    "relu": lambda writer, name: writer.node("Relu", name),
    "relu6": lambda writer, name: clipped(writer, name, 0, 6),
    "leaky_relu": lambda writer, name: writer.node("LeakyRelu", name, alpha=0.2),
    "elu": lambda writer, name: writer.node("Elu", name),
    "selu": lambda writer, name: writer.node("Selu", name),
    "softplus": lambda writer, name: writer.node("Softplus", name),
    "tanh": lambda writer, name: writer.node("Tanh", name),
    "sigmoid": lambda writer, name: writer.node("Sigmoid", name),
    "hard_sigmoid": _hard_sigmoid,
    "silu": _times(lambda writer, name: writer.node("Sigmoid", name)),
    "hard_silu": _times(_hard_sigmoid),
    "gelu": _times(_half_erf),
}


def activate(writer: GraphWriter, function: Any, name: str, *, axis: int) -> str:
    """Write the activation ``function`` of Keras on the tensor ``name``; ``axis`` is the ONNX axis of the channels.

    Raises:
        NotConvertible: the function is not in the table.
    """
    known = getattr(function, "__name__", None)
    if known == "softmax":
        return writer.node("Softmax", name, axis=axis)
    if known not in ACTIVATIONS:
        raise NotConvertible(f"the activation {function}")
    return ACTIVATIONS[known](writer, name)
