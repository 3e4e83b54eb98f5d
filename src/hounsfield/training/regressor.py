"""What a regressor is trained on, its loss, and the figures of its epochs."""

from __future__ import annotations

import keras
import numpy as np

from hounsfield.cohorts import Cohort
from hounsfield.cohorts.targets.values import grade_indices, strata_of
from hounsfield.evaluation.values import figures
from hounsfield.plans.values import ValuePlan
from hounsfield.tasks import TASKS
from hounsfield.training.image_trainee import Judge
from hounsfield.training.weights import equal_groups, group_attribute

# A standardised error beyond this counts linearly in the loss.
HUBER = 1.0


def standard(cohort: Cohort) -> tuple[float, float]:
    """Mean and standard deviation of the values of the training rows."""
    values = cohort.targets()[cohort.rows("train"), 0].astype(np.float64)
    return float(values.mean()), float(values.std())


def trained_targets(cohort: Cohort) -> np.ndarray:
    """(rows, outputs) what the network should put out: standardised values, or whether a grade is above another."""
    targets = cohort.targets()
    if TASKS[cohort.task].ordered:
        return targets
    mean, deviation = standard(cohort)
    return ((targets - mean) / deviation).astype(np.float32)


def value_weights(plan: ValuePlan, cohort: Cohort, train: np.ndarray) -> np.ndarray:
    """(rows,) how much each row counts in the loss; see ``balance_values`` and ``balance_groups`` of the plan.

    Raises:
        PlanError: the plan names a column that makes no groups.
    """
    stratum, weights = strata_of(cohort), np.ones(len(cohort))
    if plan.balance_values:
        bins = grade_indices(cohort) if TASKS[plan.task].ordered else _bins(cohort, train)
        weights = equal_groups(np.zeros_like(bins), bins, train)
        weights = weights / weights[train].mean()
    if plan.balance_groups:
        factor = equal_groups(stratum, group_attribute(plan.balance_groups, cohort).codes, train)
        weights = weights * factor / np.average(factor[train], weights=weights[train])
    return weights.astype(np.float32)


def _bins(cohort: Cohort, train: np.ndarray) -> np.ndarray:
    """(rows,) the tenth of the range of the training values that each value lies in."""
    values = cohort.targets()[:, 0]
    edges = np.linspace(values[train].min(), values[train].max(), 11)[1:-1]
    return np.searchsorted(edges, values, side="right")


def regression_loss(plan: ValuePlan) -> keras.losses.Loss:
    """Huber's (1964) loss of standardised values; the cross-entropy of each "above this grade"."""
    return keras.losses.BinaryCrossentropy() if TASKS[plan.task].ordered else keras.losses.Huber(HUBER)


def judge_of(plan: ValuePlan) -> Judge:
    """The figures of an epoch: the loss, and R² or the quadratic kappa."""
    return _grade_scores if TASKS[plan.task].ordered else _value_scores


def _value_scores(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    truth, found = targets[:, 0].astype(np.float64), predicted[:, 0].astype(np.float64)
    error = np.abs(found - truth)
    loss = np.where(error <= HUBER, error**2 / 2, HUBER * (error - HUBER / 2)).mean()
    return {"val_loss": float(loss), "val_r2": float(figures("regression", truth, found)[3, 0])}


def _grade_scores(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    probability = np.clip(predicted.astype(np.float64), 1e-7, 1 - 1e-7)
    loss = -(targets * np.log(probability) + (1 - targets) * np.log(1 - probability)).mean()
    # The median grade, which is that of the most thresholds passed.
    truth, found = targets.sum(axis=1).astype(np.float64), (probability > 0.5).sum(axis=1).astype(np.float64)
    return {"val_loss": float(loss), "val_kappa": float(figures("ordinal", truth, found)[0, 0])}
