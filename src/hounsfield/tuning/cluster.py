"""The search on a Ray cluster: Ray Tune runs trials side by side, and stops those that are behind by ASHA.

Asynchronous successive halving (Li et al., MLSys 2020, arXiv:1810.05934) compares trials at rungs: half a fold, one
fold, two folds, four … Whoever comes to a rung goes on if it is in the better half of those that came there before.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from hounsfield.atomic import make_private
from hounsfield.cohorts.public import cache_folder
from hounsfield.distributed.ray_cluster import connect, num_cluster_cores
from hounsfield.distributed.ray_trial import TrialCall, run_trial
from hounsfield.errors import ResourceError, require
from hounsfield.training.base import Specification
from hounsfield.tuning.folds import train_fold
from hounsfield.tuning.outcome import Trial
from hounsfield.tuning.proposals import TASK, Question, new_sampler, quiet
from hounsfield.tuning.space import suggest

logger = logging.getLogger(__name__)

HALVING = 2
# How often a trial is begun anew whose machine was lost.
MOST_LOSSES = 3
# The score of a training that diverged: worse than any other, and still a number to compare.
DIVERGED = 1e30
SETTINGS = {
    # Ray writes neither tables nor curves of its own, and Ctrl-C ends the command as ever.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


class Cluster(NamedTuple):
    """Where a search runs: the address of a Ray cluster, and how many trials at a time, by default one on each core."""

    address: str
    trials: int | None


class TrialMaker(NamedTuple):
    """What makes the trainings of a trial: the same for all of them, and sent to each machine once."""

    make: Callable[[Mapping[str, Any], int], Specification[Any, Any]]
    folds: int
    epochs: int


def train_trial(maker: TrialMaker, values: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """Train the folds of one trial in the process of an actor, which ends within ``report`` if the trial is stopped.

    Args:
        maker: of the trainings.
        values: of the fields.
        report: told after each epoch of "epoch", counted over all folds, "score", the mean of the folds so far, less
            being better, and "scores", of the folds that are complete.
    """
    scores: list[float] = []
    for fold in range(maker.folds):

        def on_score(epoch: int, score: float, begun: int = fold * maker.epochs) -> None:
            if math.isfinite(score) and epoch < maker.epochs:
                report({"epoch": begun + epoch, "score": float(np.mean([*scores, score])), "scores": list(scores)})

        scores.append(train_fold(maker.make(values, fold), on_score))
        finite = math.isfinite(scores[-1])
        mean = float(np.mean(scores)) if finite else DIVERGED
        report({"epoch": (fold + 1) * maker.epochs, "score": mean, "scores": list(scores)})
        if not finite:
            return


def search_on_cluster(question: Question, cluster: Cluster) -> list[Trial]:
    """Train the trials of a search on a Ray cluster until all are done, or the time is over.

    Args:
        question: what is searched; its ``make`` can be pickled.
        cluster: where.

    Raises:
        MissingDependency: Ray is not installed.
        ResourceError: there is no cluster at the address, or it lost the planner's plan again and again.
    """
    require("ray", "working on a Ray cluster")
    os.environ.update(SETTINGS)
    tune = require("ray.tune", "tuning on a Ray cluster")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    ray = connect(cluster.address)
    try:
        place = cache_folder().absolute() / "tuning"
        make_private(place)
        with tempfile.TemporaryDirectory(dir=place) as folder:
            tuner = _tuner(tune, question, cluster.trials or num_cluster_cores(ray), folder)
            # Ray tells of trials that failed on standard output, which is for results.
            with quiet(require("optuna", "tuning a plan")), contextlib.redirect_stdout(sys.stderr):
                results = list(tuner.fit())
    finally:
        ray.shutdown()
    return _trials(results, question)


def _tuner(tune: Any, question: Question, at_once: int, folder: str) -> Any:
    optuna, searches = require("optuna", "tuning a plan"), require("ray.tune.search.optuna", "tuning on a Ray cluster")
    epochs = question.plan.epochs
    call = TrialCall(f"{__name__}:{train_trial.__name__}", {"KERAS_BACKEND": keras.backend.backend()}, str(Path.cwd()))
    argument = pickle.dumps(TrialMaker(question.make, question.folds, epochs))
    watch = _watch(tune, question)
    goal = {"metric": "score", "mode": "min"}
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, call=call, argument=argument), {"cpu": call.cores}),
        tune_config=tune.TuneConfig(
            num_samples=question.trials,
            max_concurrent_trials=at_once,
            # An actor that has imported a backend is used again.
            reuse_actors=True,
            search_alg=searches.OptunaSearch(
                # Called with a trial of Optuna; Ray keeps copies of it on disk.
                partial(suggest, question.plan, question.space),
                sampler=new_sampler(optuna, question.plan.seed),
                points_to_evaluate=[question.planned()],
                **goal,
            ),
            scheduler=halving_of(question.folds, epochs),
            **goal,
        ),
        run_config=tune.RunConfig(
            storage_path=folder,
            failure_config=tune.FailureConfig(max_failures=MOST_LOSSES),
            verbose=0,
            stop=watch.stopper,
            callbacks=[watch.callback],
        ),
    )


def halving_of(folds: int, epochs: int) -> Any:
    """ASHA that lets the planner's plan, the first trial, go on: without it there is nothing to compare with."""
    schedulers: Any = require("ray.tune.schedulers", "tuning on a Ray cluster")

    class Halving(schedulers.ASHAScheduler):  # type: ignore[misc]  # Ray is imported here only
        planned: str | None = None

        def on_trial_add(self, controller: Any, trial: Any) -> None:
            self.planned = self.planned or trial.trial_id
            super().on_trial_add(controller, trial)

        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            action: str = super().on_trial_result(controller, trial, result)
            spared = trial.trial_id == self.planned and result["epoch"] < folds * epochs
            return str(schedulers.TrialScheduler.CONTINUE) if spared else action

    return Halving(time_attr="epoch", max_t=folds * epochs, grace_period=epochs / HALVING, reduction_factor=HALVING)


class _Watch(NamedTuple):
    """What Ray Tune asks whether the time is over, and what it tells of trials."""

    stopper: Any
    callback: Any


def _watch(tune: Any, question: Question) -> _Watch:
    """See ``_Watch``; Ray keeps copies of both on disk, which need no state."""
    folds, epochs = question.folds, question.plan.epochs
    total = question.trials * folds
    done: dict[str, int] = {}
    ended: set[str] = set()

    def planned_has_ended() -> bool:
        return bool(done) and next(iter(done)) in ended

    def is_late() -> bool:
        return time.monotonic() > question.deadline

    class Clock(tune.Stopper):  # type: ignore[misc]  # as above
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 - Ray's
            # The planner's plan is trained in any case.
            return is_late() and trial_id != next(iter(done), trial_id)

        def stop_all(self) -> bool:
            return is_late() and planned_has_ended()

        def __reduce__(self) -> Any:
            return dict, ()

    class Listener(tune.Callback):  # type: ignore[misc]  # as above
        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:  # noqa: ARG002 - Ray's
            done.setdefault(trial.trial_id, 0)

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any) -> None:  # noqa: ARG002
            done[trial.trial_id] = int(result["epoch"]) // epochs
            question.progress(TASK, sum(done.values()), total)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:  # noqa: ARG002
            done[trial.trial_id] = folds
            ended.add(trial.trial_id)
            question.progress(TASK, sum(done.values()), total)

        on_trial_error = on_trial_complete

        def __reduce__(self) -> Any:
            return dict, ()

    question.progress(TASK, 0, total)
    return _Watch(Clock(), Listener())


def _trials(results: list[Any], question: Question) -> list[Trial]:
    """What became of the trials, in the order in which they were begun."""
    whole = question.folds * question.plan.epochs
    found = []
    for number, result in enumerate(results, start=1):
        figures = result.metrics or {}
        if result.error is not None:
            reason = " ".join(str(result.error).split())[-400:]
            if number == 1:
                raise ResourceError(
                    f"The planner's plan could not be trained on the Ray cluster ({reason}). Look at its machines with "
                    "`ray status`; every one needs the same versions of Hounsfield, Python and Ray, and has to see "
                    "the folder HOUNSFIELD_CACHE."
                ) from result.error
            logger.warning("Trial %d was given up: %s.", number, reason)
        if "epoch" in figures:
            scores = tuple(figures["scores"])
            found.append(
                Trial(
                    result.config,
                    scores,
                    len(scores) == question.folds,
                    figures["epoch"] / whole,
                    figures["score"] if figures["score"] < DIVERGED else math.nan,
                )
            )
    return found
