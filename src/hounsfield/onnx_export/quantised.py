"""An ONNX file in 8-bit integers by NNCF, and which layers lose most by it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import require

Floats = npt.NDArray[np.float32]
# Operators whose inputs and weights become integers.
HEAVY = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
FEATURE = "networks in 8-bit integers"
# Layers that are left in float32, attempt by attempt.
KEPT = (0, 1, 2, 4, 8)


def quantised(path: Path, images: Floats, kept: Sequence[str] = ()) -> bytes:
    """A network with its heavy layers in 8-bit integers, each channel of a weight on a scale of its own.

    The range of each activation is the one that loses least of its histogram; one that can be negative need not be
    symmetric.

    Args:
        path: of the ONNX file in float32, which has one input.
        images: (n, *input_shape) as the network takes them, by which the ranges of values are found.
        kept: names of layers that stay in float32, as :func:`sensitive_layers` gives them.

    Raises:
        MissingDependency: NNCF is not installed.
    """
    nncf = require("nncf", FEATURE)
    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = named(path)
    source = model.graph.input[0].name
    data = nncf.Dataset([{source: image[np.newaxis]} for image in images])
    scope = nncf.IgnoredScope(names=list(kept)) if kept else None
    # Its bars of progress are no result.
    with redirect_stdout(StringIO()):
        made = nncf.quantize(
            model,
            data,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            ignored_scope=scope,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=nncf.quantization.range_estimator.RangeEstimatorParametersSet.HISTOGRAM
            ),
        )
    return bytes(made.SerializeToString())


def integer_networks(
    exact: Path, folder: Path, images: Floats, compared: int
) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Networks in 8-bit integers, one after the other, of which ever more layers stay in float32.

    Args:
        exact: the network in float32.
        folder: where they are written.
        images: by which the ranges of values are found.
        compared: so many of them tell the layers that err most, which stay first.

    Yields:
        The file of each, and the layers that stay.
    """
    order: list[str] = []
    for count in KEPT:
        if count == KEPT[1]:
            order = sensitive_layers(exact, folder / "kept-0.onnx", images[:compared])
        path, layers = folder / f"kept-{count}.onnx", tuple(order[:count])
        path.write_bytes(quantised(exact, images, layers))
        yield path, layers


def named(path: Path) -> Any:
    """The model of an ONNX file, in which each node is called as its first output."""
    model = require("onnx", FEATURE).load(str(path))
    for node in model.graph.node:
        node.name = node.output[0]
    return model


def sensitive_layers(exact: Path, integers: Path, images: Floats) -> list[str]:
    """The heavy layers by what each adds to the error, most first.

    The error of a layer is that of its output, relative to the output; what it adds is the rise since the layer before.

    Args:
        exact: the network in float32.
        integers: the same in 8-bit integers.
        images: that both are run on.
    """
    names = [node.name for node in named(exact).graph.node if node.op_type in HEAVY]
    errors = np.array(
        [
            _relative_error(*pair)
            for pair in zip(*(_outputs(each, names, images) for each in (exact, integers)), strict=True)
        ]
    )
    rises = np.diff(errors, prepend=0.0)
    return [names[number] for number in np.argsort(-rises, kind="stable")]


def _relative_error(exact: Floats, found: Floats) -> float:
    return float(np.linalg.norm(found - exact) / max(float(np.linalg.norm(exact)), 1e-12))


def _outputs(path: Path, names: Sequence[str], images: Floats) -> Iterator[Floats]:
    """The outputs of some nodes, one after the other."""
    onnx, runtime = require("onnx", FEATURE), require("onnxruntime", FEATURE)
    model = onnx.load(str(path))
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    yield from session.run(list(names), {model.graph.input[0].name: images})
