"""Predictions and features of a bundle, on the fastest engine that is installed."""

from hounsfield.inference.base import BasePredictor
from hounsfield.inference.boxes import Detector
from hounsfield.inference.engines import ENGINES, Engine, open_engine
from hounsfield.inference.labels import Predictor
from hounsfield.inference.prediction import BadImage, BasePrediction, DetectionPrediction, Prediction
from hounsfield.inference.table import PREDICTORS, check_bfloat16, open_predictor
from hounsfield.inference.views import Outputs
from hounsfield.inference.windows import Found

__all__ = [
    "ENGINES",
    "PREDICTORS",
    "BadImage",
    "BasePrediction",
    "BasePredictor",
    "DetectionPrediction",
    "Detector",
    "Engine",
    "Found",
    "Outputs",
    "Prediction",
    "Predictor",
    "check_bfloat16",
    "open_engine",
    "open_predictor",
]
