"""The search: values of the fields of a plan are tried, each judged over folds, and the best are taken."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from hounsfield.cohorts import assign_folds
from hounsfield.cohorts.request import DataRequest
from hounsfield.distributed.delegating import delegating_to
from hounsfield.errors import ResourceError, require
from hounsfield.plans.base import BasePlan, Effort
from hounsfield.progress import Progress, silent
from hounsfield.training.base import Specification
from hounsfield.training.preparation import Prepared, prepare
from hounsfield.training.run import fitted_plan
from hounsfield.training.table import TRAININGS
from hounsfield.training.together import Crew
from hounsfield.tuning.cluster import Cluster, search_on_cluster
from hounsfield.tuning.outcome import Outcome, Trial
from hounsfield.tuning.proposals import FIRST_TRIALS, Question, Search, quiet
from hounsfield.tuning.space import assignments, dimensions, suggest


@dataclass(frozen=True)
class Wishes:
    """What is asked of a search.

    Attributes:
        trials: at most.
        minutes: after which no further training is begun; ``None`` for no limit.
        folds: over which a trial is judged.
        effort: of the planner's plan, that each trial trains.
        network: overrides the planner's network.
        seed: of the split, the trainings and the search; where not given, that of the plan, or 0.
        plan: around which is searched, instead of the planner's.
    """

    trials: int = 20
    minutes: float | None = None
    folds: int = 3
    effort: Effort = "quick"
    network: str | None = None
    seed: int | None = None
    plan: BasePlan | None = None


class Tuned(NamedTuple):
    """The plan with the values that were taken, and how they were found."""

    plan: BasePlan
    outcome: Outcome


def tune(
    request: DataRequest | str,
    wishes: Wishes,
    *,
    progress: Progress = silent,
    crew: Crew | None = None,
    cluster: Cluster | None = None,
) -> Tuned:
    """Search for better values of the fields of the planner's plan; its test rows take no part.

    Args:
        request: DATA, or a request with its options.
        wishes: how much.
        progress: told of the trainings.
        crew: makes workers that train folds and trials side by side.
        cluster: where Ray Tune runs the trials instead.

    Raises:
        MissingDependency: Optuna is not installed.
        CohortError, PlanError: the data cannot be trained on, or has fewer patients than folds.
        ResourceError: the time was too short for the planner's plan itself.
    """
    optuna = require("optuna", "tuning a plan")
    if not isinstance(request, DataRequest):
        request = DataRequest(str(request))
    started = time.monotonic()
    seed = wishes.seed if wishes.seed is not None else wishes.plan.seed if wishes.plan is not None else 0
    with delegating_to(crew):
        prepared = prepare(request.with_settings(), seed=seed, progress=progress)
    plan = wishes.plan or prepared.plan(effort=wishes.effort, network=wishes.network, seed=seed)
    plan = plan.model_copy(update={"seed": seed})
    TRAININGS[plan.family].check(plan, prepared.cohort)
    folds = assign_folds(prepared.cohort, wishes.folds, seed=seed, pictures=prepared.pictures)
    # Rows of the test split are not even prepared.
    kept = np.flatnonzero(folds >= 0)
    cohort = prepared.cohort.subset(kept)
    trained = fitted_plan(plan.settled(), cohort)
    with delegating_to(crew):
        store = TRAININGS[plan.family].build_store(trained, cohort, progress)
    found = dict(zip(cohort.table["image"], folds[kept], strict=True))
    fold_of = np.array([found[image] for image in store.cohort.table["image"]])
    rows = [_rows(store.cohort, fold_of, number) for number in range(wishes.folds)]
    question = Question(
        plan=trained,
        space=dimensions(plan),
        make=partial(_training, trained, store, rows),
        trials=wishes.trials,
        folds=wishes.folds,
        deadline=started + 60 * wishes.minutes if wishes.minutes is not None else math.inf,
        progress=progress,
    )
    trials = search_on_cluster(question, cluster) if cluster is not None else Search.of(question).run(crew)
    outcome = _outcome(optuna, question, trials, patients_known=cohort.knows_patients)
    return Tuned(_taken(prepared, plan, outcome), outcome)


def _rows(cohort: Any, fold_of: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The samples that one fold is trained on, and those that judge it."""
    return cohort.samples(np.flatnonzero(fold_of != number)), cohort.samples(np.flatnonzero(fold_of == number))


def _training(
    plan: BasePlan, store: Any, rows: list[tuple[np.ndarray, np.ndarray]], values: Mapping[str, Any], fold: int
) -> Specification[Any, Any]:
    """The training of some values of the fields on one fold."""
    changes = assignments(plan, values)
    # The pipeline was fitted, and is not read again.
    changed = plan.changed(changes).model_copy(update={"pipeline": plan.pipeline}) if changes else plan
    return Specification(changed, store, *rows[fold], fold)


def _taken(prepared: Prepared, plan: BasePlan, outcome: Outcome) -> BasePlan:
    """The planner's plan with the values that were taken, each with its reason."""
    changes = outcome.changes()
    if not changes:
        return plan
    changed = prepared.changed(plan, assignments(plan, changes))
    reasons = {name: outcome.reason(name, plan.reasons.get(name, "")) for name in changes}
    return changed.model_copy(update={"reasons": changed.reasons | reasons})


def _outcome(optuna: Any, question: Question, trials: list[Trial], *, patients_known: bool) -> Outcome:
    """What was found.

    Raises:
        ResourceError: the planner's plan itself diverged.
    """
    plan, space = question.plan, question.space
    if not trials or not trials[0].complete or not math.isfinite(trials[0].score):
        raise ResourceError(
            "The planner's plan could not be trained on every fold: its loss became NaN or infinite. Train it with "
            "--set precision=float32, and look at what `hounsfield inspect` says of the data."
        )
    ranges = {name: each.describe(getattr(plan, name)) for name, each in space.items()}
    criterion = TRAININGS[plan.family].CRITERION
    importance = _importance(optuna, question, trials)
    return Outcome(
        trials=tuple(trials),
        figure=criterion.figure,
        more_is_better=criterion.more_is_better,
        ranges=ranges,
        importance=importance,
        seed=plan.seed,
        patients_known=patients_known,
    )


def _importance(optuna: Any, question: Question, trials: list[Trial]) -> dict[str, float]:
    """Shares by PED-ANOVA (Watanabe et al., IJCAI 2023), which asks what sets the better trials apart."""
    plan = question.plan
    complete = [trial for trial in trials if trial.complete and math.isfinite(trial.score)]
    if len(complete) <= FIRST_TRIALS:
        return {}
    try:
        with quiet(optuna):
            study = optuna.create_study()
            for trial in complete:
                study.enqueue_trial(dict(trial.values))
                asked = study.ask()
                suggest(plan, question.space, asked)
                study.tell(asked, trial.score)
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (RuntimeError, ValueError):
        # Trials that are all alike tell nothing.
        return {}
    return {name: float(share) for name, share in found.items()}
