"""Monitoring: limits hold what they promise on small streams, drifts are found by the right chart, tables are read."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

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


def test_false_alarms_come_as_often_as_was_asked(quick: None) -> None:
    rng = np.random.default_rng(0)
    known = {"first": rng.normal(size=300), "second": rng.normal(size=300)}
    flags = {"flag": (rng.random(300) < 0.05).astype(float)}
    charts = Charts.fit(Reference(known, flags, np.arange(300)), run_length=500)
    streams = [
        ({name: rng.normal(size=500) for name in known}, {"flag": (rng.random(500) < 0.05).astype(float)})
        for _ in range(100)
    ]
    firsts = charts.first_alarms(streams)
    # At a constant rate e⁻¹ of the streams are without an alarm; one validation set may be off by a factor of two.
    assert 0.14 < (firsts >= 500).mean() < 0.8
    # The same stream alone gives the same first alarm.
    _, alarms = charts.follow(*streams[0])
    assert (alarms[0][0] + 1 if alarms else 500) == firsts[0]
    more = Charts.fit(Reference(known, flags, np.arange(300)), run_length=5000)
    assert (more.limits >= charts.limits).all()


def test_ranks_make_normal_scores() -> None:
    known = np.arange(99.0)
    scores = module._normal_scores(known, np.array([49.0, -5.0, 200.0]))
    assert scores == pytest.approx([0, stats.norm.ppf(0.5 / 99), stats.norm.ppf(1 - 0.5 / 99)], abs=1e-9)


@pytest.mark.parametrize(
    ("drift", "charts"),
    [
        ({"shift": 1.0}, {"mean, level", "mean, PSI", "all figures, MMD"}),
        ({"prevalence": 0.7}, {"log odds of sick, level", "truth minus prediction, level"}),
        (
            {"wrong": 0.4},
            {"disagreement with readers, share", "truth minus prediction, level", "truth minus prediction, PSI"},
        ),
    ],
)
def test_a_drift_is_found_by_its_chart(quick: None, drift: dict[str, float], charts: set[str]) -> None:
    stream = pd.concat([predictions(300, 2), predictions(300, 3, **drift)], ignore_index=True)
    found = monitor(predictions(400, 1), stream, run_length=2000)
    late = [alarm for alarm in found.alarms if alarm.number > 300]
    assert late[0].number < 420
    # The chart of all figures together may be the first.
    assert charts & {alarm.chart for alarm in late}
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
    with pytest.raises(EvaluationError, match="cannot be read as times"):
        monitor(predictions(400, 1), stream.assign(time="noon"))


def test_what_cannot_be_watched_is_refused(quick: None) -> None:
    with pytest.raises(EvaluationError, match="at least 50 validation images"):
        monitor(predictions(30, 1), predictions(100, 2))
    with pytest.raises(EvaluationError, match="no figure is in both"):
        monitor(predictions(100, 1), pd.DataFrame({"image": ["a"]}))


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
        frame.to_csv(tmp_path / f"{name}.csv", index=False)

    def status(*arguments: str) -> int:
        line = ["hounsfield", "monitor", str(run), *arguments, "--reference", str(tmp_path / "validation.csv")]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as outcome:
            cli.main()
        return int(outcome.value.code or 0)

    assert status(str(tmp_path / "quiet.csv")) == 0
    assert "No alarm in 40 images" in capsys.readouterr().out
    assert status(str(tmp_path / "drifted.csv"), "-o", str(tmp_path / "out"), "--json") == 3
    told = json.loads(capsys.readouterr().out)
    assert told["alarms"][0]["chart"].startswith(("mean", "all"))
    assert json.loads((tmp_path / "out" / "monitoring.json").read_text()) == told
    assert (tmp_path / "out" / "monitoring.png").stat().st_size > 10_000


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
