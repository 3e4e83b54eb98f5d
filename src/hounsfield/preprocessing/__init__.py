"""Image operations as frozen, serialisable steps, and the pipeline that orders them."""

from hounsfield.preprocessing.channels import ToChannels
from hounsfield.preprocessing.cropping import CropBox, CropCenter, CropForeground, CropOrPad, Pad
from hounsfield.preprocessing.normalisation import (
    WINDOW_PRESETS,
    DatasetZScore,
    MinMax,
    Percentile,
    Window,
    ZScore,
)
from hounsfield.preprocessing.pipeline import Pipeline
from hounsfield.preprocessing.registry import STEPS, AnyStep
from hounsfield.preprocessing.resampling import Resample, Resize
from hounsfield.preprocessing.step import Step

__all__ = [
    "STEPS",
    "WINDOW_PRESETS",
    "AnyStep",
    "CropBox",
    "CropCenter",
    "CropForeground",
    "CropOrPad",
    "DatasetZScore",
    "MinMax",
    "Pad",
    "Percentile",
    "Pipeline",
    "Resample",
    "Resize",
    "Step",
    "ToChannels",
    "Window",
    "ZScore",
]
