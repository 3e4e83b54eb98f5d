"""A finished run of a network that finds objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd

from hounsfield.containers import read_parquet
from hounsfield.evaluation.classification import estimate_from_dict
from hounsfield.evaluation.detection import OVERLAP, DetectionAssessment
from hounsfield.evaluation.detections import detections_from_tables
from hounsfield.plans import DetectionPlan
from hounsfield.runs.base import RunRecord, read_file
from hounsfield.runs.labels import read_predictions


@dataclass(frozen=True, eq=False, kw_only=True)
class BoxRun(RunRecord):
    """A finished run of a network that finds objects.

    Attributes:
        plan: the plan of a detector.
        boxes: the true boxes of all images, one row per box.
        tested: split → truths and findings, with the figures of ``metrics.json``; images in the order of ``rows``.
    """

    plan: DetectionPlan
    boxes: pd.DataFrame
    tested: dict[str, DetectionAssessment]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The record with its true boxes and its findings.

        Raises:
            RunError: ``boxes.parquet`` or ``predictions.csv`` is damaged.
        """
        path = facts["folder"] / "predictions.csv"
        table = read_file(path, read_predictions)
        boxes = read_file(facts["folder"] / "boxes.parquet", read_parquet)
        return cls(**facts, boxes=boxes, tested=read_file(path, lambda _: _judged(table, boxes, facts)))

    @property
    def shown(self) -> DetectionAssessment:
        """The test on the split that is shown."""
        return self.tested[self.split]

    @property
    def num_cases(self) -> int:
        """Images of that split."""
        return self.shown.detections.num_images

    @property
    def num_patients(self) -> int | None:
        """Patients of that split; ``None`` where they are unknown."""
        return self.shown.patients


def _judged(table: pd.DataFrame, boxes: pd.DataFrame, facts: Mapping[str, Any]) -> dict[str, DetectionAssessment]:
    """The findings beside the truth; the figures were measured already and stand in the metrics."""
    tested = {}
    for split, figures in facts["metrics"].items():
        rows = facts["cohort"][facts["cohort"]["split"] == split]
        images, patients = list(rows["image"]), rows["patient"]
        detections = detections_from_tables(
            boxes[boxes["image"].isin(images)],
            table[table["split"] == split],
            images=images,
            labels=facts["bundle"].labels,
        )
        tested[split] = DetectionAssessment(
            detections=detections,
            estimates={name: estimate_from_dict(found) for name, found in figures.items()},
            threshold=facts["bundle"].threshold,
            criterion="iou",
            overlap=OVERLAP,
            patients=int(patients.nunique()) if patients.notna().all() else None,
            split=split,
        )
    return tested
