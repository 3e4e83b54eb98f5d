"""Where in the image the evidence is, and whether that answer can be trusted."""

from hounsfield.explanation.explainer import FAMILIES, Explainer, Explanation
from hounsfield.explanation.methods import METHODS, Method, open_method
from hounsfield.explanation.projection import place
from hounsfield.explanation.sanity import (
    HidingCurve,
    deletion_curve,
    insertion_curve,
    points_into,
    randomised,
    similarity,
)

__all__ = [
    "FAMILIES",
    "METHODS",
    "Explainer",
    "Explanation",
    "HidingCurve",
    "Method",
    "deletion_curve",
    "insertion_curve",
    "open_method",
    "place",
    "points_into",
    "randomised",
    "similarity",
]
