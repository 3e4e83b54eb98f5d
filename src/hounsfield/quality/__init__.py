"""Faults of acquisition and export that a picture shows beside those of training: rotated, cut, blurred, clipped."""

from hounsfield.quality.measures import Measures, measure
from hounsfield.quality.reference import FAULTS, QualityReference

__all__ = ["FAULTS", "Measures", "QualityReference", "measure"]
