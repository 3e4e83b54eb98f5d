"""What the trainings of all networks that judge an image as a whole have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort, Store, assign_folds
from hounsfield.errors import PlanError
from hounsfield.evaluation import Novelty
from hounsfield.evaluation.disagreement import Heads
from hounsfield.inference import Engine
from hounsfield.models import flip_averaged
from hounsfield.plans.whole_images import WholeImagePlan
from hounsfield.testing.engine_runs import EngineRun, evenly, run_engine
from hounsfield.training.base import Job, Member
from hounsfield.training.batches import predict_rows

# Rows on which novelty is fitted, and as many on which its limit is found: enough for a few hundred features.
NOVELTY_ROWS = 2000
BATCH = 64


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Validation rows and what the network gives for each that was not trained on it.

    Attributes:
        rows: (n,) ascending.
        scores: (n, outputs), before any scaling.
        member: (n,) the member that was not trained on the row.
    """

    rows: np.ndarray
    scores: np.ndarray
    member: np.ndarray


def check_mirroring(plan: WholeImagePlan) -> None:
    """Refuse to mirror along an axis that images do not have.

    Raises:
        PlanError: the plan does.
    """
    axes = {*plan.test_time_flips, *plan.augmentation.flip_axes}
    rank = len(plan.input_shape) - 1
    if not axes <= set(range(rank)):
        raise PlanError(
            f"The plan mirrors along axis {max(axes)}, but its images have the spatial axes 0 to {rank - 1}. Correct "
            "test_time_flips or augmentation.flip_axes."
        )


def check_shape(plan: WholeImagePlan, store: Store) -> None:
    """Refuse images that are not of the shape of the network's input.

    Raises:
        PlanError: the pipeline makes such images.
    """
    if store.shape != plan.input_shape:
        raise PlanError(
            f"The pipeline makes images of shape {store.shape}, but the plan's input_shape is {plan.input_shape}. "
            "Correct one of them in the plan."
        )


def rows_of_networks(job: Job[Any, Any], stratum: np.ndarray | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and validation rows of each network: by split, or each fold in turn for validation.

    Args:
        job: the training.
        stratum: (rows,) by which a share of the patients is drawn; the labels where not given.
    """
    plan, cohort = job.plan, job.store.cohort
    if plan.folds == 1:
        parts = [(cohort.samples(cohort.rows("train")), cohort.samples(cohort.rows("validation")))]
    else:
        folds = assign_folds(cohort, plan.folds, seed=plan.seed, pictures=job.pictures)
        parts = [
            (np.flatnonzero((folds >= 0) & (folds != number)), np.flatnonzero(folds == number))
            for number in range(plan.folds)
        ]
    return [(share_of(cohort, train, plan.train_share, plan.seed, stratum), validation) for train, validation in parts]


def share_of(
    cohort: Cohort, rows: np.ndarray, share: float, seed: int, stratum: np.ndarray | None = None
) -> np.ndarray:
    """The rows of a share of the patients, the same share of each label's or stratum's."""
    if share == 1:
        return rows
    table = cohort.table.iloc[rows]
    unit = table["patient"].where(table["patient"].notna(), table["sample"])
    label = table["label"] if stratum is None else pd.Series(stratum[rows], table.index)
    label_of_unit = label.groupby(unit).first()
    chosen = [
        units.sample(n=max(1, round(share * len(units))), random_state=seed).index
        for _, units in label_of_unit.groupby(label_of_unit)
    ]
    return rows[unit.isin(np.concatenate(chosen)).to_numpy()]


def novelty_rows(members: Sequence[Member[Any, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Rows on which novelty is fitted, and others on which its limit is found.

    Of one network: training and validation rows. Each row of an ensemble is trained on by all members but one, so
    its rows are halved, and on the second half the features of the one that did not see the row count.
    """
    parts = [member.specification for member in members]
    if len(parts) == 1:
        return evenly(parts[0].train, NOVELTY_ROWS), evenly(parts[0].validation, NOVELTY_ROWS)
    every = np.sort(np.concatenate([part.validation for part in parts]))
    return evenly(every[::2], NOVELTY_ROWS), evenly(every[1::2], NOVELTY_ROWS)


def fit_novelty(fitted_on: EngineRun, limited_by: EngineRun, held: OutOfFold, num_members: int) -> Novelty:
    """Where training images lie, in the network's features and in their looks."""
    unseen = held.member[np.searchsorted(held.rows, limited_by.rows)]
    ensemble = num_members > 1
    return Novelty.fit(
        fitted_on.descriptions,
        limited_by.descriptions,
        unseen_block={"features": unseen} if ensemble else None,
        num_blocks={"features": num_members} if ensemble else None,
    )


def ensemble_heads(members: Sequence[Member[Any, Any]]) -> Heads | None:
    """The last layers of several networks, or ``None`` of one."""
    if len(members) == 1:
        return None
    layers = [member.network.get_layer("probabilities").get_weights() for member in members]
    return Heads(*(np.stack(each).astype(np.float32) for each in zip(*layers, strict=True)))


def out_of_fold(
    job: Job[Any, Any], members: Sequence[Member[Any, Any]], engine: Engine, bundle: Bundle, limit_rows: np.ndarray
) -> tuple[OutOfFold, EngineRun, EngineRun]:
    """What is predicted of each validation row by the network that was not trained on it.

    Args:
        job: the training.
        members: the networks.
        engine: of the bundle.
        bundle: as it was deployed.
        limit_rows: validation rows on which the limit of novelty is found.

    Returns:
        The scores; the same as a run of the engine, which has features and looks of one network only; and the bundle's
        view of ``limit_rows``.
    """
    if len(members) == 1:
        rows = members[0].specification.validation
        run = run_engine(engine, bundle, job.store, rows, job.progress, "predicting validation images")
        held = OutOfFold(rows, run.probabilities, np.zeros(len(rows), np.int64))
        return held, run, run.take(np.isin(rows, limit_rows))
    parts = []
    for number, member in enumerate(members):
        network = flip_averaged(member.network, job.plan.test_time_flips)
        rows = member.specification.validation
        scores = predict_rows(network, job.store, rows, batch_size=BATCH)
        parts.append((rows, scores, np.full(len(rows), number)))
    rows, scores, unseen_by = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(rows, kind="stable")
    held = OutOfFold(rows[order], scores[order], unseen_by[order])
    nothing = np.empty((len(rows), 0), np.float32)
    limited_by = run_engine(engine, bundle, job.store, limit_rows, job.progress, "predicting validation images")
    return held, EngineRun(held.rows, held.scores, nothing, nothing), limited_by
