"""A plan and a cohort make a run."""

from hounsfield.training.detection_evaluation import evaluate_detector
from hounsfield.training.evaluation import evaluate_run
from hounsfield.training.preparation import DataRequest, Prepared, prepare
from hounsfield.training.run import Run, resume, train

__all__ = ["DataRequest", "Prepared", "Run", "evaluate_detector", "evaluate_run", "prepare", "resume", "train"]
