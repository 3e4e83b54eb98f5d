"""A Keras network as an ONNX file, which takes its place once it gave what Keras gives."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import BundleError, require
from hounsfield.onnx_export.answers import KnownAnswer, largest_difference
from hounsfield.onnx_export.conversion import convert
from hounsfield.onnx_export.ends import Ends
from hounsfield.onnx_export.graph import NotConvertible
from hounsfield.openvino_runtime import openvino_runtime

TOLERANCE = 1e-4
# One image of more values is enough to see a difference, and takes long enough.
LARGE_IMAGE = 2**18


def write_onnx(networks: Sequence[tuple[Any, Ends, Path]]) -> list[KnownAnswer]:
    """Write networks as ONNX after each gave on random images what Keras gives; of a faulty one nothing is kept.

    Args:
        networks: functional ``keras.Model`` in float32, each with the names of its ends and the file to be written.

    Returns:
        For each network the images that it was checked on, and what Keras gives for them.

    Raises:
        BundleError: a layer is not known to the converter, or the result differs from Keras.
        MissingDependency: the package onnx is not installed.
    """
    try:
        return [_write(network, ends, path) for network, ends, path in networks]
    except BaseException:
        for *_, path in networks:
            path.unlink(missing_ok=True)
        raise


def _write(network: Any, ends: Ends, path: Path) -> KnownAnswer:
    try:
        path.write_bytes(convert(network, ends).SerializeToString())
    except NotConvertible as reason:
        raise BundleError(
            f"No {path.name} could be made: {reason}, which the converter to ONNX does not know. Prediction falls back "
            "to Keras, which is slower; a resnet or a network of keras.applications can be converted."
        ) from reason
    answer = _answer(network, ends)
    found = dict(zip(answer.outputs, _run_onnx(path, answer.inputs, ends), strict=True))
    difference = largest_difference(found, answer.outputs)
    if difference > TOLERANCE:
        raise BundleError(
            f"{path.name} differs from Keras by {difference:.2g}, and at most {TOLERANCE:g} is allowed, so it was not "
            "kept. Prediction falls back to Keras, which is slower. Please report the layers of the network."
        )
    return answer


def _answer(network: Any, ends: Ends) -> KnownAnswer:
    """Random images of standard normal values, and what Keras gives for them.

    The values are whole sixteenths, which a file holds in a byte or so each.
    """
    keras = require("keras", "checking the ONNX file")
    shape = network.input_shape[1:]
    num_images = 3 if math.prod(shape) <= LARGE_IMAGE else 1
    images = (np.round(np.random.default_rng(0).normal(size=(num_images, *shape)) * 16) / 16).astype(np.float32)
    # Compiled as a whole: called layer by layer, JAX compiles every one of them.
    # Keras takes a single output out of its list.
    outputs = keras.tree.flatten(keras.Model(network.inputs[0], list(ends.outputs.values())).predict_on_batch(images))
    return KnownAnswer(images, {n: np.asarray(o, np.float32) for n, o in zip(ends.outputs, outputs, strict=True)})


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
