"""What a classifier's run learns from its validation images after the training: calibrated probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort
from hounsfield.evaluation import Novelty, Outcomes, Uncertainty, as_outcomes
from hounsfield.evaluation.calibration import estimated_error
from hounsfield.evaluation.disagreement import Heads
from hounsfield.evaluation.operating import label_thresholds
from hounsfield.evaluation.recalibration import (
    DECISION_KEEPING,
    ScalingChoice,
    carried_threshold,
    carried_thresholds,
    fit_scaling,
)
from hounsfield.evaluation.scaling import SCALINGS, scaling_to_dict
from hounsfield.plans.labels import Plan
from hounsfield.tasks import Threshold, decide, threshold_text
from hounsfield.testing.uncertainty import calibration_change
from hounsfield.training.whole_images import OutOfFold


def calibrate(
    bundle: Bundle, plan: Plan, cohort: Cohort, held: OutOfFold, novelty: Novelty, heads: Heads | None = None
) -> tuple[Bundle, str]:
    """Choose a scaling on validation rows, and keep with the bundle what its uncertainty is derived from.

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
    scaled = choice.scaling.apply(answers.scores, plan.task)
    threshold = _threshold(plan, choice, replace(answers, scores=scaled))
    calibrated = replace(answers, scores=scaled, decisions=decide(scaled, plan.task, threshold))
    codes = np.arange(len(answers)) if groups is None else np.unique(groups.astype(str), return_inverse=True)[1]
    record = _record(choice, answers, plan.threshold, threshold, groups)
    known = bundle.with_uncertainty(
        Uncertainty.of(calibrated, codes, novelty, heads),
        scaling=choice.scaling,
        threshold=threshold,
        calibration=record,
    )
    return known, _line(choice, record, plan.labels)


def _threshold(plan: Plan, choice: ScalingChoice, scaled: Outcomes) -> Threshold:
    """The threshold on calibrated probabilities, or that of each label, chosen on these validation cases."""
    if not plan.label_thresholds:
        return carried_threshold(choice.scaling, plan.threshold, plan.task)
    return label_thresholds(scaled, carried_thresholds(choice.scaling, plan.threshold, len(plan.labels)))


def _record(
    choice: ScalingChoice, answers: Outcomes, before: float, after: Threshold, groups: np.ndarray | None
) -> dict[str, Any]:
    """How the scaling was chosen, as plain values; the error afterwards is that of cases left out of the fit."""
    held_out = replace(answers, scores=choice.held_out)
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


def _line(choice: ScalingChoice, record: dict[str, Any], labels: tuple[str, ...]) -> str:
    chosen = {
        "none": "the probabilities are left unchanged",
        "temperature": f"temperature {getattr(choice.scaling, 'temperature', 1):.2f}",
        "platt": "Platt scaling",
        "isotonic": "isotonic scaling",
    }[choice.scaling.name]
    rivals = ", ".join(f"{name} {loss:.4f}" for name, loss in record["log_loss"].items())
    unknown = "" if record["patients_known"] else "; patients are unknown, so nothing more flexible is considered"
    if len(record["log_loss"]) == 1:
        unknown = f"; {record['cases']} validation images are too few for a scaling"
    network, calibrated = record["threshold"].values()
    threshold = (
        f" Thresholds, chosen on validation images: {threshold_text(calibrated, labels)}."
        if isinstance(calibrated, tuple)
        else f" The threshold is remapped from {network:.3g} to {calibrated:.3g}; no decision changes."
    )
    return (
        f"Calibration: {chosen} (log loss on left-out validation images: {rivals}{unknown}). "
        f"{calibration_change(record['ece']['before'], record['ece']['after'], 'validation')}"
        + (threshold if network != calibrated else "")
    )
