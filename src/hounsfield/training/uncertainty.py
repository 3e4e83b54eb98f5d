"""What a run learns from its validation images after the training: honest probabilities, and when to doubt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort
from hounsfield.evaluation import Novelty, Outcomes, Uncertainty, as_outcomes
from hounsfield.evaluation.calibration import estimated_error
from hounsfield.evaluation.disagreement import Heads
from hounsfield.evaluation.recalibration import DECISION_KEEPING, ScalingChoice, carried_threshold, fit_scaling
from hounsfield.evaluation.scaling import SCALINGS, scaling_to_dict
from hounsfield.plans.labels import Plan
from hounsfield.testing.engine_runs import EngineRun, evenly
from hounsfield.testing.uncertainty import calibration_change
from hounsfield.training.job import Member

# Rows on which novelty is fitted, and as many on which its limit is found: enough for a few hundred features.
NOVELTY_ROWS = 2000


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Validation rows and what the network says of each that was not trained on it.

    Attributes:
        rows: (n,) ascending.
        scores: (n, outputs), before any scaling.
        member: (n,) the member that was not trained on the row.
    """

    rows: np.ndarray
    scores: np.ndarray
    member: np.ndarray


def novelty_rows(members: list[Member]) -> tuple[np.ndarray, np.ndarray]:
    """Rows on which novelty is fitted, and others on which its limit is found.

    Of one network: training and validation rows. Each row of an ensemble is trained on by all members but one, so
    its rows are halved, and on the second half the features of the one that did not see the row count.
    """
    if len(members) == 1:
        return evenly(members[0].examples.train, NOVELTY_ROWS), evenly(members[0].examples.validation, NOVELTY_ROWS)
    every = np.sort(np.concatenate([member.examples.validation for member in members]))
    return evenly(every[::2], NOVELTY_ROWS), evenly(every[1::2], NOVELTY_ROWS)


def ensemble_heads(members: list[Member]) -> Heads | None:
    """The last layers of several networks, or ``None`` of one."""
    if len(members) == 1:
        return None
    layers = [member.network.get_layer("probabilities").get_weights() for member in members]
    return Heads(*(np.stack(each).astype(np.float32) for each in zip(*layers, strict=True)))


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


def calibrate(
    bundle: Bundle, plan: Plan, cohort: Cohort, held: OutOfFold, novelty: Novelty, heads: Heads | None = None
) -> tuple[Bundle, str]:
    """Choose a scaling on validation rows, and keep with the bundle what its doubt is derived from.

    Where patients are unknown, validation images can be of patients that were trained on, and are then easier than
    new ones. A flexible scaling would learn this ease, so only a temperature is considered, which keeps every decision
    and cannot move probabilities towards one label.

    Returns:
        The bundle with its scaling and threshold, and what was chosen, in one line.
    """
    patients = cohort.table["patient"].iloc[held.rows]
    groups = patients.to_numpy() if patients.notna().all() else None
    answers = as_outcomes(
        cohort.targets()[held.rows], held.scores, labels=plan.labels, task=plan.task, threshold=plan.threshold
    )
    candidates = tuple(SCALINGS) if groups is not None else DECISION_KEEPING
    choice = fit_scaling(answers, groups=groups, candidates=candidates, threshold=plan.threshold)
    threshold = carried_threshold(choice.scaling, plan.threshold, plan.task)
    scaled = choice.scaling.apply(answers.scores, plan.task)
    calibrated = as_outcomes(answers.truth, scaled, labels=plan.labels, task=plan.task, threshold=threshold)
    codes = np.arange(len(answers)) if groups is None else np.unique(groups.astype(str), return_inverse=True)[1]
    record = _record(choice, answers, plan.threshold, threshold, groups)
    known = bundle.with_uncertainty(
        Uncertainty.of(calibrated, codes, novelty, heads),
        scaling=choice.scaling,
        threshold=threshold,
        calibration=record,
    )
    return known, _line(choice, record)


def _record(
    choice: ScalingChoice, answers: Outcomes, before: float, after: float, groups: np.ndarray | None
) -> dict[str, Any]:
    """How the scaling was chosen, as plain values; the error afterwards is that of cases left out of the fit."""
    held_out = as_outcomes(answers.truth, choice.held_out, labels=answers.labels, task=answers.task)
    return {
        "scaling": scaling_to_dict(choice.scaling),
        "cases": len(answers),
        "patients_known": groups is not None,
        "log_loss": choice.losses,
        "threshold": {"network": before, "calibrated": after},
        "ece": {
            "before": estimated_error(answers, groups=groups).to_dict(),
            "after": estimated_error(held_out, groups=groups).to_dict(),
        },
    }


def _line(choice: ScalingChoice, record: dict[str, Any]) -> str:
    told = {
        "none": "the probabilities are left as they are",
        "temperature": f"temperature {getattr(choice.scaling, 'temperature', 1):.2f}",
        "platt": "Platt scaling",
        "isotonic": "isotonic scaling",
    }[choice.scaling.name]
    rivals = ", ".join(f"{name} {loss:.4f}" for name, loss in record["log_loss"].items())
    unknown = "" if record["patients_known"] else "; patients are unknown, so nothing more flexible is considered"
    if len(record["log_loss"]) == 1:
        unknown = f"; {record['cases']} validation images are too few to scale by"
    network, calibrated = record["threshold"].values()
    threshold = f" The threshold moves along from {network:.3g} to {calibrated:.3g}, so decisions stay."
    return (
        f"Calibration: {told} (log loss on left-out validation images: {rivals}{unknown}). "
        f"{calibration_change(record['ece']['before'], record['ece']['after'], 'validation')}"
        + (threshold if network != calibrated else "")
    )
