"""What a bundle keeps of its validation images, so that it knows when not to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.conformal import ConformalSets
from hounsfield.evaluation.disagreement import Heads
from hounsfield.evaluation.novelty import Novelty
from hounsfield.evaluation.outcomes import (
    Booleans,
    Integers,
    Outcomes,
    as_outcomes,
)
from hounsfield.evaluation.selective import abstention_threshold, decision_confidence
from hounsfield.tasks import LabelTask, Threshold

# Rows kept at most, evenly drawn: enough for any quantile, and a small file.
MAX_ROWS = 20_000
# How sure the promise of an abstaining network is.
CERTAINTY = 0.95


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Truths and calibrated probabilities of validation images, and where images like those of training lie.

    Attributes:
        truth: (n, K).
        scores: (n, K) float32, calibrated.
        patients: (n,) codes, equal for images of one patient; one a row where patients are unknown.
        novelty: tells unlike images; ``None`` where it was not fitted.
        heads: tell how far the networks of an ensemble differ; ``None`` of a single network.
        unknown: (n, K) where the truth is not known; ``None`` where all of it is.
    """

    truth: Booleans
    scores: npt.NDArray[np.float32]
    patients: Integers
    novelty: Novelty | None = None
    heads: Heads | None = None
    unknown: Booleans | None = None

    @classmethod
    def of(
        cls, answers: Outcomes, patients: Integers, novelty: Novelty | None = None, heads: Heads | None = None
    ) -> Self:
        """Keep what is needed of validation answers, of at most 20,000 rows."""
        rows = np.unique(np.linspace(0, len(answers) - 1, min(len(answers), MAX_ROWS)).round().astype(np.int64))
        codes = np.unique(patients[rows], return_inverse=True)[1].astype(np.int64)
        kept = answers.take(rows)
        return cls(kept.truth, kept.scores.astype(np.float32), codes, novelty, heads, kept.unknown)

    def conformal(
        self, labels: tuple[str, ...], task: LabelTask, *, coverage: float = 0.9, by_class: bool = False
    ) -> ConformalSets:
        """Sets of labels that hold the true one with this probability; see :class:`ConformalSets`."""
        return ConformalSets.fit(self._answers(labels, task), coverage=coverage, by_class=by_class)

    def least_confidence(
        self, labels: tuple[str, ...], task: LabelTask, *, threshold: Threshold, max_risk: float
    ) -> float:
        """The confidence below which to abstain, so that at most ``max_risk`` of the answers are wrong (95 % sure)."""
        confidence, right = decision_confidence(self._answers(labels, task, threshold), threshold)
        return abstention_threshold(confidence, right, max_risk, certainty=CERTAINTY, patients=self.patients)

    def _answers(self, labels: tuple[str, ...], task: LabelTask, threshold: Threshold = 0.5) -> Outcomes:
        truth = self.truth if self.unknown is None else np.where(self.unknown, np.nan, self.truth)
        return as_outcomes(truth, self.scores, labels=labels, task=task, threshold=threshold)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays for a file."""
        arrays = {"truth": self.truth, "scores": self.scores, "patients": self.patients}
        if self.unknown is not None:
            arrays["unknown"] = self.unknown
        return (
            arrays | (self.novelty.to_arrays() if self.novelty else {}) | (self.heads.to_arrays() if self.heads else {})
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """What ``to_arrays`` gave.

        Raises:
            KeyError: an array is missing.
            ValueError: arrays do not fit each other.
        """
        lengths = {arrays[name].shape[:1] for name in ("truth", "scores", "patients", "unknown") if name in arrays}
        if len(lengths) > 1 or arrays["scores"].ndim != 2:
            raise ValueError("truths, scores and patients are not those of the same images")
        novelty = Novelty.from_arrays(arrays) if any(key.startswith("novelty/") for key in arrays) else None
        heads = Heads.from_arrays(arrays)
        return cls(arrays["truth"], arrays["scores"], arrays["patients"], novelty, heads, arrays.get("unknown"))
