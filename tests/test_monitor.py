"""Monitoring: limits hold what they promise on small streams, drifts are found by the right chart, tables are read."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hounsfield.cli import main as cli
from hounsfield.errors import EvaluationError, ServingError
from hounsfield.evaluation import charts as module
from hounsfield.evaluation.charts import Charts, Reference
from hounsfield.evaluation.monitoring import ABSTENTIONS, DISAGREEMENT, OOD, monitor, with_readings
from hounsfield.serving.answers import answers_table
from hounsfield.serving.database import DATABASE


def predictions(
    count: int, seed: int, *, prevalence: float = 0.3, shift: float = 0.0, wrong: float = 0.0
) -> pd.DataFrame:
    """As `predict` writes them, with truths."""
    rng = np.random.default_rng(seed)
    sick = rng.random(count) < prevalence
    logit = 1.5 * (2 * sick - 1) + 1.5 * rng.normal(size=count)
    probability = 1 / (1 + np.exp(-logit))
    ood = np.exp(0.3 * rng.normal(size=count)) / 2
    told = np.where(rng.random(count) < wrong, ~sick, sick)
    return pd.DataFrame(
        {
            "image": [f"{seed}-{number}.png" for number in range(count)],
            "prediction": np.where(probability > 0.5, "sick", "normal"),
            "p_normal": 1 - probability,
            "p_sick": probability,
            "ood_score": ood,
            "out_of_distribution": ood > 1,
            "answer": np.where(np.abs(logit) < 0.3, "abstain", np.where(probability > 0.5, "sick", "normal")),
            "mean": rng.normal(size=count) + shift,
            "truth": np.where(told, "sick", "normal"),
        }
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer and shorter streams: limits a little less exact, in a fraction of the time."""
    monkeypatch.setattr(module, "STREAMS", 100)
    monkeypatch.setattr(module, "LENGTH", 500)


def simulated(rng: np.random.Generator, count: int, *, drift: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """Two figures and a flag of so many images, with one thing that has changed."""
    first, second = rng.normal(size=(2, count))
    if drift == "level":
        first = first + 1
    if drift == "spread":
        second = 2 * second
    if drift == "together":
        second = 0.95 * first + np.sqrt(1 - 0.95**2) * second
    flag = rng.random(count) < (0.3 if drift == "flag" else 0.05)
    return {"first": first, "second": second}, {"flag": flag.astype(float)}


def test_false_alarms_come_as_often_as_was_asked(quick: None) -> None:
    rng = np.random.default_rng(0)
    silent: dict[float, list[float]] = {0.8: [], 1.0: [], 1.25: []}
    for _ in range(16):
        charts = Charts.fit(Reference(*simulated(rng, 300), np.arange(300)), run_length=500)
        streams = [simulated(rng, 500) for _ in range(20)]
        for factor, shares in silent.items():
            changed = Charts(charts.reference, charts.limits * factor, charts.run_length)
            shares.append((changed.first_alarms(streams) >= 500).mean())
    # At a constant rate this share of the streams is without an alarm. A validation set of 300 images may be off by a
    # factor of two, so sets are averaged: their spread holds the binomial chance of their streams too.
    wanted = np.exp(-1 / module.MARGIN)
    error = {factor: np.std(shares, ddof=1) / np.sqrt(len(shares)) for factor, shares in silent.items()}
    assert abs(np.mean(silent[1.0]) - wanted) < 3 * error[1.0]
    assert error[1.0] < 0.07
    # Limits that are a fifth too low or a quarter too high would not pass.
    assert np.mean(silent[0.8]) < wanted - 3 * error[0.8]
    assert np.mean(silent[1.25]) > wanted + 3 * error[1.25]


def test_a_stream_has_the_same_first_alarm_among_others_and_alone(quick: None) -> None:
    rng = np.random.default_rng(0)
    reference = Reference(*simulated(rng, 300), np.arange(300))
    charts = Charts.fit(reference, run_length=500)
    streams = [simulated(rng, 500) for _ in range(20)]
    firsts = charts.first_alarms(streams)
    assert (firsts < 500).any()
    for stream, first in zip(streams, firsts, strict=True):
        _, alarms = charts.follow(*stream)
        assert (alarms[0][0] + 1 if alarms else 500) == first
    more = Charts.fit(reference, run_length=5000)
    assert (more.limits >= charts.limits).all()


def test_each_chart_by_itself_finds_its_drift_and_no_other(quick: None) -> None:
    rng = np.random.default_rng(0)
    charts = Charts.fit(Reference(*simulated(rng, 1000), np.arange(1000)), run_length=500)
    names, count, length = charts.reference.names, 100, 150

    def firsts(streams: list[Any], name: str) -> Any:
        limits = np.where(np.array(names) == name, charts.limits, np.inf)
        return Charts(charts.reference, limits, charts.run_length).first_alarms(streams)

    # Each chart has the same share of the false alarms; so many of the streams have one by chance (p .001).
    chance = 1 - np.exp(-length / (module.MARGIN * 500 * len(names)))
    most = stats.binom.isf(0.001, count, chance)
    # Drift -> the charts that must find it, with the least share of the streams, and those that may.
    drifts: dict[str, tuple[dict[str, float], set[str]]] = {
        "": ({}, set()),
        "level": ({"first, level": 1.0, "first, PSI": 1.0, "all figures, MMD": 1.0}, set()),
        "spread": ({"second, PSI": 0.99, "all figures, MMD": 0.99}, {"second, level"}),
        # Each figure is as it was: only all of them together show it.
        "together": ({"all figures, MMD": 0.5}, set()),
        "flag": ({"flag, share": 1.0}, set()),
    }
    for drift, (must, may) in drifts.items():
        streams = [simulated(rng, length, drift=drift) for _ in range(count)]
        for name in names:
            found = (firsts(streams, name) < length).mean()
            assert found >= must.get(name, 0), (drift, name)
            assert name in must or name in may or found * count <= most, (drift, name)
    # The mean delay of a CUSUM (Siegmund 1985, equation 2.57) at its limit, for a shift of one standard deviation.
    delays = firsts([simulated(rng, length, drift="level") for _ in range(count)], "first, level")
    excess = 1 - module.ALLOWANCE
    reach = excess * (charts.limits[names.index("first, level")] + 1.166)
    expected = (np.exp(-2 * reach) + 2 * reach - 1) / (2 * excess**2)
    # Ranks among 1,000 images stretch or shorten a standard deviation by some per cent.
    assert delays.mean() == pytest.approx(expected, abs=3 * delays.std() / np.sqrt(count) + 0.1 * expected)


def test_ranks_make_normal_scores() -> None:
    known = np.arange(99.0)
    scores = module._normal_scores(known, np.array([49.0, -5.0, 200.0]))
    assert scores == pytest.approx([0, stats.norm.ppf(0.5 / 99), stats.norm.ppf(1 - 0.5 / 99)], abs=1e-9)


@pytest.mark.parametrize(
    ("drift", "charts", "median"),
    [
        ({"shift": 1.0}, {"mean, level"}, 25),
        ({"prevalence": 0.7}, {"log odds of sick, level", "truth minus prediction, level"}, 45),
        ({"wrong": 0.4}, {"disagreement with readers, share", "truth minus prediction, level"}, 45),
    ],
)
def test_a_drift_is_found_by_its_chart(quick: None, drift: dict[str, float], charts: set[str], median: int) -> None:
    early, delays = 0, []
    for seed in range(0, 80, 10):
        stream = pd.concat([predictions(300, 100 + seed), predictions(300, 101 + seed, **drift)], ignore_index=True)
        found = monitor(predictions(400, 102 + seed), stream, run_length=2000)
        late = [alarm for alarm in found.alarms if alarm.number > 300]
        early += len(found.alarms) - len(late)
        # The chart of all figures together may be the first, but no figure that is as it was.
        assert late[0].chart in charts | {"all figures, MMD"}
        delays.append(late[0].number - 300)
        assert charts & {alarm.chart for alarm in late}
    assert max(delays) <= 150
    # Limits half as high again would not pass (medians 30, 50 and 55).
    assert np.median(delays) <= median
    # False alarms in the 300 images before the drift, of eight streams (p .001).
    assert early <= stats.poisson.isf(0.001, 8 * 300 / 2000)
    assert {OOD, ABSTENTIONS, DISAGREEMENT} <= {name.removesuffix(", share") for name in found.names}
    assert found.to_dict()["windows"][0]["last"] == 200


def test_labels_come_later_and_times_decide_the_order(quick: None) -> None:
    stream = predictions(300, 2).assign(time=pd.date_range("2026-01-01", periods=300, freq="h")[::-1].astype(str))
    truths = stream.loc[::2, ["image", "truth"]]
    found = monitor(predictions(400, 1), with_readings(stream, truths))
    assert "truth minus prediction, level" in found.names
    assert found.windows[0]["from"].startswith("2026-01-01 00")
    without = monitor(predictions(400, 1), stream.drop(columns="truth"))
    assert not [name for name in without.names if "truth" in name or "readers" in name]
    assert any("truth minus prediction" in note for note in without.notes) or "truth" not in without.names
    with pytest.raises(EvaluationError, match="twice"):
        with_readings(stream, pd.concat([truths, truths]))
    # Of the fourth of March or the third of April the order would be a guess.
    for unclear in ("noon", "03/04/2026"):
        with pytest.raises(EvaluationError, match="cannot be read as times"):
            monitor(predictions(400, 1), stream.assign(time=unclear))
    with pytest.raises(EvaluationError, match=r"empty in 1 of 300 rows.*order"):
        monitor(predictions(400, 1), stream.assign(time=[None, *stream["time"][1:]]))


def test_what_cannot_be_watched_is_refused(quick: None) -> None:
    with pytest.raises(EvaluationError, match="at least 50 validation images"):
        monitor(predictions(30, 1), predictions(100, 2))
    with pytest.raises(EvaluationError, match="no figure is in both"):
        monitor(predictions(100, 1), pd.DataFrame({"image": ["a"]}))


def test_predictions_of_another_model_raise_no_false_peace(quick: None) -> None:
    known, seen = predictions(100, 1), predictions(100, 2)
    for other in (
        seen.rename(columns={"p_normal": "p_benign", "p_sick": "p_malignant"}),
        seen.drop(columns="p_normal"),
        seen.drop(columns=["p_normal", "p_sick"]),
        seen.drop(columns=["p_normal", "p_sick"]).assign(value=0.5),
    ):
        with pytest.raises(EvaluationError, match="not predictions of the same model"):
            monitor(known, other)
    with pytest.raises(EvaluationError, match="'p_normal' of the stream holds no number"):
        monitor(known, seen.assign(p_normal="0,5", p_sick="0,5"))
    with_gaps = seen.assign(ood_score=seen["ood_score"].where(np.arange(100) > 6))
    assert "ood_score: missing in 7 of 100 rows, which this figure leaves out." in monitor(known, with_gaps).notes


def test_the_command_ends_with_status_3_at_an_alarm(
    quick: None,
    trained_classifier: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = trained_classifier.run.folder  # type: ignore[attr-defined]
    for name, frame in (
        ("validation", predictions(300, 1)),
        ("quiet", predictions(40, 2)),
        ("drifted", predictions(300, 3, shift=2)),
    ):
        told = frame.rename(columns={"p_normal": "p_0", "p_sick": "p_1"}).replace({"normal": "0", "sick": "1"})
        told.to_csv(tmp_path / f"{name}.csv", index=False)
    predictions(300, 1).to_csv(tmp_path / "another.csv", index=False)

    def status(*arguments: str, known: str = "validation", watched: Path = run) -> int:
        line = ["hounsfield", "monitor", str(watched), *arguments, "--reference", str(tmp_path / f"{known}.csv")]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as outcome:
            cli.main()
        return int(outcome.value.code or 0)

    assert status(str(tmp_path / "quiet.csv")) == 0
    assert "No alarm in 40 images" in capsys.readouterr().out
    assert status(str(tmp_path / "drifted.csv"), "-o", str(tmp_path / "out"), "--json") == 3
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["alarms"][0]["chart"].startswith(("mean", "all"))
    assert json.loads((tmp_path / "out" / "monitoring.json").read_text()) == outcome
    assert (tmp_path / "out" / "monitoring.png").stat().st_size > 10_000
    # The run is the one whose predictions these are, also beside --reference.
    assert status(str(tmp_path / "another.csv"), known="another") == 2
    assert "Give predictions of the same model with --reference" in capsys.readouterr().err
    assert status(str(tmp_path / "quiet.csv"), watched=tmp_path) == 1


def test_answers_of_a_service_are_a_table(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="not the folder of a service"):
        answers_table(tmp_path)
    answers = [
        {"image": "a.dcm", "prediction": "sick", "probabilities": {"normal": 0.2, "sick": 0.8}, "ood_score": 0.5}
    ]
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("CREATE TABLE job (model TEXT, changed REAL, answer TEXT)")
        rows = [("chest", 10.0, json.dumps(answers)), ("chest", 5.0, json.dumps([{"image": "b", "reason": "no"}]))]
        connection.executemany("INSERT INTO job VALUES (?, ?, ?)", [*rows, ("hand", 1.0, json.dumps(answers))])
    with pytest.raises(ServingError, match="answers of chest, hand"):
        answers_table(tmp_path)
    (row,) = answers_table(tmp_path, "chest").to_dict("records")
    assert (row["image"], row["p_sick"], row["prediction"], row["time"]) == (
        "a.dcm",
        0.8,
        "sick",
        "1970-01-01T00:00:10",
    )
