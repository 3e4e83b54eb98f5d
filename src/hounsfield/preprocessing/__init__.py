"""Image operations as frozen, serialisable steps, and the pipeline that orders them."""

from hounsfield.preprocessing.bias_field import BiasField
from hounsfield.preprocessing.channels import ToChannels
from hounsfield.preprocessing.cropping import CropBox, CropCenter, CropForeground, CropOrPad, Pad
from hounsfield.preprocessing.enhancement import Clahe, Denoise, Gamma
from hounsfield.preprocessing.histogram import HistogramStandard
from hounsfield.preprocessing.lungs import CropLungs
from hounsfield.preprocessing.normalisation import (
    DatasetZScore,
    MinMax,
    Percentile,
    Window,
    ZScore,
)
from hounsfield.preprocessing.orientation import Reorient
from hounsfield.preprocessing.pipeline import Pipeline
from hounsfield.preprocessing.registry import STEPS, AnyStep
from hounsfield.preprocessing.resampling import Resample, Resize, Zoom
from hounsfield.preprocessing.step import Step

__all__ = [
    "STEPS",
    "AnyStep",
    "BiasField",
    "Clahe",
    "CropBox",
    "CropCenter",
    "CropForeground",
    "CropLungs",
    "CropOrPad",
    "DatasetZScore",
    "Denoise",
    "Gamma",
    "HistogramStandard",
    "MinMax",
    "Pad",
    "Percentile",
    "Pipeline",
    "Reorient",
    "Resample",
    "Resize",
    "Step",
    "ToChannels",
    "Window",
    "ZScore",
    "Zoom",
]
