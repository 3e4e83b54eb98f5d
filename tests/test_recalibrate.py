"""Local recalibration: planted shifts are found again, and the new bundle predicts what was fitted."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression

from hounsfield.bundle import Bundle, bundle_faults
from hounsfield.cli import main as cli
from hounsfield.errors import EvaluationError, UsageError
from hounsfield.evaluation import as_outcomes
from hounsfield.evaluation.local_update import at_prevalence, fit_local
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.evaluation.scaling import Isotonic, Platt, Temperature, Unscaled
from hounsfield.inference import Predictor
from networks import LABELS, tiny_bundle

COUNT = 90


def drawn(count: int, *, prevalence: float = 0.4, seed: int = 0) -> Outcomes:
    """Probabilities that are too extreme by 1.8 and too high."""
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < prevalence
    logits = 1.8 * (1.5 * truth - 0.75 + rng.normal(size=count)) + 1
    return as_outcomes(truth, special.expit(logits), labels=("normal", "sick"), task="binary")


def test_slope_and_intercept_are_those_of_a_logistic_regression() -> None:
    answers = drawn(300)
    found = fit_local(answers, Unscaled())
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        special.logit(answers.scores), answers.truth[:, 0]
    )
    assert found.fitted == {"sick": "slope and intercept"}
    assert (found.scaling.slopes[0], found.scaling.intercepts[0]) == pytest.approx(
        (model.coef_[0, 0], model.intercept_[0]), abs=1e-4
    )
    # What is fitted on the network's own log odds does not depend on the scaling that it replaces.
    assert fit_local(answers, Temperature(2.0)).scaling.slopes == pytest.approx(found.scaling.slopes)


def test_a_case_is_judged_by_a_fit_that_did_not_see_its_patient() -> None:
    answers, patients = drawn(200), np.repeat(np.arange(100), 2)
    found = fit_local(answers, Unscaled(), groups=patients)
    inside = found.scaling.apply(answers.scores, "binary")
    assert not np.allclose(found.held_out, inside)
    flipped = answers.truth.copy()
    flipped[:2] = ~flipped[:2]
    again = fit_local(
        as_outcomes(flipped, answers.scores, labels=answers.labels, task="binary"), Unscaled(), groups=patients
    )
    assert again.held_out[:2] == pytest.approx(found.held_out[:2], abs=1e-12)
    assert not np.allclose(again.held_out[2:], found.held_out[2:])


def test_few_patients_move_the_intercept_alone_and_very_few_nothing() -> None:
    answers = drawn(100, prevalence=0.15, seed=3)
    assert 10 <= answers.truth.sum() < 20
    found = fit_local(answers, Platt((0.5,), (0.2,)))
    assert found.fitted == {"sick": "intercept"}
    assert found.scaling.slopes == (0.5,)
    assert found.scaling.apply(answers.scores, "binary").mean() == pytest.approx(answers.truth.mean(), abs=1e-6)
    with pytest.raises(EvaluationError, match="isotonic scaling needs at least 20"):
        fit_local(answers, Isotonic(((0.0, 1.0),), ((0.0, 1.0),)))
    with pytest.raises(EvaluationError, match="5 patients of the rarer kind; at least 10"):
        fit_local(as_outcomes(np.arange(100) < 5, answers.scores, labels=answers.labels, task="binary"), Unscaled())


def test_what_cannot_be_helped_is_refused() -> None:
    answers = drawn(200)
    turned = as_outcomes(~answers.truth, answers.scores, labels=answers.labels, task="binary")
    with pytest.raises(EvaluationError, match="do not rank"):
        fit_local(turned, Unscaled())
    apart = as_outcomes(answers.truth, np.where(answers.truth, 0.9, 0.2), labels=answers.labels, task="binary")
    with pytest.raises(EvaluationError, match="separate"):
        fit_local(apart, Unscaled())


def test_another_prevalence_moves_the_log_odds_by_bayes() -> None:
    scaling = at_prevalence(Platt((1.0,), (0.0,)), 0.5, 0.1)
    score = np.array([[0.5]])
    assert scaling.apply(score, "binary")[0, 0] == pytest.approx(0.1)
    with pytest.raises(EvaluationError, match="prevalence"):
        at_prevalence(scaling, 0.5, 1.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, and local images whose true log odds are half of the network's standardised ones, less one."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "data").mkdir()
    rng = np.random.default_rng(1)
    names = [f"scan-{number:02}.png" for number in range(COUNT)]
    pixels = rng.integers(0, 256, (COUNT, 14, 12), dtype=np.uint8)
    pixels[::2, 2:7, 2:7] = 255
    for name, picture in zip(names, pixels, strict=True):
        cv2.imwrite(str(folder / "data" / name), picture)
    scores = probabilities(tiny_bundle(folder / "bundle", "binary"), folder)
    tiny_bundle(folder / "bundle", "binary", threshold=round(float(np.median(scores)), 6))
    logits = special.logit(scores)
    truth = rng.random(COUNT) < special.expit(1.5 * (logits - logits.mean()) / logits.std() - 0.3)
    table = {"image": names, "label": np.array(LABELS["binary"])[truth.astype(int)]}
    table["patient"] = [f"P{number // 2}" for number in range(COUNT)]
    pd.DataFrame(table).to_csv(folder / "data" / "index.csv", index=False)
    return folder


def probabilities(bundle: Bundle, folder: Path) -> np.ndarray:
    images = sorted((folder / "data").glob("*.png"))
    return np.array([each.probabilities[LABELS["binary"][1]] for each in Predictor(bundle).predict(images)])


def run(place: Path, capsys: pytest.CaptureFixture[str], name: str, *options: str) -> dict[str, object]:
    line = ["recalibrate", str(place / "bundle"), str(place / "data" / "index.csv"), "-o", str(place / name)]
    cli.app([*line, "--replicates", "100", "--json", *options], standalone_mode=False)
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_the_new_bundle_predicts_what_was_fitted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = Bundle.load(place / "bundle")
    before = probabilities(old, place)
    found = run(place, capsys, "new")
    new = Bundle.load(place / "new")
    assert bundle_faults(place / "new")[0] == []
    assert (new.identity, new.folder) == (found["identity"], place / "new")
    assert new.identity != old.identity == Bundle.load(place / "bundle").identity
    assert new.calibration["recalibrated"][0]["from"] == old.identity
    after = probabilities(new, place)
    assert after == pytest.approx(new.scaling.apply(before[:, None], "binary")[:, 0], abs=1e-6)
    assert ((after > new.threshold) == (before > old.threshold)).all()
    truth = (pd.read_csv(place / "data" / "index.csv")["label"] == LABELS["binary"][1]).to_numpy()
    assert after.mean() == pytest.approx(truth.mean(), abs=1e-6)
    assert found["before"]["metrics"]["sensitivity"] == found["after"]["metrics"]["sensitivity"]  # type: ignore[index]
    assert new.uncertainty is not None


def test_the_threshold_follows_a_rule_and_the_prevalence(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(place, capsys, "sensitive", "--rule", "sensitivity=0.9", "--prevalence", "0.05")
    new = Bundle.load(place / "sensitive")
    scores = probabilities(new, place)
    truth = (pd.read_csv(place / "data" / "index.csv")["label"] == LABELS["binary"][1]).to_numpy()
    assert (scores[truth] > new.threshold).mean() >= 0.9
    kept = Bundle.load(place / "new") if (place / "new").exists() else None
    if kept is not None:
        shift = special.logit(scores) - special.logit(probabilities(kept, place))
        assert shift == pytest.approx(special.logit(0.05) - special.logit(truth.mean()), abs=1e-5)


def test_wrong_options_are_refused_before_any_work(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="not empty"):
        run(place, capsys, "data")
    with pytest.raises(UsageError, match="rule 'sensitivity=2' is not known"):
        run(place, capsys, "other", "--rule", "sensitivity=2")
    assert not (place / "other").exists()
