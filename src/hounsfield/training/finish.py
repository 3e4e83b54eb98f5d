"""What follows the last epoch: the bundle, the figures on validation and test, the diagnosis."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hounsfield.bundle import Bundle, SourceRange, export_onnx, save_bundle
from hounsfield.cohorts import Cohort, Store
from hounsfield.errors import BundleError, MissingDependency
from hounsfield.evaluation import Assessment, as_answers, assess, estimates_to_dict
from hounsfield.inference import Engine, check_bfloat16, decide, label_text, open_engine
from hounsfield.models import flip_averaged
from hounsfield.planning import Plan
from hounsfield.progress import Progress
from hounsfield.reports.evaluation import assessment_figures
from hounsfield.reports.figures import learning_curves, montage, save_figure
from hounsfield.training.batches import PredictionBatches
from hounsfield.training.diagnosis import Diagnosis, diagnose
from hounsfield.training.job import Job, Member
from hounsfield.training.loop import validation_scores
from hounsfield.training.run_folder import atomically, write_json

logger = logging.getLogger(__name__)

BATCH = 64
# Training rows on which the gap is judged: enough for a log-loss to two digits.
DIAGNOSED_ROWS = 1000
CHECKED_ROWS = 256
MONTAGE_IMAGES = 24


def finish(job: Job, members: list[Member], network: keras.Model) -> tuple[dict[str, Any], Diagnosis]:
    """Write the bundle, metrics, predictions and figures of a training.

    Validation figures are those of each network on the rows it was not trained on; test figures are those of
    the bundle, run by the engine that will run it later.

    Returns:
        The content of ``metrics.json``, and the diagnosis.
    """
    folder, store = job.folder, job.store
    bundle, engine = _deploy(job, members, network)
    predicted = {"validation": _validation_predictions(members, job.plan)}
    test = store.cohort.rows("test")
    if len(test):
        predicted["test"] = (test, run_engine(engine, store, test, job.progress, "predicting test images"))
    assessed = {split: assess_rows(store.cohort, rows, scores, bundle) for split, (rows, scores) in predicted.items()}
    metrics = {split: estimates_to_dict(dict(assessment.estimates)) for split, assessment in assessed.items()}
    diagnosis = _diagnose(job, members, engine, predicted["validation"])
    folder.record("diagnosis", **diagnosis.to_dict())
    table = pd.concat([prediction_table(store.cohort, rows, scores, bundle) for rows, scores in predicted.values()])
    atomically(folder.predictions, lambda path: table.to_csv(path, index=False))
    split = list(predicted)[-1]
    pictures = {f"{name}_{split}": figure for name, figure in assessment_figures(assessed[split]).items()}
    pictures[f"images_{split}"] = _montage(store, *predicted[split], bundle)
    pictures["learning_curves"] = learning_curves(pd.read_csv(folder.history))
    for name, figure in pictures.items():
        save_figure(figure, folder.figures / f"{name}.png")
    # Written last: a run that has its metrics has all else.
    write_json(folder.metrics, metrics)
    return metrics, diagnosis


def _deploy(job: Job, members: list[Member], network: keras.Model) -> tuple[Bundle, Engine]:
    folder, plan, seen = job.folder, job.plan, job.seen
    modalities = tuple(sorted(seen.modalities))
    bundle = save_bundle(
        folder.bundle,
        network,
        pipeline=plan.pipeline,
        labels=plan.labels,
        task=plan.task,
        threshold=plan.threshold,
        modality=modalities[0] if len(modalities) == 1 else None,
        source_range=SourceRange(
            smallest=seen.min_shape,
            largest=seen.max_shape,
            channels=tuple(sorted(seen.channel_counts)),
            modalities=modalities,
        ),
    )
    try:
        export_onnx(bundle)
        same = check_bfloat16(bundle, job.store.batch(members[0].examples.validation[:CHECKED_ROWS]))
        folder.record("engine check", bfloat16_same_decisions=same)
        bundle = Bundle.load(folder.bundle)
    except (BundleError, MissingDependency) as error:
        folder.record("warning", text=str(error))
        logger.warning("%s", error)
    engine = open_engine(bundle)
    folder.record("engine", name=engine.name)
    return bundle, engine


def _validation_predictions(members: list[Member], plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Each validation row's probabilities from the network that did not train on it, in the order of rows."""
    rows, scores = [], []
    for member in members:
        network = flip_averaged(member.network, plan.test_time_flips)
        validation = member.examples.validation
        rows.append(validation)
        scores.append(
            network.predict(PredictionBatches(member.examples.pixels, validation, batch_size=BATCH), verbose=0)
        )
    order = np.argsort(np.concatenate(rows), kind="stable")
    return np.concatenate(rows)[order], np.concatenate(scores)[order]


def run_engine(engine: Engine, store: Store, rows: np.ndarray, progress: Progress, name: str) -> np.ndarray:
    """Probabilities (rows, outputs) of prepared images."""
    scores = []
    for start in range(0, len(rows), BATCH):
        scores.append(engine.run(store.batch(rows[start : start + BATCH])).probabilities)
        progress(name, min(start + BATCH, len(rows)), len(rows))
    return np.concatenate(scores)


def assess_rows(
    cohort: Cohort,
    rows: np.ndarray,
    scores: np.ndarray,
    bundle: Bundle,
    *,
    threshold: float | None = None,
    **options: Any,
) -> Assessment:
    """Measure the scores (rows, outputs) of some rows, with intervals by patient where patients are known.

    ``threshold`` is the bundle's where not given; ``options`` are those of ``evaluation.assess``.
    """
    threshold = bundle.threshold if threshold is None else threshold
    patients = cohort.table["patient"].iloc[rows]
    answers = as_answers(cohort.targets()[rows], scores, labels=bundle.labels, task=bundle.task, threshold=threshold)
    groups = patients.to_numpy() if patients.notna().all() else None
    return assess(answers, threshold=threshold, groups=groups, **options)


def prediction_table(cohort: Cohort, rows: np.ndarray, scores: np.ndarray, bundle: Bundle) -> pd.DataFrame:
    """One row an image: ``image``, ``prediction``, ``p_LABEL`` …, and what is known of it."""
    probabilities = np.concatenate([1 - scores, scores], axis=1) if bundle.task == "binary" else scores
    known = cohort.table.iloc[rows][["image", "split", "label", "patient"]].reset_index(drop=True)
    said = decide(scores, bundle.task, bundle.threshold)
    known.insert(1, "prediction", [label_text(row, bundle.labels, bundle.task) for row in said])
    return known.join(pd.DataFrame(probabilities, columns=[f"p_{label}" for label in bundle.labels]))


def _montage(store: Store, rows: np.ndarray, scores: np.ndarray, bundle: Bundle) -> Figure:
    """Prepared images of some rows, each under its truth and what was said of it."""
    chosen = np.linspace(0, len(rows) - 1, min(MONTAGE_IMAGES, len(rows))).astype(int)
    table = prediction_table(store.cohort, rows[chosen], scores[chosen], bundle)
    titles = [f"{truth} → {said}" for truth, said in zip(table["label"], table["prediction"], strict=True)]
    return montage(list(store.batch(rows[chosen])), titles)


def _diagnose(job: Job, members: list[Member], engine: Engine, validation: tuple[np.ndarray, np.ndarray]) -> Diagnosis:
    store, targets = job.store, job.store.cohort.targets()
    train = members[0].examples.train
    train = train[:: -(-len(train) // DIAGNOSED_ROWS)]
    frequency = np.tile(targets[train].mean(0), (len(train), 1))
    scores = np.concatenate(
        [engine.run(store.batch(train[i : i + BATCH])).probabilities for i in range(0, len(train), BATCH)]
    )
    return diagnose(
        job.plan,
        job.data,
        job.folder.plan,
        train_loss=validation_scores(targets[train], scores)["val_loss"],
        val_loss=validation_scores(targets[validation[0]], validation[1])["val_loss"],
        chance_loss=validation_scores(targets[train], frequency)["val_loss"],
        best_epoch=members[0].fitted.best_epoch,
    )
