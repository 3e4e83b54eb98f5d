"""The bundle's files, what it keeps, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detectors import tiny_detector_bundle
from hounsfield.bundle import Bundle, SourceRange, save_bundle
from hounsfield.errors import BundleError
from hounsfield.evaluation import Novelty, Uncertainty, as_outcomes
from hounsfield.evaluation.scaling import Platt
from hounsfield.preprocessing import DatasetZScore, Pipeline
from networks import LABELS, keras_outputs, tiny_bundle, tiny_network, tiny_pipeline

SEEN = SourceRange(smallest=(12, 10), largest=(12, 10), channels=(1,), modalities=("DX",))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("run") / "bundle", source_range=SEEN, threshold=0.4)


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in bundle.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def edit(folder: Path, **changes: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_loads_what_was_saved_from_the_run_and_from_its_own_folder(bundle: Bundle) -> None:
    for folder in (bundle.folder, bundle.folder.parent):
        loaded = Bundle.load(folder)
        assert loaded.folder == bundle.folder
        assert loaded.pipeline == bundle.pipeline
        assert (loaded.labels, loaded.task, loaded.threshold) == (LABELS["binary"], "binary", 0.4)
        assert (loaded.input_shape, loaded.modality) == ((12, 10, 1), "DX")
        assert loaded.source_range == bundle.source_range
        assert {"hounsfield", "keras", "python", "backend"} <= set(loaded.versions)


def test_nothing_but_the_bundle_is_left_behind(bundle: Bundle) -> None:
    names = sorted(path.name for path in bundle.folder.iterdir())
    assert names == ["bundle.json", "model.keras", "model.onnx", "pipeline.json"]
    assert [path.name for path in bundle.folder.parent.iterdir()] == ["bundle"]


def test_a_failed_save_keeps_the_old_bundle(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in copy.iterdir()}

    def full_disk(self: Pipeline, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Pipeline, "to_json", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_bundle(copy, tiny_network(seed=1), pipeline=tiny_pipeline(), labels=LABELS["binary"], task="binary")
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_saving_again_replaces_the_network_and_drops_its_old_onnx(copy: Path) -> None:
    network = tiny_network(seed=1)
    saved = save_bundle(copy, network, pipeline=tiny_pipeline(), labels=LABELS["binary"], task="binary")
    assert not saved.has_onnx
    images = np.ones((1, 12, 10, 1))
    np.testing.assert_allclose(
        keras_outputs(Bundle.load(copy).network(), images)[0], keras_outputs(network, images)[0], atol=1e-6
    )


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="other files"):
        save_bundle(tmp_path, tiny_network(), pipeline=tiny_pipeline(), labels=LABELS["binary"], task="binary")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_newer_format_says_to_upgrade(copy: Path) -> None:
    edit(copy, format_version=2, versions={"hounsfield": "9.1"})
    with pytest.raises(BundleError, match=r"format 2, written by Hounsfield 9\.1.*Upgrade"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "bundle.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "bundle.json").write_text("[]"), "damaged or was edited"),
        (lambda folder: edit(folder, threshold=7), "threshold"),
        (lambda folder: edit(folder, surprise=1), "surprise"),
        (lambda folder: edit(folder, scaling={"name": "beta"}), "not one of"),
        (lambda folder: (folder / "pipeline.json").unlink(), r"lacks pipeline\.json"),
        (lambda folder: (folder / "model.keras").write_bytes(b"PK"), "2 bytes"),
        (lambda folder: (folder / "bundle.json").unlink(), "no bundle"),
    ],
)
def test_damage_is_named(copy: Path, damage: object, words: str) -> None:
    damage(copy)  # type: ignore[operator]  # parametrize knows no types
    with pytest.raises(BundleError, match=words):
        Bundle.load(copy)


def test_a_pipeline_of_unknown_steps_is_refused(copy: Path) -> None:
    path = copy / "pipeline.json"
    path.write_text(path.read_text().replace("min_max", "xin_max"))
    with pytest.raises(BundleError, match="preprocessing"):
        Bundle.load(copy)


def test_a_damaged_network_of_the_right_size_is_refused(copy: Path) -> None:
    path = copy / "model.keras"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BundleError, match=r"model\.keras cannot be loaded"):
        Bundle.load(copy).network()


def test_a_detector_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Its settings were called "detector", which a classifier had as null."""
    bundle = tiny_detector_bundle(tmp_path / "bundle", onnx=False)
    manifest = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    manifest["detector"] = manifest.pop("settings")
    (tmp_path / "bundle" / "bundle.json").write_text(json.dumps(manifest))
    assert Bundle.load(tmp_path).settings == bundle.settings
    assert bundle.settings["window_overlap"] == 0.25


def test_a_classifier_of_an_earlier_version_is_read(copy: Path) -> None:
    manifest = json.loads((copy / "bundle.json").read_text())
    del manifest["settings"]
    (copy / "bundle.json").write_text(json.dumps(manifest | {"detector": None}))
    assert Bundle.load(copy).settings == {}


def test_a_deployment_without_the_keras_file_loads(copy: Path) -> None:
    (copy / "model.keras").unlink()
    assert Bundle.load(copy).has_onnx
    (copy / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"lacks model\.keras"):
        Bundle.load(copy)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        Bundle.load(tmp_path / "nowhere")


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    network = tiny_network("multi-class")
    with pytest.raises(BundleError, match="gives 3 probabilities"):
        save_bundle(tmp_path / "a", network, pipeline=tiny_pipeline(), labels=("a", "b"), task="multi-class")
    unfitted = Pipeline(steps=(DatasetZScore(),))
    with pytest.raises(BundleError, match="never fitted"):
        save_bundle(tmp_path / "b", network, pipeline=unfitted, labels=("a", "b", "c"), task="multi-class")
    assert list(tmp_path.iterdir()) == []


def test_checks_are_recorded(copy: Path) -> None:
    assert Bundle.load(copy).with_check("bfloat16", True).engine_checks == {"bfloat16": True}
    assert Bundle.load(copy).engine_checks == {"bfloat16": True}


def test_what_validation_taught_is_kept(copy: Path) -> None:
    rng = np.random.default_rng(0)
    answers = as_outcomes(rng.random(40) < 0.5, rng.random(40), labels=LABELS["binary"], task="binary")
    novelty = Novelty.fit({"features": rng.normal(size=(30, 4))}, {"features": rng.normal(size=(10, 4))})
    platt = Platt(slopes=(2.0,), intercepts=(-1.0,))
    Bundle.load(copy).with_uncertainty(
        Uncertainty.of(answers, np.arange(40), novelty), scaling=platt, threshold=0.3, calibration={"cases": 40}
    )
    loaded = Bundle.load(copy)
    assert (loaded.scaling, loaded.threshold, loaded.calibration) == (platt, 0.3, {"cases": 40})
    raw = np.array([[0.2], [0.9]], np.float32)
    expected = 1 / (1 + np.exp(1 - 2 * np.log(raw / (1 - raw))))
    np.testing.assert_allclose(loaded.calibrated(raw), expected, rtol=1e-6)
    assert loaded.uncertainty is not None
    assert loaded.uncertainty.novelty is not None
    np.testing.assert_array_equal(loaded.uncertainty.truth, answers.truth)
    rows = rng.normal(size=(5, 4))
    for name, ratios in novelty.ratios({"features": rows}).items():
        np.testing.assert_array_equal(loaded.uncertainty.novelty.ratios({"features": rows})[name], ratios)
    assert loaded.with_check("bfloat16", True).scaling == Bundle.load(copy).scaling == platt
    assert (copy / "uncertainty.npz").is_file()


def test_a_bundle_without_doubt_gives_the_networks_own_probabilities(copy: Path) -> None:
    loaded = Bundle.load(copy)
    raw = np.array([[0.2]], np.float32)
    assert loaded.uncertainty is None
    assert loaded.calibrated(raw) is raw


def test_damaged_doubt_is_named(copy: Path) -> None:
    rng = np.random.default_rng(0)
    answers = as_outcomes(rng.random(40) < 0.5, rng.random(40), labels=LABELS["binary"], task="binary")
    bundle = Bundle.load(copy)
    bundle.with_uncertainty(Uncertainty.of(answers, np.arange(40)), scaling=bundle.scaling, threshold=0.5)
    path = copy / "uncertainty.npz"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BundleError, match=r"uncertainty\.npz is damaged"):
        _ = Bundle.load(copy).uncertainty
    path.unlink()
    with pytest.raises(BundleError, match=r"lacks uncertainty\.npz"):
        Bundle.load(copy)
