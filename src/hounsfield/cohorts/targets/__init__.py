"""The truth of a cohort, by family."""

from hounsfield.cohorts.targets.base import Samples, Targets
from hounsfield.cohorts.targets.table import TARGETS

__all__ = ["TARGETS", "Samples", "Targets"]
