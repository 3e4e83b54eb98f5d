"""Whether a test's probabilities can be taken at their word, and what to do where they cannot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.calibration import CalibrationLine, calibration_line, reliability
from hounsfield.evaluation.gaps import mean_interval
from hounsfield.evaluation.intervals import Interval, make_clusters
from hounsfield.evaluation.outcomes import Booleans, Floats, Outcomes

REMEDY = (
    "Do not read them as risks: use their order and the decision. To adjust them to the place of use with 100 or more "
    "labelled cases: hounsfield recalibrate RUN DATA -o NEW."
)


@dataclass(frozen=True)
class CalibrationVerdict:
    """How the probabilities of one label agree with what was observed.

    Attributes:
        question: the label; of a multi-class task "the predicted class".
        line: calibration slope and intercept.
        observed: share of cases in which it came true.
        predicted: mean probability.
        large: interval of ``observed`` − ``predicted``, the calibration in the large: below 0 they are too high.
        worst: mean probability, observed share, its interval and cases of the bin that is furthest off beyond chance;
            ``None`` where no bin is.
    """

    question: str
    line: CalibrationLine
    observed: float
    predicted: float
    large: Interval
    worst: tuple[float, float, Interval, int] | None = None

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong beyond chance: an interval excludes 0 for the intercept, or 1 for the slope."""
        found = []
        # Where probabilities separate the cases nothing may be left over, and the robust variance is about 0.
        separated = not math.isfinite(self.line.slope)
        if _excludes(self.line.intercept_interval, 0.0) and (not separated or _excludes(self.large, 0.0)):
            found.append("too high" if self.line.intercept < 0 else "too low")
        if _excludes(self.line.slope_interval, 1.0):
            found.append("too extreme" if self.line.slope < 1 else "not extreme enough")
        return tuple(found)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong beyond chance, which does not prove that nothing is."""
        return not self.faults

    def text(self) -> str:
        """The verdict in words."""
        figures = (
            f"calibration intercept {_with(self.line.intercept, self.line.intercept_interval)}, 0 is perfect; slope "
            f"{_with(self.line.slope, self.line.slope_interval)}, 1 is perfect"
        )
        note = f" Note: {self.line.note}." if self.line.note else ""
        if self.sound:
            return f"Neither intercept nor slope of '{self.question}' is off beyond chance ({figures}).{note}"
        mean = f"{self.predicted:.2f} on average where {self.observed:.2f} was observed"
        worst = ""
        if self.worst is not None:
            near, share, ends, count = self.worst
            worst = (
                f" Of {count:,} images with a probability near {near:.2f}, the share {share:.2f} ({ends.low:.2f} to "
                f"{ends.high:.2f}) had it."
            )
        faults = " and ".join(self.faults)
        return f"Probabilities of '{self.question}' are {faults}: {mean} ({figures}).{worst}{note}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is undefined becomes ``None``."""
        line = self.line
        values = {
            "slope": (line.slope, line.slope_interval),
            "intercept": (line.intercept, line.intercept_interval),
            "in_the_large": (self.observed - self.predicted, self.large),
        }
        plain = {
            name: {"value": _plain(value), "low": _plain(ends.low), "high": _plain(ends.high)}
            for name, (value, ends) in values.items()
        }
        return {"label": self.question, **plain, "faults": list(self.faults), "note": line.note}


def calibration_verdicts(
    answers: Outcomes, *, groups: npt.ArrayLike | None = None, confidence: float = 0.95
) -> tuple[CalibrationVerdict, ...]:
    """One verdict for each label that has cases of both kinds; of a multi-class task one, of the predicted class.

    Args:
        answers: of a test.
        groups: (n,) patient of each case; ``None`` where each case is another patient.
        confidence: nominal coverage of the intervals.
    """
    patients = None if groups is None else np.asarray(groups)
    found = []
    for column, question in enumerate(answers.judged):
        rows = answers.known_rows(column)
        outcome, probability = answers.outcome[rows, column], answers.confidence[rows, column]
        part = None if patients is None else patients[rows]
        try:
            found.append(_verdict(question, outcome, probability, part, confidence))
        except EvaluationError:
            continue  # one kind of case alone, or one probability: nothing can be judged
    return tuple(found)


def _verdict(
    question: str, outcome: Booleans, probability: Floats, groups: npt.NDArray[Any] | None, confidence: float
) -> CalibrationVerdict:
    line = calibration_line(outcome, probability, groups=groups, confidence=confidence)
    least = float(np.sum(probability * (1 - probability))) / len(probability) ** 2
    clusters = make_clusters(outcome[:, None], groups)
    large = mean_interval(outcome - probability, clusters, least, confidence=confidence)
    bins = reliability(outcome, probability, groups=groups, confidence=confidence)
    off = (bins.probability < bins.low) | (bins.probability > bins.high)
    worst = None
    if off.any():
        index = int(np.argmax(np.where(off, np.abs(bins.frequency - bins.probability) * bins.count, -1)))
        ends = Interval(float(bins.low[index]), float(bins.high[index]))
        worst = (float(bins.probability[index]), float(bins.frequency[index]), ends, int(bins.count[index]))
    return CalibrationVerdict(question, line, float(outcome.mean()), float(probability.mean()), large, worst)


def calibration_caution(verdicts: tuple[CalibrationVerdict, ...]) -> str:
    """What a reader must know of miscalibrated probabilities, and what to do; empty where none is beyond chance."""
    faulty = [verdict.text() for verdict in verdicts if not verdict.sound]
    return " ".join([*faulty, REMEDY]) if faulty else ""


def _excludes(interval: Interval, value: float) -> bool:
    return bool(math.isfinite(interval.low) and not interval.low <= value <= interval.high)


def _with(value: float, interval: Interval) -> str:
    return f"{value:.2f} ({interval.low:.2f} to {interval.high:.2f})" if math.isfinite(value) else "not estimable"


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
