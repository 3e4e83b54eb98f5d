"""Which predictor serves which family, and how one is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hounsfield.bundle import Bundle
from hounsfield.inference.detector import Detector
from hounsfield.inference.predictor import Predictor
from hounsfield.tasks import Family, family_of

PREDICTORS: dict[Family, type[Predictor] | type[Detector]] = {"labels": Predictor, "boxes": Detector}


def open_predictor(bundle: Bundle | str | Path, engine: str = "auto", **options: Any) -> Predictor | Detector:
    """Open the predictor of a bundle's family; opened once, it serves any number of inputs.

    Args:
        bundle: loaded, or the folder of a run or a bundle.
        engine: "auto", "openvino", "onnxruntime" or "keras".
        options: those of the family's predictor.

    Raises:
        BundleError, MissingDependency, UsageError: the bundle cannot be read or run.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    return PREDICTORS[family_of(bundle.task)](bundle, engine, **options)
