"""Who follows a training from outside: TensorBoard, MLflow, Weights & Biases, all through one ``Tracker``."""

from hounsfield.training.tracking.base import Ending, Tracker, described
from hounsfield.training.tracking.opening import check_tracking, tracking

__all__ = ["Ending", "Tracker", "check_tracking", "described", "tracking"]
