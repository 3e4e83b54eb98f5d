"""Keras's activation functions as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hounsfield.onnx_export.graph import GraphWriter, NotConvertible


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
