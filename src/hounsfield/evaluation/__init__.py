"""How good a classifier is, and how sure of that one can be: pure functions of arrays, without Keras."""

from hounsfield.evaluation.answers import Answers, Task, as_answers
from hounsfield.evaluation.classification import (
    Curve,
    Estimate,
    confusion_matrix,
    estimates_to_dict,
    evaluate,
    precision_recall_curve,
    roc_curve,
)
from hounsfield.evaluation.delong import Difference, auc_difference, auc_interval
from hounsfield.evaluation.intervals import Interval
from hounsfield.evaluation.metrics import METRICS, Metric
from hounsfield.evaluation.proportions import predictive_values, wilson_interval

__all__ = [
    "METRICS",
    "Answers",
    "Curve",
    "Difference",
    "Estimate",
    "Interval",
    "Metric",
    "Task",
    "as_answers",
    "auc_difference",
    "auc_interval",
    "confusion_matrix",
    "estimates_to_dict",
    "evaluate",
    "precision_recall_curve",
    "predictive_values",
    "roc_curve",
    "wilson_interval",
]
