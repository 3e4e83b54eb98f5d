"""Networks in 8-bit integers: what is written, what is refused, and which layers are left out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from families import hounsfield
from hounsfield.bundle import Bundle
from hounsfield.errors import EvaluationError, RunError, UsageError
from hounsfield.evaluation.detection_uncertainty import DetectionUncertainty
from hounsfield.evaluation.uncertainty import Uncertainty
from hounsfield.inference import Detector, open_predictor
from hounsfield.inference.windows import Found
from hounsfield.onnx_export.quantised import HEAVY, KEPT, named, sensitive_layers
from hounsfield.testing import box_quantisation, quantisation
from hounsfield.testing.box_quantisation import BoxAttempt
from hounsfield.testing.mask_quantisation import MaskAttempt
from hounsfield.testing.quantisation import Attempt, clear, quantise

pytest.importorskip("nncf", reason="NNCF is not installed")
# Of NNCF and what it imports.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def test_a_bundle_in_integers_decides_the_same(
    trained_classifier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run, out = trained_classifier.run.folder, tmp_path / "integers"
    assert hounsfield(monkeypatch, "export", run, "--to", "int8", "-o", out) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert hounsfield(monkeypatch, "verify", out) == 0
    before, after = Bundle.load(run), Bundle.load(out)
    assert after.settings["precision"] == "int8"
    assert after.settings["quantised"]["float32"] == before.identity
    assert not (out / "model.keras").exists()
    kinds = {node.op_type for node in onnx.load(out / "model.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    exact, found = open_predictor(before), open_predictor(after)
    images = trained_classifier.data.partition(",")[0]
    pairs = list(zip(exact.predict(images), found.predict(images), strict=True))
    values = np.array([[each.probabilities["1"] for each in pair] for pair in pairs])
    assert np.abs(values[:, 0] - values[:, 1]).max() < 0.15
    same = np.array([first.label == second.label for first, second in pairs])
    assert same[clear(values[:, :1], before)[:, 0]].all()
    # The distances are those of the new features: images of training are as near to themselves as before.
    scores = np.median([[each.ood_score for each in pair] for pair in pairs], axis=0)
    assert abs(scores[0] - scores[1]) < 0.1
    kept = after.kept(Uncertainty)
    assert kept is not None
    assert kept.novelty is not None
    with pytest.raises(UsageError, match="in float32"):
        quantise(out, tmp_path / "again")


def test_float_stays_where_nothing_passes(
    trained_classifier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantisation, "AUC_LOSS", -1.0)
    monkeypatch.setattr("hounsfield.onnx_export.quantised.KEPT", (0, 2))
    with pytest.raises(EvaluationError, match=r"stays in float32.*2 layers in float32"):
        quantise(trained_classifier.run.folder, tmp_path / "integers")
    assert not (tmp_path / "integers").exists()


def test_it_lies_beside_a_run_that_is_named_by_a_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    asked: list[Path] = []
    monkeypatch.setattr(Bundle, "load", lambda _: SimpleNamespace(family="labels"))
    monkeypatch.setattr(quantisation, "quantise", lambda _, folder, **__: asked.append(folder) or (None, []))
    assert hounsfield(monkeypatch, "export", ".", "--to", "int8") == 0
    assert asked == [tmp_path / "run-int8"]


def test_rows_that_are_gone_do_not_judge_less_in_silence(
    trained_classifier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained_classifier.run.folder
    load = quantisation.load_request
    found = quantisation.cohort_of(run, Bundle.load(run))
    # Test images are not even prepared.
    assert set(found.table["split"]) == {"train", "validation"}
    monkeypatch.setattr(quantisation, "load_request", lambda *given, **facts: load(*given, **facts).subset(range(20)))
    with pytest.raises(RunError, match="no longer in its data"):
        quantisation.cohort_of(run, Bundle.load(run))


def test_a_detector_whose_trunk_is_in_integers_finds_the_same(
    trained_detector: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run, out = trained_detector.run.folder, tmp_path / "integers"
    # Trained for an epoch, it reports nothing; what it finds at all is compared.
    attempt = box_quantisation._attempt
    monkeypatch.setattr(box_quantisation, "AP_LOSS", 0.1)
    monkeypatch.setattr(box_quantisation, "FLIPS", 0.2)
    monkeypatch.setattr(box_quantisation, "_attempt", lambda one, other, _, kept: attempt(one, other, 0.0, kept))
    assert hounsfield(monkeypatch, "export", run, "--to", "int8", "-o", out) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert hounsfield(monkeypatch, "verify", out) == 0
    before, after = Bundle.load(run), Bundle.load(out)
    assert after.settings["precision"] == "int8"
    assert not (out / "model.keras").exists()
    kinds = [{node.op_type for node in onnx.load(path).graph.node} for path in after.onnx_files]
    assert ["QuantizeLinear" in each for each in kinds] == [True, False]
    images = sorted(Path(trained_detector.data).parent.glob("*.png"))
    exact, found = (Detector(each, threshold=0.0).predict(images) for each in (before, after))
    scores = np.array([[each.scores.max() for each in pair] for pair in zip(exact, found, strict=True)])
    np.testing.assert_allclose(scores[:, 1], scores[:, 0], atol=0.05)
    kept = after.kept(DetectionUncertainty)
    assert kept is not None
    assert kept.novelty is not None


def test_findings_that_were_clear_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two images: one finding moves by a pixel, one falls just below the threshold, a clear one goes, one comes."""
    place = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50], [60, 60, 70, 70]], np.float32)

    def raw(boxes: np.ndarray, scores: list[float]) -> Any:
        found = Found(boxes, np.zeros(len(boxes), np.int64), np.array(scores, np.float32))
        return SimpleNamespace(found=[found], detections=SimpleNamespace(counts=lambda at: (found.scores >= at).sum()))

    monkeypatch.setattr(box_quantisation, "quick_precision", lambda _: (0.0, 0.9))
    before = raw(place[:3], [0.9, 0.52, 0.8])
    after = raw(np.array([place[0] + 1, place[1], place[3]]), [0.9, 0.48, 0.7])
    attempt = box_quantisation._attempt(before, after, 0.5, ())
    # Five are reported in all; the second is not clear.
    assert (attempt.changed, attempt.flips, attempt.ap50_loss, attempt.counts) == (3 / 5, 2 / 5, 0.0, 1.0)


@pytest.mark.parametrize(
    ("auc_loss", "ece_rise", "flips", "accepted"),
    [
        (0.0019, 0.0099, 0.002, True),
        (-0.01, -0.02, 0.0, True),
        (0.0021, 0.0, 0.0, False),
        (0.0, 0.011, 0.0, False),
        (0.0, 0.0, 0.0021, False),
        (float("nan"), 0.0, 0.0, False),
    ],
)
def test_every_limit_counts(auc_loss: float, ece_rise: float, flips: float, accepted: bool) -> None:
    assert Attempt((), auc_loss, ece_rise, flips, 0.1).accepted is accepted
    assert MaskAttempt((), auc_loss, ece_rise, flips).accepted is accepted
    assert BoxAttempt((), auc_loss, flips, 0.1, 0.1).accepted is (accepted or ece_rise > quantisation.ECE_RISE)
    assert KEPT[0] == 0


def test_clear_decisions(trained_classifier: Any) -> None:
    bundle = Bundle.load(trained_classifier.run.folder)
    limit = float(np.asarray(bundle.threshold))
    probabilities = np.array([[limit], [limit + 0.04], [limit + 0.06], [limit - 0.06]])
    assert clear(probabilities, bundle)[:, 0].tolist() == [False, False, True, True]


def test_the_layer_that_loses_most_comes_first(trained_classifier: Any, tmp_path: Path) -> None:
    bundle = Bundle.load(trained_classifier.run.folder)
    model = named(bundle.onnx_files[0])
    layers = [node for node in model.graph.node if node.op_type in HEAVY]
    harmed = layers[3]
    for weight in model.graph.initializer:
        if weight.name == harmed.input[1]:
            values = onnx.numpy_helper.to_array(weight)
            weight.CopyFrom(onnx.numpy_helper.from_array(np.round(values * 8) / 8, weight.name))
    onnx.save(model, tmp_path / "harmed.onnx")
    images = np.random.default_rng(0).normal(size=(4, *bundle.input_shape)).astype(np.float32)
    assert sensitive_layers(bundle.onnx_files[0], tmp_path / "harmed.onnx", images)[0] == harmed.name
