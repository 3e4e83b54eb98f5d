"""A threshold for each of several labels: chosen on validation cases, kept in the bundle, used by every decision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from hounsfield.bundle.manifest import Manifest
from hounsfield.evaluation import as_outcomes, evaluate
from hounsfield.evaluation.operating import choose_threshold, label_thresholds
from hounsfield.evaluation.predictions import predictions_from_table
from hounsfield.evaluation.recalibration import carried_thresholds
from hounsfield.evaluation.scaling import Isotonic, Platt, Temperature
from hounsfield.evaluation.selective import decision_confidence
from hounsfield.tasks import decide, threshold_text

LABELS = ("effusion", "hernia")
FACTS: dict[str, Any] = {"labels": LABELS, "task": "multi-label"}


def rare(seed: int, count: int = 400, share: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """An even label with scores around .5, and a rare one whose scores, though they rank well, stay below it."""
    generator = np.random.default_rng(seed)
    truth = generator.random((count, 2)) < (0.5, share)
    logits = generator.normal(np.where(truth, 1.5, -1.5), 1) - (0, 3)
    return truth, 1 / (1 + np.exp(-logits))


def test_a_rare_label_is_found_at_its_own_threshold() -> None:
    truth, scores = rare(0)
    chosen = label_thresholds(as_outcomes(truth, scores, **FACTS), (0.5, 0.5))
    assert chosen[0] == 0.5  # as good as any, within chance
    assert chosen[1] == choose_threshold(truth[:, 1], scores[:, 1]).threshold
    fresh, predicted = rare(1)
    before, after = (evaluate(fresh, predicted, **FACTS, threshold=each, num_replicates=10) for each in (0.5, chosen))
    assert before["sensitivity_hernia"].value < 0.3
    assert after["sensitivity_hernia"].value > 0.7
    assert after["specificity_hernia"].value > 0.8
    assert after["sensitivity_effusion"] == before["sensitivity_effusion"]


def test_of_a_few_cases_chance_does_not_move_a_threshold_that_is_right() -> None:
    moved = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        truth = generator.random((60, 1)) < 0.3
        # Calibrated, balanced scores: .5 is the best threshold there is.
        scores = 1 / (1 + np.exp(-generator.normal(np.where(truth, 1.0, -1.0), 1)))
        answers = as_outcomes(truth, scores, labels=("mass",), task="multi-label")
        moved += label_thresholds(answers, (0.5,)) != (0.5,)
    assert moved < 60


@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 1], [np.nan, 1, 1], [np.nan, np.nan, np.nan]])
def test_a_label_without_cases_of_both_kinds_keeps_its_start(truth: list[float]) -> None:
    answers = as_outcomes(np.array(truth)[:, None], np.full((3, 1), 0.2), labels=("mass",), task="multi-label")
    assert label_thresholds(answers, (0.4,)) == (0.4,)


@pytest.mark.parametrize(
    "scaling",
    [
        Temperature(2.5),
        Platt((0.5, 2.0), (1.0, -1.0)),
        Isotonic(((0.0, 1.0), (0.0, 1.0)), ((0.1, 0.9), (0.3, 0.6))),
    ],
)
def test_carried_thresholds_change_no_decision(scaling: Any) -> None:
    scores = np.random.default_rng(0).random((300, 2))
    carried = carried_thresholds(scaling, 0.4, 2)
    after = decide(scaling.apply(scores, "multi-label"), "multi-label", carried)
    assert np.array_equal(after, decide(scores, "multi-label", 0.4))


def test_decisions_and_confidence_are_those_of_each_label() -> None:
    truth, scores = rare(2)
    thresholds = (0.6, 0.05)
    both = as_outcomes(truth, scores, **FACTS, threshold=thresholds)
    apart = [
        as_outcomes(truth[:, k], scores[:, k], labels=("no", LABELS[k]), task="binary", threshold=thresholds[k])
        for k in range(2)
    ]
    assert np.array_equal(both.decisions, np.column_stack([each.decisions for each in apart]))
    single = [decision_confidence(each, limit)[0] for each, limit in zip(apart, thresholds, strict=True)]
    assert decision_confidence(both, thresholds)[0] == pytest.approx(np.minimum(*single))


def test_thresholds_are_told_from_a_table_of_predictions() -> None:
    _, scores = rare(3)
    decided = decide(scores, "multi-label", (0.6, 0.05))
    said = [";".join(label for label, yes in zip(LABELS, row, strict=True) if yes) for row in decided]
    table = pd.DataFrame({"label": "", "prediction": said, "p_effusion": scores[:, 0], "p_hernia": scores[:, 1]})
    read = predictions_from_table(table, task="multi-label")
    assert isinstance(read.threshold, tuple)
    assert np.array_equal(read.answers.decisions, decided)


def test_a_threshold_in_words() -> None:
    assert threshold_text(0.51234, LABELS) == "0.512"
    assert threshold_text((0.5, 0.0312), LABELS) == "effusion 0.5, hernia 0.0312"


@pytest.mark.parametrize(("threshold", "fits"), [(0.4, True), ((0.5, 0.1), True), (1.2, False), ((0.5, -0.1), False)])
def test_the_manifest_takes_one_threshold_or_one_for_each_label(threshold: Any, fits: bool) -> None:
    values = {
        "format_version": 1,
        "task": "multi-label",
        "labels": LABELS,
        "threshold": threshold,
        "modality": None,
        "scaling": {},
        "calibration": {},
        "input_shape": (8, 8, 1),
        "source_range": {},
        "versions": {},
        "engine_checks": {},
        "sizes": {},
    }
    if not fits:
        with pytest.raises(ValidationError, match="between 0 and 1"):
            Manifest.model_validate(values)
        return
    found = Manifest.model_validate(values)
    assert Manifest.model_validate_json(found.model_dump_json()).threshold == threshold
