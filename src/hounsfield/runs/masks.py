"""A finished run of a network that outlines structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd

from hounsfield.evaluation.classification import estimate_from_dict
from hounsfield.evaluation.segmentation import TOLERANCE
from hounsfield.evaluation.segmentation_assessment import SegmentationAssessment
from hounsfield.plans import MaskPlan
from hounsfield.runs.base import RunRecord, read_file
from hounsfield.runs.labels import read_predictions


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskRun(RunRecord):
    """A finished run of a network that outlines structures.

    Attributes:
        plan: the plan of a segmenter.
        tested: split → the compared masks of each image and label, with the figures of ``metrics.json``.
    """

    plan: MaskPlan
    tested: dict[str, SegmentationAssessment]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The record with its compared masks.

        Raises:
            RunError: ``predictions.csv`` is damaged.
        """
        path = facts["folder"] / "predictions.csv"
        table = read_file(path, read_predictions)
        return cls(**facts, tested=read_file(path, lambda _: _judged(table, facts)))

    @property
    def shown(self) -> SegmentationAssessment:
        """The test on the split that is shown."""
        return self.tested[self.split]

    @property
    def num_cases(self) -> int:
        """Images of that split."""
        return len(self.shown.images)

    @property
    def num_patients(self) -> int | None:
        """Patients of that split; ``None`` where they are unknown."""
        return self.shown.patients


def _judged(table: pd.DataFrame, facts: Mapping[str, Any]) -> dict[str, SegmentationAssessment]:
    """The compared masks of each split; the figures were measured already and stand in the metrics."""
    tested = {}
    for split, figures in facts["metrics"].items():
        cases = table[table["split"] == split].reset_index(drop=True)
        patients = cases["patient"]
        tested[split] = SegmentationAssessment(
            cases=cases,
            labels=facts["bundle"].labels,
            estimates={name: estimate_from_dict(found) for name, found in figures.items()},
            unit=str(cases["unit"].iloc[0]),
            tolerance=float(cases["tolerance"].iloc[0]) if "tolerance" in cases else TOLERANCE,
            patients=int(patients.nunique()) if patients.notna().all() else None,
            split=split,
        )
    return tested
