"""Two runs of one family on the same test images, against figures that are worked out apart from them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from families import hounsfield
from hounsfield.errors import EvaluationError, ServingError
from hounsfield.evaluation.classification import Estimate
from hounsfield.evaluation.comparison import Bootstrap
from hounsfield.evaluation.detection import assess_detections, evaluate_detections
from hounsfield.evaluation.detections import Finding, Truth, as_detections
from hounsfield.evaluation.segmentation_assessment import CASE_COLUMNS, SegmentationAssessment
from hounsfield.evaluation.value_assessment import ValueAssessment
from hounsfield.runs import BoxRun, MaskRun, RunRecord, ValueRun
from hounsfield.serving.comparing import compared
from hounsfield.testing import comparing
from hounsfield.testing.comparing import compare_runs

NUMBER = 40
IMAGES = [f"{number}.png" for number in range(NUMBER)]
NOTHING: dict[str, Estimate] = {}
OPTIONS = Bootstrap(num_replicates=1000)


def record(kind: type[RunRecord], family: str, trained: tuple[str, ...] = (), **more: Any) -> Any:
    """A run of two test images a patient, which was trained on some other images of these patients."""
    rows = [(image, f"P{number // 2}", "test") for number, image in enumerate(IMAGES)]
    rows += [(f"train-{patient}.png", patient, "train") for patient in ("T", *trained)]
    bundle = SimpleNamespace(family=family, task=family, labels=("a",))
    facts = {"plan": SimpleNamespace(task="regression"), "environment": {}, "history": pd.DataFrame(), "events": []}
    cohort = pd.DataFrame(rows, columns=["image", "patient", "split"])
    return kind(folder=Path(), cohort=cohort, metrics={"test": {}}, bundle=bundle, **facts, **more)


def segmenter(dice: np.ndarray, size: float = 50.0, trained: tuple[str, ...] = ()) -> Any:
    cases = pd.DataFrame({"image": IMAGES, "label": "a"} | dict.fromkeys(CASE_COLUMNS, 1.0))
    cases = cases.assign(dice=dice, iou=dice / 2, nsd=dice, size_true=size)
    tested = SegmentationAssessment(cases, ("a",), NOTHING, "ml", 1.0, NUMBER // 2)
    return record(MaskRun, "masks", trained, tested={"test": tested})


def regressor(error: np.ndarray) -> Any:
    truth = np.linspace(0, 100, NUMBER)
    tested = ValueAssessment(truth, truth + error, ("age",), "regression", NOTHING, NUMBER // 2)
    table = pd.DataFrame({"image": IMAGES, "split": "test"})
    return record(ValueRun, "values", table=table, tested={"test": tested})


def detector(seed: int, shift: float) -> Any:
    generator = np.random.default_rng(seed)
    truths, found = [], []
    for number in range(NUMBER):
        corner = np.array([[5.0, 5.0 + number]])
        truths.append(Truth(np.hstack([corner, corner + 10]), [0]))
        moved = corner + shift * generator.standard_normal()
        found.append(Finding(np.hstack([moved, moved + 10]), [0], [generator.random()]))
    detections = as_detections(truths, found, labels=("a",))
    tested = assess_detections(detections, num_replicates=100)
    return record(BoxRun, "boxes", boxes=pd.DataFrame(), tested={"test": tested})


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Compares two records as if they were in folders; counts what was noted of their test images."""
    noted: list[str] = []

    def of(first: Any, second: Any) -> Any:
        runs = {tmp_path / "first": first, tmp_path / "second": second}
        monkeypatch.setattr(comparing, "read_run", runs.__getitem__)
        monkeypatch.setattr(comparing, "Bundle", SimpleNamespace(load=lambda path: runs[path].bundle))
        monkeypatch.setattr(comparing, "record_test_use", lambda path, by: noted.append(f"{path.name} {by}"))
        return compare_runs(*runs, options=OPTIONS)

    of.noted = noted
    return of


def test_dice_of_the_same_images_is_compared_by_patient(pairs):
    generator = np.random.default_rng(0)
    by_patient = np.repeat(generator.normal(0.03, 0.04, NUMBER // 2), 2)
    before = generator.uniform(0.6, 0.8, NUMBER)
    found = pairs(segmenter(before), segmenter(before + by_patient))
    means = by_patient[::2]
    low, high = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
    gap = found.differences["dice"]
    assert gap.value == pytest.approx(means.mean())
    # BCa of 20 patients beside Student's t: within a fifth of the width.
    assert [gap.low, gap.high] == pytest.approx([low, high], abs=(high - low) / 5)
    assert (found.main, found.cases, found.patients) == ("dice", NUMBER, NUMBER // 2)
    assert found.verdict == "better"
    assert pairs.noted == ["first compare", "second compare"]
    assert pairs(segmenter(before + by_patient), segmenter(before)).verdict == "worse"


def test_the_same_answers_differ_by_nothing(pairs):
    dice = np.random.default_rng(1).uniform(0.6, 0.8, NUMBER)
    found = pairs(segmenter(dice), segmenter(dice.copy()))
    assert tuple(found.differences["dice"]) == (0.0, 0.0, 0.0, 1.0)
    assert found.verdict == "no clear difference"


def test_a_smaller_error_of_values_is_better(pairs):
    noise = np.random.default_rng(2).standard_normal(NUMBER)
    found = pairs(regressor(5 * noise), regressor(noise))
    assert found.differences["mae"].value == pytest.approx(-4 * np.abs(noise).mean())
    assert found.differences["mae"].high < 0
    assert found.gain.low > 0
    assert found.verdict == "better"


def test_average_precision_is_that_of_each_detector(pairs):
    first, second = detector(1, 6.0), detector(2, 0.5)
    found = pairs(first, second)
    for run, values in ((first, found.first), (second, found.second)):
        figures = evaluate_detections(run.tested["test"].detections, num_replicates=100)
        assert {name: figures[name].value for name in values} == pytest.approx(values)
    assert found.verdict == "better"


def test_patients_that_one_run_was_trained_on_do_not_count(pairs):
    dice = np.random.default_rng(3).uniform(0.6, 0.8, NUMBER)
    better = dice + np.random.default_rng(4).uniform(0, 0.1, NUMBER)
    learned = better.copy()
    learned[:2] = 1.0
    found = pairs(segmenter(dice), segmenter(learned, trained=("P0",)))
    assert (found.cases, found.patients) == (NUMBER - 2, NUMBER // 2 - 1)
    assert found.second["dice"] == pytest.approx(better[2:].mean())
    assert any("2 images of patients that one of the runs was trained" in note for note in found.notes)
    everyone = tuple(f"P{number}" for number in range(NUMBER // 2))
    with pytest.raises(EvaluationError, match="share no test image"):
        pairs(segmenter(dice), segmenter(learned, trained=everyone))


def test_other_truths_and_other_questions_are_refused(pairs):
    dice = np.random.default_rng(5).uniform(0.6, 0.8, NUMBER)
    with pytest.raises(EvaluationError, match="truths of 40 test images differ"):
        pairs(segmenter(dice), segmenter(dice, size=60.0))
    with pytest.raises(EvaluationError, match="one question"):
        pairs(segmenter(dice), regressor(dice))


def test_a_worse_run_takes_no_place_unless_it_is_forced(pairs, monkeypatch):
    dice = np.random.default_rng(6).uniform(0.6, 0.8, NUMBER)
    worse = pairs(segmenter(dice), segmenter(dice - np.random.default_rng(7).uniform(0.01, 0.2, NUMBER)))
    monkeypatch.setattr("hounsfield.serving.comparing.compare_runs", lambda *_, **__: worse)
    with pytest.raises(ServingError, match=r"the new run is worse: Dice .* of 20 patients"):
        compared(Path("old"), Path("new"), force=False)
    assert compared(Path("old"), Path("new"), force=True).endswith("20 patients: worse.")


def test_force_without_a_swap_is_refused(monkeypatch):
    assert hounsfield(monkeypatch, "serve", "--force", "--status") == 2


def test_what_cannot_be_compared_takes_no_place_unless_it_is_forced(tmp_path):
    with pytest.raises(ServingError, match="cannot be compared"):
        compared(tmp_path / "old", tmp_path / "new", force=False)
    assert compared(tmp_path / "old", tmp_path / "new", force=True).startswith("Not compared: ")
