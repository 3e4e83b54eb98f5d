"""What runs a bundle's networks: OpenVINO, ONNX Runtime, or Keras itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from hounsfield.bundle import Bundle, read_known_answer
from hounsfield.bundle.manifest import COPY_AGAIN
from hounsfield.errors import BundleError, HounsfieldError, MissingDependency, UsageError, require
from hounsfield.inference.onnx_networks import (
    Floats,
    ONNXRuntimeNetwork,
    OpenVINONetwork,
    Precision,
    checked_precision,
)
from hounsfield.onnx_export.answers import largest_difference

logger = logging.getLogger(__name__)

# How far an engine may be from Keras on the known answer, relative to the largest output: float32 in another order of
# sums; TensorFloat-32, which CUDA devices compute convolutions in, and bfloat16, with 11 and 8 bits, over many layers;
# integers, whose rounding and overflow differ between processors.
TOLERANCES = {"f32": 1e-3, "cuda": 2e-2, "bf16": 1e-1, "int8": 1e-1}


def is_quantised(bundle: Bundle) -> bool:
    """Whether its networks compute in 8-bit integers; see ``testing.quantisation``."""
    return bundle.settings.get("precision") == "int8"


class Engine(Protocol):
    """Runs the networks of a bundle on batches; safe to call from several threads at once."""

    name: str
    description: str
    tolerance: float

    def run(self, batch: Floats, *, part: int = 0, alone: bool = True) -> list[Floats]:
        """Run one network.

        Args:
            batch: (n, …) float32, as the network takes it.
            part: which of the bundle's networks; a classifier has one.
            alone: every core may work on this batch; ``False`` where several threads call at once, each of which
                then gets its share of the cores.

        Returns:
            The outputs that the bundle's form names, in that order, float32. The next call of this thread may overwrite
            them.
        """


class OpenVINOEngine:
    """The networks compiled by OpenVINO for this CPU."""

    name = "openvino"

    def __init__(self, bundle: Bundle, precision: Precision | None = None) -> None:
        precision = precision or checked_precision(bundle)
        self._networks = [
            OpenVINONetwork(path, "f32" if part.exact else precision)
            for path, part in zip(bundle.onnx_files, bundle.parts, strict=True)
        ]
        self._outputs = bundle.form.outputs(bundle.settings)
        self.description = self._networks[0].description
        self.tolerance = TOLERANCES["int8" if is_quantised(bundle) else precision]

    def run(self, batch: Floats, *, part: int = 0, alone: bool = True) -> list[Floats]:
        """See :meth:`Engine.run`."""
        return self._networks[part].run(batch, self._outputs[part], alone=alone)


class ONNXRuntimeEngine:
    """The networks in ONNX Runtime, on a CUDA device where its build has one."""

    name = "onnxruntime"

    def __init__(self, bundle: Bundle) -> None:
        self._networks = [ONNXRuntimeNetwork(path) for path in bundle.onnx_files]
        self._outputs = bundle.form.outputs(bundle.settings)
        self.description = self._networks[0].description
        floating = "cuda" if self._networks[0].on_cuda else "f32"
        self.tolerance = TOLERANCES["int8" if is_quantised(bundle) else floating]

    def run(self, batch: Floats, *, part: int = 0, alone: bool = True) -> list[Floats]:
        """See :meth:`Engine.run`."""
        return self._networks[part].run(batch, self._outputs[part], alone=alone)


class KerasEngine:
    """The networks in Keras on the backend that is set; slow for single images."""

    name = "keras"

    def __init__(self, bundle: Bundle) -> None:
        keras = require("keras", "running the network on Keras")
        # Keras takes a single output out of its list.
        self._listed = keras.tree.flatten
        self._networks = [
            keras.Model(network.inputs[0], list(ends.outputs.values()))
            for network, ends in bundle.form.ends(bundle.network())
        ]
        self._lock = threading.Lock()
        # Where it computes is the backend's choice.
        self.tolerance = TOLERANCES["cuda"]
        self.description = f"Keras {keras.__version__} on {keras.backend.backend()} in float32"

    def run(self, batch: Floats, *, part: int = 0, alone: bool = True) -> list[Floats]:  # noqa: ARG002  (calls are made one after another)
        """See :meth:`Engine.run`."""
        with self._lock:
            outputs = self._listed(self._networks[part].predict_on_batch(batch))
        return [np.asarray(each, np.float32) for each in outputs]


ENGINES: dict[str, Callable[[Bundle], Engine]] = {
    "openvino": OpenVINOEngine,
    "onnxruntime": ONNXRuntimeEngine,
    "keras": KerasEngine,
}


def open_engine(bundle: Bundle, name: str = "auto") -> Engine:
    """Open an engine for a bundle; "auto" takes the first of OpenVINO, ONNX Runtime and Keras that works here.

    Raises:
        UsageError: no engine has this name.
        MissingDependency: the package is not installed; with "auto": none is.
        BundleError: the bundle has no ONNX form for the engine, has a damaged network, or the engine does not give its
            known answer.
    """
    if name in ENGINES:
        return _announced(_checked(ENGINES[name](bundle), bundle))
    if name != "auto":
        raise UsageError(f"No engine is called '{name}'. Known are: auto, {', '.join(ENGINES)}.")
    refusals: dict[str, HounsfieldError] = {}
    for candidate, constructor in ENGINES.items():
        try:
            engine = _checked(constructor(bundle), bundle)
        except HounsfieldError as error:
            logger.info("The engine %s is passed over: %s", candidate, error)
            refusals[candidate] = error
        else:
            _warn_of_damage(bundle, refusals, engine)
            return _announced(engine)
    if all(isinstance(refusal, MissingDependency) for refusal in refusals.values()):
        raise MissingDependency(
            f"No engine is installed ({', '.join(ENGINES)}), and one of them has to run the network. Install the "
            "fastest with: pip install 'hounsfield[openvino]'"
        )
    reasons = " ".join(f"{name}: {refusal}" for name, refusal in refusals.items())
    raise BundleError(f"No engine can run the bundle in {bundle.folder}. {reasons}")


def _checked(engine: Engine, bundle: Bundle) -> Engine:
    """The engine, if it gives what Keras gave when the bundle's networks were exported.

    Raises:
        BundleError: it gives something else.
    """
    names = bundle.form.outputs(bundle.settings)
    for part, answer in enumerate(read_known_answer(bundle)):
        # Not alone: the form that serves many images, which is compiled here, is the one that is needed most.
        try:
            outputs = engine.run(answer.inputs, part=part, alone=False)
        except Exception as error:
            # Those of the engines share no base of their own.
            raise BundleError(
                f"The engine {engine.name} ({engine.description}) cannot run the network of the bundle in "
                f"{bundle.folder} on its known answer ({' '.join(str(error).split()):.300}). {COPY_AGAIN}"
            ) from error
        found = dict(zip(names[part], outputs, strict=True))
        difference = largest_difference(found, answer.outputs)
        if difference > engine.tolerance:
            raise BundleError(
                f"The engine {engine.name} ({engine.description}) does not give the known answer of the bundle in "
                f"{bundle.folder}: it differs by {difference:.2g}, and at most {engine.tolerance:g} is allowed. Choose "
                "another with --engine, and report this with the version of the engine."
            )
    return engine


def _warn_of_damage(bundle: Bundle, refusals: Mapping[str, HounsfieldError], engine: Engine) -> None:
    """Say why faster engines do not run the bundle; what is not installed or was never exported is no surprise."""
    damaged = {name: refusal for name, refusal in refusals.items() if isinstance(refusal, BundleError)}
    if damaged and any(path.is_file() for path in bundle.onnx_files):
        # All of them read the same files: the word of the first is enough.
        reason = next(iter(damaged.values()))
        logger.warning("Passed over: %s. The network runs on %s. %s", ", ".join(damaged), engine.description, reason)


def _announced(engine: Engine) -> Engine:
    logger.info("The network runs on %s.", engine.description)
    return engine
