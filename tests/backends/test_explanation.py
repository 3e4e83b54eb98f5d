"""Evidence adds up to the decision, lies where it was planted, and comes back to the pixels of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from hounsfield.bundle import Bundle, save_bundle
from hounsfield.errors import BundleError
from hounsfield.explanation import (
    METHODS,
    Explainer,
    Method,
    open_method,
    points_into,
    randomised,
    similarity,
)
from hounsfield.explanation.gradients import input_gradient, run
from hounsfield.explanation.occlusion import without_detail
from hounsfield.explanation.receptive_field import cell_shift
from hounsfield.explanation.structure import logits, parts
from hounsfield.images import Image
from hounsfield.models import build, ensemble, flip_averaged
from hounsfield.preprocessing import MinMax, Pipeline, Resize, ToChannels
from networks import tiny_network

# For the methods that run none.
NO_ENGINE: Any = None
SHAPES = {2: (16, 24, 1), 3: (8, 12, 10, 1)}


def random_images(shape: tuple[int, ...], count: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def seeker(shape: tuple[int, ...]) -> Any:
    """A network that adds up what is bright: no training is needed for it to know where to look."""
    rank = len(shape) - 1
    inputs = keras.Input(shape, name="image")
    convolution = {2: layers.Conv2D, 3: layers.Conv3D}[rank](2, 3, padding="same", activation="relu")
    features = {2: layers.GlobalAveragePooling2D, 3: layers.GlobalAveragePooling3D}[rank](name="features")
    outputs = layers.Dense(1, activation="sigmoid", name="probabilities")(features(convolution(inputs)))
    network = keras.Model(inputs, outputs, name="seeker")
    kernel = np.full((*(3,) * rank, 1, 2), 1 / 3**rank)
    network.set_weights([kernel, np.array([-0.5, 0.0]), np.array([[60.0], [0.5]]), np.array([-2.0])])
    return network


def seeker_bundle(folder: Path, shape: tuple[int, ...], *, letterbox: bool = True) -> Bundle:
    steps = (ToChannels(channels=1), Resize(size=shape[:-1], letterbox=letterbox), MinMax())
    return save_bundle(
        folder, seeker(shape), pipeline=Pipeline(steps=steps), labels=("normal", "opacity"), task="binary"
    )


def planted(shape: tuple[int, ...], box: tuple[int, ...]) -> Image:
    """A dim picture with a bright box."""
    rank = len(shape)
    pixels = np.random.default_rng(0).uniform(0, 40, (*shape, 1))
    pixels[tuple(slice(box[axis], box[rank + axis]) for axis in range(rank))] += 200
    return Image(pixels.astype(np.float32))


def opened(name: str, network: Any, layer: Any = "fine") -> Method:
    return open_method(name, lambda: network, NO_ENGINE, layer)


def of_means(network: Any) -> Any:
    """The network on images of which 2×2 pixels are averaged first, or 2×2×2: its maps have a grid of their own."""
    inputs = keras.Input(network.input_shape[1:], name="image")
    hidden = {3: layers.AveragePooling2D, 4: layers.AveragePooling3D}[len(inputs.shape) - 1](2)(inputs)
    for layer in network.layers[1:]:
        hidden = type(layer).from_config(layer.get_config())(hidden)
    averaged = keras.Model(inputs, hidden)
    averaged.set_weights(network.get_weights())
    return averaged


STRUCTURES: dict[str, Callable[[Any, Any], Any]] = {
    "plain": lambda first, _: first,
    "flips": lambda first, _: flip_averaged(first, (0, 1)),
    "ensemble": lambda first, second: ensemble([first, second]),
    "companion": lambda first, second: ensemble([first, of_means(second)]),
    "ensemble with flips": lambda first, second: flip_averaged(ensemble([first, second]), (1,)),
}


def structured(name: str, rank: int, tmp_path: Path) -> Any:
    """A network of one of the structures that training makes, as it comes back from its file."""
    members = [tiny_network("multi-class", SHAPES[rank], seed=seed) for seed in (0, 1)]
    network = STRUCTURES[name](*members)
    network.save(tmp_path / "network.keras")
    return keras.saving.load_model(tmp_path / "network.keras", compile=False)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("name", STRUCTURES)
def test_class_activation_maps_add_up_to_the_logits(name: str, rank: int, tmp_path: Path) -> None:
    network = structured(name, rank, tmp_path)
    (image,) = random_images(SHAPES[rank])
    wanted = run(logits(network), image[None])[0]
    bias = network.get_layer("probabilities").get_weights()[1]
    activation, published = (opened(name, network, "last") for name in ("activation", "grad_cam"))
    for column in range(3):
        target = np.eye(3, dtype=np.float32)[column]
        found = activation.evidence(image, target)
        assert found.shape == tuple(-(-length // 2) for length in SHAPES[rank][:-1])
        np.testing.assert_allclose(found.mean() + bias[column], wanted[column], rtol=1e-4)
        # Where features are means, Grad-CAM weighs the maps as the last layer does (Selvaraju 2017, appendix A).
        expected = np.maximum(found, 0) / found.size
        np.testing.assert_allclose(published.evidence(image, target), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("method", ["grad_cam", "integrated_gradients"])
@pytest.mark.parametrize("name", ["ensemble with flips", "companion"])
def test_integrated_maps_add_up_to_what_the_detail_is_worth(name: str, method: str, rank: int, tmp_path: Path) -> None:
    network = structured(name, rank, tmp_path)
    (image,) = random_images(SHAPES[rank])
    target = np.array([0, 1, 0], np.float32)
    both = run(logits(network), np.stack([image, without_detail(image)]))
    difference = float((both @ target) @ (1, -1))
    found = opened(method, network).evidence(image, target)
    assert abs(difference) > 0.1
    assert float(found.sum()) == pytest.approx(difference, rel=0.05)


def test_gradients_are_those_of_finite_differences() -> None:
    keras.utils.set_random_seed(0)
    network = logits(build("simple_cnn", (8, 8, 1), 3, "multi-class"))
    images = random_images((8, 8, 1), 2)
    targets = np.array([[1, 0, 0], [0, -1, 2]], np.float32)
    found = input_gradient(network)(images, targets)
    assert found.shape == images.shape
    for row, place_ in ((0, (3, 4, 0)), (1, (5, 2, 0))):
        shifted = np.stack([images[row]] * 2)
        # Small, since the edge of a ReLU between the two would bend the slope.
        shifted[0][place_] += 0.002
        shifted[1][place_] -= 0.002
        ahead, behind = run(network, shifted) @ targets[row]
        assert found[row][place_] == pytest.approx((ahead - behind) / 0.004, abs=0.02 * float(np.abs(found).max()))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rank", [2, 3])
def test_every_method_points_at_what_was_planted(method: str, rank: int, tmp_path: Path) -> None:
    """In an image of another size and other proportions than the network's input."""
    shape, box = {2: ((40, 70), (6, 48, 18, 62)), 3: ((10, 30, 26), (6, 4, 14, 9, 13, 24))}[rank]
    bundle = seeker_bundle(tmp_path / "bundle", SHAPES[rank])
    image = planted(shape, box)
    explainer = Explainer(bundle, method, engine="keras")
    (found,) = explainer.explain(image)
    assert found.heat.shape == shape
    assert found.label == "opacity"
    assert found.probability == pytest.approx(found.prediction.probabilities["opacity"])
    assert points_into(found.heat, np.array(box)) == 1
    middle = [(box[axis] + box[rank + axis] - 1) / 2 for axis in range(rank)]
    np.testing.assert_allclose(found.peak, middle, atol=4)
    (against,) = Explainer(bundle, method, engine="keras", label="normal").explain(image)
    np.testing.assert_allclose(against.heat, -found.heat, atol=1e-3 * np.abs(found.heat).max())


def test_a_network_without_maps_says_so_and_is_explained_otherwise(tmp_path: Path) -> None:
    network = build("simple_cnn", (16, 16, 1), 2, "binary")
    with pytest.raises(BundleError, match=r"no class activation map\. Use"):
        opened("activation", network, "last")
    (image,) = random_images((16, 16, 1))
    for layer in ("fine", "last"):
        method = opened("grad_cam", network, layer)
        for_it, against_it = (method.evidence(image, np.full(1, sign, np.float32)) for sign in (1, -1))
        assert for_it.ndim == 2
        assert np.abs(for_it - against_it).max() > 0
    inputs = keras.Input((6,), name="image")
    dense = keras.Model(inputs, layers.Dense(1, name="probabilities")(layers.Dense(4, name="features")(inputs)))
    with pytest.raises(BundleError, match="whose output lies in space"):
        opened("grad_cam", dense)


def test_fine_maps_are_the_deepest_of_their_resolution_that_nothing_bypasses() -> None:
    inputs = keras.Input((64, 48, 1), name="image")
    stem = layers.Conv2D(3, 3, strides=2, padding="same", name="stem")(inputs)
    branch = layers.Conv2D(3, 3, padding="same", activation="relu", name="branch")(stem)
    stage = layers.Add(name="sum")([layers.Conv2D(3, 3, padding="same", name="inner")(branch), stem])
    coarse = layers.Conv2D(4, 3, strides=4, padding="same", activation="relu", name="coarse")(stage)
    features = layers.GlobalAveragePooling2D(name="features")(coarse)
    network = keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="probabilities")(features))
    (part,) = parts(network)
    assert part.cut("last")[0].layers[-1].name == "coarse"
    maps, head = part.cut("fine")
    assert maps.layers[-1].name == "sum"
    image = random_images((64, 48, 1))
    whole = run(head, run(maps, image)) + network.get_layer("probabilities").get_weights()[1]
    np.testing.assert_allclose(whole, run(logits(network), image), rtol=1e-4, atol=1e-4)


def strided(shape: tuple[int, ...], *made: keras.Layer) -> keras.Model:
    inputs = keras.Input(shape)
    hidden = inputs
    for layer in made:
        hidden = layer(hidden)
    return keras.Model(inputs, hidden)


# By hand: the middle of what the middle cell looks at, less the middle of the image, over the pixels of a cell.
SHIFTS: dict[str, tuple[keras.Model, list[float]]] = {
    "one step of two pads an even axis at its end": (
        strided((8, 9, 1), layers.Conv2D(1, 3, strides=2, padding="same")),
        [0.5 / 2, 0.0],
    ),
    "two steps": (
        strided((16, 16, 1), layers.Conv2D(1, 3, 2, "same"), layers.MaxPooling2D(3, 2, "same")),
        [1.5 / 4, 1.5 / 4],
    ),
    "padding on both sides": (
        strided((8, 8, 1), layers.ZeroPadding2D(((1, 1), (2, 1))), layers.Conv2D(1, (3, 4), 2)),
        [-0.5 / 2, -1 / 2],
    ),
    "a volume": (
        strided((8, 9, 10, 1), layers.Conv3D(1, 3, 2, "same"), layers.ReLU()),
        [0.25, 0.0, 0.25],
    ),
    "a layer that is not known": (
        strided((8, 8, 1), layers.Conv2D(1, 3, 2, "same"), layers.Cropping2D(1)),
        [0.0, 0.0],
    ),
    "a layer that makes the grid finer": (
        strided((8, 8, 1), layers.Conv2D(1, 3, 2, "same"), layers.Conv2DTranspose(1, 3, 2, "same")),
        [0.0, 0.0],
    ),
    "a layer that is used twice": (
        strided((8, 8, 1), *[layers.Conv2D(1, 3, 2, "same")] * 2),
        [0.0, 0.0],
    ),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_where_strided_layers_look(name: str) -> None:
    maps, expected = SHIFTS[name]
    np.testing.assert_allclose(cell_shift(maps), expected, atol=1e-12)


def test_a_branch_that_takes_the_whole_image_in_moves_nothing() -> None:
    inputs = keras.Input((8, 8, 2))
    stem = layers.Conv2D(2, 3, 2, "same")(inputs)
    weight = layers.Reshape((1, 1, 2))(layers.GlobalAveragePooling2D()(stem))
    np.testing.assert_allclose(cell_shift(keras.Model(inputs, layers.Multiply()([stem, weight]))), 0.25)
    shortcut = layers.Conv2D(2, 1, 2, "same")(inputs)
    np.testing.assert_allclose(cell_shift(keras.Model(inputs, layers.Add()([stem, shortcut]))), 0, atol=1e-12)


@pytest.mark.parametrize("shape", [(64, 64, 1), (128, 112, 1), (48, 32, 32, 1)])
def test_cells_look_where_a_changed_pixel_is_seen(shape: tuple[int, ...]) -> None:
    keras.utils.set_random_seed(0)
    (part,) = parts(build("resnet10", shape, 2, "binary", width=24, pooling="stages"))
    maps, _ = part.cut("fine")
    generator = np.random.default_rng(0)
    spatial = np.array(shape[:-1])
    image = generator.normal(size=shape).astype(np.float32)
    places = generator.integers(spatial * 3 // 8, spatial * 5 // 8, size=(24, len(spatial)))
    changed = np.repeat(image[None], len(places), axis=0)
    for one, pixel in zip(changed, places, strict=True):
        one[tuple(pixel)] += 3
    seen = ((run(maps, changed) - run(maps, image[None])) ** 2).sum(axis=-1)
    cells = np.moveaxis(np.indices(seen.shape[1:]), 0, -1).reshape(-1, len(spatial))
    weight = seen.reshape(len(places), -1)
    middles = weight @ cells / weight.sum(axis=1, keepdims=True)
    shift = ((places + 0.5) * seen.shape[1:] / spatial - 0.5 - middles).mean(axis=0)
    np.testing.assert_allclose(shift, cell_shift(maps), atol=0.12)
    assert cell_shift(maps).min() > 0.2


def test_maps_of_a_network_that_pools_every_stage_are_those_of_the_first() -> None:
    """All that is deeper is bypassed by what is pooled before."""
    shape = (12, 12, 8, 1)
    network = build("resnet10", shape, 2, "binary", width=4, pooling="stages")
    generator = np.random.default_rng(0)
    network.set_weights([generator.uniform(0.1, 0.5, weight.shape) for weight in network.get_weights()])
    (part,) = parts(network)
    maps, head = part.cut("last")
    assert maps.layers[-1].name == "stage1_block1_relu"
    image = random_images(shape)
    whole = run(head, run(maps, image)) + network.get_layer("probabilities").get_weights()[1]
    np.testing.assert_allclose(whole, run(logits(network), image), rtol=1e-3)


def test_a_shuffled_network_keeps_its_weights_and_loses_its_explanation(tmp_path: Path) -> None:
    network = flip_averaged(tiny_network(), (1,))
    shuffled = randomised(network, seed=1)
    for before, after in zip(network.get_weights(), shuffled.get_weights(), strict=True):
        np.testing.assert_array_equal(np.sort(before.ravel()), np.sort(after.ravel()))
    (image,) = random_images((12, 10, 1))
    target = np.ones(1, np.float32)
    maps = [opened("activation", one).evidence(image, target) for one in (network, shuffled)]
    assert similarity(maps[0], maps[0]) == pytest.approx(1)
    assert similarity(*maps) < 0.9
    again = randomised(network, seed=1).get_weights()
    assert all(np.array_equal(*pair) for pair in zip(again, shuffled.get_weights(), strict=True))
