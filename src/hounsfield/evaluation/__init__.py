"""How good a classifier or a detector is, and how sure of that one can be: pure functions of arrays, without Keras.

The names below are imported when they are first used: a prediction needs a few small modules and no tables.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hounsfield.evaluation.assessment import Assessment, assess
    from hounsfield.evaluation.bias import audit_bias
    from hounsfield.evaluation.bias_outcome import BiasAudit
    from hounsfield.evaluation.bias_report import BiasReport, report_bias
    from hounsfield.evaluation.calibration import (
        brier_decomposition,
        calibration_line,
        estimated_error,
        expected_calibration_error,
        reliability,
    )
    from hounsfield.evaluation.classification import Estimate, estimates_to_dict, evaluate, evaluate_outcomes
    from hounsfield.evaluation.comparison import adjust_p_values, compare
    from hounsfield.evaluation.conformal import ConformalSets
    from hounsfield.evaluation.conformal_report import ConformalReport, judge_sets
    from hounsfield.evaluation.curves import Curve, confusion_matrix, precision_recall_curve, roc_curve
    from hounsfield.evaluation.delong import Difference, auc_difference, auc_interval
    from hounsfield.evaluation.detection import (
        DetectionAssessment,
        assess_detections,
        choose_score,
        coco_record,
        evaluate_detections,
        image_errors,
        quick_precision,
    )
    from hounsfield.evaluation.detections import Detections, Finding, Truth, as_detections, detections_from_tables
    from hounsfield.evaluation.intervals import Interval
    from hounsfield.evaluation.learning_curve import extrapolate
    from hounsfield.evaluation.masking_effect import masking_effects
    from hounsfield.evaluation.metrics import METRICS, Metric
    from hounsfield.evaluation.novelty import Novelty
    from hounsfield.evaluation.operating import OperatingPoint, choose_threshold, decision_curve
    from hounsfield.evaluation.outcomes import Outcomes, as_outcomes
    from hounsfield.evaluation.predictions import Predictions, predictions_from_table, read_predictions
    from hounsfield.evaluation.probe import probe_features
    from hounsfield.evaluation.proportions import predictive_values, wilson_interval
    from hounsfield.evaluation.recalibration import ScalingChoice, carried_threshold, fit_scaling
    from hounsfield.evaluation.scaling import scaling_from_dict, scaling_to_dict
    from hounsfield.evaluation.selective import abstention_threshold, decision_confidence, risk_coverage
    from hounsfield.evaluation.uncertainty import Uncertainty

# Public name -> module that it comes from.
LAZY = {
    "METRICS": "hounsfield.evaluation.metrics",
    "Outcomes": "hounsfield.evaluation.outcomes",
    "Assessment": "hounsfield.evaluation.assessment",
    "BiasAudit": "hounsfield.evaluation.bias_outcome",
    "BiasReport": "hounsfield.evaluation.bias_report",
    "ConformalReport": "hounsfield.evaluation.conformal_report",
    "ConformalSets": "hounsfield.evaluation.conformal",
    "Curve": "hounsfield.evaluation.curves",
    "DetectionAssessment": "hounsfield.evaluation.detection",
    "Detections": "hounsfield.evaluation.detections",
    "Difference": "hounsfield.evaluation.delong",
    "Uncertainty": "hounsfield.evaluation.uncertainty",
    "Estimate": "hounsfield.evaluation.classification",
    "Finding": "hounsfield.evaluation.detections",
    "Interval": "hounsfield.evaluation.intervals",
    "Metric": "hounsfield.evaluation.metrics",
    "Novelty": "hounsfield.evaluation.novelty",
    "OperatingPoint": "hounsfield.evaluation.operating",
    "Predictions": "hounsfield.evaluation.predictions",
    "ScalingChoice": "hounsfield.evaluation.recalibration",
    "Truth": "hounsfield.evaluation.detections",
    "abstention_threshold": "hounsfield.evaluation.selective",
    "adjust_p_values": "hounsfield.evaluation.comparison",
    "as_outcomes": "hounsfield.evaluation.outcomes",
    "as_detections": "hounsfield.evaluation.detections",
    "assess": "hounsfield.evaluation.assessment",
    "assess_detections": "hounsfield.evaluation.detection",
    "auc_difference": "hounsfield.evaluation.delong",
    "auc_interval": "hounsfield.evaluation.delong",
    "audit_bias": "hounsfield.evaluation.bias",
    "brier_decomposition": "hounsfield.evaluation.calibration",
    "calibration_line": "hounsfield.evaluation.calibration",
    "carried_threshold": "hounsfield.evaluation.recalibration",
    "choose_score": "hounsfield.evaluation.detection",
    "choose_threshold": "hounsfield.evaluation.operating",
    "coco_record": "hounsfield.evaluation.detection",
    "compare": "hounsfield.evaluation.comparison",
    "confusion_matrix": "hounsfield.evaluation.curves",
    "decision_confidence": "hounsfield.evaluation.selective",
    "decision_curve": "hounsfield.evaluation.operating",
    "detections_from_tables": "hounsfield.evaluation.detections",
    "estimated_error": "hounsfield.evaluation.calibration",
    "estimates_to_dict": "hounsfield.evaluation.classification",
    "evaluate": "hounsfield.evaluation.classification",
    "evaluate_outcomes": "hounsfield.evaluation.classification",
    "evaluate_detections": "hounsfield.evaluation.detection",
    "expected_calibration_error": "hounsfield.evaluation.calibration",
    "extrapolate": "hounsfield.evaluation.learning_curve",
    "fit_scaling": "hounsfield.evaluation.recalibration",
    "image_errors": "hounsfield.evaluation.detection",
    "judge_sets": "hounsfield.evaluation.conformal_report",
    "precision_recall_curve": "hounsfield.evaluation.curves",
    "predictions_from_table": "hounsfield.evaluation.predictions",
    "predictive_values": "hounsfield.evaluation.proportions",
    "probe_features": "hounsfield.evaluation.probe",
    "quick_precision": "hounsfield.evaluation.detection",
    "read_predictions": "hounsfield.evaluation.predictions",
    "reliability": "hounsfield.evaluation.calibration",
    "masking_effects": "hounsfield.evaluation.masking_effect",
    "report_bias": "hounsfield.evaluation.bias_report",
    "risk_coverage": "hounsfield.evaluation.selective",
    "roc_curve": "hounsfield.evaluation.curves",
    "scaling_from_dict": "hounsfield.evaluation.scaling",
    "scaling_to_dict": "hounsfield.evaluation.scaling",
    "wilson_interval": "hounsfield.evaluation.proportions",
}

__all__ = [
    "METRICS",
    "Assessment",
    "BiasAudit",
    "BiasReport",
    "ConformalReport",
    "ConformalSets",
    "Curve",
    "DetectionAssessment",
    "Detections",
    "Difference",
    "Estimate",
    "Finding",
    "Interval",
    "Metric",
    "Novelty",
    "OperatingPoint",
    "Outcomes",
    "Predictions",
    "ScalingChoice",
    "Truth",
    "Uncertainty",
    "abstention_threshold",
    "adjust_p_values",
    "as_detections",
    "as_outcomes",
    "assess",
    "assess_detections",
    "auc_difference",
    "auc_interval",
    "audit_bias",
    "brier_decomposition",
    "calibration_line",
    "carried_threshold",
    "choose_score",
    "choose_threshold",
    "coco_record",
    "compare",
    "confusion_matrix",
    "decision_confidence",
    "decision_curve",
    "detections_from_tables",
    "estimated_error",
    "estimates_to_dict",
    "evaluate",
    "evaluate_detections",
    "evaluate_outcomes",
    "expected_calibration_error",
    "extrapolate",
    "fit_scaling",
    "image_errors",
    "judge_sets",
    "masking_effects",
    "precision_recall_curve",
    "predictions_from_table",
    "predictive_values",
    "probe_features",
    "quick_precision",
    "read_predictions",
    "reliability",
    "report_bias",
    "risk_coverage",
    "roc_curve",
    "scaling_from_dict",
    "scaling_to_dict",
    "wilson_interval",
]


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(LAZY[name]), name)
