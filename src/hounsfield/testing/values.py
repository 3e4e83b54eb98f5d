"""Testing bundles that predict values or grades."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort
from hounsfield.cohorts.targets.values import grade_indices, numbers
from hounsfield.errors import UsageError
from hounsfield.evaluation.group_figures import clusters_of
from hounsfield.evaluation.paired_means import mean_difference, mean_estimate, share_estimate
from hounsfield.evaluation.value_assessment import ValueAssessment, assess_values
from hounsfield.evaluation.value_groups import ValueGroups, compare_groups
from hounsfield.evaluation.value_tables import holds_values, read_values
from hounsfield.evaluation.value_uncertainty import ValueUncertainty
from hounsfield.inference.values import ValuePredictor, range_ends, read
from hounsfield.progress import Progress
from hounsfield.tasks import TASKS, ValueTask
from hounsfield.testing.base import Degraded, Figures, Shown, TestSource
from hounsfield.testing.engine_runs import EngineRun, named_rows, run_engine
from hounsfield.testing.labels import build_store
from hounsfield.testing.uncertainty import unlike_lines

__all__ = [
    "AUDIT_OPTIONS",
    "COVERAGE",
    "DEGRADED",
    "OPTIONS",
    "TABLE",
    "TABLE_OPTIONS",
    "assess",
    "assess_table",
    "audit",
    "build_store",
    "check",
    "notes",
    "predict",
    "reads",
    "table",
    "truths_of",
]

OPTIONS: frozenset[str] = frozenset()
AUDIT_OPTIONS: frozenset[str] = frozenset()
TABLE_OPTIONS: frozenset[str] = frozenset({"task"})
TABLE = "table of values"
# Of the ranges in ``predictions.csv``.
COVERAGE = 0.9


def check(bundle: Bundle, options: Mapping[str, Any]) -> None:
    """Refuse a threshold, which values do not have; see ``FamilyTest``."""
    if options.get("threshold") is not None:
        raise UsageError(f"A {bundle.task} task has no threshold: it predicts a value. Leave the threshold out.")


def predict(predictor: ValuePredictor, store: Any, rows: np.ndarray, progress: Progress, name: str) -> EngineRun:
    """The network's outputs, features and what the images look like; see ``FamilyTest``."""
    return run_engine(predictor.engine, predictor.bundle, store, rows, progress, f"predicting {name} images")


def truths_of(cohort: Cohort) -> np.ndarray:
    """(rows,) the values, or the places of the grades."""
    return grade_indices(cohort).astype(np.float64) if TASKS[cohort.task].ordered else numbers(cohort)


def assess(cohort: Cohort, raw: EngineRun, bundle: Bundle, **options: Any) -> ValueAssessment:
    """The figures, with the table of the rows for a comparison of groups; see ``FamilyTest``."""
    told = options.pop("notes", ())
    options.pop("threshold", None)
    rows = cohort.table.iloc[raw.rows].reset_index(drop=True)
    groups = rows["patient"].to_numpy() if rows["patient"].notna().all() else None
    assessed = assess_values(
        truths_of(cohort)[raw.rows],
        read(bundle, raw.probabilities).compared,
        labels=bundle.labels,
        task=cast("ValueTask", bundle.task),
        groups=groups,
        **options,
    )
    return replace(assessed, table=rows, notes=tuple(told))


def table(cohort: Cohort, raw: EngineRun, bundle: Bundle) -> pd.DataFrame:
    """One row per image: ``image``, ``value``, of grades ``prediction`` and ``p_GRADE`` …; see ``FamilyTest``."""
    readings, kept = read(bundle, raw.probabilities), bundle.kept(ValueUncertainty)
    known = named_rows(cohort, raw, ("image", "split", "label", "patient"))
    known.insert(1, "value", readings.values)
    if readings.probabilities is not None:
        known.insert(1, "prediction", [bundle.labels[grade] for grade in readings.grades])
        known = known.join(pd.DataFrame(readings.probabilities, columns=[f"p_{label}" for label in bundle.labels]))
    if kept is not None:
        known[["low", "high"]] = range_ends(kept.conformal(COVERAGE), readings, bundle.labels)
    return known


def audit(
    assessment: ValueAssessment,
    *,
    seed: int,  # noqa: ARG001 - nothing is drawn
    confidence: float,
    given: Mapping[str, Any],  # noqa: ARG001 - there is no such option
    source: TestSource | None,  # noqa: ARG001 - the table is enough
) -> ValueGroups:
    """The groups that the columns of the table make; see ``FamilyTest``."""
    return compare_groups(assessment, confidence=confidence)


def reads(path: Path, options: Mapping[str, Any]) -> bool:
    """A table of the task regression or ordinal, or with a truth and a column ``value``; see ``FamilyTest``."""
    task = options.get("task")
    return task in get_args(ValueTask) or (task is None and holds_values(path))


def assess_table(
    path: Path, *, task: str | None = None, threshold: float | None = None, **options: Any
) -> ValueAssessment:
    """Anyone's values with their truths; see ``FamilyTest``."""
    if threshold is not None:
        raise UsageError("A table of values has no threshold. Remove --threshold.")
    known: dict[str, ValueTask] = {name: name for name in get_args(ValueTask)}
    read = read_values(path, known[task] if task else None)
    told = (*read.notes, *options.pop("notes", ()))
    assessed = assess_values(
        read.truth, read.predicted, labels=read.labels, task=read.task, groups=read.groups, **options
    )
    return replace(assessed, table=read.table, notes=told)


def notes(bundle: Bundle, raw: EngineRun, what: str) -> list[str]:
    """How many images are out of distribution; see ``FamilyTest``."""
    return unlike_lines(bundle, raw, what)


def under_conditions(bundle: Bundle, cohort: Cohort, outputs: np.ndarray, confidence: float) -> list[Figures]:
    """Errors, the mean change of the predictions, and how often the ranges hold the truth; see ``Degraded``."""
    truth, kept = truths_of(cohort), bundle.kept(ValueUncertainty)
    clusters = clusters_of(
        np.arange(len(cohort)) if not cohort.knows_patients else pd.factorize(cohort.table["patient"])[0]
    )
    limit = math.inf if kept is None else kept.conformal(COVERAGE).limit
    predicted, errors, held, found = list[Any](), list[Any](), list[Any](), list[Figures]()
    for number in range(outputs.shape[1]):
        readings = read(bundle, outputs[:, number])
        predicted.append(readings.compared)
        errors.append(np.abs(readings.compared - truth))
        held.append(ValueUncertainty.of(truth, readings).misfit <= limit)
        estimates = {"mae": mean_estimate(errors[-1], clusters, confidence=confidence)}
        changes = {"mae": mean_difference(errors[-1] - errors[0], clusters, confidence=confidence)} if number else {}
        if number:
            estimates["shift"] = mean_estimate(predicted[-1] - predicted[0], clusters, confidence=confidence)
        if math.isfinite(limit):
            estimates["coverage"] = share_estimate(held[-1], clusters, confidence=confidence)
            if number:
                lost = held[-1].astype(np.float64) - held[0]
                changes["coverage"] = mean_difference(lost, clusters, confidence=confidence)
        found.append(Figures(estimates, changes))
    return found


DEGRADED: Degraded | None = Degraded(
    {
        "mae": Shown("Mean absolute error", share=False, worse="higher"),
        "shift": Shown("Mean change of the prediction", share=False),
        "coverage": Shown(f"Coverage of the {COVERAGE:.0%} ranges", share=True, worse="lower"),
    },
    under_conditions,
)
