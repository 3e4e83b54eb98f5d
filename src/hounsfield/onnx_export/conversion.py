"""A functional Keras network as an ONNX graph, the same one from every backend.

Keras's own exporters differ by backend, take seconds, need further packages, and leave transposes and unfolded
normalisations around every convolution. The layers of our networks are few, so they are written down in
:mod:`.layers`: tensors with spatial axes are kept channels-first as ONNX wants them, and the one transpose stands at
the input. A layer that is not in the table raises :class:`NotConvertible`; such a network runs on Keras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hounsfield.onnx_export.ends import Ends, Shape, classifier_ends
from hounsfield.onnx_export.graph import GraphWriter, NotConvertible, Tensor
from hounsfield.onnx_export.layers import LAYERS

# Opset 17 (with its IR version) is read by every OpenVINO and ONNX Runtime of the last four years.
OPSET = 17
IR_VERSION = 8


def convert(network: Any, ends: Ends | None = None) -> Any:
    """Convert a network into an ONNX model.

    Args:
        network: a functional ``keras.Model`` with one input.
        ends: the names of input and outputs; where not given, those of a classifier.

    Returns:
        An ``onnx.ModelProto``, channels last at its ends, float32, the batch of any size.

    Raises:
        NotConvertible: a layer, or one of its settings, is not known here.
        MissingDependency: the package onnx is not installed.
    """
    ends = ends or classifier_ends(network)
    writer = GraphWriter()
    shape = tuple(network.inputs[0].shape)
    results = _run(writer, network, writer.channels_first(ends.input, shape))
    for name, symbol in ends.outputs.items():
        result = results[id(symbol)]
        writer.nodes.append(writer.onnx.helper.make_node("Identity", [writer.channels_last(result)], [name]))
    return _model(writer, {ends.input: shape}, {name: tuple(symbol.shape) for name, symbol in ends.outputs.items()})


def _model(writer: GraphWriter, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> Any:
    helper, float32 = writer.onnx.helper, writer.onnx.TensorProto.FLOAT

    def described(name: str, axes: Shape) -> Any:
        return helper.make_tensor_value_info(name, float32, ["batch", *axes[1:]])

    graph = helper.make_graph(
        writer.nodes,
        "hounsfield",
        [described(name, axes) for name, axes in inputs.items()],
        [described(name, axes) for name, axes in outputs.items()],
        initializer=writer.weights,
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="hounsfield")
    writer.onnx.checker.check_model(model)
    return model


def _run(writer: GraphWriter, network: Any, image: Tensor) -> dict[int, Tensor]:
    """Walk the functional graph in the order of execution; the tensors by the identity of their Keras symbol."""
    tensors = {id(network.inputs[0]): image}
    # Keras has no public walk of the graph; these names have stood since 3.0.
    for depth in sorted(network._nodes_by_depth, reverse=True):
        for node in network._nodes_by_depth[depth]:
            if not node.is_input:
                arguments, options = node.arguments.fill_in(tensors)
                outcome = _apply(writer, node.operation, arguments, options)
                tensors[id(node.outputs[0])] = Tensor(outcome.name, tuple(node.outputs[0].shape))
    return tensors


def _apply(writer: GraphWriter, operation: Any, arguments: Sequence[Any], options: dict[str, Any]) -> Tensor:
    # A network inside the network, plain or sequential.
    nested = getattr(operation, "_functional", operation)
    if hasattr(nested, "_nodes_by_depth"):
        return _run(writer, nested, arguments[0])[id(nested.outputs[0])]
    if options.get("mask") is not None or set(options) - {"mask", "training"}:
        raise NotConvertible(f"{operation.name} is called with {sorted(options)}")
    for kind in type(operation).__mro__:
        if kind.__name__ in LAYERS:
            flat = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], list | tuple) else arguments
            return LAYERS[kind.__name__](writer, operation, *flat)
    raise NotConvertible(f"the layer {operation.name} of class {type(operation).__name__}")
