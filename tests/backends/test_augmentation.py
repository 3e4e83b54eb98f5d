"""Augmentation: what is drawn, and what is done with it, against SciPy and by hand."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage

from hounsfield.augmentation import (
    RandomErase,
    RandomIntensity,
    RandomlyUnchanged,
    RandomSpatial,
)
from hounsfield.augmentation.build import build_layers
from hounsfield.augmentation.sampling import linear_upsampling, sample_linearly
from hounsfield.plans.augmentation import STRENGTHS, Augmentation

SHAPES = {2: (4, 9, 12, 2), 3: (3, 5, 8, 6, 2)}
STRONG = {
    RandomSpatial: {
        "flip_axes": (1,),
        "rotation": 20.0,
        "scale": 0.2,
        "stretch": 0.1,
        "shear": 0.1,
        "translation": 0.1,
        "elastic": 0.05,
    },
    RandomIntensity: {"brightness": 0.3, "contrast": 0.3, "gamma": 0.4, "sharpness": 0.5, "noise": 0.2},
    RandomErase: {"size": 0.6},
}
each_layer = pytest.mark.parametrize("kind", STRONG)
each_rank = pytest.mark.parametrize("rank", [2, 3])


def images(rank: int) -> np.ndarray:
    return np.random.default_rng(rank).normal(size=SHAPES[rank]).astype(np.float32)


def array(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def applied(layer: Any, batch: np.ndarray, **parameters: np.ndarray) -> np.ndarray:
    tensors = {name: ops.convert_to_tensor(np.asarray(value, np.float32)) for name, value in parameters.items()}
    return array(layer.apply(ops.convert_to_tensor(batch), tensors))


# Laws of every layer


@each_rank
@each_layer
def test_training_changes_images_and_nothing_else_does(kind: Any, rank: int) -> None:
    layer, batch = kind(seed=1, **STRONG[kind]), images(rank)
    np.testing.assert_array_equal(array(layer(batch)), batch)
    np.testing.assert_array_equal(array(layer(batch, training=False)), batch)
    changed = array(layer(batch, training=True))
    assert changed.shape == batch.shape
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    moved = [np.abs(new - old).max() > 1e-3 for new, old in zip(changed, batch, strict=True)]
    # A small box may lie between the pixels of a coarse image.
    assert all(moved) or (kind is RandomErase and any(moved))


@each_layer
def test_limits_of_zero_change_nothing(kind: Any) -> None:
    batch = images(2)
    np.testing.assert_allclose(array(kind(seed=1)(batch, training=True)), batch, atol=1e-5)


@each_layer
def test_the_seed_decides_and_the_next_batch_differs(kind: Any) -> None:
    batch = images(2)
    first, again = (kind(seed=7, **STRONG[kind]) for _ in range(2))
    one, two = array(first(batch, training=True)), array(first(batch, training=True))
    np.testing.assert_array_equal(array(again(batch, training=True)), one)
    assert np.abs(two - one).max() > 1e-3
    assert np.abs(array(kind(seed=8, **STRONG[kind])(batch, training=True)) - one).max() > 1e-3


@each_layer
def test_each_image_of_a_batch_has_its_own_draw(kind: Any) -> None:
    batch = np.repeat(images(2)[:1], 16, axis=0)
    changed = array(kind(seed=2, **STRONG[kind])(batch, training=True))
    # An erased box can be too small to hold a pixel, so a few may look alike.
    assert len({image.tobytes() for image in changed}) >= 12


@each_layer
def test_what_was_drawn_can_be_replayed(kind: Any) -> None:
    layer, batch = kind(seed=3, **STRONG[kind]), ops.convert_to_tensor(images(2))
    drawn = layer.sample(batch)
    assert all(value.shape[0] == len(batch) for value in drawn.values())
    np.testing.assert_array_equal(array(layer.apply(batch, drawn)), array(layer.apply(batch, drawn)))


@each_layer
def test_configuration_round_trip(kind: Any) -> None:
    layer = kind(seed=5, **STRONG[kind])
    rebuilt = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(rebuilt) is kind
    assert rebuilt.get_config() == layer.get_config()


def spared(share: float, seed: int = 1) -> RandomlyUnchanged:
    changes = [kind(seed=number, **STRONG[kind]) for number, kind in enumerate((RandomSpatial, RandomIntensity))]
    return RandomlyUnchanged(changes, share=share, seed=seed)


@each_rank
def test_some_images_are_spared_and_the_others_changed_as_without(rank: int) -> None:
    batch = np.repeat(images(rank)[:2], 100, axis=0)
    found, changed = (array(spared(share)(batch, training=True)) for share in (0.3, 0.0))
    axes = tuple(range(1, rank + 2))
    as_it_was, as_changed = ((found == other).all(axis=axes) for other in (batch, changed))
    assert (as_it_was ^ as_changed).all()
    # Binomial: 60 of 200 ± 4 standard deviations of 6.5.
    assert 34 <= as_it_was.sum() <= 86
    np.testing.assert_array_equal(array(spared(0.3)(batch)), batch)


def test_sparing_is_drawn_anew_for_each_batch_and_rebuilt_from_its_configuration() -> None:
    batch, layer = np.repeat(images(2)[:1], 64, axis=0), spared(0.5)
    rebuilt = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    one, two = (array(layer(batch, training=True)) for _ in range(2))
    np.testing.assert_array_equal(array(rebuilt(batch, training=True)), one)
    first, second = ((batch == changed).all(axis=(1, 2, 3)) for changed in (one, two))
    assert (first != second).any()


def test_the_layers_train_in_a_graph() -> None:
    network = keras.Sequential(
        [
            keras.Input(SHAPES[2][1:]),
            *build_layers(STRENGTHS["strong"], 0),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    network.compile("sgd", "mean_squared_error")
    assert np.isfinite(network.fit(images(2), np.zeros((4, 1)), epochs=1, verbose=0).history["loss"][0])


# Space


@each_rank
def test_sampling_agrees_with_scipy(rank: int) -> None:
    batch = images(rank)
    spatial = batch.shape[1:-1]
    generator = np.random.default_rng(0)
    # Far beyond every border, where the image is mirrored several times.
    coordinates = generator.uniform(-2.5, 3.5, size=(len(batch), int(np.prod(spatial)), rank)) * spatial
    found = array(sample_linearly(ops.convert_to_tensor(batch), ops.convert_to_tensor(coordinates.astype(np.float32))))
    for number, channel in np.ndindex(len(batch), batch.shape[-1]):
        where = coordinates[number].astype(np.float32).astype(np.float64).T
        expected = ndimage.map_coordinates(
            batch[number, ..., channel].astype(np.float64), where, order=1, mode="mirror"
        )
        np.testing.assert_allclose(found[number, ..., channel].ravel(), expected, atol=1e-4)


@each_rank
def test_an_affine_change_agrees_with_scipy(rank: int) -> None:
    batch = images(rank)
    generator = np.random.default_rng(1)
    matrix = np.eye(rank) + generator.uniform(-0.3, 0.3, size=(len(batch), rank, rank))
    shift = generator.uniform(-2, 2, size=(len(batch), rank))
    found = applied(RandomSpatial(), batch, matrix=matrix, shift=shift)
    centre = (np.array(batch.shape[1:-1]) - 1) / 2
    for number, channel in np.ndindex(len(batch), batch.shape[-1]):
        offset = centre + shift[number] - matrix[number] @ centre
        expected = ndimage.affine_transform(
            batch[number, ..., channel], matrix[number], offset, order=1, mode="mirror", output=np.float64
        )
        np.testing.assert_allclose(found[number, ..., channel], expected, atol=1e-4)


@each_rank
def test_an_elastic_change_agrees_with_scipy(rank: int) -> None:
    batch = images(rank)
    spatial, nodes = batch.shape[1:-1], RandomSpatial.ELASTIC_NODES
    field = np.random.default_rng(2).uniform(-1.5, 1.5, size=(len(batch), *[nodes] * rank, rank)).astype(np.float32)
    matrix = np.tile(np.eye(rank), (len(batch), 1, 1))
    found = applied(RandomSpatial(), batch, matrix=matrix, shift=np.zeros((len(batch), rank)), field=field)
    grid = np.stack(np.meshgrid(*[np.arange(size) for size in spatial], indexing="ij"))
    fine = np.stack(np.meshgrid(*[np.linspace(0, nodes - 1, size) for size in spatial], indexing="ij"))
    for number, channel in np.ndindex(len(batch), batch.shape[-1]):
        bend = np.stack(
            [ndimage.map_coordinates(field[number, ..., axis], fine, order=1, mode="nearest") for axis in range(rank)]
        )
        expected = ndimage.map_coordinates(batch[number, ..., channel], grid + bend, order=1, mode="mirror")
        np.testing.assert_allclose(found[number, ..., channel], expected, atol=1e-4)


@each_rank
def test_a_mirrored_image_is_exactly_reversed(rank: int) -> None:
    batch = images(rank)
    for axis in range(rank):
        signs = np.eye(rank)
        signs[axis, axis] = -1
        matrix = np.tile(signs, (len(batch), 1, 1))
        found = applied(RandomSpatial(), batch, matrix=matrix, shift=np.zeros((len(batch), rank)))
        np.testing.assert_allclose(found, np.flip(batch, axis + 1), atol=1e-6)


def test_a_quarter_turn_is_numpys() -> None:
    batch = np.random.default_rng(0).normal(size=(1, 7, 7, 1)).astype(np.float32)
    matrix = np.array([[[0.0, -1.0], [1.0, 0.0]]])
    found = applied(RandomSpatial(), batch, matrix=matrix, shift=np.zeros((1, 2)))
    np.testing.assert_allclose(found[0, ..., 0], np.rot90(batch[0, ..., 0], -1), atol=1e-5)


def test_a_shift_moves_by_whole_pixels_and_mirrors_the_border() -> None:
    batch = np.arange(5, dtype=np.float32).reshape(1, 1, 5, 1)
    found = applied(RandomSpatial(), batch, matrix=np.eye(2)[None], shift=np.array([[0.0, 2.0]]))
    assert found[0, 0, :, 0].tolist() == [2, 3, 4, 3, 2]


@each_rank
def test_drawn_matrices_keep_their_limits(rank: int) -> None:
    batch = np.zeros((200, *SHAPES[rank][1:]), np.float32)
    turned = array(RandomSpatial(rotation=30, seed=0).sample(batch)["matrix"])
    np.testing.assert_allclose(
        turned @ turned.transpose(0, 2, 1), np.tile(np.eye(rank), (200, 1, 1)), atol=1e-5, err_msg="rotations"
    )
    if rank == 2:
        angles = np.rad2deg(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
        assert 25 < np.abs(angles).max() <= 30
    scaled = array(RandomSpatial(scale=0.25, seed=0).sample(batch)["matrix"])
    factors = scaled[:, 0, 0]
    assert 1 / 1.25 - 1e-5 <= factors.min() < 0.85
    assert 1.18 < factors.max() <= 1.25 + 1e-5
    np.testing.assert_allclose(scaled, factors[:, None, None] * np.eye(rank), atol=1e-6)
    flipped = array(RandomSpatial(flip_axes=(rank - 1,), seed=0).sample(batch)["matrix"])
    assert 0.4 < (flipped[:, -1, -1] == -1).mean() < 0.6
    assert (flipped[:, 0, 0] == 1).all()
    shift = array(RandomSpatial(translation=0.1, seed=0).sample(batch)["shift"]) / SHAPES[rank][1:-1]
    assert 0.09 < np.abs(shift).max() <= 0.1


def test_an_axis_of_one_pixel_survives() -> None:
    batch = np.random.default_rng(0).normal(size=(2, 1, 8, 1)).astype(np.float32)
    assert np.isfinite(array(RandomSpatial(seed=0, **STRONG[RandomSpatial])(batch, training=True))).all()


def test_upsampling_is_linear_interpolation() -> None:
    values = np.random.default_rng(0).normal(size=4)
    expected = np.interp(np.linspace(0, 3, 11), np.arange(4), values)
    np.testing.assert_allclose(linear_upsampling(4, 11) @ values, expected, atol=1e-6)


# Intensity


def neutral(count: int = 4) -> dict[str, np.ndarray]:
    ones = np.ones((count, 1, 1, 1))
    return {"brightness": 0 * ones, "contrast": ones, "gamma": ones, "sharpness": 0 * ones}


def test_brightness_and_contrast_are_in_units_of_the_image() -> None:
    batch = images(2)
    layer = RandomIntensity(brightness=1.0, contrast=1.0)
    found = applied(
        layer, batch, **neutral() | {"brightness": np.full((4, 1, 1, 1), 0.5), "contrast": np.full((4, 1, 1, 1), 2.0)}
    )
    mean, spread = batch.mean((1, 2, 3), keepdims=True), batch.std((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(found, mean + 2 * (batch - mean) + 0.5 * spread, atol=1e-5)


def test_gamma_keeps_the_extremes_and_the_order() -> None:
    batch = images(2)
    found = applied(RandomIntensity(gamma=1.0), batch, **neutral() | {"gamma": np.full((4, 1, 1, 1), 1.7)})
    axes = (1, 2, 3)
    np.testing.assert_allclose(found.min(axes), batch.min(axes), atol=1e-4)
    np.testing.assert_allclose(found.max(axes), batch.max(axes), atol=1e-4)
    low, high = batch.min(axes, keepdims=True), batch.max(axes, keepdims=True)
    np.testing.assert_allclose(found, low + (high - low) * ((batch - low) / (high - low)) ** 1.7, atol=1e-4)


def test_sharpness_one_is_the_binomial_blur() -> None:
    batch = images(2)
    found = applied(RandomIntensity(sharpness=1.0), batch, **neutral() | {"sharpness": np.ones((4, 1, 1, 1))})
    kernel = np.array([0.25, 0.5, 0.25])
    expected = ndimage.correlate1d(batch, kernel, axis=1, mode="nearest")
    expected = ndimage.correlate1d(expected, kernel, axis=2, mode="nearest")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_noise_has_the_strength_that_was_asked_for() -> None:
    batch = np.tile(np.linspace(0, 10, 100, dtype=np.float32).reshape(1, 1, 100, 1), (60, 100, 1, 1))
    layer = RandomIntensity(noise=0.4, seed=0)
    ratios = (array(layer(batch, training=True)) - batch).std((1, 2, 3)) / batch.std((1, 2, 3))
    assert 0.35 < ratios.max() <= 0.41
    # Uniform between 0 and 0.4.
    assert ratios.mean() == pytest.approx(0.2, abs=0.05)


def test_a_constant_image_stays_constant() -> None:
    batch = np.full((2, 6, 6, 1), 3.0, np.float32)
    found = array(RandomIntensity(seed=0, **STRONG[RandomIntensity])(batch, training=True))
    np.testing.assert_allclose(found, batch, atol=1e-4)


# Erasing


@each_rank
def test_erasing_fills_one_box_with_the_mean(rank: int) -> None:
    batch = images(rank)[:1]
    centre, half = np.full((1, rank), 0.5), np.full((1, rank), 0.22)
    found = applied(RandomErase(size=0.5), batch, centre=centre, half_side=half)
    expected = batch.copy()
    box = tuple(np.flatnonzero(np.abs((np.arange(size) + 0.5) / size - 0.5) < 0.22) for size in batch.shape[1:-1])
    expected[0][np.ix_(*box)] = batch.mean()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_erased_boxes_keep_their_limit() -> None:
    batch = np.random.default_rng(0).normal(size=(100, 20, 20, 1)).astype(np.float32)
    changed = array(RandomErase(size=0.5, seed=0)(batch, training=True)) != batch
    rows, columns = changed.any((2, 3)).sum(1), changed.any((1, 3)).sum(1)
    assert 8 <= rows.max() <= 10
    assert 8 <= columns.max() <= 10


# The policy


def test_a_policy_makes_only_the_layers_it_needs() -> None:
    assert build_layers(Augmentation(), 0) == []
    assert [type(layer) for layer in build_layers(Augmentation(erase=0.2), 0)] == [RandomErase]
    assert [type(layer) for layer in build_layers(Augmentation(flip_axes=(0,), noise=0.1), 0)] == [
        RandomSpatial,
        RandomIntensity,
    ]
    (spared,) = build_layers(STRENGTHS["strong"], 4)
    seeds = [layer.seed for layer in [spared, *spared.changes]]
    assert len(set(seeds)) == len(seeds) == 4
    assert build_layers(Augmentation(unchanged_share=0.5), 0) == []


def test_each_strength_varies_at_least_as_much_as_the_weaker_one() -> None:
    weaker: dict[str, Any] = STRENGTHS["none"].model_dump()
    for name in ("light", "medium", "strong"):
        stronger = STRENGTHS[name].model_dump()
        assert all(stronger[field] >= weaker[field] for field in weaker if field != "flip_axes")
        weaker = stronger
