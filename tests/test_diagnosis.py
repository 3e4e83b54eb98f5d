"""The diagnosis: its verdicts, what it counts as done already, and commands that can be typed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from hounsfield.plans.augmentation import STRENGTHS
from hounsfield.training.diagnosis import Diagnosis, diagnose
from plans import hand_made_plan

PLAN_FILE = Path("runs/my run/plan.yaml")


def diagnosed(train_loss: float, val_loss: float, *, num_networks: int | None = None, **changes: object) -> Diagnosis:
    return diagnose(
        hand_made_plan(**changes),
        "'my data' --kind table",
        PLAN_FILE,
        train_loss=train_loss,
        val_loss=val_loss,
        chance_loss=0.69,
        best_epoch=2,
        num_networks=num_networks,
    )


@pytest.mark.parametrize(
    ("train_loss", "val_loss", "verdict"),
    [(0.10, 0.30, "overfitting"), (0.60, 0.62, "underfitting"), (0.20, 0.22, "balanced"), (0.22, 0.20, "balanced")],
)
def test_the_verdict_follows_the_gap_and_what_was_learned(train_loss: float, val_loss: float, verdict: str) -> None:
    found = diagnosed(train_loss, val_loss)
    assert found.verdict == verdict
    assert found.gap == pytest.approx(val_loss - train_loss)
    assert found.to_dict()["remedies"][0]["command"].startswith("hounsfield train 'my data' --kind table ")


def test_each_remedy_changes_one_thing_of_this_plan() -> None:
    plan = hand_made_plan()
    for losses in ((0.1, 0.5), (0.6, 0.6)):
        for remedy in diagnosed(*losses).remedies:
            words = shlex.split(remedy.command)
            assert words[:5] == ["hounsfield", "train", "my data", "--kind", "table"]
            assert words[words.index("--plan") + 1] == str(PLAN_FILE)
            changes = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
            assert changes
            assert plan.changed(changes) != plan


def test_remedies_go_the_right_way() -> None:
    commands = {remedy.what: remedy.command for remedy in diagnosed(0.1, 0.5).remedies}
    assert "train_share=0.5" in next(text for what, text in commands.items() if "more data" in what)
    assert "weight_decay=0.02" in commands["more regularisation"]
    assert "width=4" in commands["a smaller network"]
    commands = {remedy.what: remedy.command for remedy in diagnosed(0.6, 0.6).remedies}
    assert "epochs=6" in commands["a longer training"]
    assert "width=16" in commands["a larger network"]


def test_a_pretrained_network_is_replaced_without_its_weights() -> None:
    pretrained = {"network": "efficientnetv2b0", "width": None, "weights": "imagenet"}
    for losses in ((0.1, 0.5), (0.6, 0.6)):
        (command,) = (one.command for one in diagnosed(*losses, **pretrained).remedies if "network=" in one.command)
        assert "--set weights=null" in command


def test_a_balanced_training_is_told_to_try_more_effort() -> None:
    assert "--effort standard --seed 0" in diagnosed(0.2, 0.2).remedies[0].command
    assert "width=16" in diagnosed(0.2, 0.2, effort="thorough").remedies[0].command


def test_what_the_plan_does_already_is_named() -> None:
    found = diagnosed(0.2, 0.2, augmentation=STRENGTHS["light"], label_smoothing=0.0, folds=3)
    told = "; ".join(found.already)
    assert "augmentation (rotation" in told
    assert "weight decay 0.01" in told
    assert "label smoothing" not in told
    assert "the best epoch (2 of 3)" in told
    assert "an ensemble of 3" in told
    head, already, *tries = found.lines()
    assert "log loss 0.200 on training and 0.200 on validation images, gap +0.000" in head
    assert told in already
    # Of an interrupted training.
    assert "an ensemble of 2" in diagnosed(0.2, 0.2, folds=3, num_networks=2).already
    assert not any("ensemble" in measure for measure in diagnosed(0.2, 0.2, folds=3, num_networks=1).already)
    assert len(tries) == len(found.remedies)
