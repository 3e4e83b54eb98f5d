"""The shift report: parts of one cohort do not differ, planted differences are found, named and sized."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from hounsfield.cli import main as cli
from hounsfield.cohorts import load_cohort
from hounsfield.cohorts.scan import Scan, scan
from hounsfield.cohorts.shift import shifts
from hounsfield.errors import EvaluationError
from hounsfield.evaluation.separability import separability
from hounsfield.reports.shift import report_shift, write_shift


def rows(count: int, seed: int, length: int = 20) -> np.ndarray:
    mixing = np.random.default_rng(7).normal(size=(length, length))
    return np.random.default_rng(seed).normal(size=(count, length)) @ mixing


def test_sets_of_one_kind_are_not_told_apart() -> None:
    """P-values of no difference are spread evenly over 0 to 1."""
    found = [separability(rows(40, 2 * seed), rows(50, 2 * seed + 1), num_permutations=99) for seed in range(80)]
    p_values = np.array([one.p_value for one in found])
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert (p_values < 0.05).sum() <= 9
    assert np.mean([one.auc for one in found]) == pytest.approx(0.5, abs=0.03)


def test_a_shift_is_found_as_well_as_by_logistic_regression() -> None:
    first, second = rows(200, 0), rows(150, 1) + 0.5 * rows(1, 5)
    found = separability(first, second)
    truth = np.arange(350) >= 200
    model = LogisticRegression(C=1e3, max_iter=2000)
    expected = roc_auc_score(
        truth, cross_val_predict(model, np.vstack([first, second]), truth, method="predict_proba")[:, 1]
    )
    assert found.auc == pytest.approx(expected, abs=0.03)
    assert found.auc == pytest.approx(roc_auc_score(truth, found.score), abs=1e-12)
    assert 0.5 < found.low < found.auc < found.high
    assert found.p_value == 1 / 500


def test_copies_of_one_patient_tell_nothing() -> None:
    """Ten patients a set, thirty nearly equal images each: only with the patients known is there nothing to see."""
    patients = np.repeat(np.arange(20), 30)
    images = rows(20, 3)[patients] + 0.01 * rows(600, 4)
    alone = separability(images[:300], images[300:])
    grouped = separability(images[:300], images[300:], groups=patients)
    assert (alone.low > 0.95, alone.p_value < 0.01) == (True, True)
    assert (grouped.low < 0.5, grouped.p_value > 0.05) == (True, True)


def test_columns_that_never_vary_and_small_sets() -> None:
    first, second = rows(30, 0), rows(30, 1)
    first[:, 2] = second[:, 2] = 4
    assert np.isfinite(separability(first, second).auc)
    with pytest.raises(EvaluationError, match="too small"):
        separability(first[:9], second)
    with pytest.raises(EvaluationError, match="so few patients"):
        separability(first, second, groups=np.repeat([0, 1], 30))


def scanned(folder: Path, count: int, seed: int, *, positive: float = 0.5, brighter: int = 0, site: str = "A") -> Scan:
    """Images of one kind in a table; ``brighter`` a half of them, ``positive`` the share of one label."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = rng.normal(100, 20, (24, 24))
        pixels[6:18, 6:18] += 40
        pixels[:, :12] += brighter
        np.save(folder / f"{number}.npy", pixels.clip(0, 255).astype(np.uint8))
    table = {
        "image": [f"{number}.npy" for number in range(count)],
        "label": np.where(rng.random(count) < positive, "ill", "well"),
        "patient": [f"{folder.name}{number}" for number in range(count)],
        "site": np.where(rng.random(count) < 0.9, site, "C"),
    }
    pd.DataFrame(table).to_csv(folder / "index.csv", index=False)
    return scan(load_cohort(folder / "index.csv"))


def test_two_samples_of_one_population_do_not_differ(tmp_path: Path) -> None:
    report = report_shift(scanned(tmp_path / "a", 90, 1), scanned(tmp_path / "b", 70, 2))
    assert not any(one.notable for one in report.shifts)
    assert report.pictures is not None
    assert report.pictures.p_value > 0.01
    assert "no difference was found" in report.lines()[0]
    assert {"label", "site", "mean value"} <= {one.name for one in report.shifts}


def test_planted_shifts_are_found_named_and_sized(tmp_path: Path) -> None:
    first = scanned(tmp_path / "a", 90, 1)
    second = scanned(tmp_path / "b", 70, 2, positive=0.1, brighter=25, site="B")
    report = report_shift(first, second)
    found = {one.name: one for one in report.shifts}
    assert {one.name for one in report.shifts if one.notable} >= {"label", "site", "mean value"}
    assert (found["label"].kind, found["site"].kind, found["mean value"].kind) == ("label", "attribute", "figure")
    labels = second.cohort.table["label"].value_counts(normalize=True)
    assert found["label"].second["ill"] == pytest.approx(labels["ill"], abs=1e-4)
    assert found["mean value"].second["50%"] - found["mean value"].first["50%"] == pytest.approx(12.5, abs=2)
    assert found["mean value"].strength > 0.9
    assert report.pictures is not None
    assert report.pictures.low > 0.9
    assert "other frequencies" in " ".join(report.lines())
    assert report.thumbnails is not None
    difference = report.thumbnails[1] - report.thumbnails[0]
    assert difference[:, :8].mean() > difference[:, 8:].mean() + 10
    written = write_shift(report, tmp_path / "out")
    assert json.loads(written[0].read_text()) == json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert written[1].stat().st_size > 20_000


def test_what_one_cohort_knows_nothing_of_is_not_compared(tmp_path: Path) -> None:
    first, second = scanned(tmp_path / "a", 30, 1), scanned(tmp_path / "b", 30, 2)
    second.cohort.table["site"] = None
    assert "site" not in {one.name for one in shifts(first, second)}


def test_the_command_compares_two_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scanned(tmp_path / "a", 40, 1)
    scanned(tmp_path / "b", 40, 2, brighter=40)
    monkeypatch.chdir(tmp_path)
    for options in ((), ("--json",)):
        monkeypatch.setattr(sys, "argv", ["hounsfield", "inspect", "a/index.csv", "--against", "b/index.csv", *options])
        with pytest.raises(SystemExit) as outcome:
            cli.main()
        assert not outcome.value.code
        printed = capsys.readouterr().out
        if options:
            assert json.loads(printed)["second"]["images"] == 40
        else:
            assert "they look different" in printed
    assert sorted(path.name for path in (tmp_path / "shift-a-b").iterdir()) == ["shift.json", "shift.png"]
