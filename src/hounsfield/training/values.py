"""Training regressors: networks for values, or for grades in order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from hounsfield import pretrained
from hounsfield.bundle import Bundle, save_bundle
from hounsfield.cohorts import Cohort, Store
from hounsfield.cohorts.targets.values import strata_of
from hounsfield.errors import PlanError
from hounsfield.evaluation.value_assessment import ValueAssessment
from hounsfield.evaluation.value_groups import compare_groups
from hounsfield.evaluation.value_uncertainty import ValueUncertainty
from hounsfield.inference import check_bfloat16, open_engine, open_predictor
from hounsfield.inference.values import read
from hounsfield.models import ensemble, flip_averaged
from hounsfield.models.ordinal import folded
from hounsfield.models.views import with_attention, with_attention_of
from hounsfield.plans.values import ValuePlan
from hounsfield.reports.figures import montage
from hounsfield.reports.subgroups import write_bias
from hounsfield.tasks import TASKS
from hounsfield.testing.engine_runs import EngineRun, run_engine
from hounsfield.testing.values import COVERAGE, table, truths_of
from hounsfield.training.adapting import check_adapting, origin
from hounsfield.training.base import Choice, Job, Member, Specification, Verdict
from hounsfield.training.diagnosis import diagnose as diagnosed
from hounsfield.training.image_trainee import Examples, ImageTrainee
from hounsfield.training.labels import (
    CHECKED_ROWS,
    CRITERION,
    MONTAGE_IMAGES,
    PRINTED,
    build_store,
    num_predicted,
    put_weights,
)
from hounsfield.training.regressor import judge_of, regression_loss, standard, trained_targets, value_weights
from hounsfield.training.views import check_images, image_trainee, sample_settings
from hounsfield.training.whole_images import fit_novelty, novelty_rows, out_of_fold, rows_of_networks

__all__ = [
    "CRITERION",
    "build_network",
    "build_store",
    "check",
    "choose",
    "deploy",
    "diagnose",
    "figures",
    "make_trainee",
    "num_predicted",
    "put_weights",
    "remarks",
    "rows",
]

ValueJob = Job[ValuePlan, Store]
ValueMember = Member[ValuePlan, Store]


def check(plan: ValuePlan, cohort: Cohort) -> None:
    """Refuse a plan that does not fit the cohort; see ``Training``."""
    if (plan.task, plan.labels) != (cohort.task, cohort.labels):
        raise PlanError(
            f"The plan is for the task {plan.task} on {', '.join(plan.labels)}, but the data has the task "
            f"{cohort.task} on {', '.join(cohort.labels)}. Make a plan for this data with 'hounsfield plan DATA', or "
            "choose the task with --task."
        )
    check_adapting(plan, cohort)
    for each in (plan, plan.companion_plan()):
        if each is not None:
            check_images(each, cohort)
            # An option that the network does not take is better found now than after the images are prepared.
            build_network(each)


def rows(job: ValueJob) -> list[tuple[np.ndarray, np.ndarray]]:
    """By split, or each fold in turn for validation; a share of the patients by grade or quantile; see ``Training``."""
    return rows_of_networks(job, strata_of(job.store.cohort))


def build_network(plan: ValuePlan) -> keras.Model:
    """A network with a layer "probabilities"; see ``Training``."""
    network = pretrained.build_network(plan)
    return network if plan.views is None else with_attention(network, plan.view_pooling)


def make_trainee(network: keras.Model, specification: Specification[ValuePlan, Store]) -> ImageTrainee:
    """The regressor in training; see ``Training``."""
    plan, cohort = specification.plan, specification.store.cohort
    examples = Examples(
        specification.store,
        trained_targets(cohort),
        value_weights(plan, cohort, specification.train),
        specification.train,
        specification.validation,
    )
    return image_trainee(
        plan,
        network,
        examples,
        loss=regression_loss(plan),
        judge=judge_of(plan),
        seed=specification.seed,
    )


def deploy(job: ValueJob, members: list[ValueMember]) -> Bundle:
    """One network, an ensemble as one, or either with mirrored views; see ``Training``."""
    plan = job.plan
    networks = [folded(member.network) for member in members]
    network = flip_averaged(networks[0] if len(networks) == 1 else ensemble(networks), plan.test_time_flips)
    scale = (
        {} if TASKS[plan.task].ordered else dict(zip(("mean", "deviation"), standard(job.store.cohort), strict=True))
    )
    return save_bundle(
        job.folder.bundle,
        with_attention_of(network, members[0].network),
        pipeline=plan.pipeline,
        labels=plan.labels,
        task=plan.task,
        settings=scale | sample_settings(network, plan, job.store.cohort) | origin(plan.weights, plan.adapt),
        **job.origin(),
    )


def choose(job: ValueJob, members: list[ValueMember], bundle: Bundle) -> Choice[EngineRun]:
    """Ranges, what is out of distribution, and whether bfloat16 says the same; see ``Training``."""
    members = [replace(member, network=folded(member.network)) for member in members]
    engine = open_engine(bundle)
    fit_rows, limit_rows = novelty_rows(members)
    train = run_engine(engine, bundle, job.store, fit_rows, job.progress, "predicting training images")
    held, validation, limited_by = out_of_fold(job, members, engine, bundle, limit_rows)
    novelty = fit_novelty(train, limited_by, held, len(members))
    kept = ValueUncertainty.of(truths_of(job.store.cohort)[held.rows], read(bundle, held.scores), novelty)
    bundle = bundle.with_uncertainty(kept, threshold=bundle.threshold)
    same = check_bfloat16(bundle, job.store.batch(members[0].specification.validation[:CHECKED_ROWS]))
    job.folder.record("engine check", bfloat16_same_decisions=same)
    bundle = bundle.with_check("bfloat16", same)
    return Choice(bundle, open_predictor(bundle), train, validation, (_range_line(kept),))


def _range_line(kept: ValueUncertainty) -> str:
    limit, count = kept.conformal(COVERAGE).limit, len(kept.misfit)
    if not np.isfinite(limit):
        return f"Ranges: {count:,} validation images are too few for ranges that hold {COVERAGE:.0%} of true values."
    return f"Ranges that hold {COVERAGE:.0%} of true values: from {count:,} validation images (limit {limit:.4g})."


def diagnose(job: ValueJob, members: list[ValueMember], choice: Choice[EngineRun]) -> Verdict:
    """By the loss on training and validation rows, as a share of that of a constant prediction; see ``Training``."""
    targets, judge = trained_targets(job.store.cohort), judge_of(job.plan)
    train, validation = (targets[run.rows] for run in (choice.train, choice.validation))
    chance = judge(train, np.tile(train.mean(0), (len(train), 1)))["val_loss"]
    found = diagnosed(
        job.plan.model_copy(update={"epochs": members[0].fitted.epochs}),
        job.data,
        job.folder.plan,
        train_loss=judge(train, choice.train.probabilities)["val_loss"] / chance,
        val_loss=judge(validation, choice.validation.probabilities)["val_loss"] / chance,
        chance_loss=1.0,
        best_epoch=members[0].fitted.kept_epoch,
        num_networks=len(members),
    )
    found = replace(found, measure="loss as a share of that of predicting the mean")
    return Verdict(tuple(found.lines()), found.to_dict())


def remarks(
    job: ValueJob, choice: Choice[EngineRun], raw: dict[str, EngineRun], assessed: dict[str, ValueAssessment]
) -> list[str]:
    """How often ranges held the true value on test rows, and the comparison of groups; see ``Training``."""
    if "test" not in raw:
        return []
    return [*_coverage_lines(choice, raw["test"], assessed["test"]), *_group_lines(job, assessed["test"])]


def _coverage_lines(choice: Choice[EngineRun], tested: EngineRun, assessment: ValueAssessment) -> list[str]:
    kept = choice.bundle.kept(ValueUncertainty)
    if kept is None or not np.isfinite(kept.conformal(COVERAGE).limit):
        return []
    misfit = ValueUncertainty.of(assessment.truth, read(choice.bundle, tested.probabilities)).misfit
    held = misfit <= kept.conformal(COVERAGE).limit
    share = f"{held.sum():,} of {len(held):,} true values ({held.mean():.1%})"
    return [f"On test images {share} lie in their {COVERAGE:.0%} ranges."]


def _group_lines(job: ValueJob, assessment: ValueAssessment) -> list[str]:
    found = compare_groups(assessment)
    if not found.attributes:
        return []
    write_bias(found, job.folder.path, job.folder.figures)
    lines = found.lines()
    return [lines[0], *(line for line in lines[1:PRINTED] if line.startswith("  "))]


def figures(job: ValueJob, bundle: Bundle, raw: EngineRun) -> dict[str, Figure]:
    """Some images with truth and prediction; see ``Training``."""
    chosen = raw.take(np.linspace(0, len(raw.rows) - 1, min(MONTAGE_IMAGES, len(raw.rows))).astype(int))
    rows_of: Any = table(job.store.cohort, chosen, bundle)
    said = rows_of["prediction"] if "prediction" in rows_of else rows_of["value"].map("{:.4g}".format)
    titles = [f"{truth} → {found}" for truth, found in zip(rows_of["label"], said, strict=True)]
    return {"images": montage(list(job.store.batch(chosen.rows)), titles)}
