"""What a run knows of the signalling questions of PROBAST+AI, in short words of our own; the judgment is the reader's.

Moons et al., "PROBAST+AI: an updated quality, risk of bias, and applicability assessment tool for prediction models
using regression or artificial intelligence methods", BMJ 388:e082505 (2025): 16 questions on the quality of the
development (numbers with D), 18 on the risk of bias of the evaluation (with E). The original rules.
"""

from __future__ import annotations

from hounsfield.reports.sections.answers import Items, author

_PATIENTS: Items = {
    "1.1": ("Appropriate sources of data?", "source"),
    "1.2": ("Appropriate study design?", author("the design and how images were collected.", "design")),
    "1.3": ("Representative after inclusions and exclusions?", "exclusions"),
    "2.1": ("Predictors defined and assessed alike?", "acquisition"),
    "2.2": ("Preprocessing alike?", "same_reading"),
    "2.3": ("Predictors assessed without the outcome?", "unseen_truth"),
    "2.4": ("Predictors available at the time of use?", "available"),
    "3.1": ("Outcome defined and assessed appropriately?", author("how labels were determined.", "reference_standard")),
    "3.2": ("Outcome defined and assessed alike?", "same_definition"),
    "3.3": ("Outcome assessed without the predictors?", author("whether assessors were blinded.", "blinding")),
    "3.4": ("Appropriate interval between both?", author("the time between image and truth.", "interval")),
}

PROBAST_AI: Items = {
    **{f"D{number}": item for number, item in _PATIENTS.items()},
    "D4.1": ("Reasonable size for development?", "sample_size"),
    "D4.2": ("Predictors handled appropriately?", "handled"),
    "D4.3": ("Missing or censored data handled appropriately?", "missing"),
    "D4.4": ("Recalibrated after correction of imbalance?", "recalibrated"),
    "D4.5": ("Overfitting addressed?", "overfitting"),
    **{f"E{number}": item for number, item in _PATIENTS.items()},
    "E4.1": ("More than apparent performance?", "not_apparent"),
    "E4.2": ("Reasonable size for evaluation?", "enough"),
    "E4.3": ("Missing or censored data handled appropriately?", "missing"),
    "E4.4": ("Evaluated without correction of imbalance?", "evaluation_prevalence"),
    "E4.5": ("Leakage avoided?", "leakage"),
    "E4.6": ("All steps within the resampling?", "resampling"),
    "E4.7": ("Calibration, discrimination, net benefit?", "measures"),
}
