"""Random layers for 2D and 3D batches."""

from hounsfield.augmentation.layers import RandomErase, RandomIntensity, RandomSpatial
from hounsfield.augmentation.policy import STRENGTHS, Augmentation, Strength

__all__ = ["STRENGTHS", "Augmentation", "RandomErase", "RandomIntensity", "RandomSpatial", "Strength"]
