"""A bundle judged on rows of a cohort, or on anyone's table; no Keras is needed."""

from hounsfield.testing.boxes import evaluate_detector
from hounsfield.testing.labels import evaluate_run

__all__ = ["evaluate_detector", "evaluate_run"]
