"""Predictions of images without labels, as what may be labelled next."""

from __future__ import annotations

from typing import Any

import numpy as np

from hounsfield.inference import BasePrediction, BasePredictor
from hounsfield.reading.doubt import doubt_of
from hounsfield.reading.ranking import Candidate


def candidate_of(predictor: BasePredictor[Any], prediction: BasePrediction) -> Candidate:
    """A prediction as what may be labelled next."""
    disagreement = getattr(prediction, "disagreement", None)
    features = np.asarray(prediction.features, np.float32)
    doubt = doubt_of(prediction.content(), predictor.bundle.threshold, predictor.bundle.task)
    return Candidate(prediction.image, doubt, disagreement, prediction.ood_score, features)
