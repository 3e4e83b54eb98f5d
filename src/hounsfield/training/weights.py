"""How much each row counts in the loss, so that labels and groups weigh what the plan wants."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hounsfield.cohorts import Cohort
from hounsfield.errors import PlanError
from hounsfield.evaluation.subgroups import MAX_LEVELS, Attribute, make_attribute
from hounsfield.plans.labels import Plan
from hounsfield.tasks import TASKS, for_each_label

# A row of a small group counts at most so many times what it would alone: a few images cannot stand for many.
MOST_WEIGHT = 10.0


def training_weights(plan: Plan, cohort: Cohort, train: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """How much each row counts, (rows of the cohort,); or each of its labels, (rows, labels).

    The latter in a multi-label task where truths are unknown, which count 0, or where classes are balanced: then the
    known training rows with a label have the same total weight as those without it.

    Raises:
        PlanError: as ``row_weights`` does.
    """
    weights = row_weights(plan, cohort, train)
    targets = cohort.targets()
    known = ~np.isnan(targets)
    balanced = plan.balance_classes and TASKS[plan.task].multi_label
    if known.all() and not balanced:
        return weights
    by_label = known.astype(np.float64)
    if balanced:
        by_label *= _equal_sides(targets, train)
    return (weights[:, None] * by_label).astype(np.float32)


def _equal_sides(targets: npt.NDArray[np.float32], train: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(rows, labels) the factor that gives rows with and without each label the same weight, as far as known."""
    present, absent = (targets[train] == side for side in (1, 0))
    with_label, without = present.sum(axis=0).clip(1), absent.sum(axis=0).clip(1)
    half = (with_label + without) / 2
    return np.asarray(np.minimum(np.where(targets == 1, half / with_label, half / without), MOST_WEIGHT))


def row_weights(plan: Plan, cohort: Cohort, train: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """(rows of the cohort,) how much each row counts, from what its label and its group have in the training rows.

    With ``balance_classes`` each label has the same total weight, unless an image may have several. With
    ``balance_groups`` each group of that column has the same weight within each label, so that under the weights group
    and label are independent (the aim of Kamiran, Calders 2012, "Data preprocessing techniques for classification
    without discrimination") and a small group counts as much as a large one. In a multi-label task, where a row has no
    single label, the groups as a whole are balanced.

    Raises:
        PlanError: the plan names a column that is not there or makes no groups.
    """
    targets = cohort.targets()
    several = TASKS[plan.task].multi_label
    label = for_each_label(np.nan_to_num(targets), plan.task).argmax(1)
    weights = np.ones(len(cohort))
    if plan.balance_classes and not several:
        counts = np.bincount(label[train], minlength=len(plan.labels)).clip(1)
        weights = (len(train) / len(plan.labels) / counts)[label]
    if plan.balance_groups:
        stratum = np.zeros_like(label) if several else label
        factor = equal_groups(stratum, group_attribute(plan.balance_groups, cohort).codes, train)
        weights = weights * factor / np.average(factor[train], weights=weights[train])
    return weights.astype(np.float32)


def equal_groups(
    stratum: npt.NDArray[np.int64], group: npt.NDArray[np.int64], train: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(rows,) the factor that gives each group that a stratum has in training the same share of the stratum."""
    cells = np.zeros((int(stratum.max()) + 1, int(group.max()) + 1))
    np.add.at(cells, (stratum[train], group[train]), 1)
    wanted = cells.sum(axis=1, keepdims=True) / np.maximum(np.count_nonzero(cells, axis=1), 1)[:, None]
    return np.asarray(np.minimum(wanted / np.maximum(cells, 1), MOST_WEIGHT)[stratum, group])


def group_attribute(column: str, cohort: Cohort) -> Attribute:
    """The groups that a plan's ``balance_groups`` names.

    Raises:
        PlanError: the cohort has no such column, or it has one value or too many to be groups.
    """
    if column not in cohort.table.columns:
        raise PlanError(
            f"The plan has balance_groups: {column}, but the table of the data has the columns "
            f"{', '.join(map(str, cohort.table.columns))}. Name one of them that tells groups apart, or none."
        )
    attribute = make_attribute(column, cohort.table[column])
    if not 1 < len(attribute.levels) <= MAX_LEVELS:
        raise PlanError(
            f"The plan has balance_groups: {column}, but this column has {len(attribute.levels):,} groups; 2 to "
            f"{MAX_LEVELS} were expected. Name another column, or leave it empty."
        )
    return attribute
