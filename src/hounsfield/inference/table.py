"""Which predictor serves which family, and how one is opened."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError, MissingDependency, UsageError
from hounsfield.inference.base import BasePredictor
from hounsfield.inference.boxes import Detector
from hounsfield.inference.engines import Engine, OpenVINOEngine
from hounsfield.inference.labels import Predictor
from hounsfield.inference.masks import Segmenter
from hounsfield.inference.onnx_networks import Floats
from hounsfield.inference.values import ValuePredictor
from hounsfield.tasks import MODEL_NAMES, Family

logger = logging.getLogger(__name__)

PREDICTORS: dict[Family, type[BasePredictor[Any]]] = {
    "labels": Predictor,
    "values": ValuePredictor,
    "boxes": Detector,
    "masks": Segmenter,
}


def open_predictor(bundle: Bundle | str | Path, engine: str | Engine = "auto", **options: Any) -> BasePredictor[Any]:
    """Open the predictor of a bundle's family; opened once, it serves any number of inputs.

    Args:
        bundle: loaded, or the folder of a run or a bundle.
        engine: "auto", "openvino", "onnxruntime" or "keras", or an engine that is open.
        options: those that the family's predictor names in ``OPTIONS``.

    Raises:
        BundleError, MissingDependency: the bundle cannot be read or run.
        UsageError: no engine has this name, or an option or its value does not fit the bundle.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    kind: Any = PREDICTORS[bundle.family]
    if unknown := sorted(set(options) - kind.OPTIONS):
        raise UsageError(
            f"The predictor of a {MODEL_NAMES[bundle.family]} has no option {', '.join(unknown)}: expected some of "
            f"{', '.join(sorted(kind.OPTIONS))}."
        )
    predictor: BasePredictor[Any] = kind(bundle, engine, **options)
    return predictor


def check_bfloat16(bundle: Bundle, images: Iterable[Floats]) -> bool:
    """Whether OpenVINO decides the same in bfloat16 as in float32; ``False`` where it is not installed.

    Args:
        bundle: with its ONNX form; its threshold counts.
        images: prepared validation images (*spatial, channels).

    Keep the answer with ``bundle.with_check("bfloat16", …)``; engines that are opened afterwards heed it where the
    processor has bfloat16 instructions.
    """
    try:
        engines = [OpenVINOEngine(bundle, "f32"), OpenVINOEngine(bundle, "bf16")]
    except (MissingDependency, BundleError) as error:
        logger.info("bfloat16 cannot be checked: %s", error)
        return False
    return PREDICTORS[bundle.family].agree(bundle, engines, images)
