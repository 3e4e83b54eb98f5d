"""What runs a bundle's network: OpenVINO, ONNX Runtime, or Keras itself."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError, HounsfieldError, MissingDependency, UsageError, require
from hounsfield.inference.decisions import decide
from hounsfield.onnx_export import INPUT, OUTPUTS
from hounsfield.openvino_runtime import openvino_runtime

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
EngineName = Literal["auto", "openvino", "onnxruntime", "keras"]
CHECK_BATCH = 32


@dataclass(frozen=True, eq=False)
class Outputs:
    """What the network says of a batch.

    Attributes:
        probabilities: (n, 1) for a binary task, else (n, labels), float32.
        features: the pooled vectors, (n, features), float32.
    """

    probabilities: Floats
    features: Floats


class Engine(Protocol):
    """Runs the network on batches; safe to call from several threads at once."""

    name: str
    description: str

    def run(self, batch: Floats, *, alone: bool = True) -> Outputs:
        """Run the network.

        Args:
            batch: (n, *input_shape) float32.
            alone: every core may work on this batch; ``False`` where several threads call at once, each of which
                then gets its share of the cores.
        """


class OpenVINOEngine:
    """The network compiled by OpenVINO for this CPU; one form for one caller at a time, one for several."""

    name = "openvino"

    def __init__(self, bundle: Bundle, precision: Literal["f32", "bf16"] | None = None) -> None:
        self._openvino = openvino_runtime("running the network on OpenVINO")
        _require_onnx(bundle, self.name)
        if precision is None:
            precision = "bf16" if bundle.engine_checks.get("bfloat16") is True else "f32"
        self._precision = precision
        self._core = self._openvino.Core()
        try:
            self._network = self._core.read_model(bundle.onnx)
        except RuntimeError as error:
            raise _damaged(bundle, error) from error
        self._compiled: dict[bool, Any] = {}
        self._lock = threading.Lock()
        self._requests = threading.local()
        words = {"f32": "float32", "bf16": "bfloat16"}[precision]
        self.description = f"OpenVINO {self._openvino.__version__.partition('-')[0]} on the CPU in {words}"

    def run(self, batch: Floats, *, alone: bool = True) -> Outputs:
        """See :meth:`Engine.run`."""
        requests = vars(self._requests)
        key = f"alone={alone}"
        if key not in requests:
            requests[key] = self._compile(alone).create_infer_request()
        # Outputs are views of the request's memory, which the next call overwrites.
        outcome = requests[key].infer({INPUT: batch}, share_inputs=True, share_outputs=True)
        return Outputs(*(np.array(outcome[name], dtype=np.float32) for name in OUTPUTS))

    def _compile(self, alone: bool) -> Any:
        with self._lock:
            if alone not in self._compiled:
                hint = "LATENCY" if alone else "THROUGHPUT"
                options = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": self._precision}
                self._compiled[alone] = self._core.compile_model(self._network, "CPU", options)
            return self._compiled[alone]


class ONNXRuntimeEngine:
    """The network in ONNX Runtime, on a CUDA device where its build has one."""

    name = "onnxruntime"

    def __init__(self, bundle: Bundle) -> None:
        runtime = require("onnxruntime", "running the network on ONNX Runtime")
        _require_onnx(bundle, self.name)
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [provider for provider in wanted if provider in runtime.get_available_providers()]
        options = runtime.SessionOptions()
        options.intra_op_num_threads = num_cores()
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(str(bundle.onnx), options, providers=providers)
        except Exception as error:
            # Its exceptions share no base of their own.
            raise _damaged(bundle, error) from error
        device = "a CUDA device" if providers[0].startswith("CUDA") else "the CPU"
        self.description = f"ONNX Runtime {runtime.__version__} on {device} in float32"

    def run(self, batch: Floats, *, alone: bool = True) -> Outputs:  # noqa: ARG002  (one form serves both)
        """See :meth:`Engine.run`."""
        return Outputs(*self._session.run(list(OUTPUTS), {INPUT: batch}))


class KerasEngine:
    """The network in Keras on the backend that is set; slow for single images."""

    name = "keras"

    def __init__(self, bundle: Bundle) -> None:
        self._keras = require("keras", "running the network on Keras")
        network = bundle.network()
        outputs = {name: network.get_layer(name).output for name in OUTPUTS}
        self._network = self._keras.Model(network.inputs[0], outputs)
        self._lock = threading.Lock()
        self.description = f"Keras {self._keras.__version__} on {self._keras.backend.backend()} in float32"

    def run(self, batch: Floats, *, alone: bool = True) -> Outputs:  # noqa: ARG002  (calls are made one after another)
        """See :meth:`Engine.run`."""
        with self._lock:
            outcome = self._network.predict_on_batch(batch)
        return Outputs(*(np.asarray(outcome[name], dtype=np.float32) for name in OUTPUTS))


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
        BundleError: the bundle has no ONNX form for the engine, or a damaged network.
    """
    if name in ENGINES:
        return _opened(ENGINES[name](bundle))
    if name != "auto":
        raise UsageError(f"No engine is called '{name}'. Known are: auto, {', '.join(ENGINES)}.")
    refusals: list[HounsfieldError] = []
    for candidate, constructor in ENGINES.items():
        try:
            return _opened(constructor(bundle))
        except HounsfieldError as error:
            logger.info("The engine %s is passed over: %s", candidate, error)
            refusals.append(error)
    if all(isinstance(refusal, MissingDependency) for refusal in refusals):
        raise MissingDependency(
            f"None of {', '.join(ENGINES)} is installed, and one of them has to run the network. Install the fastest "
            "with: pip install 'hounsfield[openvino]'"
        )
    reasons = " ".join(f"{name}: {refusal}" for name, refusal in zip(ENGINES, refusals, strict=True))
    raise BundleError(f"No engine can run the bundle in {bundle.folder}. {reasons}")


def check_bfloat16(bundle: Bundle, images: Floats) -> bool:
    """Whether OpenVINO decides every image the same in bfloat16 as in float32; ``False`` where it is not installed.

    Args:
        bundle: with its ONNX form; its threshold counts.
        images: preprocessed validation images (n, *input_shape); read in slices, so a memory map will do.

    Keep the answer with ``bundle.with_check("bfloat16", …)``; engines that are opened afterwards heed it.
    """
    try:
        engines = [OpenVINOEngine(bundle, "f32"), OpenVINOEngine(bundle, "bf16")]
    except (MissingDependency, BundleError) as error:
        logger.info("bfloat16 cannot be checked: %s", error)
        return False
    for start in range(0, len(images), CHECK_BATCH):
        batch = np.ascontiguousarray(images[start : start + CHECK_BATCH], dtype=np.float32)
        exact, rounded = (_decisions(bundle, engine.run(batch)) for engine in engines)
        if not np.array_equal(exact, rounded):
            return False
    return len(images) > 0


def _decisions(bundle: Bundle, outputs: Outputs) -> npt.NDArray[np.bool_]:
    return decide(bundle.calibrated(outputs.probabilities), bundle.task, bundle.threshold)


def num_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _opened(engine: Engine) -> Engine:
    logger.info("The network runs on %s.", engine.description)
    return engine


def _require_onnx(bundle: Bundle, engine: str) -> None:
    if not bundle.onnx.is_file():
        raise BundleError(
            f"The bundle in {bundle.folder} has no {bundle.onnx.name}, which the engine {engine} runs. Make it with "
            "`hounsfield export RUN --to onnx`, or predict with --engine keras."
        )


def _damaged(bundle: Bundle, error: Exception) -> BundleError:
    reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return BundleError(
        f"{bundle.onnx} cannot be read ({reason[0]}): it is damaged or incomplete. Make it anew with "
        "`hounsfield export RUN --to onnx`, or copy the bundle again."
    )
