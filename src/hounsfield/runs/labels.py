"""A finished run of a network that labels whole images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.evaluation.predictions import MISSING_CELLS, Predictions, predictions_from_table
from hounsfield.evaluation.promises import Promise, measured_promises, promises_caution
from hounsfield.evaluation.uncertainty import Uncertainty
from hounsfield.evaluation.verdict import CalibrationVerdict, calibration_caution, calibration_verdicts
from hounsfield.plans import Plan
from hounsfield.runs.base import RunRecord, read_file
from hounsfield.safe_text import plain_cells
from hounsfield.tasks import TASKS

TEXT_COLUMNS = ("sample", "image", "prediction", "label", "patient", "split")


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelRun(RunRecord):
    """A finished run of a network that labels whole images.

    Attributes:
        plan: the plan of a classifier.
        table: its predictions, one row per image of validation and test.
        tested: split → predictions and truth, checked.
    """

    plan: Plan
    table: pd.DataFrame
    tested: dict[str, Predictions]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The record with its predictions.

        Raises:
            RunError: ``predictions.csv`` is damaged.
        """
        path = facts["folder"] / "predictions.csv"
        table = read_file(path, read_predictions)
        return cls(**facts, table=table, tested=read_file(path, lambda _: _checked(table, facts["bundle"])))

    @property
    def shown(self) -> Predictions:
        """The predictions of the split that is shown."""
        return self.tested[self.split]

    @property
    def num_cases(self) -> int:
        """Images of that split."""
        return len(self.shown.answers)

    @property
    def num_patients(self) -> int | None:
        """Patients of that split; ``None`` where they are unknown."""
        groups = self.shown.groups
        return None if groups is None else len(make_clusters(self.shown.answers.truth, groups))

    @property
    def answers(self) -> Outcomes:
        """Truths, probabilities and decisions of that split."""
        return self.shown.answers

    @cached_property
    def verdicts(self) -> tuple[CalibrationVerdict, ...]:
        """Whether its probabilities mean what they say, label by label."""
        return calibration_verdicts(self.answers, groups=self.shown.groups)

    @cached_property
    def promises(self) -> tuple[Promise, ...]:
        """What the bundle promises of sets and answers, measured on that split; none where validation chose them."""
        kept = self.bundle.kept(Uncertainty)
        if kept is None or self.split == "validation":
            return ()
        return measured_promises(kept, self.answers, threshold=self.bundle.threshold, groups=self.shown.groups)

    @property
    def cautions(self) -> tuple[str, ...]:
        """Miscalibration beyond chance, and promises that did not hold."""
        what = f"{self.split} images"
        return tuple(filter(None, (calibration_caution(self.verdicts), promises_caution(self.promises, what))))

    @property
    def prevalence(self) -> float | None:
        """Share of the positive label; ``None`` unless the task is binary."""
        return float(self.answers.truth.mean()) if TASKS[self.bundle.task].paired else None

    @property
    def positive(self) -> str:
        """The positive label of a binary task."""
        return self.bundle.labels[-1]


def read_predictions(path: Path) -> pd.DataFrame:
    """The table ``predictions.csv``, with names read as text."""
    table: pd.DataFrame = pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, str), **MISSING_CELLS)
    return plain_cells(table)


def _checked(table: pd.DataFrame, bundle: Bundle) -> dict[str, Predictions]:
    return {
        str(split): predictions_from_table(
            rows.dropna(axis="columns", how="all"),
            name=str(split),
            task=bundle.classifier_task,
            threshold=bundle.threshold,
        )
        for split, rows in table.groupby("split", sort=False)
    }
