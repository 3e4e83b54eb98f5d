"""The bundle's files, what it keeps, and its refusals."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from detectors import tiny_detector_bundle
from hounsfield.bundle import Bundle, SourceRange, export_onnx, read_known_answer, save_bundle
from hounsfield.bundle.bundle import write_manifest
from hounsfield.bundle.known_answer import write_known_answer
from hounsfield.errors import BundleError
from hounsfield.evaluation import Novelty, Uncertainty, as_outcomes
from hounsfield.evaluation.scaling import Platt
from hounsfield.inference import engines
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


def as_of_format_1(folder: Path) -> None:
    """As bundles were written before they had hashes."""
    path = folder / "bundle.json"
    values = json.loads(path.read_text()) | {"format_version": 1}
    path.write_text(json.dumps({name: value for name, value in values.items() if name not in {"hashes", "seal"}}))


def some_uncertainty() -> Uncertainty:
    rng = np.random.default_rng(0)
    answers = as_outcomes(rng.random(40) < 0.5, rng.random(40), labels=LABELS["binary"], task="binary")
    return Uncertainty.of(answers, np.arange(40))


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
    assert names == ["bundle.json", "known_answer.npz", "model.keras", "model.onnx", "pipeline.json"]
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
    edit(copy, format_version=3, versions={"hounsfield": "9.1"})
    with pytest.raises(BundleError, match=r"format 3, written by Hounsfield 9\.1.*Upgrade"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "bundle.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "bundle.json").write_text("[]"), "damaged or was edited"),
        (lambda folder: edit(folder, threshold=7), "threshold"),
        (lambda folder: edit(folder, threshold=0.6), "not as it was written"),
        (lambda folder: edit(folder, hashes=None), "not as it was written"),
        (lambda folder: edit(folder, surprise=1), "surprise"),
        (lambda folder: (edit(folder, scaling={"name": "beta"}), as_of_format_1(folder)), "not one of"),
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
    as_of_format_1(copy)
    with pytest.raises(BundleError, match="preprocessing"):
        Bundle.load(copy)


def test_a_damaged_network_of_the_right_size_is_refused(copy: Path) -> None:
    path = copy / "model.keras"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BundleError, match=r"model\.keras is damaged or was exchanged"):
        Bundle.load(copy)
    as_of_format_1(copy)
    with pytest.raises(BundleError, match=r"model\.keras cannot be loaded"):
        Bundle.load(copy).network()


def test_a_bundle_without_hashes_is_read_and_says_so(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    as_of_format_1(copy)
    bundle = Bundle.load(copy)
    assert "earlier version, without hashes" in caplog.text
    export_onnx(bundle)
    caplog.clear()
    assert Bundle.load(copy).has_onnx
    assert not caplog.text


def test_every_flipped_bit_is_refused_by_name(copy: Path) -> None:
    Bundle.load(copy).with_uncertainty(some_uncertainty(), threshold=0.5)
    files = {path: path.read_bytes() for path in sorted(copy.iterdir())}
    assert {path.name for path in files} >= {"bundle.json", "model.keras", "model.onnx", "uncertainty.npz"}
    generator = np.random.default_rng(1)
    flips = [(path, int(bit)) for path, whole in files.items() for bit in generator.integers(8 * len(whole), size=170)]
    # Highest bits of exponents: a weight becomes enormous or vanishes.
    raw = files[copy / "model.onnx"]
    weights = [raw.find(np.asarray(weight, np.float32).tobytes()) for weight in tiny_network().get_weights()[1:5]]
    starts = [start for start in weights if start >= 0]
    assert starts
    flips += [(copy / "model.onnx", 8 * (int(generator.choice(starts)) + 3) + 6) for _ in range(200)]
    assert len(flips) >= 1200
    for path, bit in flips:
        damaged = bytearray(files[path])
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(BundleError, match=re.escape(path.name)):
            Bundle.load(copy)
        path.write_bytes(files[path])
    Bundle.load(copy)


def test_a_network_that_the_manifest_does_not_list_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    network, pipeline = tiny_network(), tiny_pipeline()
    saved = save_bundle(tmp_path / "b", network, pipeline=pipeline, labels=LABELS["binary"], task="binary")
    (saved.folder / "model.onnx").write_bytes(bundle.onnx_files[0].read_bytes())
    with pytest.raises(BundleError, match=r"model\.onnx is not a file of this bundle"):
        Bundle.load(saved.folder)


def test_the_identity_is_that_of_the_manifest(copy: Path) -> None:
    loaded = Bundle.load(copy)
    assert loaded.identity == hashlib.sha256((copy / "bundle.json").read_bytes()).hexdigest()
    (copy / "model.keras").unlink()
    assert Bundle.load(copy).identity == loaded.identity
    assert Bundle.load(copy).with_check("bfloat16", False).identity != loaded.identity


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "keras"])
def test_an_engine_that_does_not_give_the_known_answer_is_refused(copy: Path, engine: str) -> None:
    bundle = Bundle.load(copy)
    (answer,) = read_known_answer(bundle)
    engines.open_engine(bundle, engine)
    wrong = {name: output + 0.5 for name, output in answer.outputs.items()}
    write_known_answer(copy, [answer._replace(outputs=wrong)])
    write_manifest(bundle, "known_answer.npz")
    with pytest.raises(BundleError, match="does not give the known answer"):
        engines.open_engine(Bundle.load(copy), engine)


def test_a_detector_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Its settings were called "detector", which a classifier had as null."""
    bundle = tiny_detector_bundle(tmp_path / "bundle", onnx=False)
    as_of_format_1(tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    manifest["detector"] = manifest.pop("settings")
    (tmp_path / "bundle" / "bundle.json").write_text(json.dumps(manifest))
    assert Bundle.load(tmp_path).settings == bundle.settings
    assert bundle.settings["window_overlap"] == 0.25


def test_a_classifier_of_an_earlier_version_is_read(copy: Path) -> None:
    as_of_format_1(copy)
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
    bundle = Bundle.load(copy)
    bundle.with_uncertainty(some_uncertainty(), scaling=bundle.scaling, threshold=0.5)
    path = copy / "uncertainty.npz"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BundleError, match=r"uncertainty\.npz is damaged or was exchanged"):
        Bundle.load(copy)
    as_of_format_1(copy)
    with pytest.raises(BundleError, match=r"uncertainty\.npz is damaged"):
        _ = Bundle.load(copy).uncertainty
    path.unlink()
    with pytest.raises(BundleError, match=r"lacks uncertainty\.npz"):
        Bundle.load(copy)
