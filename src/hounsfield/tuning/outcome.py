"""What a search has found: the trials, the best of them, and how far its figure flatters it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Trial:
    """One setting of the fields, and how it did.

    Attributes:
        values: of the fields.
        scores: of the folds that were trained, less being better; NaN where a training diverged.
        complete: whether all folds were trained; otherwise the trial was stopped.
        share: of its training that was done.
        last: its score when it ended, of a trial that was stopped the mean over what it had trained.
    """

    values: Mapping[str, Any]
    scores: tuple[float, ...]
    complete: bool
    share: float = 1.0
    last: float = math.nan

    @property
    def score(self) -> float:
        """The mean over the folds; infinite where one diverged or none was trained."""
        return float(np.mean(self.scores)) if self.scores and all(map(math.isfinite, self.scores)) else math.inf


@dataclass(frozen=True)
class Outcome:
    """The trials of a search; the first is the planner's plan.

    Attributes:
        trials: in the order in which they were begun.
        figure: of validation by which they were judged.
        more_is_better: of this figure; scores have the other sign then.
        ranges: field → its range in words.
        importance: field → share of the differences between trials that it explains; empty where too few were complete.
        seed: of the search.
        patients_known: whether the images of a patient are in one fold.
    """

    trials: tuple[Trial, ...]
    figure: str
    more_is_better: bool
    ranges: Mapping[str, str]
    importance: Mapping[str, float]
    seed: int
    patients_known: bool

    @property
    def complete(self) -> tuple[Trial, ...]:
        """The trials of which every fold was trained and none diverged."""
        return tuple(trial for trial in self.trials if trial.complete and math.isfinite(trial.score))

    @property
    def best(self) -> Trial:
        """The one with the best mean over the folds; the planner's where several are equal."""
        return min(self.complete, key=lambda trial: trial.score)

    @property
    def planned(self) -> Trial:
        """The planner's plan."""
        return self.trials[0]

    @property
    def optimism(self) -> float:
        """How much better the best trial looks than it is, because it is the best of many on the same folds."""
        scores = np.array([trial.scores for trial in self.complete])
        return optimism(scores)

    @property
    def gain(self) -> float:
        """How much better the best trial is than the planner's plan, after its optimism is taken off."""
        return self.planned.score - (self.best.score + self.optimism)

    @property
    def keeps(self) -> Trial:
        """The trial whose values are taken: the best one where something of its lead is left, else the planner's."""
        return self.best if self.gain > 0 else self.planned

    def shown(self, score: float) -> float:
        """A score with the sign of the figure."""
        return -score if self.more_is_better else score

    def points(self) -> list[tuple[float, bool]]:
        """Of each trial the figure that it reached, and whether it was complete; NaN where it diverged."""
        return [
            (
                self.shown(trial.score) if math.isfinite(trial.score) and trial.complete else self.shown(trial.last),
                trial.complete,
            )
            for trial in self.trials
        ]

    def lines(self) -> list[str]:
        """In words."""
        best, planned = self.best, self.planned
        folds = len(best.scores)
        judged = f"judged by {self.figure} over {folds} folds of the training and validation images"
        said = [
            f"{len(self.trials)} trials{self._stopped_in_words()}, {judged}; test images took no part.",
            f"The planner's plan: {self.shown(planned.score):.4g}. The best trial: {self.shown(best.score):.4g}.",
        ]
        if best is planned:
            return [*said, "No trial was better than the planner's plan, which is kept."]
        said.append(
            f"As the best of {len(self.complete)} it is flattered by about {self.optimism:.2g}, found by choosing "
            f"without each fold in turn: expect {self.shown(best.score + self.optimism):.4g} of it."
            + (" Stopped trials take no part in this estimate, which may be too small." if self._stopped else "")
        )
        if not self.patients_known:
            said.append(
                "The patients are unknown, so images of one patient may lie in several folds, which no estimate of "
                "optimism sees: compare both plans on the images of other patients before you use the tuned one."
            )
        if self.keeps is planned:
            said.append("Nothing of its lead is left then, so the planner's plan is kept.")
        else:
            changed = [f"{name} {_text(value)}" for name, value in self.changes().items()]
            said.append(f"Taken: {', '.join(changed)}.")
        if self.importance:
            ranked = sorted(self.importance.items(), key=lambda each: -each[1])
            said.append("What mattered: " + ", ".join(f"{name} {share:.0%}" for name, share in ranked[:4]) + ".")
        return said

    @property
    def _stopped(self) -> list[Trial]:
        return [trial for trial in self.trials if not trial.complete]

    def _stopped_in_words(self) -> str:
        shares = [trial.share for trial in self._stopped]
        if not shares:
            return ""
        least, most = f"{min(shares):.0%}", f"{max(shares):.0%}"
        after = least if least == most else f"{least} to {most}"
        return f", {len(shares)} of them stopped after {after} of their training"

    def changes(self) -> dict[str, Any]:
        """The values of the trial that is taken which differ from the planner's."""
        return {name: value for name, value in self.keeps.values.items() if value != self.planned.values[name]}

    def _plain(self, score: float) -> float | None:
        return self.shown(score) if math.isfinite(score) else None

    def reason(self, name: str, before: str) -> str:
        """Why a field has its value, for the plan; ``before`` is the planner's reason."""
        share = f", which explains {self.importance[name]:.0%} of their differences" if name in self.importance else ""
        return (
            f"tuned: the best of {len(self.complete)} trials over {self.ranges[name]}{share}; the planner's value was "
            f"{_text(self.planned.values[name])}" + (f" ({before})" if before else "")
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "figure": self.figure,
            "more_is_better": self.more_is_better,
            "seed": self.seed,
            "patients_known": self.patients_known,
            "planned": self.shown(self.planned.score),
            "best": self.shown(self.best.score),
            "optimism": self.optimism,
            "taken": dict(self.keeps.values),
            "ranges": dict(self.ranges),
            "importance": dict(self.importance),
            "trials": [
                asdict(trial)
                | {"scores": [self._plain(each) for each in trial.scores], "last": self._plain(trial.last)}
                for trial in self.trials
            ],
        }


def optimism(scores: np.ndarray) -> float:
    """The bias of the least mean score as an estimate of what choosing by it achieves.

    The choice is repeated without each fold in turn, and what is chosen then is judged on that fold, which took no part
    (nested cross-validation; Varma & Simon, BMC Bioinformatics 7:91, 2006). Not below 0.

    Args:
        scores: (settings, folds), less being better; at least two folds.
    """
    if len(scores) == 0:
        return 0.0
    unseen = []
    for fold in range(scores.shape[1]):
        chosen = np.argmin(np.delete(scores, fold, axis=1).mean(axis=1))
        unseen.append(scores[chosen, fold])
    return max(0.0, float(np.mean(unseen) - scores.mean(axis=1).min()))


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
