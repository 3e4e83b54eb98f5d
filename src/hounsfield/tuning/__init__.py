"""Better values for fields of a plan, found by short trainings that are judged on validation."""

from hounsfield.tuning.cluster import Cluster
from hounsfield.tuning.outcome import Outcome, Trial
from hounsfield.tuning.search import Wishes, tune

__all__ = ["Cluster", "Outcome", "Trial", "Wishes", "tune"]
