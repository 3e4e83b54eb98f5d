"""Counts of particles as an assay: figures against known formulas, coverage, planted truth, and the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import PoissonRegressor
from typer.testing import CliRunner

from detectors import LABELS, tiny_detector_bundle
from hounsfield.cli.main import app
from hounsfield.errors import CohortError, EvaluationError, UsageError
from hounsfield.evaluation.assay import analyse_fields
from hounsfield.evaluation.count_correction import CountCorrection
from hounsfield.evaluation.field_rates import detection_limit, rate_of, slope_of
from hounsfield.phantoms import make_phantom
from hounsfield.phantoms.vaccine import DILUTIONS, RECOVERY
from hounsfield.reports.assay import _dilutions
from hounsfield.testing.assay import whole

KINDS = ("empty", "full")


def simulated(
    seed: int, *, specimens: int = 6, fields: int = 4, ratio: float = 0.8, power: float = 1.0
) -> pd.DataFrame:
    """Fields of specimens of known density; the second instrument sees ``ratio`` times as many."""
    generator, rows = np.random.default_rng(seed), []
    for specimen in range(specimens):
        density, full = generator.uniform(20, 60), generator.uniform(0.3, 0.9)
        for instrument, seen in (("one", 1.0), ("two", ratio)):
            for dilution in (1.0, 4.0, 16.0):
                for field in range(fields):
                    mean = density * seen * dilution**-power * generator.gamma(25, 1 / 25)
                    total = generator.poisson(mean)
                    found = generator.binomial(total, full)
                    grid = f"{specimen}{instrument}{dilution:g}{field // 2}"
                    rows.append((f"lot{specimen}", instrument, dilution, grid, total - found, found, density, full))
    columns = ["specimen", "instrument", "dilution", "grid", "count_empty", "count_full", "density", "share"]
    return pd.DataFrame(rows, columns=columns)


def test_a_single_field_has_garwoods_interval_and_nothing_found_leaves_a_bound() -> None:
    one = rate_of(pd.Series([10]), pd.Series([2.0]), 0.95)
    # Garwood 1936: 4.795 and 18.390 for ten counts.
    assert (one.value, round(one.low, 3), round(one.high, 3)) == (5.0, 2.398, 9.195)
    none = rate_of(pd.Series([0, 0, 0, 0]), pd.Series([1.0] * 4), 0.95)
    assert (none.value, none.low, round(none.high, 4)) == (0.0, 0.0, 0.7489)  # the rule of three: 2.996 / 4


def test_a_finding_in_a_highly_diluted_field_does_not_blow_up_the_interval_of_a_blank() -> None:
    exposure = pd.Series(np.repeat([0.3, 0.08, 0.02], 8))
    counts = pd.Series(np.zeros(24)).where(~exposure.index.isin([0, 9, 17]), 1.0)
    found = rate_of(counts, exposure, 0.95)
    exact = stats.gamma.isf(0.025, 4) / exposure.sum()
    assert found.low < 3 / exposure.sum() < exact < found.high < 3 * exact


def test_the_slope_is_that_of_a_poisson_regression() -> None:
    table = simulated(0)
    table["total"], table["exposure"] = table["count_empty"] + table["count_full"], 1 / table["dilution"]
    found = slope_of(table, 0.95)
    groups = pd.get_dummies(table["specimen"] + table["instrument"]).to_numpy(float)
    design = np.column_stack([np.log(table["exposure"]), groups])
    other = PoissonRegressor(alpha=0, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(design, table["total"])
    assert found is not None
    assert found.value == pytest.approx(other.coef_[0], abs=1e-4)
    assert found.low < 1 < found.high


def test_counts_that_saturate_are_found_by_the_slope() -> None:
    table = simulated(1, power=0.8)
    assay = analyse_fields(table, KINDS)
    assert assay.slope is not None
    assert assay.slope.high < 1


def test_intervals_of_concentration_and_share_hold_the_truth_as_often_as_they_say() -> None:
    held = {"concentration": 0, "share": 0, "ratio": 0}
    draws = 60
    for seed in range(draws):
        table = simulated(seed, specimens=3)
        assay = analyse_fields(table, KINDS, kind="full")
        (agreement,) = assay.agreement
        held["ratio"] += agreement.ratio.low <= 0.8 <= agreement.ratio.high
        alone = table[(table["specimen"] == "lot0") & (table["instrument"] == "one")]
        (one,) = analyse_fields(alone, KINDS, kind="full").specimens
        assert one.share is not None
        held["concentration"] += one.concentration.low <= alone["density"].iloc[0] <= one.concentration.high
        held["share"] += one.share.low <= alone["share"].iloc[0] <= one.share.high
    # Of 60 draws at 95 %, fewer than 51 have a chance of 1 in 1,400.
    assert min(held.values()) >= 51, held


def test_shares_are_corrected_for_kinds_that_are_taken_for_others() -> None:
    generator = np.random.default_rng(0)
    # Of ten empty capsids three are taken for full ones and one is missed.
    finds = np.array([[0.6, 0.3], [0.05, 0.9]])
    true = generator.poisson([6, 9], (200, 2))
    correction = CountCorrection(true, generator.poisson(true @ finds))
    np.testing.assert_allclose(correction.matrix, finds, atol=0.08)
    held = 0
    for _ in range(20):
        objects = generator.poisson([14, 6], (12, 2))
        found = pd.DataFrame(generator.poisson(objects @ finds))
        share = correction.share(found, 1, pd.Series(np.arange(12)), confidence=0.95)
        assert share is not None
        held += share.low <= 0.3 <= share.high
        assert found[1].sum() / found.to_numpy().sum() > 0.45
    assert held >= 16


def test_repeatability_tells_chance_from_more() -> None:
    repeat = analyse_fields(simulated(2, specimens=20), KINDS).repeatability
    assert repeat is not None
    # Fields scatter by a fifth (gamma) beyond chance.
    assert repeat.fields.value == pytest.approx(np.hypot(repeat.poisson, 0.2), rel=0.2)
    assert repeat.fields.low < repeat.fields.value < repeat.fields.high


def test_the_detection_limit_is_that_of_exact_poisson_counts() -> None:
    clean = pd.DataFrame({"specimen": "buffer", "found": [0] * 10, "exposure": [0.5] * 10})
    limit = detection_limit(clean, 4)
    assert (limit.critical, limit.false) == (1, 0)
    assert limit.limit == pytest.approx(-np.log(0.05) / (4 * 0.5), rel=1e-6)
    noisy = detection_limit(clean.assign(found=[1, 0] * 5), 4)
    assert stats.poisson.sf(noisy.critical - 1, 2) <= 0.05 < stats.poisson.sf(noisy.critical - 2, 2)
    assert stats.poisson.sf(noisy.critical - 1, 2 + noisy.limit * 2) == pytest.approx(0.95)


def test_a_standard_calibrates_and_names_that_are_none_are_refused() -> None:
    table = simulated(3)
    assay = analyse_fields(table, KINDS, standard=("lot0", 1e12))
    first, second = assay.specimens[:2]
    assert first.calibrated is not None
    assert second.calibrated is not None
    assert first.calibrated.value == 1e12
    assert second.calibrated.value == pytest.approx(1e12 * second.concentration.value / first.concentration.value)
    assert second.calibrated.low < second.calibrated.value < second.calibrated.high
    # Grids are the independent units of both, and the errors of both add up.
    ends = [one.concentration_by_grid for one in (second, first)]
    above, below = np.log(ends[0].high / ends[0].value), np.log(ends[1].value / ends[1].low)
    assert np.log(second.calibrated.high / second.calibrated.value) == pytest.approx(np.hypot(above, below))
    by_field = analyse_fields(table.drop(columns="grid"), KINDS, standard=("lot0", 1e12)).specimens[1]
    relative = np.log(by_field.concentration.high / by_field.concentration.value)
    assert np.log(by_field.calibrated.high / by_field.calibrated.value) > relative
    with pytest.raises(EvaluationError, match="no specimen 'lot9'"):
        analyse_fields(table, KINDS, blanks=["lot9"])
    with pytest.raises(EvaluationError, match="kind 'broken' is not counted"):
        analyse_fields(table, KINDS, kind="broken")


def test_whole_particles_are_weighted_so_that_the_border_makes_no_bias() -> None:
    generator, found, planted = np.random.default_rng(0), 0.0, 0
    for _ in range(400):
        middles = generator.uniform(-60, 260, (40, 2))
        half = generator.choice([8.0, 30.0], 40)[:, np.newaxis]
        planted += int(((middles >= 0) & (middles < 200)).all(axis=1).sum())
        boxes = np.clip(np.hstack([middles - half, middles + half]), 0, 200)
        # A detector finds some of what is cut, and not the rest.
        visible = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) > 0.35 * (2 * half[:, 0]) ** 2
        found += whole(boxes[visible], (200, 200)).sum()
    assert found == pytest.approx(planted, rel=0.03)


def test_preparations_hold_what_is_planted(tmp_path: Path) -> None:
    table = pd.read_csv(make_phantom("phantom:vaccine", tmp_path / "lots", num_patients=1), keep_default_na=False)
    truth = pd.read_csv(tmp_path / "lots" / "preparations.csv").set_index("specimen")
    fields = table.drop_duplicates("image")
    assert len(fields) == len(RECOVERY) * len(DILUTIONS) * 4
    for name, rows in table.groupby("patient"):
        undiluted = rows[(rows["instrument"] == "Lumen 120") & (rows["dilution"] == 1) & (rows["label"] != "")]
        expected = truth.loc[name, "per_um2"] * 4 * (384 * 1.5 / 1000) ** 2
        # Particles that the border cuts count, so there are somewhat more.
        assert 0.6 * expected < len(undiluted) < 1.7 * expected


@pytest.fixture(scope="module")
def lots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector and a table of eight fields of two specimens."""
    folder = tmp_path_factory.mktemp("lots")
    tiny_detector_bundle(folder / "run" / "bundle")
    rows = []
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (60, 60), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
        rows.append((f"{number}.png", f"lot{number // 4}", f"grid{number // 2}", 1 + 3 * (number % 2), 1.5))
    columns = ["image", "specimen", "grid", "dilution", "pixel_nm"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "fields.csv", index=False)
    return folder


def test_the_command_writes_a_report_whose_figures_are_those_of_its_table(lots: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(
        app,
        ["assay", str(lots / "run"), str(lots / "fields.csv"), "--share", LABELS[0], "-o", str(tmp_path), "--json"],
    )
    assert told.exit_code == 0, told.output
    found = json.loads((tmp_path / "assay.json").read_text())
    fields = pd.read_csv(tmp_path / "fields.csv", keep_default_na=False)
    assert fields["area"].tolist() == pytest.approx([60 * 60 * 1.5**2 / 1e6] * 8)
    page = (tmp_path / "assay.html").read_text()
    assert "://" not in page.replace("http://www.w3.org", "")
    for one in found["assay"]["specimens"]:
        rows = fields[fields["specimen"] == one["specimen"]]
        total = rows[[f"weight_{label}" for label in LABELS]].to_numpy().sum()
        assert one["concentration"]["value"] == pytest.approx(total / (rows["area"] / rows["dilution"]).sum())
        assert one["specimen"] in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dilution": "0.25"}, "a factor of 1 or more"),
        ({"pixel_nm": "1,5 nm"}, "nanometres above 0"),
        ({"specimen": ""}, "holds no usable value"),
    ],
)
def test_a_design_that_cannot_be_right_is_refused(lots: Path, change: dict[str, str], message: str) -> None:
    table = pd.read_csv(lots / "fields.csv", dtype=str)
    for column, value in change.items():
        table.loc[3, column] = value
    table.to_csv(lots / "wrong.csv", index=False)
    with pytest.raises(CohortError, match=message):
        CliRunner().invoke(
            app, ["assay", str(lots / "run"), str(lots / "wrong.csv"), "-o", str(lots / "out")], catch_exceptions=False
        )
    assert not (lots / "out").exists()


@pytest.mark.parametrize("again", ["./3.png", "copy.png"])
def test_a_field_is_not_counted_twice(lots: Path, again: str) -> None:
    shutil.copy(lots / "3.png", lots / "copy.png")
    table = pd.read_csv(lots / "fields.csv", dtype=str)
    pd.concat([table, table.iloc[[3]].assign(image=again)]).to_csv(lots / "twice.csv", index=False)
    with pytest.raises(CohortError, match=f"one field twice, as 3.png and as {again}"):
        CliRunner().invoke(
            app, ["assay", str(lots / "run"), str(lots / "twice.csv"), "-o", str(lots / "out")], catch_exceptions=False
        )
    assert not (lots / "out").exists()


def test_a_specimen_without_particles_leaves_the_other_dilutions_drawn() -> None:
    table = simulated(3)
    table.loc[table["specimen"] == "lot2", ["count_empty", "count_full"]] = 0
    assay = analyse_fields(table, KINDS)
    assert assay.slope is not None
    (axes,) = _dilutions(assay).axes
    drawn = [line.get_xdata().tolist() for line in axes.lines[1:]]
    assert drawn == [[] if number == 2 else [1.0, 4.0, 16.0] for number in range(6)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4", "16"]


def test_results_never_replace_the_table_of_fields(lots: Path) -> None:
    with pytest.raises(UsageError, match="apart from the inputs"):
        CliRunner().invoke(
            app, ["assay", str(lots / "run"), str(lots / "fields.csv"), "-o", str(lots)], catch_exceptions=False
        )


def test_specimens_of_the_training_are_not_measured(lots: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "bundle").symlink_to(lots / "run" / "bundle")
    cohort = pd.DataFrame({"patient": ["lot0", "lot1", "lot2"], "split": ["train", "test", "validation"]})
    cohort.to_parquet(run / "cohort.parquet")
    told = CliRunner().invoke(
        app,
        ["assay", str(run), str(lots / "fields.csv"), "-o", str(tmp_path / "out"), "--json"],
        catch_exceptions=False,
    )
    assert [one["specimen"] for one in json.loads((tmp_path / "out/assay.json").read_text())["assay"]["specimens"]] == [
        "lot1"
    ]
    assert "1 specimens with 4 fields were left out" in told.output
    # Nor by another spelling, or when the run is named by its bundle.
    table = pd.read_csv(lots / "fields.csv", dtype=str)
    table.assign(specimen=table["specimen"] + " ").to_csv(lots / "spaced.csv", index=False)
    (run / "bundle").unlink()
    shutil.copytree(lots / "run" / "bundle", run / "bundle")
    (run / "environment.json").write_text("{}")
    told = CliRunner().invoke(
        app,
        ["assay", str(run / "bundle"), str(lots / "spaced.csv"), "-o", str(tmp_path / "out"), "--json"],
        catch_exceptions=False,
    )
    assert "1 specimens with 4 fields were left out" in told.output
    cohort.assign(split="train").to_parquet(run / "cohort.parquet")
    with pytest.raises(UsageError, match="trained on all 2 specimens"):
        CliRunner().invoke(app, ["assay", str(run), str(lots / "fields.csv")], catch_exceptions=False)
