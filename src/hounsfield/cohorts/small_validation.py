"""A validation split that was given and is too small to choose anything by."""

from __future__ import annotations

import math

from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.finding import Finding
from hounsfield.tasks import TASKS

# Of the rarest label, and in all, a validation split needs so many images.
FEWEST_OF_LABEL = 10
FEWEST = 30
# The AUC for which the width of an interval is told.
EXAMPLE_AUC = 0.9


def small_validation(cohort: Cohort) -> list[Finding]:
    """A warning where epochs, thresholds and calibration would be chosen on a few images."""
    rows = cohort.rows("validation")
    if not len(rows):
        return []
    labels = cohort.table["label"].iloc[rows]
    counts = {label: int((labels == label).sum()) for label in cohort.labels}
    by_label = cohort.family == "labels" and not TASKS[cohort.task].multi_label
    rarest = min(counts, key=lambda label: counts[label])
    if len(rows) >= FEWEST and not (by_label and counts[rarest] < FEWEST_OF_LABEL):
        return []
    text = f"The validation split that was given has {len(rows):,} images"
    if by_label:
        text += f", {counts[rarest]:,} of them '{rarest}'"
    text += ": too few to choose the epoch and the threshold by"
    if by_label and 0 < counts[rarest] < len(rows):
        error = 1.96 * auc_error(EXAMPLE_AUC, counts[rarest], len(rows) - counts[rarest])
        text += f" (an AUC of {EXAMPLE_AUC:g} measured on it is uncertain by ±{error:.2f})"
    text += ". Leave these images out, as with --exclude, and a larger part is taken out of training instead."
    return [Finding("warning", "Small validation split", text)]


def auc_error(auc: float, positives: int, negatives: int) -> float:
    """The standard error of an AUC: Hanley and McNeil, Radiology 143:29 (1982), equation 1."""
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (first - auc**2) + (negatives - 1) * (second - auc**2)
    return math.sqrt(spread / (positives * negatives))
