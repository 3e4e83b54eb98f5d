"""Multi-reader multi-case analysis against published output, and against cases worked by hand."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from hounsfield.cli import main as cli
from hounsfield.errors import EvaluationError, UsageError
from hounsfield.evaluation.mrmc import ReaderStudy, analyse_readers
from van_dyke import van_dyke


def study(**options: Any) -> ReaderStudy:
    truth, ratings = van_dyke()
    return analyse_readers(truth, ratings, tests=("1", "2"), readers=tuple("12345"), **options)


def test_the_unbiased_analysis_has_the_digits_that_mrmcaov_prints() -> None:
    """Output of MRMCaov 0.2.0 with the covariance 'unbiased' (its README)."""
    found = study()
    assert found.covariance == "unbiased"
    printed = [[0.91965, 0.85878, 0.90386, 0.97311, 0.82979], [0.94783, 0.90531, 0.92174, 0.99936, 0.92995]]
    assert found.auc == pytest.approx(np.array(printed), abs=5e-6)
    components = found.components
    assert components.error == pytest.approx(0.00078839, abs=5e-9)
    assert components.cov1 == pytest.approx(0.00034167, abs=5e-9)
    assert components.cov2 == pytest.approx(0.00033906, abs=5e-9)
    assert components.cov3 == pytest.approx(0.00023561, abs=5e-9)
    assert components.reader == pytest.approx(0.0015365, abs=5e-8)
    assert components.reader_test == pytest.approx(0.00020776, abs=5e-9)
    assert (found.f_value, found.p_value) == pytest.approx((4.4896, 0.051162), abs=5e-5)
    assert found.degrees == pytest.approx((1, 15.034), abs=5e-4)
    (gap,) = found.differences
    assert (gap.value, gap.error, gap.degrees) == pytest.approx((-0.0438, 0.020672, 15.034), abs=5e-4)
    assert (gap.low, gap.high) == pytest.approx((-0.087852, 0.0002513), abs=5e-7)
    first, second = found.means
    assert (first.value, first.low, first.high) == pytest.approx((0.89704, 0.82535, 0.96872), abs=5e-6)
    assert (second.value, second.low, second.high) == pytest.approx((0.94084, 0.89423, 0.98744), abs=5e-6)
    assert (first.error, first.degrees) == pytest.approx((0.033071, 12.588), abs=5e-4)


def test_the_jackknife_analysis_has_the_digits_that_or_dbm_mrmc_prints() -> None:
    """Output of OR-DBM MRMC 2.51 (University of Iowa) on the same ratings."""
    found = study(covariance="jackknife")
    components = found.components
    printed = (0.00080229, 0.00034661, 0.00034407, 0.00023903, 0.00153500, 0.00020040)
    assert tuple(components) == pytest.approx(printed, abs=5e-9)
    (gap,) = found.differences
    assert (gap.low, gap.high, gap.p_value) == pytest.approx((-0.08796, 0.00036, 0.0517), abs=5e-5)
    assert found.f_value == pytest.approx(4.46, abs=5e-3)
    assert gap.degrees == pytest.approx(15.26, abs=5e-3)
    fixed = study(covariance="jackknife", fixed_readers=True)
    (gap,) = fixed.differences
    assert fixed.f_value == pytest.approx(5.47595, abs=5e-6)
    assert (gap.error, gap.low, gap.high, gap.p_value) == pytest.approx((0.01872, -0.08049, -0.00711, 0.0193), abs=5e-5)
    ends = [(mean.low, mean.high) for mean in fixed.means]
    assert ends[0] == pytest.approx((0.84943008, 0.94464399), abs=2e-6)
    assert ends[1] == pytest.approx((0.90795637, 0.97371835), abs=2e-6)


def test_the_unbiased_covariance_equals_a_plain_sum_over_quadruples() -> None:
    rng = np.random.default_rng(0)
    truth, ratings = np.arange(9) >= 5, rng.integers(1, 5, (1, 2, 9)).astype(float)
    found = analyse_readers(truth, ratings, tests=("a",), readers=("x", "y"))

    def kernel(reader: int, positive: int, negative: int) -> float:
        high, low = ratings[0, reader, positive], ratings[0, reader, negative]
        return float(high > low) + 0.5 * float(high == low)

    positives, negatives = range(5, 9), range(5)
    apart = [
        kernel(0, first, second) * kernel(1, third, fourth)
        for first, third in itertools.permutations(positives, 2)
        for second, fourth in itertools.permutations(negatives, 2)
    ]
    assert found.components.cov2 == pytest.approx(found.auc[0, 0] * found.auc[0, 1] - np.mean(apart), abs=1e-12)


def test_several_cases_of_a_patient_make_nothing_surer() -> None:
    truth, ratings = van_dyke()
    patients = np.repeat(np.arange(114), 3)
    once = study(covariance="delong")
    by_patient = analyse_readers(
        truth[patients], ratings[..., patients], tests=("1", "2"), readers=tuple("12345"), groups=patients
    )
    assert by_patient.covariance == "delong"
    assert by_patient.differences[0].error == pytest.approx(once.differences[0].error, rel=1e-9)
    with pytest.raises(EvaluationError, match="delong"):
        analyse_readers(
            truth[patients], ratings[..., patients], tests=("1", "2"), readers=tuple("12345"), groups=patients,
            covariance="unbiased",
        )  # fmt: skip


def test_a_single_reader_is_fixed() -> None:
    truth, ratings = van_dyke()
    found = analyse_readers(truth, ratings[:, :1], tests=("1", "2"), readers=("1",), covariance="jackknife")
    assert found.fixed_readers
    # OR-DBM MRMC 2.51, analysis 2 d, reader 1.
    (gap,) = found.differences
    assert (gap.value, gap.error, gap.low, gap.high) == pytest.approx((-0.02818, 0.02551, -0.07818, 0.02182), abs=5e-6)


def test_gaps_in_the_ratings_are_refused() -> None:
    truth, ratings = van_dyke()
    ratings[0, 0, 0] = np.nan
    with pytest.raises(EvaluationError, match="1 ratings are missing"):
        analyse_readers(truth, ratings, tests=("1", "2"), readers=tuple("12345"))


def readers_table(path: Path) -> Path:
    truth, ratings = van_dyke()
    rows = [
        {"reader": f"R{reader + 1}", "test": ("spin echo", "cine")[test], "case": f"P{case:03}", "truth": int(sick)}
        | {"rating": int(ratings[test, reader, case])}
        for test in range(2)
        for reader in range(5)
        for case, sick in enumerate(truth)
    ]
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


def test_a_table_of_readers_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = readers_table(tmp_path / "readers.csv")
    cli.app(["compare", str(table), "--reference", "spin echo", "--margin", "0.05", "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    (gap,) = found["differences"]
    assert (gap["first"], gap["second"]) == ("cine", "spin echo")
    assert (gap["value"], gap["low"], gap["high"]) == pytest.approx((0.0438, -0.00025, 0.087852), abs=5e-6)
    assert gap["not_inferior"] is True
    assert found["agreement"]["cine"] == pytest.approx(0.8, abs=0.15)
    cli.app(["compare", str(table)], standalone_mode=False)
    out = capsys.readouterr().out
    assert "cine" in out
    assert "unbiased" in out


def test_a_reader_who_left_cases_out_is_named(tmp_path: Path) -> None:
    path = readers_table(tmp_path / "readers.csv")
    table = pd.read_csv(path)
    gap = (table["reader"] == "R2") & (table["case"] == "P007") & (table["test"] == "cine")
    table[~gap].to_csv(path, index=False)
    with pytest.raises(EvaluationError, match="R2 in 'cine' 113"):
        cli.app(["compare", str(path)], standalone_mode=False)


def predictions(path: Path, *, noise: float, seed: int, first: int = 0) -> Path:
    rng = np.random.default_rng(0)
    truth = rng.random(200) < 0.4
    score = 1 / (1 + np.exp(-(2.0 * truth - 1 + noise * np.random.default_rng(seed).normal(size=200))))
    columns = {"image": [f"{index}.png" for index in range(200)], "patient": [f"P{index // 2}" for index in range(200)]}
    table = pd.DataFrame(columns | {"truth": np.where(truth, "sick", "normal"), "p_sick": score})
    table.iloc[first:].sample(frac=1, random_state=seed).to_csv(path, index=False)
    return path


def test_two_tables_are_paired_by_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = predictions(tmp_path / "good.csv", noise=0.7, seed=1)
    poor = predictions(tmp_path / "poor.csv", noise=3.0, seed=2, first=20)
    options = ["--replicates", "200", "--margin", "0.05", "--json"]
    cli.app(["compare", str(good), str(poor), *options], standalone_mode=False)
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert (found["cases"], found["patients"]) == (180, 90)
    assert "20 and 0 left out" in told.err
    auc = found["metrics"]["auc"]
    shared = [f"{index}.png" for index in range(20, 200)]
    tables = [pd.read_csv(path).set_index("image").loc[shared] for path in (good, poor)]
    values = [roc_auc_score(table["truth"] == "sick", table["p_sick"]) for table in tables]
    assert (auc["first"], auc["second"]) == pytest.approx(values, abs=1e-12)
    assert auc["difference"] == pytest.approx(values[1] - values[0])
    assert auc["high"] < 0
    assert auc["p"] <= auc["adjusted_p"]
    assert found["auc_not_inferior"] is False
    cli.app(["compare", str(poor), str(good), *options], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["auc_not_inferior"] is True


def test_no_name_is_cut_off_in_a_narrow_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = predictions(tmp_path / "good.csv", noise=0.7, seed=1)
    poor = predictions(tmp_path / "poor.csv", noise=3.0, seed=2)
    cli.app(["compare", str(good), str(poor), "--replicates", "100"], standalone_mode=False)
    told = capsys.readouterr().out
    assert "Log loss" in told.replace("\n", " ")
    assert "…" not in told


def test_what_cannot_be_paired_is_refused(tmp_path: Path) -> None:
    good = predictions(tmp_path / "good.csv", noise=0.7, seed=1)
    other = tmp_path / "other.csv"
    table = pd.read_csv(good)
    table.assign(image=table["image"] + "x").to_csv(other, index=False)
    with pytest.raises(EvaluationError, match="no image in common"):
        cli.app(["compare", str(good), str(other)], standalone_mode=False)
    table.drop(columns="image").to_csv(other, index=False)
    with pytest.raises(EvaluationError, match="no column that names their images"):
        cli.app(["compare", str(good), str(other)], standalone_mode=False)
    with pytest.raises(UsageError, match="give a second table"):
        cli.app(["compare", str(good)], standalone_mode=False)
    with pytest.raises(UsageError, match="for one table of readers"):
        cli.app(["compare", str(good), str(good), "--reference", "without"], standalone_mode=False)
