"""What runs a detector: its two networks on OpenVINO, ONNX Runtime or Keras, and on NumPy what lies between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hounsfield import boxes as geometry
from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError, MissingDependency, require
from hounsfield.inference.engines import opened
from hounsfield.inference.onnx_networks import (
    Floats,
    ONNXRuntimeNetwork,
    OpenVINONetwork,
    Precision,
    checked_precision,
)
from hounsfield.inference.two_stage import TwoStage
from hounsfield.inference.windows import Found, find
from hounsfield.onnx_export import output_names

# bfloat16 is allowed where at most this share of what is said has no partner in float32, or the other way round, …
MAX_UNLIKE = 0.01
# … and partners have one label and overlap by more than this IoU.
LIKE_OVERLAP = 0.75


class DetectionEngine(Protocol):
    """Runs a detector on batches; safe to call from several threads at once."""

    name: str
    description: str

    def run(self, batch: Floats, *, alone: bool = True) -> dict[str, npt.NDArray[Any]]:
        """Detect.

        Args:
            batch: (n, *input_shape) float32.
            alone: every core may work on this batch; ``False`` where several threads call at once.

        Returns:
            What ``FasterRCNN.predict`` gives, and "features"; see ``TwoStage.detect``.
        """


class _Network(Protocol):
    def run(self, batch: Floats, names: Sequence[str], *, alone: bool = True) -> list[Floats]: ...


class _ONNXEngine:
    """Both networks as ONNX files."""

    name: str

    def __init__(self, bundle: Bundle, trunk: _Network, head: _Network, description: str) -> None:
        self._stages = two_stage(bundle)
        self._trunk, self._head = trunk, head
        self.description = description

    def run(self, batch: Floats, *, alone: bool = True) -> dict[str, npt.NDArray[Any]]:
        """See :meth:`DetectionEngine.run`."""
        names = output_names(self._stages.num_levels + 2 * self._stages.num_proposing)
        return self._stages.detect(
            self._trunk.run(batch, names, alone=alone),
            lambda regions: self._head.run(regions, output_names(2), alone=alone),
        )


class OpenVINODetector(_ONNXEngine):
    """Both networks compiled by OpenVINO; the small one, on which labels and places hang, always in float32."""

    name = "openvino"

    def __init__(self, bundle: Bundle, precision: Precision | None = None) -> None:
        trunk, head = bundle.onnx_parts
        large = OpenVINONetwork(trunk, precision or checked_precision(bundle))
        super().__init__(bundle, large, OpenVINONetwork(head), large.description)


class ONNXRuntimeDetector(_ONNXEngine):
    """Both networks in ONNX Runtime."""

    name = "onnxruntime"

    def __init__(self, bundle: Bundle) -> None:
        large, small = map(ONNXRuntimeNetwork, bundle.onnx_parts)
        super().__init__(bundle, large, small, large.description)


class KerasDetector:
    """Both networks in Keras on the backend that is set; slow for single images."""

    name = "keras"

    def __init__(self, bundle: Bundle) -> None:
        keras = require("keras", "running the network on Keras")
        self._stages = two_stage(bundle)
        network = bundle.network()
        self._trunk, self._head = network.trunk, network.head
        self._lock = threading.Lock()
        self.description = f"Keras {keras.__version__} on {keras.backend.backend()} in float32"

    def run(self, batch: Floats, *, alone: bool = True) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG002  (calls are made one after another)
        """See :meth:`DetectionEngine.run`."""
        with self._lock:
            return self._stages.detect(
                _as_float32(self._trunk.predict_on_batch(batch)),
                lambda regions: _as_float32(self._head.predict_on_batch(regions)),
            )


DETECTION_ENGINES: dict[str, Callable[[Bundle], DetectionEngine]] = {
    "openvino": OpenVINODetector,
    "onnxruntime": ONNXRuntimeDetector,
    "keras": KerasDetector,
}


def open_detection_engine(bundle: Bundle, name: str = "auto") -> DetectionEngine:
    """Open an engine for a detector's bundle; "auto" takes the first of OpenVINO, ONNX Runtime and Keras that works.

    Raises:
        UsageError: no engine has this name.
        MissingDependency: the package is not installed; with "auto": none is.
        BundleError: the bundle is none of a detector, has no ONNX form for the engine, or a damaged network.
    """
    two_stage(bundle)
    return opened(bundle, DETECTION_ENGINES, name)


def two_stage(bundle: Bundle) -> TwoStage:
    """What lies between the networks of a detector's bundle.

    Raises:
        BundleError: the bundle is none of a detector, or its settings are incomplete.
    """
    if bundle.task != "detection" or bundle.detector is None:
        raise BundleError(
            f"The bundle in {bundle.folder} is a classifier ({bundle.task}): expected a detector, which finds boxes. "
            "Open it with hounsfield.inference.Predictor, or give the run of a detector."
        )
    try:
        return TwoStage.from_dict(bundle.detector)
    except KeyError as error:
        raise BundleError(
            f"bundle.json in {bundle.folder} lacks {error} among the detector's settings: it is damaged or was edited. "
            "Copy the bundle again from where it was made."
        ) from error


def find_with(bundle: Bundle, run: Callable[[Floats], Mapping[str, npt.NDArray[Any]]], pixels: Floats) -> Found:
    """What a bundle's detector finds in one image that its pipeline has prepared, down to the floor of scores.

    Args:
        bundle: of a detector.
        run: an engine's, or one around it.
        pixels: (*spatial, channels), of any size.
    """
    stages = two_stage(bundle)
    overlap = float(bundle.detector["window_overlap"]) if bundle.detector else 0.0
    return find(
        run, pixels, stages.input_shape[:-1], window_overlap=overlap, detection_overlap=stages.detection_overlap
    )


def check_detector_bfloat16(bundle: Bundle, images: Iterable[Floats]) -> bool:
    """Whether OpenVINO says the same in bfloat16 as in float32; ``False`` where it is not installed.

    A finding is the same where one of the same label lies over it; at most 1 % may have no such partner.

    Args:
        bundle: with its ONNX form; its threshold counts.
        images: prepared validation images (*spatial, channels), of any size.

    Keep the answer with ``bundle.with_check("bfloat16", …)``; engines that are opened afterwards heed it where the
    processor has bfloat16 instructions.
    """
    try:
        engines = [OpenVINODetector(bundle, "f32"), OpenVINODetector(bundle, "bf16")]
    except (MissingDependency, BundleError):
        return False
    total = alone = 0
    for pixels in images:
        exact, rounded = (_said(bundle, find_with(bundle, engine.run, pixels)) for engine in engines)
        total += len(exact.scores) + len(rounded.scores)
        alone += _without_partner(exact, rounded) + _without_partner(rounded, exact)
    return total > 0 and alone <= MAX_UNLIKE * total


def _said(bundle: Bundle, found: Found) -> Found:
    return found.at(found.scores >= bundle.threshold)


def _without_partner(these: Found, others: Found) -> int:
    partners = geometry.pairwise_iou(these.boxes, others.boxes) > LIKE_OVERLAP
    partners &= these.classes[:, np.newaxis] == others.classes
    return int((~partners.any(axis=1)).sum())


def _as_float32(values: Sequence[Any]) -> list[Floats]:
    return [np.asarray(each, np.float32) for each in values]
