"""Networks: their exact layers, their numerics, and the laws that all of them obey."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from hounsfield.models import build, ensemble, flip_averaged, network_names
from hounsfield.models.training_model import training_model

SHAPES = {2: (16, 16, 1), 3: (8, 8, 8, 1)}


def logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(probabilities / (1 - probabilities))


def images(shape: tuple[int, ...], count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)


def test_simple_cnn_is_exactly_the_textbook_network() -> None:
    network = build("simple_cnn", (64, 64, 3), 2, "binary")
    kinds = [type(layer) for layer in network.layers[1:]]
    assert kinds == [layers.Conv2D, layers.MaxPooling2D, layers.Flatten, layers.Dense, layers.Dense]
    convolution, pooling, _, hidden, last = network.layers[1:]
    assert (convolution.filters, convolution.kernel_size, convolution.padding) == (32, (3, 3), "valid")
    assert convolution.activation is keras.activations.relu
    assert pooling.pool_size == (2, 2)
    assert (hidden.units, hidden.activation) == (128, keras.activations.relu)
    assert (last.units, last.activation) == (1, keras.activations.sigmoid)
    assert network.count_params() == 32 * (27 + 1) + 128 * (31 * 31 * 32 + 1) + 129
    assert isinstance(network.optimizer, keras.optimizers.Adam)
    assert network.loss == "binary_crossentropy"


def test_convolution_is_a_sum_over_the_flipped_kernel() -> None:
    """y(i,j) = ΣΣ x(i−k, j−l)·w(k,l) holds for Keras with w flipped: Keras computes a cross-correlation."""
    generator = np.random.default_rng(1)
    x, w = generator.normal(size=(6, 7)), generator.normal(size=(3, 3))
    expected = np.zeros((6, 7))
    for i, j in np.ndindex(6, 7):
        for k, m in np.ndindex(3, 3):
            # k and m count from the kernel's centre, as "same" padding places it.
            row, column = i - (k - 1), j - (m - 1)
            if 0 <= row < 6 and 0 <= column < 7:
                expected[i, j] += x[row, column] * w[k, m]
    layer = layers.Conv2D(1, 3, padding="same", use_bias=False)
    layer.build((None, 6, 7, 1))
    layer.set_weights([w[::-1, ::-1, None, None]])
    found = keras.ops.convert_to_numpy(layer(x[None, ..., None].astype(np.float32)))[0, ..., 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_dense_is_a_weighted_sum_and_a_bias() -> None:
    generator = np.random.default_rng(2)
    x, w, b = generator.normal(size=5), generator.normal(size=(5, 2)), generator.normal(size=2)
    expected = [sum(w[i, unit] * x[i] for i in range(5)) + b[unit] for unit in range(2)]
    layer = layers.Dense(2)
    layer.build((None, 5))
    layer.set_weights([w, b])
    found = keras.ops.convert_to_numpy(layer(x[None].astype(np.float32)))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("name", ["simple_cnn", "resnet10"])
def test_every_network_saves_reloads_and_trains_a_step(name: str, rank: int, tmp_path) -> None:
    options = {"width": 4} if name.startswith("resnet") else {}
    network = build(name, SHAPES[rank], 3, "multi-class", **options)
    before = network.predict(images(SHAPES[rank]), verbose=0)
    np.testing.assert_allclose(before.sum(1), 1, atol=1e-5)
    network.save(tmp_path / "network.keras")
    reloaded = keras.saving.load_model(tmp_path / "network.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(reloaded.predict(images(SHAPES[rank]), verbose=0), before)
    twin = training_model(network, "float32", [])
    twin.compile("sgd", "categorical_crossentropy")
    weights = [value.copy() for value in twin.get_weights()]
    assert np.isfinite(float(twin.train_on_batch(images(SHAPES[rank]), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]])))
    assert any((old != new).any() for old, new in zip(weights, twin.get_weights(), strict=True))


@pytest.mark.parametrize("pooling", ["mean", "stages"])
def test_the_twin_computes_what_the_plain_network_computes(pooling: str) -> None:
    network = build("resnet10", (16, 16, 1), 2, "binary", width=4, pooling=pooling)
    twin = training_model(network, "float32", [])
    x = images((16, 16, 1), 8)
    np.testing.assert_allclose(twin.predict(x, verbose=0), network.predict(x, verbose=0), atol=1e-6)
    plain = keras.ops.convert_to_numpy(network(x, training=True))
    fast = keras.ops.convert_to_numpy(twin(x, training=True))
    np.testing.assert_allclose(fast, plain, atol=1e-5)
    for expected, found in zip(network.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16, 1), (8, 8, 8, 1)])
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has another normalisation")
def test_a_step_of_the_twin_is_a_step_of_the_plain_network(shape: tuple[int, ...]) -> None:
    """Gradients through the fused kernel are those of Keras's layer."""
    network = build("resnet10", shape, 2, "binary", width=4)
    twin = training_model(network, "float32", [])
    before = [weight.copy() for weight in network.get_weights()]
    for model in (network, twin):
        model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")
        model.train_on_batch(images(shape, 8), np.arange(8)[:, None] % 2)
    for expected, found in zip(network.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert max(np.abs(new - old).max() for new, old in zip(network.get_weights(), before, strict=True)) > 1e-3


def test_the_twin_normalises_volumes_as_the_plain_network_does() -> None:
    network = build("resnet10", (8, 8, 8, 1), 2, "binary", width=4)
    twin = training_model(network, "float32", [])
    x = images((8, 8, 8, 1))
    plain = keras.ops.convert_to_numpy(network(x, training=True))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(twin(x, training=True)), plain, atol=1e-5)
    for expected, found in zip(network.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def randomised(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    network = build("resnet10", (16, 16, 1), 2, "binary", width=4)
    generator = np.random.default_rng(seed)
    network.set_weights(
        [w + generator.normal(0, 0.05, w.shape) * (w.ndim > 1) + 0.1 * (w.ndim == 1) for w in network.get_weights()]
    )
    return network


def test_an_ensemble_of_flips_averages_logits(tmp_path) -> None:
    first, second = randomised(1), randomised(2)
    x = images((16, 16, 1))
    mirrored = x[:, :, ::-1]
    expected = sum(logits(member.predict(view, verbose=0)) for member in (first, second) for view in (x, mirrored)) / 4
    merged = flip_averaged(ensemble([first, second]), (1,))
    np.testing.assert_allclose(logits(merged.predict(x, verbose=0)), expected, atol=1e-3)
    merged.save(tmp_path / "merged.keras")
    reloaded = keras.saving.load_model(tmp_path / "merged.keras", safe_mode=True)
    np.testing.assert_array_equal(reloaded.predict(x, verbose=0), merged.predict(x, verbose=0))
    assert reloaded.get_layer("features").output.shape == (None, 64)


@pytest.mark.parametrize("rank", [2, 3])
def test_features_of_all_stages_are_their_means_and_greatest_values(rank: int, tmp_path) -> None:
    network = build("resnet10", SHAPES[rank], 2, "binary", width=4, pooling="stages")
    generator = np.random.default_rng(0)
    network.set_weights([generator.uniform(0.1, 0.6, weight.shape) for weight in network.get_weights()])
    maps = [network.get_layer(f"stage{number}_block1_relu").output for number in (1, 2, 3, 4)]
    features = network.get_layer("features")
    *maps, found = keras.Model(network.inputs[0], [*maps, features.output]).predict(images(SHAPES[rank]), verbose=0)
    spatial = tuple(range(1, rank + 1))
    pooled = np.concatenate([pool(one, axis=spatial) for one in maps for pool in (np.mean, np.max)], axis=1)
    gamma, beta, mean, variance = features.get_weights()
    expected = (pooled - mean) / np.sqrt(variance + features.epsilon) * gamma + beta
    assert found.shape == (4, 4 * 30)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    network.save(tmp_path / "network.keras")
    reloaded = keras.saving.load_model(tmp_path / "network.keras", compile=False, safe_mode=True)
    again = reloaded.predict(images(SHAPES[rank]), verbose=0)
    np.testing.assert_array_equal(again, network.predict(images(SHAPES[rank]), verbose=0))


def test_normalised_features_begin_with_a_small_spread() -> None:
    """The head then learns at the pace that suits means over maps."""
    network = build("resnet10", (8, 8, 8, 1), 2, "binary", width=4, pooling="stages")
    features = keras.Model(network.inputs[0], network.get_layer("features").output)
    found = keras.ops.convert_to_numpy(features(images((8, 8, 8, 1), 16), training=True))
    assert np.median(found.std(axis=0)) == pytest.approx(0.1, rel=0.02)


def test_applications_take_grey_input() -> None:
    network = build("mobilenetv3small", (32, 32, 1), 3, "multi-class")
    assert network.predict(images((32, 32, 1), 1), verbose=0).shape == (1, 3)
    assert len(network_names()) > 30


def test_kernels_longer_than_their_input_keep_float32_on_tensorflow() -> None:
    network = build("resnet10", (16, 16, 16, 1), 2, "binary", width=4)
    convolutions = [
        layer
        for layer in training_model(network, "mixed_bfloat16", []).get_layer("network").layers
        if "kernel" in dir(layer)
    ]
    small = {layer.name for layer in convolutions if layer.compute_dtype == "float32"} - {"probabilities"}
    # 16³ is 2³ in the fourth stage, whose first convolution still sees 4³.
    expected = {"stage4_block1_2"} if keras.backend.backend() == "tensorflow" else set()
    assert small == expected
