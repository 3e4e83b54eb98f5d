"""The search: Optuna proposes values of the fields, each is judged over folds, and clear losers are stopped."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np

from hounsfield.cohorts import assign_folds
from hounsfield.cohorts.request import DataRequest
from hounsfield.distributed.calls import Calls, call_each
from hounsfield.errors import ResourceError, require
from hounsfield.plans.base import BasePlan, Effort
from hounsfield.progress import Progress, silent
from hounsfield.training.base import Specification
from hounsfield.training.fitted import LEAST_LOSS, Criterion
from hounsfield.training.preparation import Prepared, prepare
from hounsfield.training.run import fitted_plan
from hounsfield.training.table import TRAININGS
from hounsfield.training.together import Crew
from hounsfield.tuning.folds import train_fold
from hounsfield.tuning.outcome import Outcome, Trial
from hounsfield.tuning.space import Dimension, assignments, centre, dimensions

# Trials before any is stopped early, and before the fields are told apart.
FIRST_TRIALS = 4
TASK = "tuning"


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


class _Fold(NamedTuple):
    """One training of a search."""

    trial: int
    fold: int
    specification: Specification[Any, Any]


def tune(request: DataRequest | str, wishes: Wishes, *, progress: Progress = silent, crew: Crew | None = None) -> Tuned:
    """Search for better values of the fields of the planner's plan; its test rows take no part.

    Args:
        request: DATA, or a request with its options.
        wishes: how much.
        progress: told of the trainings.
        crew: makes workers that train folds and trials side by side.

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
    prepared = prepare(request.with_settings(), seed=seed, progress=progress)
    plan = wishes.plan or prepared.plan(effort=wishes.effort, network=wishes.network, seed=seed)
    plan = plan.model_copy(update={"seed": seed})
    TRAININGS[plan.family].check(plan, prepared.cohort)
    folds = assign_folds(prepared.cohort, wishes.folds, seed=seed, pictures=prepared.pictures)
    # Rows of the test split are not even prepared.
    kept = np.flatnonzero(folds >= 0)
    cohort = prepared.cohort.subset(kept)
    trained = fitted_plan(plan.settled(), cohort)
    entry = TRAININGS[plan.family]
    store = entry.build_store(trained, cohort, progress)
    found = dict(zip(cohort.table["image"], folds[kept], strict=True))
    fold_of = np.array([found[image] for image in store.cohort.table["image"]])
    rows = [_rows(store.cohort, fold_of, number) for number in range(wishes.folds)]
    space = dimensions(plan)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = _Search(
        study=_study(optuna, seed),
        plan=trained,
        space=space,
        make=lambda values, number: Specification(_with(trained, values), store, *rows[number], number),
        wishes=wishes,
        deadline=started + 60 * wishes.minutes if wishes.minutes is not None else math.inf,
        progress=progress,
    )
    search.run(crew)
    outcome = search.outcome(optuna)
    return Tuned(_taken(prepared, plan, outcome), outcome)


def _study(optuna: Any, seed: int) -> Any:
    with _experimental(optuna):
        return optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST_TRIALS, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST_TRIALS, n_warmup_steps=0),
        )


@contextmanager
def _experimental(optuna: Any) -> Iterator[None]:
    """Without Optuna's word that some of it may change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _rows(cohort: Any, fold_of: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The samples that one fold is trained on, and those that judge it."""
    return cohort.samples(np.flatnonzero(fold_of != number)), cohort.samples(np.flatnonzero(fold_of == number))


def _with(plan: BasePlan, values: dict[str, Any]) -> BasePlan:
    changes = assignments(plan, values)
    # The pipeline was fitted, and is not read again.
    return plan.changed(changes).model_copy(update={"pipeline": plan.pipeline}) if changes else plan


def _taken(prepared: Prepared, plan: BasePlan, outcome: Outcome) -> BasePlan:
    """The planner's plan with the values that were taken, each with its reason."""
    changes = outcome.changes()
    if not changes:
        return plan
    changed = prepared.changed(plan, assignments(plan, changes))
    reasons = {name: outcome.reason(name, plan.reasons.get(name, "")) for name in changes}
    return changed.model_copy(update={"reasons": changed.reasons | reasons})


@dataclass
class _Search:
    """A search that goes on: it proposes trainings one after another, and takes note of their scores."""

    study: Any
    plan: BasePlan
    space: dict[str, Dimension]
    make: Callable[[dict[str, Any], int], Specification[Any, Any]]
    wishes: Wishes
    deadline: float
    progress: Progress
    criterion: Criterion = LEAST_LOSS
    asked: list[Any] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)
    scores: list[dict[int, float]] = field(default_factory=list)
    stopped: set[int] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    last: float = field(default_factory=time.monotonic)

    def run(self, crew: Crew | None) -> None:
        """Train until all trials are done, or the time is over."""
        total = self.wishes.trials * self.wishes.folds
        self.progress(TASK, 0, total)
        order: list[_Fold] = []
        if crew is None:
            for score, criterion in self._here(self._proposed(order)):
                self._note(order[len(self.seconds)], score, criterion)
        else:
            calls = Calls(f"{train_fold.__module__}:{train_fold.__name__}", {"KERAS_BACKEND": keras.backend.backend()})
            with crew(calls) as pool:
                trainings = (fold.specification for fold in self._proposed(order))
                for score, criterion in call_each(pool, trainings):
                    self._note(order[len(self.seconds)], score, criterion)
        self.progress(TASK, total, total)

    def _here(self, folds: Iterable[_Fold]) -> Iterator[tuple[float, Criterion]]:
        for fold in folds:
            yield train_fold(fold.specification)

    def _proposed(self, order: list[_Fold]) -> Iterator[_Fold]:
        """The next training whenever one can be begun; trials that are clearly behind go no further."""
        for number in range(self.wishes.trials):
            # The planner's plan is trained in any case: without it there is nothing to compare with.
            if number and self._is_late(order):
                return
            values = self._ask(number)
            for fold in range(self.wishes.folds):
                if number and (self._is_late(order) or self._is_behind(number)):
                    self._stop(number)
                    break
                order.append(_Fold(number, fold, self.make(values, fold)))
                yield order[-1]

    def _ask(self, number: int) -> dict[str, Any]:
        planned = centre(self.plan, self.space)
        if number == 0:
            self.study.enqueue_trial(planned)
        trial = self.study.ask()
        values = {name: each.suggest(trial, name, getattr(self.plan, name)) for name, each in self.space.items()}
        self.asked.append(trial)
        self.values.append(values)
        self.scores.append({})
        return values

    def _is_late(self, order: Sequence[_Fold]) -> bool:
        """Whether a training that is begun now would probably end too late: after those that were begun before it."""
        before = len(order) - len(self.seconds)
        wanted = (before + 1) * float(np.median(self.seconds)) if self.seconds else 0.0
        return time.monotonic() + wanted > self.deadline

    def _is_behind(self, number: int) -> bool:
        return bool(self.scores[number]) and bool(self.asked[number].should_prune())

    def _stop(self, number: int) -> None:
        self.stopped.add(number)
        self.study.tell(self.asked[number], state=require("optuna", "tuning a plan").trial.TrialState.PRUNED)

    def _note(self, fold: _Fold, score: float, criterion: Criterion) -> None:
        self.seconds.append(time.monotonic() - self.last)
        self.last = time.monotonic()
        if criterion.figure:
            self.criterion = criterion
        known = self.scores[fold.trial]
        known[fold.fold] = score
        trial = self.asked[fold.trial]
        mean = float(np.mean(list(known.values())))
        if math.isfinite(mean) and fold.trial not in self.stopped:
            trial.report(mean, len(known) - 1)
        if len(known) == self.wishes.folds:
            self._tell(trial, mean)
        self.progress(TASK, len(self.seconds), self.wishes.trials * self.wishes.folds)

    def _tell(self, trial: Any, mean: float) -> None:
        if math.isfinite(mean):
            self.study.tell(trial, mean)
        else:
            self.study.tell(trial, state=require("optuna", "tuning a plan").trial.TrialState.FAIL)

    def outcome(self, optuna: Any) -> Outcome:
        """What was found.

        Raises:
            ResourceError: the planner's plan itself diverged.
        """
        trials = tuple(
            Trial(values, tuple(scores[fold] for fold in sorted(scores)), len(scores) == self.wishes.folds)
            for values, scores in zip(self.values, self.scores, strict=True)
            if scores
        )
        if not trials or not math.isfinite(trials[0].score):
            raise ResourceError(
                "The planner's plan could not be trained on every fold: its loss became NaN or infinite. Train it with "
                "--set precision=float32, and look at what `hounsfield inspect` says of the data."
            )
        ranges = {name: each.describe(getattr(self.plan, name)) for name, each in self.space.items()}
        importance = self._importance(optuna) if sum(trial.complete for trial in trials) > FIRST_TRIALS else {}
        return Outcome(trials, self.criterion.figure, self.criterion.more_is_better, ranges, importance, self.plan.seed)

    def _importance(self, optuna: Any) -> dict[str, float]:
        """Shares by PED-ANOVA (Watanabe et al., IJCAI 2023), which asks what sets the better trials apart."""
        try:
            with _experimental(optuna):
                evaluator = optuna.importance.PedAnovaImportanceEvaluator()
                found = optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        except (RuntimeError, ValueError):
            # Trials that are all alike tell nothing.
            return {}
        return {name: float(share) for name, share in found.items()}
