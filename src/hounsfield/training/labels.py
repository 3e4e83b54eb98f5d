"""Training classifiers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from hounsfield import pretrained
from hounsfield.bundle import Bundle, save_bundle
from hounsfield.cohorts import TARGETS, Cohort, Store
from hounsfield.errors import PlanError
from hounsfield.evaluation import Assessment
from hounsfield.evaluation.bias_report import report_bias
from hounsfield.inference import check_bfloat16, open_engine, open_predictor
from hounsfield.models import ensemble, flip_averaged
from hounsfield.models.views import with_attention, with_attention_of
from hounsfield.plans.labels import Plan
from hounsfield.progress import Progress
from hounsfield.reports.figures import montage
from hounsfield.reports.subgroups import write_bias
from hounsfield.tasks import TASKS
from hounsfield.testing.engine_runs import EngineRun, run_engine
from hounsfield.testing.labels import prediction_table
from hounsfield.testing.uncertainty import caution_lines, disagreement_lines, error_lines
from hounsfield.training.adapting import check_adapting, origin
from hounsfield.training.base import Choice, Job, Member, Specification, Verdict
from hounsfield.training.calibration import calibrate
from hounsfield.training.classifier import classification_loss, validation_scores, weighted_scores
from hounsfield.training.diagnosis import diagnose as diagnosed
from hounsfield.training.image_trainee import Examples, ImageTrainee
from hounsfield.training.views import check_images, image_trainee, sample_settings
from hounsfield.training.weights import training_weights
from hounsfield.training.whole_images import (
    NOVELTY_ROWS,
    check_shape,
    ensemble_heads,
    fit_novelty,
    novelty_rows,
    out_of_fold,
    rows_of_networks,
)

CHECKED_ROWS = 256
CRITERION = ImageTrainee.criterion
MONTAGE_IMAGES = 24
# The head and so many findings of the bias audit are printed at the end of a training; `evaluate` prints all.
PRINTED = 4

LabelJob = Job[Plan, Store]
LabelMember = Member[Plan, Store]
rows = rows_of_networks


def check(plan: Plan, cohort: Cohort) -> None:
    """Refuse a plan that does not fit the cohort; see ``Training``."""
    if (plan.task, plan.labels) != (cohort.task, cohort.labels):
        raise PlanError(
            f"The plan is for a {plan.task} task with the labels {', '.join(plan.labels)}, but the data has a "
            f"{cohort.task} task with {', '.join(cohort.labels)}. Make a plan for this data with 'hounsfield plan "
            "DATA'."
        )
    if plan.label_thresholds and not TASKS[plan.task].multi_label:
        raise PlanError(
            f"The plan has label_thresholds: true, but a {plan.task} task has one decision for each image. Set "
            "label_thresholds to false."
        )
    check_adapting(plan, cohort)
    for each in (plan, plan.companion_plan()):
        if each is not None:
            check_images(each, cohort)
            # An option that the network does not take is better found now than after the images are prepared.
            build_network(each)


def build_store(plan: Plan, cohort: Cohort, progress: Progress) -> Store:
    """Images of the network's input shape; see ``Training``."""
    store = Store.build(cohort, plan.pipeline, progress=progress)
    check_shape(plan, store)
    TARGETS[store.cohort.family].check_trainable(store.cohort)
    return store


def num_predicted(job: Job[Any, Any], train: np.ndarray) -> int:
    """Images: some of training, of validation before and after the check of bfloat16, of test; see ``Training``."""
    cohort = job.store.cohort
    return min(len(train), NOVELTY_ROWS) + 2 * len(cohort.rows("validation")) + len(cohort.rows("test"))


def build_network(plan: Plan) -> keras.Model:
    """A network with a layer "probabilities"; see ``Training``."""
    network = pretrained.build_network(plan)
    return network if plan.views is None else with_attention(network, plan.view_pooling)


def make_trainee(network: keras.Model, specification: Specification[Plan, Store]) -> ImageTrainee:
    """The classifier in training; see ``Training``."""
    plan, cohort = specification.plan, specification.store.cohort
    weights = training_weights(plan, cohort, specification.train)
    examples = Examples(
        specification.store,
        cohort.targets(),
        weights,
        specification.train,
        specification.validation,
    )
    return image_trainee(
        plan,
        network,
        examples,
        loss=classification_loss(network, plan.label_smoothing, by_label=weights.ndim == 2),
        judge=weighted_scores(weights[specification.validation]) if weights.ndim == 2 else validation_scores,
        seed=specification.seed,
    )


def put_weights(network: keras.Model, weights: list[np.ndarray]) -> None:
    """Those of the plain network; see ``Training``."""
    network.set_weights(weights)


def deploy(job: LabelJob, members: list[LabelMember]) -> Bundle:
    """One network, an ensemble as one, or either with mirrored views; see ``Training``."""
    plan = job.plan
    networks = [member.network for member in members]
    network = flip_averaged(networks[0] if len(networks) == 1 else ensemble(networks), plan.test_time_flips)
    return save_bundle(
        job.folder.bundle,
        with_attention_of(network, networks[0]),
        pipeline=plan.pipeline,
        labels=plan.labels,
        task=plan.task,
        threshold=plan.threshold,
        settings=sample_settings(network, plan, job.store.cohort) | origin(plan.weights, plan.adapt),
        **job.origin(),
    )


def choose(job: LabelJob, members: list[LabelMember], bundle: Bundle) -> Choice[EngineRun]:
    """Calibration, threshold, what is out of distribution, and whether bfloat16 decides the same; see ``Training``.

    Until the decisions are calibrated, all is computed in float32.
    """
    engine = open_engine(bundle)
    fit_rows, limit_rows = novelty_rows(members)
    train = run_engine(engine, bundle, job.store, fit_rows, job.progress, "predicting training images")
    held, validation, limited_by = out_of_fold(job, members, engine, bundle, limit_rows)
    novelty = fit_novelty(train, limited_by, held, len(members))
    bundle, line = calibrate(bundle, job.plan, job.store.cohort, held, novelty, ensemble_heads(members))
    same = check_bfloat16(bundle, job.store.batch(members[0].specification.validation[:CHECKED_ROWS]))
    job.folder.record("engine check", bfloat16_same_decisions=same)
    bundle = bundle.with_check("bfloat16", same)
    return Choice(bundle, open_predictor(bundle), train, validation, (line,))


def diagnose(job: LabelJob, members: list[LabelMember], choice: Choice[EngineRun]) -> Verdict:
    """By the log-loss on training and validation rows; see ``Training``."""
    targets = job.store.cohort.targets()
    train, validation = (targets[run.rows] for run in (choice.train, choice.validation))
    frequency = np.tile(np.nanmean(train, 0), (len(train), 1))
    found = diagnosed(
        job.plan.model_copy(update={"epochs": members[0].fitted.epochs}),
        job.data,
        job.folder.plan,
        train_loss=validation_scores(train, choice.train.probabilities)["val_loss"],
        val_loss=validation_scores(validation, choice.validation.probabilities)["val_loss"],
        chance_loss=validation_scores(train, frequency)["val_loss"],
        best_epoch=members[0].fitted.kept_epoch,
        num_networks=len(members),
    )
    return Verdict(tuple(found.lines()), found.to_dict())


def remarks(
    job: LabelJob, choice: Choice[EngineRun], raw: dict[str, EngineRun], assessed: dict[str, Assessment]
) -> list[str]:
    """Calibration error, disagreement of an ensemble and the bias audit on test rows; see ``Training``."""
    if "test" not in raw:
        return []
    tested, assessment = raw["test"], assessed["test"]
    return [
        *error_lines(assessment, "test"),
        *caution_lines(choice.bundle, assessment, "test images"),
        *disagreement_lines(choice.bundle, tested, assessment, "test images"),
        *_bias_lines(job, assessment, tested),
    ]


def _bias_lines(job: LabelJob, assessment: Assessment, tested: EngineRun) -> list[str]:
    """Compare the groups that the columns of the table make, write what was found, and return what to print of it."""
    table = job.store.cohort.table.iloc[tested.rows]
    report = report_bias(replace(assessment, table=table, features=tested.features), seed=job.plan.seed)
    if not report.audit.attributes:
        return []
    write_bias(report, job.folder.path, job.folder.figures)
    lines = report.audit.lines()
    return [lines[0], *(line for line in lines[1:PRINTED] if line.startswith("  "))]


def figures(job: LabelJob, bundle: Bundle, raw: EngineRun) -> dict[str, Figure]:
    """Some images with truth and prediction; see ``Training``."""
    chosen = raw.take(np.linspace(0, len(raw.rows) - 1, min(MONTAGE_IMAGES, len(raw.rows))).astype(int))
    table: Any = prediction_table(job.store.cohort, chosen, bundle)
    titles = [f"{truth} → {said}" for truth, said in zip(table["label"], table["prediction"], strict=True)]
    return {"images": montage(list(job.store.batch(chosen.rows)), titles)}
