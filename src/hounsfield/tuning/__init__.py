"""Better values for fields of a plan, found by short trainings that are judged on validation."""

from hounsfield.tuning.outcome import Outcome, Trial
from hounsfield.tuning.search import tune

__all__ = ["Outcome", "Trial", "tune"]
