"""A plan and a cohort make a run."""

from hounsfield.training.preparation import Prepared, prepare
from hounsfield.training.run import Run, resume, train

__all__ = ["Prepared", "Run", "prepare", "resume", "train"]
