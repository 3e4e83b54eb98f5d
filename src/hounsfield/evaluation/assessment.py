"""All that one test says of a classifier, in the form that files, tables and reports share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.evaluation.classification import Estimate, estimates_to_dict, evaluate_outcomes
from hounsfield.evaluation.curves import confusion_matrix
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.metrics import METRICS
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.evaluation.verdict import CalibrationVerdict, calibration_caution, calibration_verdicts
from hounsfield.tasks import Family, Threshold


@dataclass(frozen=True, eq=False)
class Assessment:
    """The outcome of one test.

    Attributes:
        answers: truths, probabilities and decisions.
        estimates: every metric with its interval, as ``evaluate`` gives them.
        threshold: what a score must exceed to be a yes.
        patients: how many there are; ``None`` where unknown.
        notes: what was detected, decided or left out.
        groups: (n,) the patient of each case; ``None`` where unknown.
        table: a row a case with what else is known of it, where the caller adds it.
        features: (n, F) the network's features, where the caller adds them.
        split: the name under which ``metrics.json`` holds the figures.
        calibration: whether probabilities mean what they say, label by label.
    """

    family: ClassVar[Family] = "labels"
    answers: Outcomes
    estimates: Mapping[str, Estimate]
    threshold: Threshold
    patients: int | None
    notes: tuple[str, ...] = ()
    groups: npt.NDArray[Any] | None = None
    table: pd.DataFrame | None = None
    features: npt.NDArray[Any] | None = None
    split: str = "test"
    calibration: tuple[CalibrationVerdict, ...] = ()

    def title(self, name: str) -> str:
        """What a figure is called where people read it."""
        return METRICS[name].title if name in METRICS else name

    def to_dict(self) -> dict[str, Any]:
        """The figures as ``metrics.json`` has them, and beside them what they were made from."""
        return {
            self.split: estimates_to_dict(dict(self.estimates)),
            "task": self.answers.task,
            "labels": list(self.answers.labels),
            "threshold": self.threshold,
            "cases": len(self.answers),
            "patients": self.patients,
            "calibration": [verdict.to_dict() for verdict in self.calibration],
            "confusion_matrix": confusion_matrix(self.answers).tolist(),
            "notes": list(self.notes),
        }


def assess(
    answers: Outcomes,
    *,
    threshold: Threshold = 0.5,
    groups: npt.ArrayLike | None = None,
    notes: Sequence[str] = (),
    num_replicates: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Assessment:
    """Evaluate answers, and keep with the figures what a reader must know of them.

    Args:
        answers: truths, probabilities and decisions.
        threshold: the one that the decisions were made with.
        groups: (n,) patients; ``None`` where unknown.
        notes: what was said while the answers were made.
        num_replicates: bootstrap replicates.
        seed: of the bootstrap.
        confidence: nominal coverage of the intervals.
    """
    estimates = evaluate_outcomes(
        answers, groups=groups, num_replicates=num_replicates, seed=seed, confidence=confidence
    )
    patients = None if groups is None else len(make_clusters(answers.truth, groups))
    known = None if groups is None else np.asarray(groups)
    verdicts = calibration_verdicts(answers, groups=groups, confidence=confidence)
    caution = calibration_caution(verdicts)
    told = (*notes, caution) if caution else tuple(notes)
    return Assessment(answers, estimates, threshold, patients, told, known, calibration=verdicts)
