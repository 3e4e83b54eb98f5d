"""Two tables of predictions of the same images, laid out row by row for a paired comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.comparison import NOT_COMPARED, adjust_p_values, compare
from hounsfield.evaluation.delong import Difference
from hounsfield.evaluation.metrics import METRICS, Tally, headline
from hounsfield.evaluation.predictions import Predictions

KEYS = ("sample", "image", "case")
# Of classifiers, the metric by which two are judged.
MAIN = "auc"
Verdict = Literal["better", "worse", "no clear difference", "no interval"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two models on the same cases.

    Attributes:
        first: metric → value of the first; ``second`` of the second.
        differences: metric → the second minus the first.
        adjusted: metric → p-value after Holm's adjustment.
        cases: that both predicted.
        patients: of these cases; ``None`` where unknown.
        notes: what was left out.
        titles: metric → what it is called where people read it.
        main: the metric by which the two are judged.
        smaller: whether smaller values of that one are better.
        confidence: nominal coverage of the intervals.
    """

    first: dict[str, float]
    second: dict[str, float]
    differences: dict[str, Difference]
    adjusted: dict[str, float]
    cases: int
    patients: int | None
    notes: tuple[str, ...]
    titles: dict[str, str]
    main: str
    smaller: bool = False
    confidence: float = 0.95

    @property
    def gain(self) -> Difference:
        """By how much the second is better in the main metric; worse where it is negative."""
        found = self.differences[self.main]
        return Difference(-found.value, -found.high, -found.low, found.p_value) if self.smaller else found

    @property
    def verdict(self) -> Verdict:
        """Whether the second is better or worse in the main metric, beyond chance."""
        gain = self.gain
        if not math.isfinite(gain.low) or not math.isfinite(gain.high):
            return "no interval"
        return "worse" if gain.high < 0 else "better" if gain.low > 0 else "no clear difference"

    def line(self) -> str:
        """The main metric in one line."""
        found = self.differences[self.main]
        ends = f" ({self.confidence:.0%} interval {found.low:+.3f} to {found.high:+.3f})"
        who = f"{self.cases:,} images" + ("" if self.patients is None else f" of {self.patients:,} patients")
        return (
            f"{self.titles[self.main]} {self.first[self.main]:.3f} before, {self.second[self.main]:.3f} now: "
            f"{found.value:+.3f}{ends if math.isfinite(found.low) else ', no interval'} on the same {who}"
        )


def compare_predictions(
    first: Predictions, second: Predictions, *, num_replicates: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Comparison:
    """Compare the cases that both tables have, paired by image and by patient.

    Args:
        first: of the one model.
        second: of the other.
        num_replicates: bootstrap replicates.
        seed: of the bootstrap.
        confidence: nominal coverage of the intervals.

    Raises:
        EvaluationError: no column names the images in both, names repeat, or no image is in both; truths differ.
    """
    key = next((name for name in KEYS if all(name in each.table.columns for each in (first, second))), None)
    if key is None:
        raise EvaluationError(
            f"The two tables share no column that names their images; expected one of {', '.join(KEYS)} in both. "
            "Rename it in each."
        )
    rows = [_rows(each.table, key) for each in (first, second)]
    shared = [name for name in rows[0] if name in rows[1]]
    if not shared:
        raise EvaluationError(
            "The two tables have no image in common, so they cannot be compared in pairs. Test both models on the same "
            "data: hounsfield evaluate RUN DATA."
        )
    taken = [np.array([each[name] for name in shared], dtype=np.int64) for each in rows]
    answers = [each.answers.take(chosen) for each, chosen in zip((first, second), taken, strict=True)]
    groups = None if first.groups is None else first.groups[taken[0]]
    options = {"num_replicates": num_replicates, "seed": seed, "confidence": confidence}
    differences = compare(answers[0], answers[1], groups=groups, **options)  # type: ignore[arg-type]  # ints and a float
    values = [
        {
            name: float(headline(metric.compute(Tally(each, np.ones((len(each), 1)))))[0])
            for name, metric in METRICS.items()
            if name not in NOT_COMPARED
        }
        for each in answers
    ]
    left = [len(each) - len(shared) for each in rows]
    notes = [f"Compared on the {len(shared):,} images that both tables have; {left[0]:,} and {left[1]:,} left out."]
    if groups is None:
        notes.append("No patients are known: every image is treated as a patient of its own.")
    adjusted = adjust_p_values({name: found.p_value for name, found in differences.items()})
    patients = None if groups is None else int(pd.Series(groups).nunique(dropna=True) + pd.isna(groups).sum())
    titles = {name: METRICS[name].title for name in values[0]}
    counts = len(shared), patients, tuple(notes)
    return Comparison(values[0], values[1], differences, adjusted, *counts, titles, MAIN, confidence=confidence)


def _rows(table: pd.DataFrame, key: str) -> dict[str, int]:
    names = table[key].astype(str)
    if names.duplicated().any():
        raise EvaluationError(
            f"The column '{key}' names {names[names.duplicated()].iloc[0]} more than once; pairs need one row of each "
            "image."
        )
    return {name: row for row, name in enumerate(names)}
