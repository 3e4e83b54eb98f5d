"""What follows the last epoch: the bundle, the figures on validation and test, the diagnosis."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hounsfield.atomic import replacing, write_json
from hounsfield.bundle import Bundle, export_onnx, save_bundle
from hounsfield.cohorts import Store
from hounsfield.errors import BundleError, MissingDependency
from hounsfield.evaluation import estimates_to_dict
from hounsfield.inference import Engine, check_bfloat16, open_engine
from hounsfield.inference.onnx_networks import checked_precision
from hounsfield.models import flip_averaged
from hounsfield.reports.figures import learning_curves, montage, save_figure
from hounsfield.reports.table import PAGES
from hounsfield.runs.folder import RunFolder
from hounsfield.testing.engine_runs import EngineRun, run_engine
from hounsfield.testing.labels import assess_rows, prediction_table
from hounsfield.testing.uncertainty import disagreement_lines, error_lines, unlike_lines
from hounsfield.training.batches import predict_rows
from hounsfield.training.bias import record_bias
from hounsfield.training.classifier import validation_scores
from hounsfield.training.diagnosis import Diagnosis, diagnose
from hounsfield.training.job import Job, Member, origin
from hounsfield.training.uncertainty import (
    OutOfFold,
    calibrate,
    ensemble_heads,
    fit_novelty,
    novelty_rows,
)

logger = logging.getLogger(__name__)

BATCH = 64
CHECKED_ROWS = 256
MONTAGE_IMAGES = 24


class Finished(NamedTuple):
    """What the end of a training gives.

    Attributes:
        metrics: the content of ``metrics.json``.
        diagnosis: whether the network overfitted.
        uncertainty: lines on calibration and on images unlike those of training.
    """

    metrics: dict[str, Any]
    diagnosis: Diagnosis
    uncertainty: tuple[str, ...]


def finish(job: Job, members: list[Member], network: keras.Model) -> Finished:
    """Write the bundle, metrics, predictions and figures of a training.

    Validation figures are those of each network on the rows it was not trained on; test figures are those of
    the bundle, run by the engine that will run it later.
    """
    folder, store = job.folder, job.store
    bundle, engine = _deploy(job, network)
    fit_rows, limit_rows = novelty_rows(members)
    fitted_on = run_engine(engine, store, fit_rows, job.progress, "predicting training images")
    held, limited_by = _validation(job, members, engine, limit_rows)
    novelty = fit_novelty(fitted_on, limited_by, held, len(members))
    bundle, line = calibrate(bundle, job.plan, store.cohort, held, novelty, ensemble_heads(members))
    bundle, engine = _in_checked_precision(job, members, bundle, engine)
    lines, predicted = [line], {"validation": (held.rows, held.scores)}
    test = store.cohort.rows("test")
    if len(test):
        tested = run_engine(engine, store, test, job.progress, "predicting test images")
        predicted["test"] = (test, tested.probabilities)
        lines += unlike_lines(bundle, tested, "test images")
    assessed = {split: assess_rows(store.cohort, rows, scores, bundle) for split, (rows, scores) in predicted.items()}
    lines += [line for split in set(assessed) - {"validation"} for line in error_lines(assessed[split], split)]
    lines += disagreement_lines(bundle, tested, assessed["test"], "test images") if len(test) else []
    lines += record_bias(job, assessed["test"], tested) if len(test) else []
    metrics = {split: estimates_to_dict(dict(assessment.estimates)) for split, assessment in assessed.items()}
    diagnosis = _diagnose(job, members, fitted_on, held)
    folder.record("diagnosis", **diagnosis.to_dict())
    folder.record("uncertainty", lines=lines)
    table = pd.concat([prediction_table(store.cohort, rows, scores, bundle) for rows, scores in predicted.values()])
    with replacing(folder.predictions) as temporary:
        table.to_csv(temporary, index=False)
    split = list(predicted)[-1]
    figures = {f"{name}_{split}": figure for name, figure in PAGES["labels"].figures(assessed[split]).items()}
    figures[f"images_{split}"] = _montage(store, *predicted[split], bundle)
    _draw(folder, figures)
    # Written last: a run that has its metrics has all else.
    write_json(folder.metrics, metrics)
    return Finished(metrics, diagnosis, tuple(lines))


def _deploy(job: Job, network: keras.Model) -> tuple[Bundle, Engine]:
    folder, plan = job.folder, job.plan
    bundle = save_bundle(
        folder.bundle,
        network,
        pipeline=plan.pipeline,
        labels=plan.labels,
        task=plan.task,
        threshold=plan.threshold,
        **origin(job.seen),
    )
    try:
        export_onnx(bundle)
    except (BundleError, MissingDependency) as error:
        folder.record("warning", text=str(error))
        logger.warning("%s", error)
    return bundle, open_engine(bundle)


def _in_checked_precision(job: Job, members: list[Member], bundle: Bundle, engine: Engine) -> tuple[Bundle, Engine]:
    """The bundle that knows whether it decides the same in bfloat16, and the engine that will run it from now on.

    Checked when the bundle is calibrated, since decisions hang on that too; until then all is computed in float32.
    """
    same = check_bfloat16(bundle, job.store.batch(members[0].examples.validation[:CHECKED_ROWS]))
    job.folder.record("engine check", bfloat16_same_decisions=same)
    bundle = bundle.with_check("bfloat16", same)
    if checked_precision(bundle) == "bf16":
        engine = open_engine(bundle)
    job.folder.record("engine", name=engine.name, description=engine.description)
    return bundle, engine


def _validation(job: Job, members: list[Member], engine: Engine, limit_rows: np.ndarray) -> tuple[OutOfFold, EngineRun]:
    """Each validation row's scores from the network that did not train on it; the bundle's view of some rows."""
    if len(members) == 1:
        rows = members[0].examples.validation
        run = run_engine(engine, job.store, rows, job.progress, "predicting validation images")
        chosen = np.isin(rows, limit_rows)
        return OutOfFold(rows, run.probabilities, np.zeros(len(rows), np.int64)), run.take(chosen)
    parts = []
    for number, member in enumerate(members):
        network = flip_averaged(member.network, job.plan.test_time_flips)
        rows = member.examples.validation
        scores = predict_rows(network, member.examples.pixels, rows, batch_size=BATCH)
        parts.append((rows, scores, np.full(len(rows), number)))
    rows, scores, seen_by = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(rows, kind="stable")
    run = run_engine(engine, job.store, limit_rows, job.progress, "predicting validation images")
    return OutOfFold(rows[order], scores[order], seen_by[order]), run


def _draw(folder: RunFolder, figures: dict[str, Figure]) -> None:
    for name, figure in {**figures, "learning_curves": learning_curves(pd.read_csv(folder.history))}.items():
        save_figure(figure, folder.figures / f"{name}.png")


def _montage(store: Store, rows: np.ndarray, scores: np.ndarray, bundle: Bundle) -> Figure:
    """Prepared images of some rows, each under its truth and what was said of it."""
    chosen = np.linspace(0, len(rows) - 1, min(MONTAGE_IMAGES, len(rows))).astype(int)
    table = prediction_table(store.cohort, rows[chosen], scores[chosen], bundle)
    titles = [f"{truth} → {said}" for truth, said in zip(table["label"], table["prediction"], strict=True)]
    return montage(list(store.batch(rows[chosen])), titles)


def _diagnose(job: Job, members: list[Member], trained: EngineRun, held: OutOfFold) -> Diagnosis:
    targets = job.store.cohort.targets()
    train = targets[trained.rows]
    frequency = np.tile(train.mean(0), (len(train), 1))
    return diagnose(
        job.plan,
        job.data,
        job.folder.plan,
        train_loss=validation_scores(train, trained.probabilities)["val_loss"],
        val_loss=validation_scores(targets[held.rows], held.scores)["val_loss"],
        chance_loss=validation_scores(train, frequency)["val_loss"],
        best_epoch=members[0].fitted.best_epoch,
        num_networks=len(members),
    )
