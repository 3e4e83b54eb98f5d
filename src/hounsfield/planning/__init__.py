"""Fingerprint and hardware make a plan, with reasons."""

from hounsfield.planning.boxes import make_detection_plan
from hounsfield.planning.labels import make_plan

__all__ = ["make_detection_plan", "make_plan"]
