"""Which rows a network is trained on, and how much each counts."""

from __future__ import annotations

import numpy as np

from hounsfield.cohorts import Cohort, Store
from hounsfield.plans.labels import Plan
from hounsfield.training.classifier import Examples
from hounsfield.training.weights import row_weights


def member_examples(plan: Plan, store: Store, folds: np.ndarray | None, number: int) -> Examples:
    """Rows, targets and weights of one member.

    Args:
        plan: says whether labels and groups are balanced and which share of the training rows is used.
        store: the prepared images and their cohort.
        folds: the fold of each row, −1 for none; where not given, rows are trained on by their split.
        number: of the fold that this member does not train on.
    """
    cohort = store.cohort
    if folds is None:
        train, validation = cohort.rows("train"), cohort.rows("validation")
    else:
        train, validation = np.flatnonzero((folds >= 0) & (folds != number)), np.flatnonzero(folds == number)
    train = _share(cohort, train, plan.train_share, plan.seed)
    return Examples(store, cohort.targets(), row_weights(plan, cohort, train), train, validation)


def _share(cohort: Cohort, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The rows of a share of the patients, each label's taken alike."""
    if share == 1:
        return rows
    table = cohort.table.iloc[rows]
    unit = table["patient"].where(table["patient"].notna(), table["image"])
    label_of_unit = table["label"].groupby(unit).first()
    chosen = [
        units.sample(n=max(1, round(share * len(units))), random_state=seed).index
        for _, units in label_of_unit.groupby(label_of_unit)
    ]
    return rows[unit.isin(np.concatenate(chosen)).to_numpy()]
