"""Testing bundles that label whole images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort, Store
from hounsfield.cohorts.cohort import UNKNOWN
from hounsfield.errors import UsageError
from hounsfield.evaluation import Assessment, compare, evaluate_outcomes
from hounsfield.evaluation.assessment import assess as assess_outcomes
from hounsfield.evaluation.bias_report import BiasReport, report_bias
from hounsfield.evaluation.calibration import estimated_error
from hounsfield.evaluation.masking_effect import MaskingEffect
from hounsfield.evaluation.outcomes import Outcomes, as_outcomes
from hounsfield.evaluation.predictions import UNCERTAINTY_COLUMNS, read_predictions
from hounsfield.evaluation.promises import measured_promises, promises_caution
from hounsfield.evaluation.scaling import Unscaled
from hounsfield.evaluation.uncertainty import Uncertainty
from hounsfield.inference import Predictor
from hounsfield.preprocessing import Pipeline
from hounsfield.progress import Progress
from hounsfield.tasks import LabelTask, Threshold, decide, for_each_label, label_text, refuse_threshold
from hounsfield.testing.base import Degraded, Figures, Shown, TestSource
from hounsfield.testing.engine_runs import EngineRun, named_rows, run_engine
from hounsfield.testing.interventions import mask_shortcuts
from hounsfield.testing.uncertainty import unlike_lines

OPTIONS: frozenset[str] = frozenset()
AUDIT_OPTIONS: frozenset[str] = frozenset({"interventions", "attributes"})
TABLE_OPTIONS: frozenset[str] = frozenset({"task"})
TABLE = "table of predictions"
# Enough for half-widths of two points; more would only take longer.
DEGRADED_REPLICATES = 500


def check(bundle: Bundle, options: Mapping[str, Any]) -> None:
    """Refuse a threshold for a task that has none; see ``FamilyTest``."""
    refuse_threshold(bundle.task, options.get("threshold"))


def build_store(cohort: Cohort, pipeline: Pipeline, progress: Progress) -> Store:
    """Images of one shape; see ``FamilyTest``."""
    return Store.build(cohort, pipeline, progress=progress)


def predict(predictor: Predictor, store: Store, rows: np.ndarray, progress: Progress, name: str) -> EngineRun:
    """The network's probabilities, features and what the images look like; see ``FamilyTest``."""
    return run_engine(predictor.engine, predictor.bundle, store, rows, progress, f"predicting {name} images")


def assess(cohort: Cohort, raw: EngineRun, bundle: Bundle, **options: Any) -> Assessment:
    """The figures, with the table and the features of the rows for a bias audit; see ``FamilyTest``."""
    assessment = assess_rows(cohort, raw.rows, raw.probabilities, bundle, **options)
    kept = bundle.kept(Uncertainty)
    if kept is not None:
        facts: dict[str, Any] = {"threshold": assessment.threshold, "groups": assessment.groups}
        broken = promises_caution(measured_promises(kept, assessment.answers, **facts), "images of this test")
        assessment = replace(assessment, notes=(*assessment.notes, *([broken] if broken else [])))
    return replace(assessment, table=cohort.table.iloc[raw.rows].reset_index(drop=True), features=raw.features)


def table(cohort: Cohort, raw: EngineRun, bundle: Bundle) -> pd.DataFrame:
    """One row per image: ``image``, ``prediction``, ``p_LABEL`` …; see ``FamilyTest``."""
    return prediction_table(cohort, raw, bundle)


def audit(
    assessment: Assessment, *, seed: int, confidence: float, given: Mapping[str, Any], source: TestSource | None
) -> BiasReport:
    """The groups that the columns of the table make, and what interventions change; see ``FamilyTest``."""
    effects: tuple[MaskingEffect, ...] = ()
    if source is not None and given.get("interventions"):
        effects = mask_shortcuts(
            source.run, source.data, threshold=source.threshold, confidence=confidence, progress=source.progress
        )
    named = given.get("attributes")
    return report_bias(assessment, removals=effects, seed=seed, confidence=confidence, attributes=named)


def reads(path: Path, options: Mapping[str, Any]) -> bool:  # noqa: ARG001 - any other table is one of predictions
    """Any table; see ``FamilyTest``."""
    return True


def assess_table(path: Path, *, task: str | None = None, threshold: float | None = None, **options: Any) -> Assessment:
    """Anyone's probabilities with their truths; see ``FamilyTest``."""
    known: dict[str, LabelTask] = {name: name for name in get_args(LabelTask)}
    if task is not None and task not in known:
        raise UsageError(f"The task '{task}' is not known; expected {', '.join(known)}.")
    read = read_predictions(path, task=known[task] if task else None, threshold=threshold)
    refuse_threshold(read.answers.task, threshold)
    notes = read.notes
    outputs = [column for column in UNCERTAINTY_COLUMNS if column in read.table.columns]
    if outputs:
        notes = (*notes, f"Prediction outputs, not used as patient attributes: {', '.join(outputs)}.")
    assessment = assess_outcomes(read.answers, threshold=read.threshold, groups=read.groups, notes=notes, **options)
    return replace(assessment, table=read.table.drop(columns=outputs))


def notes(bundle: Bundle, raw: EngineRun, what: str) -> list[str]:
    """How many images are out of distribution; see ``FamilyTest``."""
    return unlike_lines(bundle, raw, what)


def assess_rows(
    cohort: Cohort,
    rows: np.ndarray,
    scores: np.ndarray,
    bundle: Bundle,
    *,
    threshold: Threshold | None = None,
    **options: Any,
) -> Assessment:
    """Measure what the bundle makes of the network's scores (rows, outputs), with intervals by known patient.

    Beside the usual figures stands ``ece_uncalibrated``, the calibration error of the scores themselves, where the
    bundle changes them. ``threshold`` is the bundle's where not given; ``options`` are those of ``evaluation.assess``.
    """
    threshold = bundle.threshold if threshold is None else threshold
    patients, truth = cohort.table["patient"].iloc[rows], cohort.targets()[rows]
    groups = patients.to_numpy() if patients.notna().all() else None
    facts: dict[str, Any] = {"labels": bundle.labels, "task": bundle.task}
    answers = as_outcomes(truth, bundle.calibrated(scores), threshold=threshold, **facts)
    assessment = assess_outcomes(answers, threshold=threshold, groups=groups, **options)
    if isinstance(bundle.scaling, Unscaled):
        return assessment
    kept = {name: value for name, value in options.items() if name in ("num_replicates", "seed", "confidence")}
    before = estimated_error(as_outcomes(truth, scores, **facts), groups=groups, **kept)
    return replace(assessment, estimates={**assessment.estimates, "ece_uncalibrated": before})


def prediction_table(cohort: Cohort, raw: EngineRun, bundle: Bundle) -> pd.DataFrame:
    """One row per image or sample: ``image``, ``prediction``, ``p_LABEL`` …, and what is known of it."""
    scores = bundle.calibrated(raw.probabilities)
    probabilities = for_each_label(scores, bundle.task)
    names = ["image", "split", "label", "patient", *({UNKNOWN} & set(cohort.table.columns))]
    known = named_rows(cohort, raw, names)
    said = decide(scores, bundle.classifier_task, bundle.threshold)
    known.insert(1, "prediction", [label_text(row, bundle.labels, bundle.classifier_task) for row in said])
    return known.join(pd.DataFrame(probabilities, columns=[f"p_{label}" for label in bundle.labels]))


def under_conditions(bundle: Bundle, cohort: Cohort, outputs: np.ndarray, confidence: float) -> list[Figures]:
    """AUC and accuracy of each condition; see ``Degraded``."""
    groups = cohort.table["patient"].to_numpy() if cohort.knows_patients else None
    options: dict[str, Any] = {"groups": groups, "num_replicates": DEGRADED_REPLICATES, "confidence": confidence}
    truth, found = cohort.targets(), list[Figures]()
    clean: Outcomes | None = None
    for scores in np.moveaxis(outputs, 1, 0):
        answers = as_outcomes(
            truth,
            bundle.calibrated(scores),
            labels=bundle.labels,
            task=bundle.classifier_task,
            threshold=bundle.threshold,
        )
        estimates = evaluate_outcomes(answers, **options)
        changes = {} if clean is None else compare(clean, answers, **options)
        clean = clean or answers
        found.append(
            Figures({name: estimates[name] for name in SHOWN}, {name: changes[name] for name in SHOWN if changes})
        )
    return found


SHOWN = {"auc": Shown("AUC", share=True, worse="lower"), "accuracy": Shown("Accuracy", share=True)}
DEGRADED: Degraded | None = Degraded(SHOWN, under_conditions)
