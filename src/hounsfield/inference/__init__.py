"""Predictions and features of a bundle, on the fastest engine that is installed."""

from hounsfield.inference.decisions import decide, label_text
from hounsfield.inference.engines import ENGINES, Engine, Outputs, check_bfloat16, open_engine
from hounsfield.inference.prediction import BadImage, Prediction
from hounsfield.inference.predictor import Predictor

__all__ = [
    "ENGINES",
    "BadImage",
    "Engine",
    "Outputs",
    "Prediction",
    "Predictor",
    "check_bfloat16",
    "decide",
    "label_text",
    "open_engine",
]
