"""The search without a cluster: Optuna proposes trials one after another, and those that are behind are stopped."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np

from hounsfield.distributed.calls import Calls, call_each
from hounsfield.errors import require
from hounsfield.plans.base import BasePlan
from hounsfield.progress import Progress
from hounsfield.training.base import Specification
from hounsfield.training.together import Crew
from hounsfield.tuning.folds import train_fold
from hounsfield.tuning.outcome import Trial
from hounsfield.tuning.space import Dimension, centre, suggest

# Trials before any is stopped early, and before the fields are told apart.
FIRST_TRIALS = 4
TASK = "tuning"


@dataclass(frozen=True)
class Question:
    """What is searched.

    Attributes:
        plan: with its pipeline fitted, the centre of the space.
        space: the fields that are varied.
        make: the training of some values of the fields on one fold.
        trials: at most.
        folds: of each trial.
        deadline: by ``time.monotonic``, infinite where the time is not limited.
        progress: told of the trainings.
    """

    plan: BasePlan
    space: Mapping[str, Dimension]
    make: Callable[[Mapping[str, Any], int], Specification[Any, Any]]
    trials: int
    folds: int
    deadline: float
    progress: Progress

    def planned(self) -> dict[str, Any]:
        """The values of the plan itself."""
        return centre(self.plan, self.space)


def new_sampler(optuna: Any, seed: int) -> Any:
    """What proposes values."""
    with quiet(optuna):
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST_TRIALS, constant_liar=True)


@contextmanager
def quiet(optuna: Any) -> Iterator[None]:
    """Without what Optuna says of its trials, and that some of it may change."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


class Fold(NamedTuple):
    """One training of a search."""

    trial: int
    fold: int
    specification: Specification[Any, Any]


@dataclass
class Search:
    """A search that goes on: it proposes trainings one after another, and takes note of their scores."""

    question: Question
    study: Any
    asked: list[Any] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)
    scores: list[dict[int, float]] = field(default_factory=list)
    stopped: set[int] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    last: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, question: Question) -> Search:
        """One that begins."""
        optuna = require("optuna", "tuning a plan")
        with quiet(optuna):
            pruner = optuna.pruners.MedianPruner(n_startup_trials=FIRST_TRIALS, n_warmup_steps=0)
            study = optuna.create_study(sampler=new_sampler(optuna, question.plan.seed), pruner=pruner)
        study.enqueue_trial(question.planned())
        return cls(question, study)

    def run(self, crew: Crew | None) -> list[Trial]:
        """Train until all trials are done, or the time is over."""
        folds = self.question.folds
        total = self.question.trials * folds
        self.question.progress(TASK, 0, total)
        order: list[Fold] = []
        if crew is None:
            for fold in self._proposed(order):
                self._note(fold, train_fold(fold.specification))
        else:
            calls = Calls(f"{train_fold.__module__}:{train_fold.__name__}", {"KERAS_BACKEND": keras.backend.backend()})
            with crew(calls) as pool:
                trainings = (fold.specification for fold in self._proposed(order))
                for score in call_each(pool, trainings):
                    self._note(order[len(self.seconds)], score)
        self.question.progress(TASK, total, total)
        done = ([scores[fold] for fold in sorted(scores)] for scores in self.scores)
        return [
            Trial(values, tuple(scores), len(scores) == folds, len(scores) / folds, float(np.mean(scores)))
            for values, scores in zip(self.values, done, strict=True)
            if scores
        ]

    def _proposed(self, order: list[Fold]) -> Iterator[Fold]:
        """The next training whenever one can be begun; trials that are clearly behind go no further."""
        for number in range(self.question.trials):
            # The planner's plan is trained in any case: without it there is nothing to compare with.
            if number and self._is_late(order):
                return
            values = self._ask()
            for fold in range(self.question.folds):
                if number and (self._is_late(order) or self._is_behind(number)):
                    self._stop(number)
                    break
                order.append(Fold(number, fold, self.question.make(values, fold)))
                yield order[-1]

    def _ask(self) -> dict[str, Any]:
        trial = self.study.ask()
        values = suggest(self.question.plan, self.question.space, trial)
        self.asked.append(trial)
        self.values.append(values)
        self.scores.append({})
        return values

    def _is_late(self, order: Sequence[Fold]) -> bool:
        """Whether a training that is begun now would probably end too late: after those that were begun before it."""
        before = len(order) - len(self.seconds)
        wanted = (before + 1) * float(np.median(self.seconds)) if self.seconds else 0.0
        return time.monotonic() + wanted > self.question.deadline

    def _is_behind(self, number: int) -> bool:
        return bool(self.scores[number]) and bool(self.asked[number].should_prune())

    def _stop(self, number: int) -> None:
        self.stopped.add(number)
        self.study.tell(self.asked[number], state=require("optuna", "tuning a plan").trial.TrialState.PRUNED)

    def _note(self, fold: Fold, score: float) -> None:
        self.seconds.append(time.monotonic() - self.last)
        self.last = time.monotonic()
        known = self.scores[fold.trial]
        known[fold.fold] = score
        trial = self.asked[fold.trial]
        mean = float(np.mean(list(known.values())))
        if math.isfinite(mean) and fold.trial not in self.stopped:
            trial.report(mean, len(known) - 1)
        if len(known) == self.question.folds:
            self._tell(trial, mean)
        self.question.progress(TASK, len(self.seconds), self.question.trials * self.question.folds)

    def _tell(self, trial: Any, mean: float) -> None:
        if math.isfinite(mean):
            self.study.tell(trial, mean)
        else:
            self.study.tell(trial, state=require("optuna", "tuning a plan").trial.TrialState.FAIL)
