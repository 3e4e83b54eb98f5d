"""Testing detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.boxes import COLUMNS
from hounsfield.bundle import Bundle
from hounsfield.cohorts import SceneStore
from hounsfield.cohorts.cohort import Cohort
from hounsfield.evaluation import DetectionAssessment, Finding
from hounsfield.evaluation.detection import assess_detections
from hounsfield.evaluation.detection_matching import known_criterion
from hounsfield.evaluation.detections import Detections, Truth, as_detections
from hounsfield.inference import Detector
from hounsfield.inference.windows import Found
from hounsfield.object_masks import pasted
from hounsfield.preprocessing import Pipeline
from hounsfield.progress import Progress
from hounsfield.testing.base import Audit, Degraded, TestSource
from hounsfield.testing.findings import evaluate_findings

OPTIONS: frozenset[str] = frozenset({"criterion", "overlap"})
AUDIT_OPTIONS: frozenset[str] = frozenset()
TABLE_OPTIONS: frozenset[str] = frozenset({"truth", "criterion", "overlap"})
DEGRADED: Degraded | None = None
TABLE = "table of findings"


@dataclass(frozen=True, eq=False)
class RawFindings:
    """What a bundle's detector finds in some rows of a store.

    Attributes:
        rows: (n,) numbers of the store's rows.
        found: of each row, in pixels of the image as read, without their masks.
        detections: the same with the truths.
        features: (n, features).
    """

    rows: np.ndarray
    found: list[Found]
    detections: Detections
    features: np.ndarray

    @classmethod
    def join(cls, parts: Sequence[RawFindings]) -> RawFindings:
        """Several raw outcomes as one, whose rows ascend from part to part."""
        return cls(
            np.concatenate([part.rows for part in parts]),
            [found for part in parts for found in part.found],
            Detections.join([part.detections for part in parts]),
            np.concatenate([part.features for part in parts]),
        )


def check(bundle: Bundle, options: Mapping[str, Any]) -> None:  # noqa: ARG001 - every bundle takes the same
    """Refuse a criterion that is not known; see ``FamilyTest``."""
    known_criterion(options.get("criterion", "iou"))


def build_store(cohort: Cohort, pipeline: Pipeline, progress: Progress) -> SceneStore:
    """Images of any shape, and where their boxes lie; see ``FamilyTest``."""
    return SceneStore.build(cohort, pipeline, progress=progress)


def predict(predictor: Detector, store: SceneStore, rows: np.ndarray, progress: Progress, name: str) -> RawFindings:
    """Find objects in rows of a store, down to the floor of scores; see ``FamilyTest``."""
    found, findings, features = [], [], []
    for number, row in enumerate(rows.tolist(), start=1):
        looked, change, masks = predictor.look(store.pixels(row)), store.change(row), None
        boxes = change.back(looked.found.boxes)
        if looked.found.masks is not None:
            masks = pasted(change.box_masks_back(looked.found.masks), boxes)
        found.append(looked.found._replace(boxes=boxes, masks=None))
        findings.append(Finding(boxes, looked.found.classes, looked.found.scores, masks))
        features.append(looked.features)
        progress(f"finding objects in {name} images", number, len(rows))
    cohort = store.cohort
    masked = cohort.has_object_masks
    truths = [Truth(*cohort.boxes(row), cohort.object_masks(row) if masked else None) for row in rows.tolist()]
    detections = as_detections(truths, findings, labels=predictor.bundle.labels)
    return RawFindings(rows, found, detections, np.stack(features))


def assess(cohort: Cohort, raw: RawFindings, bundle: Bundle, **options: Any) -> DetectionAssessment:
    """Measure what was found, with intervals by known patient; see ``FamilyTest``."""
    patients = cohort.table["patient"].iloc[raw.rows]
    groups = patients.to_numpy() if patients.notna().all() else None
    if options.get("threshold") is None:
        options["threshold"] = bundle.threshold
    return assess_detections(raw.detections, groups=groups, **options)


def audit(
    assessment: DetectionAssessment,  # noqa: ARG001 - detectors are not audited by group
    *,
    seed: int,  # noqa: ARG001
    confidence: float,  # noqa: ARG001
    given: Mapping[str, Any],  # noqa: ARG001
    source: TestSource | None,  # noqa: ARG001
) -> Audit | None:
    """Nothing; see ``FamilyTest``."""
    return None


def reads(path: Path, options: Mapping[str, Any]) -> bool:  # noqa: ARG001 - the option alone tells it
    """Tables that come with true boxes; see ``FamilyTest``."""
    return "truth" in options


def assess_table(path: Path, **options: Any) -> DetectionAssessment:
    """Anyone's findings against true boxes; see ``FamilyTest``."""
    return evaluate_findings(path, **options)


def notes(bundle: Bundle, raw: RawFindings, what: str) -> list[str]:
    """How many images are out of distribution; see ``FamilyTest``."""
    if bundle.novelty is None:
        return []
    unlike = bundle.novelty.unlike({"features": raw.features})
    return [f"Out of distribution: {int(unlike.sum()):,} of {len(unlike):,} {what} ({unlike.mean():.1%})."]


def table(cohort: Cohort, raw: RawFindings, bundle: Bundle) -> pd.DataFrame:
    """One row per finding: image, label, score, the box in pixels of the image as read, and the split."""
    columns = list(COLUMNS[raw.detections.rank])
    parts = []
    for row, found in zip(raw.rows.tolist(), raw.found, strict=True):
        part = pd.DataFrame(np.asarray(found.boxes, np.float64).round(2), columns=columns)
        part.insert(0, "image", cohort.table["image"].iloc[row])
        part.insert(1, "label", [bundle.labels[number] for number in found.classes])
        part.insert(2, "score", np.asarray(found.scores, np.float64).round(5))
        part["split"] = cohort.table["split"].iloc[row]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)
