"""Engines agree with Keras, and the order in which they are tried."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError, MissingDependency, UsageError
from hounsfield.inference import (
    ENGINES,
    check_bfloat16,
    onnx_networks,
    open_engine,
)
from hounsfield.inference import engines as module
from hounsfield.inference.labels import run as run_labels
from hounsfield.tasks import decide
from networks import keras_outputs, tiny_bundle, tiny_network

pytestmark = pytest.mark.network

# The check's outcome, whether the processor has the instructions, and what the engine then computes in.
BFLOAT16_CASES = [(None, True, "float32"), (False, True, "float32"), (True, True, "bfloat16"), (True, False, "float32")]
IMAGES = np.random.default_rng(3).random((5, 12, 10, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("run") / "bundle", "multi-class")


@pytest.mark.parametrize("name", list(ENGINES))
@pytest.mark.parametrize("alone", [True, False])
def test_engines_give_what_keras_gives(bundle: Bundle, name: str, alone: bool) -> None:
    engine = open_engine(bundle, name)
    assert engine.name == name
    for batch in (IMAGES, IMAGES[:1]):
        outputs = run_labels(engine, batch, alone=alone)
        probabilities, features = keras_outputs(tiny_network("multi-class"), batch)
        np.testing.assert_allclose(outputs.probabilities, probabilities, atol=1e-4)
        np.testing.assert_allclose(outputs.features, features, atol=1e-4)
        assert outputs.probabilities.dtype == outputs.features.dtype == np.float32


@pytest.mark.parametrize("name", list(ENGINES))
def test_batches_of_any_length_and_layout_follow_each_other(bundle: Bundle, name: str) -> None:
    engine = open_engine(bundle, name)
    expected, _ = keras_outputs(tiny_network("multi-class"), IMAGES)
    fixed, strided = IMAGES.copy(), np.repeat(IMAGES, 2, axis=-1)[..., :1]
    fixed.flags.writeable = False
    for batch in (IMAGES[:1], IMAGES, fixed[1:2], fixed, strided[2:3], strided, IMAGES[3:]):
        first = next(row for row, image in enumerate(IMAGES) if np.array_equal(image, batch[0]))
        found = run_labels(engine, batch).probabilities
        np.testing.assert_allclose(found, expected[first : first + len(batch)], atol=1e-4)


@pytest.mark.parametrize("name", list(ENGINES))
def test_outputs_outlive_the_next_call_and_other_threads(bundle: Bundle, name: str) -> None:
    engine = open_engine(bundle, name)
    first = run_labels(engine, IMAGES[:2])
    kept = first.probabilities.copy()
    found: dict[int, np.ndarray] = {}

    def run(number: int) -> None:
        for _ in range(5):
            found[number] = run_labels(engine, IMAGES[number : number + 1], alone=False).probabilities

    threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(first.probabilities, kept)
    expected, _ = keras_outputs(tiny_network("multi-class"), IMAGES)
    np.testing.assert_allclose(np.concatenate([found[number] for number in range(5)]), expected, atol=1e-4)


def test_auto_takes_openvino_then_onnx_runtime_then_keras(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MissingDependency("not installed")

    for expected in ("openvino", "onnxruntime", "keras"):
        assert open_engine(bundle).name == expected
        monkeypatch.setitem(module.ENGINES, expected, refuse)
    with pytest.raises(MissingDependency, match=r"hounsfield\[openvino\]"):
        open_engine(bundle)


def test_auto_falls_back_to_keras_without_onnx(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    bare = dataclasses.replace(bundle, folder=bundle.folder.parent / "bare")
    bare.folder.mkdir()
    for name in ("model.keras", "bundle.json", "pipeline.json"):
        (bare.folder / name).write_bytes((bundle.folder / name).read_bytes())
    assert open_engine(bare).name == "keras"
    assert not caplog.records
    with pytest.raises(BundleError, match="hounsfield export RUN --to onnx"):
        open_engine(bare, "openvino")


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_damaged_onnx_file_is_named(bundle: Bundle, name: str, tmp_path: Path) -> None:
    damaged = dataclasses.replace(bundle, folder=tmp_path)
    damaged.onnx_files[0].write_bytes(bundle.onnx_files[0].read_bytes()[:200])
    with pytest.raises(BundleError, match=r"model\.onnx cannot be read"):
        open_engine(damaged, name)


def test_auto_says_why_a_damaged_onnx_file_is_passed_over(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = dataclasses.replace(bundle, folder=tmp_path)
    for name in ("model.keras", "bundle.json", "pipeline.json"):
        (tmp_path / name).write_bytes((bundle.folder / name).read_bytes())
    damaged.onnx_files[0].write_bytes(bundle.onnx_files[0].read_bytes()[:200])
    assert open_engine(damaged).name == "keras"
    (warning,) = caplog.messages
    assert warning.startswith("Passed over: openvino, onnxruntime. The network runs on Keras")
    assert "model.onnx cannot be read" in warning
    assert "\n" not in warning


def test_an_unknown_engine_is_wrong_usage(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="auto, openvino, onnxruntime, keras"):
        open_engine(bundle, "tensorrt")


@pytest.mark.parametrize(("check", "instructions", "precision"), BFLOAT16_CASES)
def test_bfloat16_is_used_after_its_check_where_the_processor_has_it(
    bundle: Bundle, check: bool | None, instructions: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_networks, "has_bfloat16", lambda: instructions)
    checked = dataclasses.replace(bundle, engine_checks={} if check is None else {"bfloat16": check})
    assert open_engine(checked, "openvino").description.endswith(f"in {precision}")


def test_the_instructions_are_those_of_the_processor() -> None:
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").is_file() else []
    if not flags:
        pytest.skip("this system does not say what its processor can do")
    if "avx512_bf16" in flags:
        assert onnx_networks.has_bfloat16()
    elif not {"amx_bf16", "avx_ne_convert"} & set(flags):
        assert not onnx_networks.has_bfloat16()


def test_bfloat16_check_says_no_where_one_decision_differs(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_bfloat16(bundle, IMAGES) is True
    assert check_bfloat16(bundle, IMAGES[:0]) is False

    class Rounded(module.OpenVINOEngine):
        def run(self, batch: np.ndarray, *, part: int = 0, alone: bool = True) -> list[np.ndarray]:
            probabilities, features = super().run(batch, part=part, alone=alone)
            if "bfloat16" in self.description:
                probabilities = probabilities.copy()
                probabilities[-1] = np.roll(probabilities[-1], 1)
            return [probabilities, features]

    monkeypatch.setattr("hounsfield.inference.table.OpenVINOEngine", Rounded)
    assert check_bfloat16(bundle, IMAGES) is False


def test_decisions() -> None:
    rows = np.array([[0.5], [0.50001]])
    assert decide(rows, "binary").tolist() == [[False], [True]]
    assert decide(np.array([[0.2, 0.4, 0.4]]), "multi-class").tolist() == [[False, True, False]]
    assert decide(np.array([[0.2, 0.4, 0.9]]), "multi-label", 0.3).tolist() == [[False, True, True]]


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"keras", "tensorflow", "jax", "torch", "onnx", "openvino_telemetry"}:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, Blocker())
import numpy as np
from hounsfield.inference import Predictor
predictor = Predictor(sys.argv[1])
print(predictor.engine.name, len(predictor.predict(np.zeros((3, 12, 10)))))
"""


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_prediction_needs_no_backend(bundle: Bundle, engine: str) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    script = BLOCKED if engine == "openvino" else BLOCKED.replace('"keras",', '"keras", "openvino",')
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    command = [sys.executable, "-c", script, str(bundle.folder)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.stdout.split() == [engine, "3"], finished.stderr


def test_openvino_is_imported_without_its_telemetry() -> None:
    script = (
        "import sys; from hounsfield.openvino_runtime import openvino_runtime; openvino_runtime('a test'); "
        "print([name for name in sys.modules if name.startswith('openvino_telemetry') and sys.modules[name]])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    command = [sys.executable, "-c", script]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
