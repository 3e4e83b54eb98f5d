"""The order in which engines are tried, their precision, and their refusals."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError, MissingDependency, UsageError
from hounsfield.inference import (
    check_bfloat16,
    onnx_networks,
    open_engine,
)
from hounsfield.inference import engines as module
from hounsfield.inference.exact_sums import sum_in_blocks
from hounsfield.openvino_runtime import openvino_runtime
from hounsfield.tasks import decide
from networks import tiny_bundle

# The check's outcome, whether the processor has the instructions, and what the engine then computes in.
BFLOAT16_CASES = [(None, True, "float32"), (False, True, "float32"), (True, True, "bfloat16"), (True, False, "float32")]
IMAGES = np.random.default_rng(3).random((5, 12, 10, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("run") / "bundle", "multi-class")


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


@pytest.fixture
def _asked_anew() -> Iterator[None]:
    """A process asks for its processor once."""
    onnx_networks.has_bfloat16.cache_clear()
    yield
    onnx_networks.has_bfloat16.cache_clear()


@pytest.mark.usefixtures("_asked_anew")
@pytest.mark.parametrize(("told", "expected"), [(["FP32", "BF16", "INT8"], True), (["FP32", "FP16"], False)])
def test_the_instructions_are_those_that_openvino_tells(
    told: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = SimpleNamespace(get_property=lambda *asked: told if asked == ("CPU", "OPTIMIZATION_CAPABILITIES") else [])
    monkeypatch.setattr(onnx_networks, "openvino_runtime", lambda _: SimpleNamespace(Core=lambda: core))
    assert onnx_networks.has_bfloat16() is expected


def test_the_instructions_are_those_of_the_processor() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split()) if Path("/proc/cpuinfo").is_file() else set()
    if not flags or ({"amx_bf16", "avx_ne_convert"} & flags and "avx512_bf16" not in flags):
        pytest.skip("this system does not say whether OpenVINO can use its processor's instructions")
    assert onnx_networks.has_bfloat16() == ("avx512_bf16" in flags)


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


@pytest.mark.parametrize("shape", [(40, 56, 40), (192, 320)])
def test_openvino_normalises_large_maps_as_exactly_as_float32_allows(shape: tuple[int, ...]) -> None:
    """Its own sums differ by 1e-5 here, which a U-Net makes 1e-4."""
    openvino = openvino_runtime("this test")
    operations = openvino.opset13
    maps = np.random.default_rng(0).normal(1, 1, (1, 16, *shape)).astype(np.float32)
    source, rank = operations.parameter(maps.shape, openvino.Type.f32), len(shape)
    # Behind a convolution maps lie as OpenVINO sums them worst; this one leaves them as they are.
    same = operations.constant(np.eye(16, dtype=np.float32).reshape(16, 16, *(1,) * rank))
    convolved = operations.convolution(source, same, [1] * rank, [0] * rank, [0] * rank, [1] * rank)
    nodes = [
        operations.mvn(convolved, operations.constant(axes), True, 1e-5, "inside_sqrt")
        for axes in (np.arange(2, maps.ndim), np.array([-1]))
    ]
    network = openvino.Model(nodes, [source])
    sum_in_blocks(network, operations)
    assert [each.get_type_name() for each in network.get_ops()].count("MVN") == 1
    found = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(maps)[0]
    axes, exact = tuple(range(2, maps.ndim)), maps.astype(np.float64)
    expected = (exact - exact.mean(axes, keepdims=True)) / np.sqrt(exact.var(axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6)


def test_openvino_is_imported_without_its_telemetry() -> None:
    script = (
        "import sys; from hounsfield.openvino_runtime import openvino_runtime; openvino_runtime('a test'); "
        "print([name for name in sys.modules if name.startswith('openvino_telemetry') and sys.modules[name]])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    command = [sys.executable, "-c", script]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
