"""All steps: the union that pipelines are validated against, and the table of names."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hounsfield.preprocessing.bias_field import BiasField
from hounsfield.preprocessing.channels import ToChannels
from hounsfield.preprocessing.cropping import CropBox, CropCenter, CropForeground, CropOrPad, Pad
from hounsfield.preprocessing.enhancement import Clahe, Denoise, Gamma
from hounsfield.preprocessing.histogram import HistogramStandard
from hounsfield.preprocessing.lungs import CropLungs
from hounsfield.preprocessing.normalisation import DatasetZScore, MinMax, Percentile, Window, ZScore
from hounsfield.preprocessing.orientation import Reorient
from hounsfield.preprocessing.resampling import Resample, Resize, Zoom
from hounsfield.preprocessing.step import Step

AnyStep = Annotated[
    Clahe
    | Gamma
    | Denoise
    | BiasField
    | Window
    | MinMax
    | Percentile
    | ZScore
    | DatasetZScore
    | HistogramStandard
    | CropCenter
    | CropForeground
    | CropLungs
    | CropBox
    | Pad
    | CropOrPad
    | Reorient
    | Resize
    | Resample
    | Zoom
    | ToChannels,
    Field(discriminator="name"),
]

STEPS: dict[str, type[Step]] = {
    "clahe": Clahe,
    "gamma": Gamma,
    "denoise": Denoise,
    "bias_field": BiasField,
    "window": Window,
    "min_max": MinMax,
    "percentile": Percentile,
    "z_score": ZScore,
    "dataset_z_score": DatasetZScore,
    "histogram_standard": HistogramStandard,
    "crop_center": CropCenter,
    "crop_foreground": CropForeground,
    "crop_lungs": CropLungs,
    "crop_box": CropBox,
    "pad": Pad,
    "crop_or_pad": CropOrPad,
    "reorient": Reorient,
    "resize": Resize,
    "resample": Resample,
    "zoom": Zoom,
    "to_channels": ToChannels,
}
