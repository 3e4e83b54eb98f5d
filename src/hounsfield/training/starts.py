"""Weights of another training, or none: a network is trained from each start, and validation images decide.

Where training images are few, validation images are few, too, and would choose by chance. Then training and validation
images are divided into parts, and each part in turn is held out for validation; and the mean of both networks is tried,
too, which often errs less than either.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from hounsfield.atomic import make_private, replacing
from hounsfield.planning.adapting import comparing_stages, with_companion
from hounsfield.plans.architecture import Adapt
from hounsfield.plans.base import EFFORT_MINUTES, BasePlan
from hounsfield.plans.loading import load_plan
from hounsfield.pretrained import find_source
from hounsfield.runs.folder import RunFolder
from hounsfield.training.base import Job
from hounsfield.training.companions import loss_of
from hounsfield.training.networks import train_networks
from hounsfield.training.preparation import Prepared
from hounsfield.training.tracking import Ending

AnyJob = Job[Any, Any]
Name = Literal["adapted", "scratch", "both"]
# What a network from scratch has of its own; all other fields are those of the plan that it is compared with.
OWN = {
    *("weights", "adapt", "licence", "compare_scratch", "companion", "network", "width", "pooling", "front"),
    *("input_shape", "pipeline"),
    *("batch_size", "epochs", "epoch_images", "patience", "learning_rate", "precision", "minutes", "pacing", "reasons"),
    *("augmentation", "folds", "test_time_flips", "expected_seconds", "expected_memory_mb", "expected_disk_mb"),
}
# In which they are tried; the field of the plan that tells which was chosen.
ORDER: tuple[Name, ...] = ("adapted", "scratch", "both")
CHOSEN_FIELD: dict[Name, str] = {"adapted": "adapt", "scratch": "weights", "both": "companion"}
# Fields that hold for both starts where a person has set them.
SET_BY_HAND = ("epochs", "patience", "augmentation")
# How the reason of a decision begins that a comparison has made.
DECIDED = "Weights or scratch: "
WAYS: dict[Adapt, str] = {
    "probe": "a probe of",
    "lora": "a low-rank adaptation of",
    "finetune": "a finetuning of",
}


def start_decided(plan: BasePlan) -> list[str]:
    """The line that tells which start a comparison has chosen, and why; none where there was none."""
    why = plan.reasons.get("compare_scratch", "")
    return [why] if why.startswith(DECIDED) else []


@dataclass(frozen=True, eq=False)
class Trial:
    """One start as it was tried.

    Attributes:
        name: of the start.
        job: the training in the run folder.
        plan: as it is written there if this start is chosen, without the lines on the comparison.
        folder: where it was tried.
        loss: the smallest validation loss; the mean over all images that were held out.
        by_part: the same of each part that was held out.
        history: the epochs of its network, where it was trained just as the plan wants it.
    """

    name: Name
    job: AnyJob
    plan: Any
    folder: RunFolder
    loss: float
    by_part: tuple[float, ...]
    history: tuple[Mapping[str, Any], ...] | None


def better_start(job: AnyJob, make: Callable[[Any], AnyJob], prepared: Prepared) -> AnyJob:
    """The training from the start that validates best, where the plan wants them to be compared.

    Each is tried in a folder of its own within the checkpoints, so that a comparison that was killed goes on where it
    was. At the end the plan of the run is that of the chosen start.

    Args:
        job: of the plan that is in the run folder.
        make: the training of another plan in the same folder.
        prepared: the cohort, of which the planner makes the plan of a training from scratch.

    Raises:
        KeyboardInterrupt: the user stopped the comparison.
    """
    parts = getattr(job.plan, "compare_scratch", 0)
    if not parts:
        return job
    plan: Any = load_plan(job.folder.plan)
    make_private(job.folder.checkpoints)
    trials = [_tried("adapted", job, plan, parts)]
    written = job.folder.checkpoints / "scratch.yaml"
    if not written.is_file():
        scratch_plan(plan, prepared).save(written)
    other: Any = load_plan(written)
    trials.append(_tried("scratch", make(other), other, parts))
    both = with_companion(plan, other) if parts > 1 else None
    if both is not None:
        trials.append(_both_tried(job, both, trials[0], parts))
    return _chosen(trials, parts)


def scratch_plan(plan: Any, prepared: Prepared) -> Any:
    """The planner's plan of a training from scratch, with all of another plan that holds for both."""
    minutes = (plan.minutes or EFFORT_MINUTES[plan.effort]) / comparing_stages(plan.compare_scratch)
    found: Any = prepared.plan(effort=plan.effort, minutes=minutes, seed=plan.seed)
    by_hand = {name for name in SET_BY_HAND if plan.reasons.get(name) == "set by hand"}
    names = (set(type(plan).model_fields) - OWN) | by_hand
    values = {name: getattr(plan, name) for name in names} | {"minutes": plan.minutes}
    reasons = {name: plan.reasons[name] for name in names & plan.reasons.keys()}
    return found.model_copy(update=values | {"reasons": found.reasons | reasons})


def _both_tried(job: AnyJob, plan: Any, adapted: Trial, parts: int) -> Trial:
    """Train a companion for each adapted network of another trial, whose checkpoints are taken over."""
    folder = _trial_folder(job, "both")
    make_private(folder.checkpoints)
    _take_checkpoints(adapted.folder, folder)
    pacing = load_plan(adapted.folder.plan).pacing
    companion = {"companion": plan.companion}
    beside = replace(job, plan=job.plan.model_copy(update=companion))
    trial = _tried("both", beside, plan.model_copy(update={"pacing": pacing}), parts)
    return replace(trial, job=beside, plan=plan)


def _trial_folder(job: AnyJob, name: Name) -> RunFolder:
    return RunFolder(job.folder.checkpoints / name)


def _tried(name: Name, job: AnyJob, plan: Any, parts: int) -> Trial:
    """Train from one start: a network on the training images, or one beside each part that is held out."""
    folder = _trial_folder(job, name)
    # Those that are tried first leave time for the others, and for the training itself where that is another one.
    stages = comparing_stages(parts) - ORDER.index(name)
    minutes = None if plan.minutes is None else plan.minutes / stages
    if not folder.plan.is_file():
        make_private(folder.path)
        plan.model_copy(update={"folds": parts, "minutes": minutes}).save(folder.plan)
    # What the pace decided before the training was killed holds.
    own = {"folds": parts, "minutes": minutes, "pacing": load_plan(folder.plan).pacing}
    now = time.monotonic()
    deadline = None if job.deadline is None else now + (job.deadline - now) / stages
    trial = replace(job, folder=folder, plan=job.plan.model_copy(update=own), deadline=deadline)
    members, interrupted = train_networks(trial, Untracked())
    if interrupted:
        # Half a comparison chooses nothing.
        raise KeyboardInterrupt
    sizes = [len(member.specification.validation) for member in members]
    by_part = tuple(loss_of(member) for member in members)
    loss, whole = float(np.average(by_part, weights=sizes)), parts == plan.folds == 1
    return Trial(name, job, plan, folder, loss, by_part, tuple(members[0].fitted.history) if whole else None)


def _chosen(trials: list[Trial], parts: int) -> AnyJob:
    """The training from the start that is taken; its plan is written."""
    best = best_trial(trials)
    run = best.job.folder
    run.record("start", chosen=best.name, parts=parts, **{trial.name: trial.loss for trial in trials})
    why, field = _reason(best, trials, parts), CHOSEN_FIELD[best.name]
    update: dict[str, Any] = {
        "compare_scratch": 0,
        "reasons": best.plan.reasons | {"compare_scratch": why, field: why},
    }
    if best.history is not None:
        update["pacing"] = load_plan(best.folder.plan).pacing
        _take_checkpoints(best.folder, run)
    best.plan.model_copy(update=update).save(run.plan)
    return replace(best.job, plan=best.job.plan.model_copy(update=update), done=best.history or ())


def best_trial(trials: list[Trial]) -> Trial:
    """That of the smallest loss; but one alone instead of both only if it has the smaller one in every part.

    The mean of two networks seldom errs by much, and few images do not tell which of the two would err less.
    """
    least = min(trials, key=lambda trial: trial.loss)
    both = next((trial for trial in trials if trial.name == "both"), least)
    clear = all(alone < joint for alone, joint in zip(least.by_part, both.by_part, strict=True))
    return least if clear else both


def _reason(best: Trial, trials: list[Trial], parts: int) -> str:
    held = "on the validation images" if parts == 1 else f"over {parts} parts of the images, each held out in turn,"
    adapted = trials[0].plan
    names = {
        "adapted": f"{WAYS[adapted.adapt]} the weights {find_source(adapted.weights).name}",
        "scratch": "training from scratch",
        "both": "the mean of both networks",
    }
    smallest = best.loss == min(trial.loss for trial in trials)
    unclear = "" if smallest else ", since neither start alone has a smaller loss in every part"
    losses = [f"{trial.loss:.3f} for {names[trial.name]}" for trial in trials]
    return (
        f"{DECIDED}{held} the loss is {', '.join(losses[:-1])} and {losses[-1]}; "
        f"the {('first', 'second', 'third')[trials.index(best)]} was taken{unclear}."
    )


def _take_checkpoints(trial: RunFolder, run: RunFolder) -> None:
    """Let a training go on from the last epochs of a trial; a probe has none, and is fitted anew in moments."""
    for path in trial.checkpoints.glob("*.npz"):
        with replacing(run.checkpoints / path.name) as temporary:
            shutil.copyfile(path, temporary)


class Untracked:
    """Nobody follows a trial; see ``Tracker``."""

    def begin(self, settings: Mapping[str, Any]) -> None:
        """See ``Tracker``."""

    def log(self, network: str, record: Mapping[str, Any]) -> None:
        """See ``Tracker``."""

    def end(self, ending: Ending) -> None:
        """See ``Tracker``."""

    def close(self, *, failed: bool) -> None:
        """See ``Tracker``."""
