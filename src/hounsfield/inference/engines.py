"""What runs a bundle's network: OpenVINO, ONNX Runtime, or Keras itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError, HounsfieldError, MissingDependency, UsageError, require
from hounsfield.inference.onnx_networks import (
    Floats,
    ONNXRuntimeNetwork,
    OpenVINONetwork,
    Precision,
    checked_precision,
)
from hounsfield.onnx_export import OUTPUTS
from hounsfield.tasks import decide

logger = logging.getLogger(__name__)

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

    def __init__(self, bundle: Bundle, precision: Precision | None = None) -> None:
        self._network = OpenVINONetwork(bundle.onnx, precision or checked_precision(bundle))
        self.description = self._network.description

    def run(self, batch: Floats, *, alone: bool = True) -> Outputs:
        """See :meth:`Engine.run`."""
        # Outputs are views of the request's memory, which the next call overwrites.
        return Outputs(*map(np.array, self._network.run(batch, OUTPUTS, alone=alone)))


class ONNXRuntimeEngine:
    """The network in ONNX Runtime, on a CUDA device where its build has one."""

    name = "onnxruntime"

    def __init__(self, bundle: Bundle) -> None:
        self._network = ONNXRuntimeNetwork(bundle.onnx)
        self.description = self._network.description

    def run(self, batch: Floats, *, alone: bool = True) -> Outputs:
        """See :meth:`Engine.run`."""
        return Outputs(*self._network.run(batch, OUTPUTS, alone=alone))


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


class Described(Protocol):
    """What says of itself on what it runs."""

    description: str


Opened = TypeVar("Opened", bound=Described)
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
    return opened(bundle, ENGINES, name)


def opened(bundle: Bundle, engines: Mapping[str, Callable[[Bundle], Opened]], name: str) -> Opened:
    """The engine of this name out of a table of them, or with "auto" the first that works here."""
    if name in engines:
        return _said(engines[name](bundle))
    if name != "auto":
        raise UsageError(f"No engine is called '{name}'. Known are: auto, {', '.join(engines)}.")
    refusals: dict[str, HounsfieldError] = {}
    for candidate, constructor in engines.items():
        try:
            engine = constructor(bundle)
        except HounsfieldError as error:
            logger.info("The engine %s is passed over: %s", candidate, error)
            refusals[candidate] = error
        else:
            _warn_of_damage(bundle, refusals, engine)
            return _said(engine)
    if all(isinstance(refusal, MissingDependency) for refusal in refusals.values()):
        raise MissingDependency(
            f"None of {', '.join(engines)} is installed, and one of them has to run the network. Install the fastest "
            "with: pip install 'hounsfield[openvino]'"
        )
    reasons = " ".join(f"{name}: {refusal}" for name, refusal in refusals.items())
    raise BundleError(f"No engine can run the bundle in {bundle.folder}. {reasons}")


def check_bfloat16(bundle: Bundle, images: Floats) -> bool:
    """Whether OpenVINO decides every image the same in bfloat16 as in float32; ``False`` where it is not installed.

    Args:
        bundle: with its ONNX form; its threshold counts.
        images: preprocessed validation images (n, *input_shape); read in slices, so a memory map will do.

    Keep the answer with ``bundle.with_check("bfloat16", …)``; engines that are opened afterwards heed it where the
    processor has bfloat16 instructions.
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
    return decide(bundle.calibrated(outputs.probabilities), bundle.classifier_task, bundle.threshold)


def _warn_of_damage(bundle: Bundle, refusals: Mapping[str, HounsfieldError], engine: Described) -> None:
    """Say why faster engines do not run the bundle; what is not installed or was never exported is no surprise."""
    damaged = {name: refusal for name, refusal in refusals.items() if isinstance(refusal, BundleError)}
    if damaged and any(path.is_file() for path in (bundle.onnx, *bundle.onnx_parts)):
        # All of them read the same file: the word of the first is enough.
        reason = next(iter(damaged.values()))
        logger.warning("Passed over: %s. The network runs on %s. %s", ", ".join(damaged), engine.description, reason)


def _said(engine: Opened) -> Opened:
    logger.info("The network runs on %s.", engine.description)
    return engine
