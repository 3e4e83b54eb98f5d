"""How many patients: each number is the smallest that does what is asked, and the power is the one of a simulation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hounsfield.cli import main as cli
from hounsfield.errors import EvaluationError, RunError, UsageError
from hounsfield.evaluation.proportions import wilson_interval
from hounsfield.evaluation.sample_size import cases_for_gap, cases_for_proportion, for_clusters, patients_for_auc


@pytest.mark.parametrize(("value", "width"), [(0.9, 0.1), (0.5, 0.2), (0.99, 0.02), (1.0, 0.05)])
def test_the_interval_is_just_narrow_enough(value: float, width: float) -> None:
    count = cases_for_proportion(value, width)
    widths = [np.diff(wilson_interval(value * each, each))[0] for each in (count, count - 1)]
    assert widths[0] <= width < widths[1]


def test_an_auc_of_so_many_patients_has_the_wanted_interval() -> None:
    """Half the width of Hanley and McNeil's interval, worked by their formula at the number that was found."""
    auc, prevalence = 0.85, 0.3
    count = patients_for_auc(auc, 0.1, prevalence)
    positives, negatives = prevalence * count, (1 - prevalence) * count
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (first - auc**2) + (negatives - 1) * (second - auc**2)
    assert 2 * 1.96 * np.sqrt(spread / (positives * negatives)) == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize(("gap", "share"), [(0.2, 0.15), (0.1, 0.5)])
def test_the_power_is_that_of_simulated_tests(gap: float, share: float) -> None:
    count = cases_for_gap(0.9, gap, share)
    inside = round(count * share)
    rng = np.random.default_rng(0)
    hits = rng.binomial(inside, 0.9 - gap, 4000), rng.binomial(count - inside, 0.9, 4000)
    shares = hits[0] / inside, hits[1] / (count - inside)
    pooled = (hits[0] + hits[1]) / count
    z = (shares[1] - shares[0]) / np.sqrt(pooled * (1 - pooled) * (1 / inside + 1 / (count - inside)))
    assert (np.abs(z) > stats.norm.ppf(0.975)).mean() == pytest.approx(0.8, abs=0.03)


def test_more_comparisons_and_smaller_groups_need_more() -> None:
    assert cases_for_gap(0.9, 0.1, 0.5, comparisons=20) > cases_for_gap(0.9, 0.1, 0.5)
    assert cases_for_gap(0.9, 0.1, 0.1) > cases_for_gap(0.9, 0.1, 0.5)


def test_images_of_one_patient_count_by_the_design_effect() -> None:
    assert for_clusters(100, 3, 0.5) == (200, 67)
    assert for_clusters(100, 1, 0.5) == (100, 100)
    with pytest.raises(EvaluationError, match="images a patient"):
        for_clusters(100, 0.5, 0.5)


@pytest.mark.parametrize(("value", "gap"), [(1.2, 0.1), (0.05, 0.1), (0.9, 0.0)])
def test_impossible_numbers_are_refused(value: float, gap: float) -> None:
    with pytest.raises(EvaluationError):
        cases_for_gap(value, gap, 0.5)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, int]:
    cli.app(["samplesize", *arguments, "--json"], standalone_mode=False)
    found: dict[str, int] = json.loads(capsys.readouterr().out)
    return found


def test_the_command_says_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "--metric", "sensitivity", "--value", "0.9", "--width", "0.1", "--prevalence", "0.2")
    assert found["cases_of_the_kind"] == cases_for_proportion(0.9, 0.1)
    assert found["patients"] == -(-found["cases_of_the_kind"] * 5 // 1)
    gap = told(capsys, "--gap", "0.1", "--group", "0.15", "--prevalence", "0.2", "--per-patient", "2")
    assert gap["cases_of_the_kind"] == cases_for_gap(0.9, 0.1, 0.15)
    assert gap["images"] == 2 * gap["patients"]
    cli.app(["samplesize", "--metric", "auc", "--value", "0.85", "--width", "0.1", "--prevalence", "0.3"],
            standalone_mode=False)  # fmt: skip
    assert f"{patients_for_auc(0.85, 0.1, 0.3):,} patients" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["--width", "0.1"], ["--metric", "f1", "--width", "0.1"], ["--width", "0.1", "--gap", "0.1"]]
)
def test_what_is_missing_is_asked_for(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        cli.app(["samplesize", *arguments], standalone_mode=False)


def test_training_patients_are_those_of_the_forecast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="hounsfield forecast"):
        cli.app(["samplesize", str(tmp_path), "--error", "0.05"], standalone_mode=False)
    sizes = [100, 200, 400, 800]
    errors = [0.02 + 1.0 * size**-0.5 for size in sizes]
    curve: dict[str, Any] = {
        "sizes": sizes,
        "errors": errors,
        "lows": [0.98 * e for e in errors],
        "highs": [1.02 * e for e in errors],
    }
    curve |= {"confidence": 0.95, "title": "1 − AUC", "unit": "patients"}
    (tmp_path / "learning_curve.json").write_text(json.dumps(curve))
    found = told(capsys, str(tmp_path), "--error", "0.046")
    assert found["expected_with"] in (1600, 2400)  # 0.02 + 1 / √1,480
    assert told(capsys, str(tmp_path), "--error", "0.001")["expected_with"] is None
    reached = told(capsys, str(tmp_path), "--error", "0.1")
    assert (reached["expected_with"], reached["size_now"]) == (800, 800)
    cli.app(["samplesize", str(tmp_path), "--error", "0.1"], standalone_mode=False)
    assert "there already" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["[", '{"sizes": [10, 20]}', '{"confidence": "x"}', "[1]", "{}"])
def test_a_damaged_forecast_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "learning_curve.json").write_text(text)
    with pytest.raises(RunError, match=r"damaged|cannot be read"):
        cli.app(["samplesize", str(tmp_path), "--error", "0.05"], standalone_mode=False)
