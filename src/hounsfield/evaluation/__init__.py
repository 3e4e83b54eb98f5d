"""How good a classifier is, and how sure of that one can be: pure functions of arrays, without Keras."""

from hounsfield.evaluation.answers import Answers, Task, as_answers
from hounsfield.evaluation.assessment import Assessment, assess
from hounsfield.evaluation.calibration import (
    brier_decomposition,
    calibration_line,
    expected_calibration_error,
    reliability,
)
from hounsfield.evaluation.classification import Estimate, estimates_to_dict, evaluate, evaluate_answers
from hounsfield.evaluation.comparison import adjust_p_values, compare
from hounsfield.evaluation.conformal import ConformalSets, judge_sets
from hounsfield.evaluation.curves import Curve, confusion_matrix, precision_recall_curve, roc_curve
from hounsfield.evaluation.delong import Difference, auc_difference, auc_interval
from hounsfield.evaluation.intervals import Interval
from hounsfield.evaluation.metrics import METRICS, Metric
from hounsfield.evaluation.operating import OperatingPoint, choose_threshold, decision_curve
from hounsfield.evaluation.predictions import Predictions, predictions_from_table, read_predictions
from hounsfield.evaluation.proportions import predictive_values, wilson_interval
from hounsfield.evaluation.recalibration import fit_scaling, scaling_from_dict, scaling_to_dict
from hounsfield.evaluation.selective import abstention_threshold, decision_confidence, risk_coverage

__all__ = [
    "METRICS",
    "Answers",
    "Assessment",
    "ConformalSets",
    "Curve",
    "Difference",
    "Estimate",
    "Interval",
    "Metric",
    "OperatingPoint",
    "Predictions",
    "Task",
    "abstention_threshold",
    "adjust_p_values",
    "as_answers",
    "assess",
    "auc_difference",
    "auc_interval",
    "brier_decomposition",
    "calibration_line",
    "choose_threshold",
    "compare",
    "confusion_matrix",
    "decision_confidence",
    "decision_curve",
    "estimates_to_dict",
    "evaluate",
    "evaluate_answers",
    "expected_calibration_error",
    "fit_scaling",
    "judge_sets",
    "precision_recall_curve",
    "predictions_from_table",
    "predictive_values",
    "read_predictions",
    "reliability",
    "risk_coverage",
    "roc_curve",
    "scaling_from_dict",
    "scaling_to_dict",
    "wilson_interval",
]
