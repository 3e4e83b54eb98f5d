"""Testing a finished run: on its own test split, or on other data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort, Store
from hounsfield.evaluation import Assessment
from hounsfield.evaluation.assessment import assess
from hounsfield.evaluation.calibration import estimated_error
from hounsfield.evaluation.outcomes import as_outcomes
from hounsfield.evaluation.scaling import Unscaled
from hounsfield.inference import open_engine
from hounsfield.progress import Progress, silent
from hounsfield.tasks import decide, for_each_label, label_text, refuse_threshold
from hounsfield.testing.cohort import tested_cohort
from hounsfield.testing.engine_runs import run_engine
from hounsfield.testing.uncertainty import unlike_lines


def evaluate_run(
    run: Path | str,
    data: str | None = None,
    *,
    threshold: float | None = None,
    num_replicates: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress = silent,
) -> Assessment:
    """Run the bundle of a run on test images, and measure it.

    Args:
        run: the run folder.
        data: other DATA, all rows of which are tested, or its test rows where it comes with splits; ``None`` for the
            test rows of the run's own data.
        threshold: of the decisions; the bundle's where not given.
        num_replicates: of the bootstrap.
        confidence: nominal coverage of the intervals.
        seed: of the bootstrap.
        progress: told of the images.

    Raises:
        RunError: the run has no test rows, or its data has changed.
        BundleError: the run was not finished.
        CohortError: the data cannot be tested on.
        UsageError: a threshold is given for a multi-class task.
    """
    bundle = Bundle.load(run)
    refuse_threshold(bundle.classifier_task, threshold)
    cohort, note = tested_cohort(run, data, bundle)
    store = Store.build(cohort, bundle.pipeline, progress=progress)
    engine = open_engine(bundle)
    tested = run_engine(engine, store, np.arange(len(store)), progress, "predicting")
    notes = (*store.cohort.notes, note, f"Predicted by {engine.description}.", *unlike_lines(bundle, tested, "images"))
    assessment = assess_rows(
        store.cohort,
        tested.rows,
        tested.probabilities,
        bundle,
        threshold=threshold,
        notes=notes,
        num_replicates=num_replicates,
        confidence=confidence,
        seed=seed,
    )
    return replace(assessment, table=store.cohort.table, features=tested.features)


def assess_rows(
    cohort: Cohort,
    rows: np.ndarray,
    scores: np.ndarray,
    bundle: Bundle,
    *,
    threshold: float | None = None,
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
    assessment = assess(answers, threshold=threshold, groups=groups, **options)
    if isinstance(bundle.scaling, Unscaled):
        return assessment
    kept = {name: value for name, value in options.items() if name in ("num_replicates", "seed", "confidence")}
    before = estimated_error(as_outcomes(truth, scores, **facts), groups=groups, **kept)
    return replace(assessment, estimates={**assessment.estimates, "ece_uncalibrated": before})


def prediction_table(cohort: Cohort, rows: np.ndarray, scores: np.ndarray, bundle: Bundle) -> pd.DataFrame:
    """One row an image: ``image``, ``prediction``, ``p_LABEL`` …, and what is known of it.

    ``scores`` are the network's own, (rows, outputs).
    """
    scores = bundle.calibrated(scores)
    probabilities = for_each_label(scores, bundle.task)
    known = cohort.table.iloc[rows][["image", "split", "label", "patient"]].reset_index(drop=True)
    said = decide(scores, bundle.classifier_task, bundle.threshold)
    known.insert(1, "prediction", [label_text(row, bundle.labels, bundle.classifier_task) for row in said])
    return known.join(pd.DataFrame(probabilities, columns=[f"p_{label}" for label in bundle.labels]))
