"""Tuning a plan: the space, the optimism of the best trial, and a search from DATA to a plan that is trained."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from hounsfield.cli import main as cli
from hounsfield.cohorts.public import cache_folder
from hounsfield.distributed.calls import Call, Calls
from hounsfield.plans.loading import load_plan
from hounsfield.progress import silent
from hounsfield.training.base import Member
from hounsfield.training.fitted import Fitted
from hounsfield.training.tracking.tensorboard import TensorBoardTracker
from hounsfield.tuning import Wishes, tune
from hounsfield.tuning.cluster import DIVERGED, TrialMaker, halving_of, train_trial
from hounsfield.tuning.folds import train_fold
from hounsfield.tuning.outcome import Outcome, Trial, optimism
from hounsfield.tuning.proposals import Fold, Question, Search
from hounsfield.tuning.space import FIELDS, assignments, centre, dimensions
from plans import hand_made_plan, small_plan, write_pair

# Workers find this package where it is run from its sources.
SOURCE = str(Path(__file__).parent.parent / "src")


def hounsfield(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hounsfield", *map(str, arguments)])
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    return int(outcome.value.code or 0)


def test_optimism_of_a_case_by_hand() -> None:
    """The second setting is best; without the first fold the third would be chosen, which has .7 there."""
    scores = np.array([[0.5, 0.3, 0.6], [0.3, 0.45, 0.4], [0.7, 0.6, 0.2]])
    assert optimism(scores) == pytest.approx((0.7 + 0.45 + 0.4) / 3 - (0.3 + 0.45 + 0.4) / 3)
    assert optimism(scores[:1]) == 0


def test_optimism_is_what_the_best_of_equals_is_flattered_by() -> None:
    """Settings that differ by noise alone: each has the true score 0, so all of the best one's lead is optimism."""
    leads, found = [], []
    for seed in range(300):
        scores = np.random.default_rng(seed).normal(0, 1, (20, 3))
        leads.append(-scores.mean(axis=1).min())
        found.append(optimism(scores))
    assert np.mean(leads) == pytest.approx(1.08, abs=0.05)
    assert np.mean(found) == pytest.approx(np.mean(leads), rel=0.1)


def outcome_of(*scores: tuple[float, ...]) -> Outcome:
    trials = [
        Trial({"dropout": number / 10}, each, len(each) == 3, len(each) / 3, float(np.mean(each)))
        for number, each in enumerate(scores)
    ]
    return Outcome(tuple(trials), "val_loss", False, {"dropout": "0 to 0.5"}, {"dropout": 1.0}, 0, patients_known=True)


def test_the_best_is_taken_only_where_something_of_its_lead_is_left() -> None:
    clear = outcome_of((0.5, 0.5, 0.5), (0.3, 0.31, 0.3), (0.4, 0.4, 0.4), (0.1,))
    assert clear.keeps is clear.trials[1]
    assert clear.changes() == {"dropout": 0.1}
    assert "1 of them stopped after 33% of their training" in clear.lines()[0]
    assert "Stopped trials take no part in this estimate" in clear.lines()[2]
    reached, complete = zip(*clear.points(), strict=True)
    assert reached == pytest.approx((0.5, 0.91 / 3, 0.4, 0.1))
    assert complete == (True, True, True, False)
    flattered = outcome_of((0.40, 0.40, 0.40), (0.2, 0.45, 0.53), (0.5, 0.3, 0.45), (0.6, 0.6, 0.35))
    assert flattered.best is flattered.trials[1]
    assert flattered.keeps is flattered.planned
    assert "the planner's plan is kept" in " ".join(flattered.lines())
    unknown = replace(clear, patients_known=False)
    assert "images of one patient may lie in several folds" in " ".join(unknown.lines())
    assert "images of one patient" not in " ".join(clear.lines())


def test_every_field_is_varied_around_the_plan() -> None:
    plan = hand_made_plan(dropout=0.6)
    space = dimensions(plan)
    assert set(space) == set(FIELDS)
    assert assignments(plan, centre(plan, space)) == []
    assert space["dropout"].describe(plan.dropout) == "0 to 0.6"
    assert space["width"].describe(plan.width) == "4, 8, 16"
    changed = plan.changed(assignments(plan, centre(plan, space) | {"width": 16, "augmentation": "strong"}))
    assert (changed.width, changed.augmentation.flip_axes) == (16, plan.augmentation.flip_axes)
    assert "weight_decay" not in dimensions(hand_made_plan(weight_decay=0.0))


def test_no_training_is_begun_that_would_end_too_late_after_those_that_wait() -> None:
    question = Question(small_plan(), {}, None, 20, 3, time.monotonic() + 25, silent)  # type: ignore[arg-type]
    search = Search(question, None, seconds=[10.0])
    begun = [Fold(0, 0, None)] * 3  # type: ignore[arg-type]
    assert not search._is_late(begun[:2])
    assert search._is_late(begun)


def test_a_training_that_is_stopped_is_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = Member(None, None, Fitted([{"epoch": 1, "val_loss": 0.1}], interrupted=True))  # type: ignore[arg-type]
    monkeypatch.setattr("hounsfield.tuning.folds.train_network", lambda *_, **__: stopped)
    with pytest.raises(KeyboardInterrupt):
        train_fold(SimpleNamespace(plan=small_plan()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (0.2, [(1, 0.5, 0), (2, 0.4, 1), (3, 0.45, 1), (4, 0.3, 2)]),
        # A training that diverges ends its trial, with a score worse than any other.
        (math.nan, [(1, 0.5, 0), (2, 0.4, 1), (3, 0.45, 1), (4, DIVERGED, 2)]),
    ],
)
def test_a_trial_on_a_cluster_tells_its_mean_over_the_folds_after_each_epoch(
    second: float, told: list[tuple[float, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold(score: float, on_score: Callable[[int, float], None]) -> float:
        on_score(1, 0.5)
        on_score(2, score)
        return score

    monkeypatch.setattr("hounsfield.tuning.cluster.train_fold", fold)
    found: list[dict[str, Any]] = []
    scores = [0.4, second, 0.1]
    maker = TrialMaker(lambda _, number: scores[number], 2 if second == 0.2 else 3, 2)  # type: ignore[arg-type,return-value]
    train_trial(maker, {}, found.append)
    figures = np.array([(each["epoch"], each["score"], len(each["scores"])) for each in found])
    np.testing.assert_allclose(figures, told)


def test_on_a_cluster_the_worse_half_goes_no_further_but_for_the_planned_trial() -> None:
    """Rungs of two folds of four epochs: half a fold and one fold; whoever comes first goes on."""
    halving = halving_of(folds=2, epochs=4)
    halving.set_search_properties("score", "min")
    trials = [SimpleNamespace(trial_id=name) for name in ("planned", "better", "worse")]
    for trial in trials:
        halving.on_trial_add(None, trial)

    def goes_on(number: int, epoch: int, score: float) -> bool:
        return bool(halving.on_trial_result(None, trials[number], {"epoch": epoch, "score": score}) == "CONTINUE")

    assert goes_on(1, 1, 9.0)
    assert goes_on(1, 2, 0.2)
    assert not goes_on(2, 2, 0.6)
    # A trial as bad as that, but the planned one.
    assert goes_on(0, 2, 0.7)
    assert goes_on(0, 4, 0.7)
    assert goes_on(0, 7, 0.7)
    assert not goes_on(0, 8, 0.7)


class Searched(NamedTuple):
    """DATA, the plan around which was searched, and what `tune` wrote and said."""

    data: str
    plan: Path
    out: Path
    said: str


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    folder = tmp_path_factory.mktemp("search")
    data = write_pair(folder)
    plan, out = folder / "plan.yaml", folder / "tuned.yaml"
    small_plan(epochs=1, seed=3).save(plan)
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        assert hounsfield(patch, "tune", data, "--plan", plan, "--trials", 2, "--folds", 2, "-o", out) == 0
    return Searched(data, plan, out, said.getvalue())


def test_a_search_ends_in_a_plan_with_reasons_and_a_picture(searched: Searched) -> None:
    found = json.loads(searched.out.with_suffix(".json").read_text())
    # The test images are those of the plan.
    assert found["seed"] == load_plan(searched.out).seed == 3
    assert searched.out.with_suffix(".png").stat().st_size > 1000
    assert [trial["complete"] for trial in found["trials"]] == [True, True]
    planned, other = (trial["values"] for trial in found["trials"])
    assert planned["learning_rate"] == pytest.approx(0.003)
    assert 0.0006 <= other["learning_rate"] <= 0.015
    assert planned != other
    assert "test images took no part" in " ".join(searched.said.split())
    tuned, before = load_plan(searched.out), load_plan(searched.plan)
    changed = {name for name in FIELDS if getattr(tuned, name) != getattr(before, name)}
    if found["taken"] == planned:
        assert not changed
    else:
        assert changed
        assert all(tuned.reasons[name].startswith("tuned: the best of 2 trials") for name in changed)


class Here:
    """A pool of one worker that is this process."""

    def __init__(self, work: Calls) -> None:
        self._opened = work.open()

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, tasks: Iterable[Call], **_: Any) -> Iterator[Any]:
        for task in tasks:
            yield task.run(self)  # type: ignore[arg-type]

    def run(self, items: list[bytes]) -> list[bytes]:
        return [self._opened.run(items, lambda _: None)]


def test_workers_find_what_one_process_finds(searched: Searched) -> None:
    wishes = Wishes(trials=2, folds=2, plan=load_plan(searched.plan))
    _, outcome = tune(searched.data, wishes, crew=Here)  # type: ignore[arg-type]
    found = json.loads(searched.out.with_suffix(".json").read_text())["trials"]
    for one, two in zip(found, outcome.trials, strict=True):
        np.testing.assert_allclose(one["scores"], two.scores, rtol=1e-4)


def test_a_cluster_runs_trials_by_ray_tune(
    searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", SOURCE)
    out = tmp_path / "tuned.yaml"
    asked = ("tune", searched.data, "--plan", searched.plan, "--trials", 4, "--folds", 2, "-o", out)
    assert hounsfield(monkeypatch, *asked, "--ray", "local", "--workers", 1) == 0
    assert "Ray Tune" in capsys.readouterr().err
    one, trials = (json.loads(path.with_suffix(".json").read_text())["trials"] for path in (searched.out, out))
    # The planner's plan comes first, whole, and with the scores of one process.
    assert trials[0]["values"] == one[0]["values"]
    assert trials[0]["complete"]
    np.testing.assert_allclose(trials[0]["scores"], one[0]["scores"], rtol=1e-4)
    assert len(trials) == 4
    for trial in trials:
        assert trial["share"] == (1.0 if trial["complete"] else 0.5)
        assert len(trial["scores"]) == 2 * trial["share"]
    # Of trials that come one after another, those that are worse after a fold than the median before are stopped.
    firsts = [trial["scores"][0] for trial in trials]
    behind = [number for number in range(1, 4) if firsts[number] > np.median(firsts[:number])]
    assert [number for number, trial in enumerate(trials) if not trial["complete"]] == behind
    assert not any((cache_folder() / "tuning").iterdir())


def test_networks_of_an_ensemble_by_workers_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pair(tmp_path)
    small_plan(folds=2, epochs=1).save(tmp_path / "plan.yaml")
    monkeypatch.setenv("PYTHONPATH", SOURCE)
    begun: list[object] = []
    monkeypatch.setattr(TensorBoardTracker, "begin", lambda _, settings: begun.append(settings["epochs"]))
    losses = []
    for name, options in (("one", ()), ("two", ("--workers", 2))):
        run = tmp_path / name
        assert hounsfield(monkeypatch, "train", data, "--plan", tmp_path / "plan.yaml", "--out", run, *options) == 0
        losses.append(pd.read_csv(run / "history.csv").set_index(["member", "epoch"])["val_loss"])
    # A tracker hears of the settings, whoever trains.
    assert begun == [1, 1]
    assert losses[0].index.tolist() == [(1, 1), (2, 1)]
    pd.testing.assert_series_equal(losses[0], losses[1], rtol=1e-4)
    assert "2 processes of this machine" in capsys.readouterr().err
