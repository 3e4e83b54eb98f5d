"""From a Keras network to a checked ONNX file, by the first road that works.

1. The converter of :mod:`hounsfield.onnx_export.conversion`: every network that Hounsfield builds, from every backend.
2. Keras's own exporter, for layers that the converter does not know; through tf2onnx on TensorFlow, which alone
   gives a graph that engines can fold. Where the running backend is another one, a fresh process with TensorFlow
   loads the ``.keras`` file, which belongs to no backend.

Either way the file is compared with Keras on random images before it takes its place.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import BundleError, require
from hounsfield.onnx_export.conversion import OUTPUTS, Ends, classifier_ends, convert, numbered_ends
from hounsfield.onnx_export.graph import NotConvertible
from hounsfield.openvino_runtime import openvino_runtime

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
# One image of more values is enough to see a difference, and takes long enough.
LARGE_IMAGE = 2**18
# Loads a .keras file and writes it as ONNX with Keras's exporter; run in a process whose backend is TensorFlow.
_EXPORT_WITH_KERAS = """
import sys
import keras
network = keras.saving.load_model(sys.argv[1], compile=False, safe_mode=True)
outputs = {name: network.get_layer(name).output for name in sys.argv[3:]}
signature = [keras.InputSpec(shape=network.inputs[0].shape, dtype="float32", name="image")]
keras.Model(network.inputs[0], outputs).export(sys.argv[2], format="onnx", verbose=False, input_signature=signature)
"""


def write_onnx(network: Any, keras_file: Path, path: Path) -> None:
    """Write a network as ONNX, after it gave what Keras gives.

    Args:
        network: the functional ``keras.Model`` in float32, with layers "features" and "probabilities".
        keras_file: the same network as a ``.keras`` file, for the road through another process.
        path: of the file to be written; its input is "image" (batch, *spatial, channels) and its outputs are
            "probabilities" and "features".

    Raises:
        BundleError: no road works on this machine.
        MissingDependency: the package onnx is not installed.
    """
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        if not _write_directly(network, temporary):
            logger.info("The network is exported by Keras.")
            _write_with_keras(keras_file, temporary)
            difference = largest_difference(network, temporary)
            if difference > TOLERANCE:
                raise BundleError(
                    f"The ONNX form of the network differs from Keras by {difference:.2g}, and at most {TOLERANCE:g} "
                    "is allowed, so it was not kept. Predict with --engine keras, and report the network's layers."
                )
        temporary.replace(path)


def write_parts(networks: Sequence[tuple[Any, Path]]) -> None:
    """Write the networks of a detector as ONNX, all of them or none, after each gave what Keras gives.

    There is the first road alone: Keras's exporter would not keep the outputs apart.

    Args:
        networks: functional ``keras.Model`` in float32, each with the file to be written; see :func:`numbered_ends`.

    Raises:
        BundleError: a layer is not known to the converter, or the result differs from Keras.
        MissingDependency: the package onnx is not installed.
    """
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=networks[0][1].parent) as folder:
        for network, path in networks:
            if not _write_directly(network, Path(folder) / path.name, numbered_ends(network)):
                raise BundleError(
                    f"No {path.name} could be made: the detector's {network.name} has layers that the converter does "
                    "not know, or comes out different from Keras. Prediction falls back to Keras; choose a resnet as "
                    "backbone for the fast engines."
                )
        for _, path in networks:
            (Path(folder) / path.name).replace(path)


def _write_directly(network: Any, path: Path, ends: Ends | None = None) -> bool:
    try:
        path.write_bytes(convert(network, ends).SerializeToString())
    except NotConvertible as reason:
        logger.info("There is no direct conversion of %s.", reason)
        return False
    difference = largest_difference(network, path, ends=ends)
    if difference > TOLERANCE:
        logger.warning("The direct conversion to ONNX differs from Keras by %.2g, so it was not kept.", difference)
        return False
    return True


def _write_with_keras(keras_file: Path, path: Path) -> None:
    missing = [package for package in ("tensorflow", "tf2onnx") if importlib.util.find_spec(package) is None]
    if missing:
        raise BundleError(
            f"No ONNX file could be made: the network has layers that need Keras's exporter, and this needs "
            f"{' and '.join(missing)}, not installed here. Prediction falls back to Keras; for the fast engines "
            "install with: pip install 'hounsfield[tensorflow,onnx]' and run `hounsfield export RUN --to onnx`."
        )
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", _EXPORT_WITH_KERAS, str(keras_file), str(path), *OUTPUTS]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603  (our own script)
    if finished.returncode != 0:
        reason = finished.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise BundleError(
            f"No ONNX file could be made: Keras's exporter failed ({reason[0]}). Prediction falls back to Keras."
        )


def largest_difference(network: Any, path: Path, *, ends: Ends | None = None) -> float:
    """How far an ONNX file is from Keras on random images, relative to the outputs' size where that is above 1.

    Not a number counts as infinitely far.
    """
    keras = require("keras", "checking the ONNX file")
    ends = ends or classifier_ends(network)
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
