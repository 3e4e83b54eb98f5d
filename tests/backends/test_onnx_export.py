"""The ONNX form of networks against Keras, layer by layer and whole."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from hounsfield.errors import BundleError
from hounsfield.models import build, ensemble, flip_averaged
from hounsfield.onnx_export import writing
from hounsfield.onnx_export.conversion import convert
from hounsfield.onnx_export.ends import classifier_ends
from hounsfield.onnx_export.graph import NotConvertible
from hounsfield.onnx_export.writing import write_onnx
from networks import keras_outputs, tiny_network


def onnx_outputs(model: object, images: np.ndarray) -> list[np.ndarray]:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(model.SerializeToString())  # type: ignore[attr-defined]  # an onnx.ModelProto
    return session.run(["probabilities", "features"], {"image": images})


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("simple_cnn", (16, 18, 3), {}),
        ("resnet10", (17, 16, 1), {"width": 4}),
        ("resnet10", (33, 40, 1), {"width": 4, "stem": "large"}),
        ("resnet10", (9, 10, 12, 1), {"width": 4}),
        ("resnet10", (9, 10, 12, 1), {"width": 4, "pooling": "stages"}),
        ("resnet50", (12, 12, 3), {"width": 4, "dropout": 0.5}),
    ],
)
def test_onnx_equals_keras(name: str, shape: tuple[int, ...], options: dict[str, object], batch: int) -> None:
    network = randomised(build(name, shape, 3, "multi-class", **options))
    images = np.random.default_rng(2).normal(size=(batch, *shape)).astype(np.float32)
    for found, expected in zip(onnx_outputs(convert(network), images), keras_outputs(network, images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-5)


def test_onnx_of_flips_and_ensembles_equals_keras() -> None:
    shape = (12, 14, 1)
    members = [randomised(build("resnet10", shape, 2, "binary", width=4), seed=seed) for seed in (0, 1)]
    network = ensemble([flip_averaged(member, (0, 1)) for member in members])
    images = np.random.default_rng(2).normal(size=(3, *shape)).astype(np.float32)
    for found, expected in zip(onnx_outputs(convert(network), images), keras_outputs(network, images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_kind_of_layer_equals_keras() -> None:
    image = keras.Input((15, 14, 4), name="image")
    hidden = layers.Rescaling([0.5, 1.0, 2.0, 1.0], offset=0.1)(image)
    hidden = layers.ZeroPadding2D(((1, 0), (2, 1)))(layers.Conv2D(4, 3, groups=2, activation="silu")(hidden))
    hidden = layers.SeparableConv2D(6, 3, padding="same", activation="hard_silu")(hidden)
    hidden = layers.DepthwiseConv2D(3, dilation_rate=2, padding="same", depth_multiplier=2, activation="gelu")(hidden)
    # Not "same": there Keras on PyTorch counts the padding where it is uneven, and differs from Keras on the others.
    hidden = layers.AveragePooling2D(3, strides=2)(layers.Cropping2D(((0, 1), (1, 0)))(hidden))
    hidden = layers.LayerNormalization()(layers.Dropout(0.5)(hidden))
    gate = layers.Reshape((1, 1, 12))(layers.GlobalMaxPooling2D()(hidden))
    gate = layers.Conv2D(12, 1, activation="hard_sigmoid")(gate)
    hidden = layers.Concatenate()([layers.Multiply()([hidden, gate]), layers.ReLU(6.0)(hidden)])
    hidden = layers.MaxPooling2D(2, padding="same")(
        layers.Average()([hidden, keras.ops.flip(hidden, axis=2) * 2.0 + hidden])
    )
    hidden = layers.Dense(5, activation="leaky_relu")(hidden)
    features = layers.Dense(7, activation="elu", name="features")(layers.Flatten()(hidden))
    network = randomised(keras.Model(image, layers.Dense(3, activation="softmax", name="probabilities")(features)))
    images = np.random.default_rng(2).normal(size=(3, 15, 14, 4)).astype(np.float32)
    for found, expected in zip(onnx_outputs(convert(network), images), keras_outputs(network, images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_the_graph_has_one_transpose_and_no_padding_nodes() -> None:
    kinds = [node.op_type for node in convert(build("resnet18", (28, 28, 1), 2, "binary", width=4)).graph.node]
    assert kinds.count("Transpose") == 1
    assert not {"Pad", "Reshape", "Concat", "Slice"} & set(kinds)


def randomised(network: object, *, seed: int = 0) -> object:
    """The network with random statistics and scales, which start as zeros and ones and would hide faults."""
    generator = np.random.default_rng(seed)
    for weight in network.weights:  # type: ignore[attr-defined]  # a keras.Model
        if any(word in weight.path for word in ("gamma", "variance", "beta", "mean", "bias")):
            weight.assign(generator.uniform(0.5, 1.0, weight.shape))
    return network


def network_with_cosines() -> keras.Model:
    image = keras.Input((6, 6, 1), name="image")
    features = layers.GlobalAveragePooling2D(name="features")(keras.ops.cos(image))
    return keras.Model(image, layers.Dense(1, activation="sigmoid", name="probabilities")(features))


def test_an_unknown_layer_is_not_guessed() -> None:
    with pytest.raises(NotConvertible, match="Cos"):
        convert(network_with_cosines())


def test_a_scaled_sum_equals_keras() -> None:
    """The layer of InceptionResNetV2, the one network of keras.applications that has a layer of its own."""

    class CustomScaleLayer(layers.Layer):
        scale = 0.3

        def call(self, inputs: list) -> object:
            return inputs[0] + inputs[1] * self.scale

    image = keras.Input((6, 6, 2), name="image")
    hidden = CustomScaleLayer()([image, layers.Conv2D(2, 3, padding="same")(image)])
    features = layers.GlobalAveragePooling2D(name="features")(hidden)
    network = keras.Model(image, layers.Dense(1, activation="sigmoid", name="probabilities")(features))
    images = np.random.default_rng(2).normal(size=(3, 6, 6, 2)).astype(np.float32)
    for found, expected in zip(onnx_outputs(convert(network), images), keras_outputs(network, images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_unknown_layer_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    network = network_with_cosines()
    with pytest.raises(BundleError, match=r"No model\.onnx could be made: the layer cos.*falls back to Keras"):
        write_onnx([(network, classifier_ends(network), tmp_path / "model.onnx")])
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_conversion_is_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "convert", lambda *_: convert(tiny_network(seed=1)))
    monkeypatch.setattr(writing.importlib.util, "find_spec", lambda name: name == "onnxruntime" or None)
    network = tiny_network()
    with pytest.raises(BundleError, match="falls back to Keras"):
        write_onnx([(network, classifier_ends(network), tmp_path / "model.onnx")])
    assert list(tmp_path.iterdir()) == []
