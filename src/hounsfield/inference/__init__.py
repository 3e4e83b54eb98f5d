"""Predictions and features of a bundle, on the fastest engine that is installed."""

from hounsfield.inference.detection_engines import DetectionEngine, check_detector_bfloat16, open_detection_engine
from hounsfield.inference.detector import Detector
from hounsfield.inference.engines import ENGINES, Engine, Outputs, check_bfloat16, open_engine
from hounsfield.inference.prediction import BadImage, DetectionPrediction, Prediction
from hounsfield.inference.predictor import Predictor
from hounsfield.inference.table import PREDICTORS, open_predictor
from hounsfield.inference.windows import Found

__all__ = [
    "ENGINES",
    "PREDICTORS",
    "BadImage",
    "DetectionEngine",
    "DetectionPrediction",
    "Detector",
    "Engine",
    "Found",
    "Outputs",
    "Prediction",
    "Predictor",
    "check_bfloat16",
    "check_detector_bfloat16",
    "open_detection_engine",
    "open_engine",
    "open_predictor",
]
