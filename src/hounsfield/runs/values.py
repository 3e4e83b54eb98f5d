"""A finished run of a network that predicts values or grades."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.evaluation.classification import estimate_from_dict
from hounsfield.evaluation.value_assessment import ValueAssessment
from hounsfield.plans import ValuePlan
from hounsfield.runs.base import RunRecord, read_file
from hounsfield.runs.labels import read_predictions
from hounsfield.tasks import TASKS, ValueTask


@dataclass(frozen=True, eq=False, kw_only=True)
class ValueRun(RunRecord):
    """A finished run of a network that predicts values or grades.

    Attributes:
        plan: the plan of a regressor.
        table: its predictions, one row per image of validation and test.
        tested: split → truths and predictions, with the figures of ``metrics.json``.
    """

    plan: ValuePlan
    table: pd.DataFrame
    tested: dict[str, ValueAssessment]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The record with its predictions.

        Raises:
            RunError: ``predictions.csv`` is damaged.
        """
        path: Path = facts["folder"] / "predictions.csv"
        table = read_file(path, read_predictions)
        return cls(**facts, table=table, tested=read_file(path, lambda _: _judged(table, facts)))

    @property
    def shown(self) -> ValueAssessment:
        """The test on the split that is shown."""
        return self.tested[self.split]

    @property
    def num_cases(self) -> int:
        """Images of that split."""
        return len(self.shown.truth)

    @property
    def num_patients(self) -> int | None:
        """Patients of that split; ``None`` where they are unknown."""
        return self.shown.patients

    @property
    def ordered(self) -> bool:
        """Whether grades are predicted."""
        return TASKS[self.plan.task].ordered


def _judged(table: pd.DataFrame, facts: Mapping[str, Any]) -> dict[str, ValueAssessment]:
    """Predictions beside the truth; the figures were measured already and stand in the metrics."""
    bundle: Bundle = facts["bundle"]
    ordered, tested = TASKS[bundle.task].ordered, {}
    for split, figures in facts["metrics"].items():
        rows = table[table["split"] == split]
        columns = [rows["label"], rows["prediction" if ordered else "value"]]
        places = {label: float(place) for place, label in enumerate(bundle.labels)}
        both = [column.map(places) if ordered else pd.to_numeric(column) for column in columns]
        truth, predicted = (np.asarray(each, np.float64) for each in both)
        patients = rows["patient"]
        tested[split] = ValueAssessment(
            truth,
            predicted,
            labels=bundle.labels,
            task=cast("ValueTask", bundle.task),
            estimates={name: estimate_from_dict(found) for name, found in figures.items()},
            patients=int(patients.nunique()) if patients.notna().all() else None,
            split=split,
        )
    return tested
