"""A network comes back from its bundle as it was saved, under this backend and the others."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

from detectors import tiny_detector
from families import hounsfield
from hounsfield.bundle import Bundle, save_bundle
from hounsfield.bundle import labels as label_form
from hounsfield.bundle import masks as mask_form
from hounsfield.bundle.keras_file import require_plain_network
from hounsfield.bundle.keras_writing import write_keras
from hounsfield.images import Image
from hounsfield.models import build, ensemble, flip_averaged
from hounsfield.models.ordinal import folded
from hounsfield.models.views import with_attention, with_attention_of
from hounsfield.segmentation import residual_unet
from networks import LABELS, keras_outputs, tiny_bundle, tiny_network, tiny_pipeline


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("run") / "bundle")


def test_network_gives_the_same_after_loading(bundle: Bundle) -> None:
    images = np.random.default_rng(1).random((3, 12, 10, 1))
    for found, expected in zip(
        keras_outputs(bundle.network(), images), keras_outputs(tiny_network(), images), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_network_of_mixed_precision_is_saved_in_float32(tmp_path: Path) -> None:
    network = tiny_network(dtype="mixed_bfloat16")
    saved = save_bundle(tmp_path / "b", network, pipeline=tiny_pipeline(), labels=LABELS["binary"], task="binary")
    loaded = saved.network()
    assert {layer.compute_dtype for layer in loaded.layers} == {"float32"}
    images = np.random.default_rng(0).random((2, 12, 10, 1))
    np.testing.assert_allclose(keras_outputs(loaded, images)[1], keras_outputs(tiny_network(), images)[1], atol=1e-6)


PREDICT = """
import sys
import numpy as np
from hounsfield.inference import Predictor
images = np.load(sys.argv[2])
np.save(sys.argv[3], [list(p.probabilities.values()) for p in Predictor(sys.argv[1], "keras").predict(images)])
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_bundle_predicts_the_same_on_every_backend(bundle: Bundle, backend: str, tmp_path: Path) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    if backend == keras.backend.backend():
        pytest.skip("the network was saved under this backend, where test_keras_engine.py opens it")
    images = np.random.default_rng(0).random((4, 12, 10))
    np.save(tmp_path / "images.npy", images)
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    arguments = [str(bundle.folder), str(tmp_path / "images.npy"), str(tmp_path / "found.npy")]
    subprocess.run([sys.executable, "-c", PREDICT, *arguments], env=environment, check=True, capture_output=True)
    prepared = np.stack([bundle.pipeline.apply(Image(pixels=image[..., None])).pixels for image in images])
    positive, _ = keras_outputs(tiny_network(), prepared)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), np.hstack([1 - positive, positive]), atol=1e-4)


def _attended(flips: tuple[int, ...]) -> keras.Model:
    network = with_attention(build("resnet10", (16, 16, 1), 3, "multi-class", width=4), "attention")
    return with_attention_of(flip_averaged(network, flips), network)


def _graded() -> keras.Model:
    members = [build("resnet10", (12, 12, 12, 1), 4, "ordinal", width=4) for _ in range(2)]
    return flip_averaged(ensemble([folded(member) for member in members]), (1, 2))


def _segmenter(rank: int) -> keras.Model:
    strides, kernels = ((2,) * rank,) * 3, ((3,) * rank,) * 4
    return mask_form.deployed(residual_unet((*(16,) * rank, 1), 3, width=4, strides=strides, kernels=kernels))


# What is deployed, by how it is made.
DEPLOYED = {
    "attention": partial(_attended, ()),
    "attention of mirrored images": partial(_attended, (0, 1)),
    "grades by an ensemble of mirrored volumes": _graded,
    "pooled stages": partial(build, "resnet10", (16, 16, 16, 1), 2, "binary", width=4, pooling="stages"),
    "a mixed precision": lambda: label_form.deployed(tiny_network(dtype="mixed_bfloat16")),
    "a detector": partial(tiny_detector, 2),
    "a detector of volumes": partial(tiny_detector, 3),
    "a segmenter": partial(_segmenter, 2),
    "a segmenter of volumes": partial(_segmenter, 3),
}


@pytest.mark.parametrize("name", DEPLOYED)
def test_what_is_deployed_does_no_harm_and_is_always_the_same_file(name: str, tmp_path: Path) -> None:
    written = []
    for number in range(2):
        # The second one is built after more layers than the first.
        keras.utils.set_random_seed(0)
        network, path = DEPLOYED[name](), tmp_path / f"{number}" / "model.keras"
        names = [layer.name for layer in network._flatten_layers()]
        path.parent.mkdir()
        write_keras(network, path)
        require_plain_network(path)
        assert [layer.name for layer in network._flatten_layers()] == names
        assert [each.name for each in path.parent.iterdir()] == ["model.keras"]
        written.append(path.read_bytes())
    assert written[0] == written[1]
    loaded = keras.saving.load_model(path, compile=False)
    for mine, its in zip(network.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_export_to_saved_model(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = hounsfield(monkeypatch, "export", bundle.folder, "--to", "saved_model", "-o", tmp_path / "saved")
    if keras.backend.backend() == "tensorflow":
        assert status == 0
        assert (tmp_path / "saved" / "saved_model.pb").is_file()
    else:
        assert status == 1
        assert "KERAS_BACKEND=tensorflow" in capsys.readouterr().err
