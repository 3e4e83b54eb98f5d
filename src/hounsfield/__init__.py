"""Hounsfield: deep learning for medical images, from a folder of files to an audited, explained model.

The names below are imported when they are first used, so that ``import hounsfield`` loads no Keras and no backend.
"""

import importlib
from typing import TYPE_CHECKING, Any

from hounsfield.errors import HounsfieldError, require
from hounsfield.version import __version__

if TYPE_CHECKING:
    from hounsfield.bundle import Bundle
    from hounsfield.cohorts import Cohort, load_cohort
    from hounsfield.evaluation import evaluate
    from hounsfield.images import Image, image_files, read_image, write_image
    from hounsfield.inference import DetectionPrediction, Detector, Prediction, Predictor
    from hounsfield.plans import Plan
    from hounsfield.preprocessing import Pipeline
    from hounsfield.training import Run, resume, train

# Public name -> module that it comes from.
LAZY = {
    "Bundle": "hounsfield.bundle",
    "Cohort": "hounsfield.cohorts",
    "DetectionPrediction": "hounsfield.inference",
    "Detector": "hounsfield.inference",
    "Image": "hounsfield.images",
    "Pipeline": "hounsfield.preprocessing",
    "Plan": "hounsfield.plans",
    "Prediction": "hounsfield.inference",
    "Predictor": "hounsfield.inference",
    "Run": "hounsfield.training",
    "evaluate": "hounsfield.evaluation",
    "image_files": "hounsfield.images",
    "load_cohort": "hounsfield.cohorts",
    "read_image": "hounsfield.images",
    "resume": "hounsfield.training",
    "train": "hounsfield.training",
    "write_image": "hounsfield.images",
}
NEEDS_KERAS = frozenset({"hounsfield.training"})

__all__ = [
    "Bundle",
    "Cohort",
    "DetectionPrediction",
    "Detector",
    "HounsfieldError",
    "Image",
    "Pipeline",
    "Plan",
    "Prediction",
    "Predictor",
    "Run",
    "__version__",
    "evaluate",
    "image_files",
    "load_cohort",
    "read_image",
    "resume",
    "train",
    "write_image",
]


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if LAZY[name] in NEEDS_KERAS:
        require("keras", f"hounsfield.{name}")
    return getattr(importlib.import_module(LAZY[name]), name)
