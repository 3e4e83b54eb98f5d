"""What the image adds to clinical columns: the models of ``evaluation.clinical`` for a tested run or for a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy import special

from hounsfield.errors import CohortError, RunError
from hounsfield.evaluation.clinical import (
    BOTH,
    CLINICAL,
    IMAGE,
    ClinicalCases,
    Contribution,
    Kind,
    contribution,
    read_columns,
)
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.runs import LabelRun, read_run
from hounsfield.runs.values import ValueRun
from hounsfield.tasks import Family
from hounsfield.testing.run import Tested

FAMILIES: tuple[Family, ...] = ("labels", "values")
# Of log odds, so that a probability of exactly 0 or 1 has some.
CLIP = 1e-6
METRIC_TITLES = {"auc": "AUC", "r2": "R²", "mae": "Mean absolute error"}


@dataclass(frozen=True)
class ClinicalValue:
    """The contributions of image and clinical columns to each label or value.

    Attributes:
        columns: the clinical columns.
        contributions: of each label or value.
        confidence: nominal coverage of the intervals.
    """

    columns: tuple[str, ...]
    contributions: tuple[Contribution, ...]
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """The content of ``clinical.json``."""
        found = [each.to_dict() for each in self.contributions]
        return {"columns": list(self.columns), "confidence": self.confidence, "contributions": found}

    def cells(self) -> list[list[str]]:
        """As a table, its header first."""
        rows = [["", "metric", CLINICAL, IMAGE, BOTH, "the image adds", "the columns add"]]
        for each in self.contributions:
            for metric, figures in each.figures.items():
                gaps = each.differences[metric]
                rows.append(
                    [
                        each.name,
                        METRIC_TITLES[metric],
                        *(f"{figures[model][0]:.3f}" for model in (CLINICAL, IMAGE, BOTH)),
                        *("{:+.3f} ({:+.3f} to {:+.3f})".format(*gaps[name]) for name in ("image", "clinical")),
                    ]
                )
        return rows


def clinical_value(
    run: Path, tested: Tested, columns: Sequence[str], *, num_replicates: int, seed: int, confidence: float
) -> ClinicalValue:
    """Fit the models on the validation cases of a run, and judge them on the cases that were tested.

    Args:
        run: its folder, with ``predictions.csv`` and ``cohort.parquet``.
        tested: the run on its test images or on other data, whose table has the columns too.
        columns: the clinical columns.
        num_replicates: bootstrap replicates.
        seed: of folds and bootstrap.
        confidence: nominal coverage of intervals.

    Raises:
        RunError: the run has no validation predictions, or was trained or chosen on some of the cases.
        EvaluationError: a column is missing, or there are too few cases.
        MissingDependency: scikit-learn is not installed.
    """
    if tested.trained:
        raise RunError(
            f"{tested.trained:,} of the cases to judge on are of the run's own training or validation, which the "
            "network or the models of clinical columns are fitted on. Leave DATA out to test on the run's test rows, "
            "or give other data."
        )
    record = read_run(run)
    if "validation" not in record.metrics:
        raise RunError(f"The run {run} has no validation predictions to fit the models of clinical columns on.")
    given = cast("LabelRun | ValueRun", record).table
    given = given[given["split"] == "validation"].reset_index(drop=True)
    fitted_on = read_columns(_joined(given, record.cohort, columns), columns)
    judged_on = read_columns(tested.assessment.table, columns)
    sides = _of_labels if isinstance(record, LabelRun) else _of_values
    found = [
        contribution(
            *(ClinicalCases(table, *each) for table, each in zip((fitted_on, judged_on), pair, strict=True)),
            name=name,
            kind=kind,
            num_replicates=num_replicates,
            seed=seed,
            confidence=confidence,
        )
        for name, kind, pair in sides(record, given, tested.assessment)
    ]
    return ClinicalValue(tuple(columns), tuple(found), confidence)


def _joined(given: pd.DataFrame, cohort: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The predictions with the columns of the run's table; a sample of several images has those of its first."""
    key = "image" if given["image"].isin(cohort["image"]).all() else "sample"
    known = cohort.drop_duplicates(key).set_index(key)
    missing = [name for name in columns if name not in known]
    if missing:
        raise CohortError(
            f"--clinical names {', '.join(missing)}, and the table of the run's samples has "
            f"{', '.join(map(str, cohort.columns))}. Name columns that it has, or train from a table with them."
        )
    return known.loc[given["image"], list(columns)].reset_index(drop=True)


Side = tuple[np.ndarray, np.ndarray, np.ndarray | None]
Question = tuple[str, Kind, tuple[Side, Side]]


def _of_labels(record: Any, given: pd.DataFrame, assessment: Any) -> list[Question]:
    """Truth and log odds of each label, on validation and on test."""
    validation = record.tested["validation"]
    answers: list[Outcomes] = [validation.answers, assessment.answers]
    groups = [validation.groups, assessment.groups]
    del given
    found: list[Question] = []
    for column, name in enumerate(answers[1].questions):
        first, second = (_label_side(each, column, patients) for each, patients in zip(answers, groups, strict=True))
        found.append((name, "label", (first, second)))
    return found


def _label_side(answers: Outcomes, column: int, groups: np.ndarray | None) -> Side:
    truth = np.where(answers.known[:, column], answers.truth[:, column].astype(np.float64), np.nan)
    return truth, special.logit(np.clip(answers.scores[:, column], CLIP, 1 - CLIP)), groups


def _of_values(record: Any, given: pd.DataFrame, assessment: Any) -> list[Question]:
    validation = record.tested["validation"]
    patients = given["patient"].to_numpy(dtype=object) if given["patient"].notna().all() else None
    sides = (
        (validation.truth, validation.predicted, patients),
        (assessment.truth, assessment.predicted, assessment.groups),
    )
    return [(record.bundle.labels[0] if not record.ordered else "grade", "value", sides)]
