"""A bundle adjusted to another place: predicted, fitted, measured before and after, and written as a new version."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.bundle import Bundle
from hounsfield.bundle.bundle import rewriting
from hounsfield.cohorts import Cohort, load_request
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import EvaluationError, UsageError
from hounsfield.evaluation.assessment import Assessment, assess
from hounsfield.evaluation.local_update import at_prevalence, fit_local, rescored
from hounsfield.evaluation.operating import Rule, choose_threshold
from hounsfield.evaluation.outcomes import Outcomes, as_outcomes
from hounsfield.evaluation.recalibration import carried_threshold
from hounsfield.evaluation.scaling import Platt
from hounsfield.evaluation.uncertainty import Uncertainty
from hounsfield.evaluation.verdict import calibration_verdicts
from hounsfield.inference import Predictor
from hounsfield.progress import Progress, silent
from hounsfield.runs.folder import RunFolder, run_of
from hounsfield.tasks import Family, Threshold
from hounsfield.testing.cohort import splits_in_run
from hounsfield.testing.labels import build_store, predict

FAMILIES: tuple[Family, ...] = ("labels",)
KEEP = "keep"


@dataclass(frozen=True, eq=False)
class Recalibration:
    """What a recalibration changed.

    Attributes:
        bundle: the new one.
        before: of the bundle as it was, on the local cases; ``after`` of the new one, each case judged by a fit that
            did not see its patient.
        fitted: label → what was fitted.
        notes: what was decided.
    """

    bundle: Bundle
    before: Assessment
    after: Assessment
    fitted: dict[str, str]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        sides = {}
        for name, each in (("before", self.before), ("after", self.after)):
            found = each.to_dict()
            sides[name] = {"metrics": found[each.split], "calibration": found["calibration"]}
        return {
            "bundle": str(self.bundle.folder),
            "identity": self.bundle.identity,
            "threshold": self.bundle.threshold,
            "fitted": self.fitted,
            "cases": len(self.before.answers),
            "patients": self.before.patients,
            **sides,
            "notes": list(self.notes),
        }


def recalibrate(  # noqa: PLR0913 - each is an option of the command
    run: Path | str,
    data: DataRequest | str,
    folder: Path,
    *,
    rule: str = KEEP,
    prevalence: float | None = None,
    num_replicates: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress = silent,
) -> Recalibration:
    """Fit the probabilities of a bundle to labelled local cases, and write the bundle that knows it.

    Sets of labels and abstention rest on the local cases then; images unlike those of training are told as before.

    Args:
        run: a run folder or a bundle.
        data: labelled DATA of the place of use; of one with splits the rows that are not for test.
        folder: of the new bundle; must not exist or be empty.
        rule: ``keep`` every decision, or ``youden``, ``sensitivity=S``, ``specificity=S`` on the local cases.
        prevalence: of the place of use, where the local cases were chosen by label (binary).
        num_replicates: of the bootstrap.
        seed: of folds and bootstrap.
        confidence: nominal coverage of the intervals.
        progress: told of the images.

    Raises:
        BundleError: there is no bundle, or it is of another family.
        CohortError: the data cannot be read.
        EvaluationError: the cases are too few, or the task is multi-class.
        UsageError: the rule is not known, or does not fit the task.
    """
    bundle = Bundle.load(run)
    bundle.require("labels")
    _check(rule, prevalence, bundle, folder)
    cohort, note = _local_cohort(Path(run), data, bundle)
    store = build_store(cohort, bundle.pipeline, progress)
    raw = predict(Predictor(bundle), store, np.arange(len(store)), progress, "local")
    patients = store.cohort.table["patient"].iloc[raw.rows]
    groups = patients.to_numpy() if patients.notna().all() else None
    facts: dict[str, Any] = {"labels": bundle.labels, "task": bundle.classifier_task}
    own = as_outcomes(store.cohort.targets()[raw.rows], raw.probabilities, **facts)
    found = fit_local(own, bundle.scaling, groups=groups, seed=seed)
    scaling, held_out = found.scaling, found.held_out
    if prevalence is not None:
        scaling = at_prevalence(scaling, float(own.truth.mean()), prevalence)
    threshold = _threshold(bundle, scaling, own, rule)
    options: dict[str, Any] = {
        "groups": groups,
        "num_replicates": num_replicates,
        "seed": seed,
        "confidence": confidence,
    }
    before = assess(
        rescored(own, bundle.calibrated(raw.probabilities), bundle.threshold), threshold=bundle.threshold, **options
    )
    judged_at = threshold if prevalence is None else _threshold(bundle, found.scaling, own, rule)
    judged = rescored(own, held_out, judged_at)
    if rule == KEEP:
        # Fits without a patient differ a little from the one that is kept; the decisions do not.
        judged = dataclasses.replace(judged, decisions=before.answers.decisions)
    after = assess(judged, threshold=judged_at, **options)
    notes = [note, *_notes(prevalence, groups is None)]
    record = {"from": bundle.identity, "cases": len(own), "patients": before.patients, "fitted": found.fitted}
    record |= {"rule": rule, "prevalence": prevalence, "calibration_before": _verdicts(before)}
    record |= {"calibration_after": _verdicts(after), "threshold_before": bundle.threshold}
    new = _write(bundle, folder, scaling, threshold, _kept(bundle, own, held_out, groups), record)
    return Recalibration(new, before, after, found.fitted, tuple(notes))


def _check(rule: str, prevalence: float | None, bundle: Bundle, folder: Path) -> None:
    name, _, target = rule.partition("=")
    fits = rule in (KEEP, "youden") or (name in ("sensitivity", "specificity") and _is_share(target))
    if not fits:
        raise UsageError(
            f"The rule '{rule}' is not known; expected keep, youden, sensitivity=0.95 or specificity=0.9, for example."
        )
    if bundle.task != "binary" and (rule != KEEP or prevalence is not None):
        raise UsageError(
            f"--rule and --prevalence are for two labels; {bundle.folder} is {bundle.task}. Leave them out."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} exists already and is not empty; nothing was changed. Name a new folder with --out."
        )


def _is_share(text: str) -> bool:
    try:
        return 0 < float(text) < 1
    except ValueError:
        return False


def _local_cohort(run: Path, data: DataRequest | str, bundle: Bundle) -> tuple[Cohort, str]:
    """The rows to fit on: all, or those that are not kept for a test."""
    request = (data if isinstance(data, DataRequest) else DataRequest(data)).with_settings()
    folder = RunFolder(run_of(run))
    if folder.environment.is_file():
        # Other volumes or levels than those of training would be other images.
        request = request.read_as(DataRequest.from_dict(folder.read_environment()["data"]))
    cohort = load_request(request, labels=bundle.labels, task=bundle.task)
    # Also the test rows of the run's own data: a fit would look at them, sealed or not. On images that it was trained
    # on a network is surer than on others.
    splits = splits_in_run(run, request, cohort)
    test = np.union1d(cohort.rows("test"), np.flatnonzero(splits == "test"))
    trained = np.setdiff1d(np.flatnonzero(splits == "train"), test)
    others = np.setdiff1d(np.arange(len(cohort)), np.concatenate([test, trained]))
    left = [f"{len(test):,} test rows were left for a test"] if len(test) else []
    left += [f"{len(trained):,} rows that the run was trained on were left out"] if len(trained) else []
    if not left:
        return cohort, f"Fitted on all {len(cohort):,} rows; test the new bundle on others."
    if not len(others):
        raise EvaluationError(f"No row of the data is left to fit on: {' and '.join(left)}. Give others.")
    return cohort.subset(others), f"Fitted on {len(others):,} rows; {' and '.join(left)}."


def _threshold(bundle: Bundle, scaling: Platt, own: Outcomes, rule: str) -> Threshold:
    """On the new probabilities: the one that keeps every decision, or one by a rule on the local cases."""
    if rule == KEEP:
        return _same_decisions(bundle, scaling)
    scores = scaling.apply(own.scores, own.task)[:, 0]
    name, _, target = rule.partition("=")
    rules: dict[str, Rule] = {"youden": "youden", "sensitivity": "sensitivity", "specificity": "specificity"}
    found = choose_threshold(own.truth[:, 0], scores, rule=rules[name], target=float(target) if target else None)
    return min(max(found.threshold, 0.0), 1.0)


def _same_decisions(bundle: Bundle, scaling: Platt) -> Threshold:
    """The thresholds on new probabilities at which decisions stay; found by bisection of the old scaling's inverse."""
    task, count = bundle.classifier_task, bundle.num_outputs
    limits = np.broadcast_to(np.asarray(bundle.threshold, dtype=np.float64), (count,))
    low, high = np.zeros((1, count)), np.ones((1, count))
    for _ in range(100):
        middle = (low + high) / 2
        above = bundle.scaling.apply(middle, task) > limits
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    found = scaling.apply(low, task)[0]
    if count == 1 and not isinstance(bundle.threshold, tuple):
        return carried_threshold(scaling, float(low[0, 0]))
    return tuple(float(each) for each in found)


def _kept(bundle: Bundle, own: Outcomes, held_out: np.ndarray, groups: np.ndarray | None) -> Uncertainty:
    """What the new bundle knows of cases like those that it will see."""
    codes = np.arange(len(own)) if groups is None else np.unique(groups.astype(str), return_inverse=True)[1]
    old = bundle.kept(Uncertainty)
    answers = dataclasses.replace(own, scores=held_out)
    heads, novelty = (old.heads, old.novelty) if old else (None, None)
    return Uncertainty.of(answers, np.asarray(codes, dtype=np.int64), novelty, heads)


def _write(
    bundle: Bundle, folder: Path, scaling: Platt, threshold: Threshold, kept: Uncertainty, record: dict[str, Any]
) -> Bundle:
    history = [*bundle.calibration.get("recalibrated", []), record]
    calibration = {**bundle.calibration, "recalibrated": history}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with rewriting(bundle.folder, target=folder) as place:
        copy = dataclasses.replace(bundle, folder=place)
        new = copy.with_uncertainty(kept, threshold=threshold, scaling=scaling, calibration=calibration)
    return dataclasses.replace(new, folder=folder)


def _verdicts(assessment: Assessment) -> list[dict[str, Any]]:
    return [each.to_dict() for each in calibration_verdicts(assessment.answers, groups=assessment.groups)]


def _notes(prevalence: float | None, unknown: bool) -> list[str]:
    notes = []
    if prevalence is not None:
        notes.append(f"Probabilities are for a prevalence of {prevalence:g}; figures after are at that of the cases.")
    if unknown:
        notes.append("Patients are not known for all cases: every case is treated as a patient of its own.")
    return notes
