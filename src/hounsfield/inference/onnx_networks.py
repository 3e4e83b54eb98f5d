"""One ONNX file on OpenVINO or on ONNX Runtime: compiled once, run on batches from any number of threads."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError, require
from hounsfield.hardware import CORES_VARIABLE, num_cores
from hounsfield.inference.exact_sums import sum_in_blocks
from hounsfield.inference.onnx_bounds import MAX_TENSOR, require_bounded_file
from hounsfield.openvino_runtime import openvino_runtime

Floats = npt.NDArray[np.float32]
Precision = Literal["f32", "bf16"]
Form = Literal["one image", "one caller", "several callers"]


class OpenVINONetwork:
    """A network compiled by OpenVINO for this CPU, when it is first needed: for one caller at a time, or for several.

    A network whose input varies in nothing but the number of images has a form of its own for a single one: where all
    lengths are known OpenVINO plans them once, which is a sixth of the time of a small network.

    Args:
        path: of the ONNX file, which has one input.
        precision: in which the heavy layers compute.

    Raises:
        MissingDependency: OpenVINO is not installed.
        BundleError: the file is missing or damaged.
    """

    def __init__(self, path: Path, precision: Precision = "f32") -> None:
        openvino = openvino_runtime("running the network on OpenVINO")
        _require_file(path, "openvino")
        self._precision = precision
        self._tensor = openvino.Tensor
        self._core = openvino.Core()
        try:
            self._network = self._core.read_model(path)
        except RuntimeError as error:
            raise _damaged(path, error) from error
        _require_bounded(self._network, path)
        if precision == "f32":
            sum_in_blocks(self._network, openvino.opset13)
        self._only_count_varies = all(length.is_static for length in list(self._network.input(0).partial_shape)[1:])
        self._compiled: dict[Form, Any] = {}
        self._lock = threading.Lock()
        self._requests = threading.local()
        words = {"f32": "float32", "bf16": "bfloat16"}[precision]
        self.description = f"OpenVINO {openvino.__version__.partition('-')[0]} on the CPU in {words}"

    def run(self, batch: Floats, names: Sequence[str], *, alone: bool = True) -> list[Floats]:
        """The outputs of these names; they are overwritten by the next call of this thread.

        Args:
            batch: (n, *input_shape) float32.
            names: of outputs.
            alone: every core may work on this batch; ``False`` where several threads call at once.
        """
        form = self._form(len(batch), alone)
        requests = vars(self._requests)
        if form not in requests:
            requests[form] = self._compile(form).create_infer_request()
        request = requests[form]
        # As a tensor, which takes OpenVINO less time than an array. It does not own the memory: the name has to live
        # until the network has run.
        contiguous = np.require(batch, np.float32, ["C", "W"])
        request.set_input_tensor(self._tensor(contiguous, shared_memory=True))
        request.infer(share_outputs=True)
        return [np.asarray(request.get_tensor(name).data, dtype=np.float32) for name in names]

    def _form(self, count: int, alone: bool) -> Form:
        if not alone:
            return "several callers"
        return "one image" if count == 1 and self._only_count_varies else "one caller"

    def _compile(self, form: Form) -> Any:
        with self._lock:
            if form not in self._compiled:
                network, hint = self._network, "THROUGHPUT" if form == "several callers" else "LATENCY"
                if form == "one image":
                    network = network.clone()
                    network.reshape([1, *network.input(0).partial_shape[1:]])
                options: dict[str, Any] = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": self._precision}
                if CORES_VARIABLE in os.environ:
                    options["INFERENCE_NUM_THREADS"] = num_cores()
                self._compiled[form] = self._core.compile_model(network, "CPU", options)
            return self._compiled[form]


class ONNXRuntimeNetwork:
    """A network in ONNX Runtime, on a CUDA device where its build has one.

    Args:
        path: of the ONNX file, which has one input.

    Raises:
        MissingDependency: ONNX Runtime is not installed.
        BundleError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        runtime = require("onnxruntime", "running the network on ONNX Runtime")
        _require_file(path, "onnxruntime")
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [provider for provider in wanted if provider in runtime.get_available_providers()]
        options = runtime.SessionOptions()
        options.intra_op_num_threads = num_cores()
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:
            # Its exceptions share no base of their own.
            raise _damaged(path, error) from error
        self._input = self._session.get_inputs()[0].name
        self.on_cuda = providers[0].startswith("CUDA")
        device = "a CUDA device" if self.on_cuda else "the CPU"
        self.description = f"ONNX Runtime {runtime.__version__} on {device} in float32"

    def run(self, batch: Floats, names: Sequence[str], *, alone: bool = True) -> list[Floats]:  # noqa: ARG002  (one form serves both)
        """See :meth:`OpenVINONetwork.run`."""
        return list(self._session.run(list(names), {self._input: batch}))


def checked_precision(bundle: Bundle) -> Precision:
    """bfloat16 where it was found to decide like float32, and this processor is faster in it."""
    return "bf16" if bundle.engine_checks.get("bfloat16") is True and has_bfloat16() else "f32"


@cache
def has_bfloat16() -> bool:
    """Whether this processor has bfloat16 instructions: without them OpenVINO imitates them, at a third of the speed.

    Raises:
        MissingDependency: OpenVINO is not installed.
    """
    core = openvino_runtime("running the network on OpenVINO").Core()
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _require_file(path: Path, engine: str) -> None:
    if not path.is_file():
        raise BundleError(
            f"The bundle in {path.parent} has no {path.name}, which the engine {engine} runs. Make it with "
            "`hounsfield export RUN --to onnx`, or predict with --engine keras."
        )
    require_bounded_file(path)


def _require_bounded(network: Any, path: Path) -> None:
    """Refuse a network that allocates without end: one tensor of it, for one image, would not fit into any memory.

    Raises:
        BundleError: it has such a tensor.
    """
    for operation in network.get_ops():
        for output in operation.outputs():
            lengths = [int(length.get_length()) for length in output.get_partial_shape() if length.is_static]
            if math.prod(max(length, 1) for length in lengths) > MAX_TENSOR:
                raise BundleError(
                    f"{path} has the tensor '{operation.get_friendly_name():.80}' of {' × '.join(map(str, lengths))} "
                    f"values; a network has at most {MAX_TENSOR:,}. Copy the bundle again from where it was made."
                )


def _damaged(path: Path, error: Exception) -> BundleError:
    reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return BundleError(
        f"{path} cannot be read ({reason[0]}): it is damaged or incomplete. Make it anew with "
        "`hounsfield export RUN --to onnx`, or copy the bundle again."
    )
