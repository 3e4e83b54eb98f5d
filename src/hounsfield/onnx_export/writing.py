"""A Keras network as an ONNX file, which takes its place once it gave what Keras gives."""

from __future__ import annotations

import importlib.util
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import BundleError, require
from hounsfield.onnx_export.conversion import convert
from hounsfield.onnx_export.ends import Ends
from hounsfield.onnx_export.graph import NotConvertible
from hounsfield.openvino_runtime import openvino_runtime

TOLERANCE = 1e-4
# One image of more values is enough to see a difference, and takes long enough.
LARGE_IMAGE = 2**18


def write_onnx(networks: Sequence[tuple[Any, Ends, Path]]) -> None:
    """Write networks as ONNX, all of them or none, after each gave on random images what Keras gives.

    Args:
        networks: functional ``keras.Model`` in float32, each with the names of its ends and the file to be written.

    Raises:
        BundleError: a layer is not known to the converter, or the result differs from Keras.
        MissingDependency: the package onnx is not installed.
    """
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=networks[0][2].parent) as folder:
        for network, ends, path in networks:
            _write(network, ends, Path(folder) / path.name)
        for *_, path in networks:
            (Path(folder) / path.name).replace(path)


def _write(network: Any, ends: Ends, path: Path) -> None:
    try:
        path.write_bytes(convert(network, ends).SerializeToString())
    except NotConvertible as reason:
        raise BundleError(
            f"No {path.name} could be made: {reason}, which the converter to ONNX does not know. Prediction falls back "
            "to Keras, which is slower; a resnet or a network of keras.applications can be converted."
        ) from reason
    difference = _largest_difference(network, path, ends=ends)
    if difference > TOLERANCE:
        raise BundleError(
            f"{path.name} differs from Keras by {difference:.2g}, and at most {TOLERANCE:g} is allowed, so it was not "
            "kept. Prediction falls back to Keras, which is slower. Please report the layers of the network."
        )


def _largest_difference(network: Any, path: Path, *, ends: Ends) -> float:
    """How far an ONNX file is from Keras on random images, relative to the outputs' size where that is above 1.

    NaN counts as infinitely far.
    """
    keras = require("keras", "checking the ONNX file")
    shape = network.input_shape[1:]
    num_images = 3 if math.prod(shape) <= LARGE_IMAGE else 1
    images = np.random.default_rng(0).normal(size=(num_images, *shape)).astype(np.float32)
    # Compiled as a whole: called layer by layer, JAX compiles every one of them.
    expected = keras.Model(network.inputs[0], list(ends.outputs.values())).predict_on_batch(images)
    worst = 0.0
    for found, wanted in zip(_run_onnx(path, images, ends), expected, strict=True):
        distance = float(np.max(np.abs(found - wanted))) / max(1.0, float(np.max(np.abs(wanted))))
        worst = max(worst, distance if np.isfinite(distance) else np.inf)
    return worst


def _run_onnx(path: Path, images: npt.NDArray[np.float32], ends: Ends) -> Sequence[npt.NDArray[np.float32]]:
    names = list(ends.outputs)
    if importlib.util.find_spec("openvino") is not None:
        openvino = openvino_runtime("checking the ONNX file")
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        outcome = compiled({ends.input: images})
        return [outcome[name] for name in names]
    if importlib.util.find_spec("onnxruntime") is not None:
        session = require("onnxruntime", "checking the ONNX file").InferenceSession(
            str(path), providers=["CPUExecutionProvider"]
        )
        return list(session.run(names, {ends.input: images}))
    # Slow, and of the package that wrote the file: still a second implementation of every operator.
    evaluator = require("onnx.reference", "checking the ONNX file").ReferenceEvaluator(str(path))
    return list(evaluator.run(names, {ends.input: images}))
