"""The whole detector, in 2D and in 3D: it learns, survives the worst images, is saved, and its gradients are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from pydantic import ValidationError

from hounsfield.detection import FasterRCNN
from hounsfield.errors import UsageError, require
from hounsfield.models.backbone import backbone
from hounsfield.plans.detector_settings import DetectorSettings

pytestmark = pytest.mark.usefixtures("drawn_by_numpy")

TINY: dict[str, Any] = {
    "num_labels": 2,
    "backbone": "resnet10",
    "width": 4,
    "pyramid_channels": 16,
    "head_units": 32,
    "roi_bins": 3,
    "num_candidates": 48,
    "num_proposals": 24,
    "max_detections": 12,
    "anchors_sampled": 32,
    "regions_sampled": 16,
}
SHAPES: dict[int, dict[str, Any]] = {
    2: {"input_shape": (40, 48, 1), "stem": "large", "anchors": (((12, 12),), ((20, 20),))},
    3: {"input_shape": (16, 20, 16, 1), "stem": "medium", "anchors": (((6, 6, 6),), ((10, 10, 10),))},
}
RANKS = pytest.mark.parametrize("rank", [2, 3])
# What such a network is made of, and its gradients, are tested on every backend.
ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="trained on TensorFlow alone")


def reference_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of (n, 2·rank) and (m, 2·rank) boxes."""
    rank = first.shape[-1] // 2
    ends = np.minimum(first[:, None, rank:], second[None, :, rank:])
    shared = np.prod(np.clip(ends - np.maximum(first[:, None, :rank], second[None, :, :rank]), 0, None), axis=-1)
    areas = [np.prod(boxes[:, rank:] - boxes[:, :rank], axis=-1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None, :] - shared)


def settings(rank: int, **changes: Any) -> DetectorSettings:
    return DetectorSettings(**TINY | SHAPES[rank] | changes)


def scenes(shape: tuple[int, ...], count: int, *, padding: int = 5, seed: int = 0) -> tuple[np.ndarray, dict]:
    """Bright boxes of class 0 and dark ones of class 1 on noise; the last image is empty."""
    generator = np.random.default_rng(seed)
    rank = len(shape) - 1
    images = generator.normal(0, 0.1, (count, *shape)).astype(np.float32)
    boxes = np.zeros((count, padding, 2 * rank), np.float32)
    classes = np.full((count, padding), -1, np.int32)
    for image in range(count - 1):
        for number in range(2):
            side = generator.integers(min(shape[:-1]) // 4, min(shape[:-1]) // 2, rank)
            start = generator.integers(0, np.array(shape[:-1]) - side)
            where = tuple(slice(a, a + b) for a, b in zip(start, side, strict=True))
            images[(image, *where)] += 2 - 4 * number
            boxes[image, number] = [*start, *(start + side)]
            classes[image, number] = number
    return images, {"boxes": boxes, "classes": classes}


@RANKS
def test_the_answer_is_padded_and_sorted_inside_the_image(rank: int) -> None:
    network = FasterRCNN(settings(rank, score_floor=0.0))
    images, _ = scenes(network.settings.input_shape, 3)
    found = network.predict(images, verbose=0)
    assert found["boxes"].shape == (3, 12, 2 * rank)
    assert found["classes"].shape == found["scores"].shape == (3, 12)
    for boxes, classes, scores, count in zip(
        *(found[name] for name in ("boxes", "classes", "scores", "count")), strict=True
    ):
        assert count > 0
        assert (np.diff(scores[:count]) <= 0).all()
        assert (classes[:count] >= 0).all()
        assert (boxes[:count, :rank] < boxes[:count, rank:]).all()
        assert (boxes[:count] >= 0).all()
        assert (boxes[:count] <= np.tile(network.settings.input_shape[:-1], 2)).all()
        assert (classes[count:] == -1).all()
        assert not boxes[count:].any()
        assert not scores[count:].any()


@pytest.mark.parametrize("rank", [2, pytest.param(3, marks=ON_TENSORFLOW)])
def test_it_learns_where_and_what(rank: int) -> None:
    keras.utils.set_random_seed(0)
    network = FasterRCNN(settings(rank, mask_bins=4 if rank == 2 else 0), precision="float32")
    network.compile(keras.optimizers.AdamW(5e-3))
    images, truth = scenes(network.settings.input_shape, 9)
    if rank == 2:
        # One half of an object's box, another one for each class.
        truth["masks"] = np.array([np.tri(16), 1 - np.tri(16)], np.uint8)[np.maximum(truth["classes"], 0)]
    history = network.fit(images, truth, batch_size=9, epochs=70, shuffle=False, verbose=0).history
    masks = {"masks"} if rank == 2 else set()
    assert set(history) == {"loss", "objectness", "anchor_boxes", "classes", "region_boxes"} | masks
    found = network.predict(images, verbose=0)
    hits = 0
    for image in range(8):
        for number in range(2):
            named = (found["classes"][image] == number) & (found["scores"][image] > 0.3)
            overlaps = reference_iou(found["boxes"][image], truth["boxes"][image, number][None])[:, 0]
            hits += (overlaps[named] > 0.5).any()
    assert hits >= 14
    assert not (found["scores"][8] > 0.5).any()
    if rank == 2:
        halves = np.array([np.tri(8, dtype=bool), ~np.tri(8, dtype=bool)])
        sure = found["scores"][:8] > 0.3
        right = (found["masks"][:8][sure] > 0.5) == halves[found["classes"][:8][sure]]
        assert right.mean() > 0.8


@pytest.mark.parametrize("precision", [pytest.param("float32", marks=ON_TENSORFLOW), "mixed_bfloat16"])
def test_the_worst_images_leave_all_numbers_finite(precision: Any) -> None:
    """Empty images, one-pixel boxes, one object that fills the image, and as many as the padding holds."""
    network = FasterRCNN(settings(2), precision=precision)
    network.compile(keras.optimizers.AdamW(1e-2))
    generator = np.random.default_rng(0)
    images = generator.normal(size=(5, *network.settings.input_shape)).astype(np.float32)
    images[0] = 0
    boxes = np.zeros((5, 40, 4), np.float32)
    classes = np.full((5, 40), -1, np.int32)
    boxes[1, :2], classes[1, :2] = [[0, 0, 1, 1], [39, 47, 40, 48]], [0, 1]
    boxes[2, 0], classes[2, 0] = [0, 0, 40, 48], 1
    start = generator.integers(0, 30, (40, 2))
    boxes[3], classes[3] = np.concatenate([start, start + 6], axis=1), generator.integers(0, 2, 40)
    boxes[4, 0], classes[4, 0] = [5, 5, 5, 5], 0
    truth = {"boxes": boxes, "classes": classes}
    for rows in ([0, 1, 2, 3, 4], [0, 0, 0, 0, 0]):
        for _ in range(2):
            losses = network.train_on_batch(images[rows], {k: v[rows] for k, v in truth.items()}, return_dict=True)
            assert all(np.isfinite(value) for value in losses.values())
    assert all(np.isfinite(weight).all() for weight in network.get_weights())
    assert all(np.isfinite(value).all() for value in network.predict(images, verbose=0).values())


@RANKS
def test_it_saves_and_reloads(rank: int, tmp_path) -> None:
    network = FasterRCNN(settings(rank, score_floor=0.0))
    images, _ = scenes(network.settings.input_shape, 2)
    before = network.predict(images, verbose=0)
    network.save(tmp_path / "detector.keras")
    again = keras.saving.load_model(tmp_path / "detector.keras", safe_mode=True)
    assert again.settings == network.settings
    for name, values in again.predict(images, verbose=0).items():
        np.testing.assert_array_equal(values, before[name])


def test_a_training_network_computes_what_the_plain_one_computes() -> None:
    plain = FasterRCNN(settings(2, score_floor=0.0))
    trained = FasterRCNN(settings(2, score_floor=0.0), precision="float32")
    trained.set_weights(plain.get_weights())
    images, _ = scenes(plain.settings.input_shape, 2)
    expected, found = plain.predict(images, verbose=0), trained.predict(images, verbose=0)
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-5)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-3)


def differentiable(variables: list[Any], loss: Callable[[], Any]) -> tuple[Callable[[], float], list[np.ndarray]]:
    """The loss as a compiled function of what the variables hold, and its gradients now."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        tensorflow = require("tensorflow", "gradients")
        compiled = tensorflow.function(loss)
        with tensorflow.GradientTape() as tape:
            value = compiled()
        found = tape.gradient(value, [variable.value for variable in variables])
    elif backend == "torch":
        compiled = loss
        loss().backward()
        found = [variable.value.grad for variable in variables]
    else:
        jax = require("jax", "gradients")

        def of(values: list[Any]) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return loss()

        stateless = jax.jit(jax.value_and_grad(of))
        found = stateless([variable.value for variable in variables])[1]

        def compiled() -> Any:
            return stateless([variable.value for variable in variables])[0]

    gradients = [np.asarray(ops.convert_to_numpy(gradient), np.float64) for gradient in found]
    return lambda: float(ops.convert_to_numpy(compiled())), gradients


def moved(variables: list[Any], chosen: list[int], shift: np.ndarray, value: Callable[[], float]) -> float:
    """The loss with the chosen variables moved by their parts of a long vector; then they are moved back."""
    start = {number: np.array(ops.convert_to_numpy(variables[number])) for number in chosen}
    ends = np.cumsum([start[number].size for number in chosen])
    for number, part in zip(chosen, np.split(shift, ends[:-1]), strict=True):
        variables[number].assign(start[number] + part.reshape(start[number].shape))
    loss = value()
    for number in chosen:
        variables[number].assign(start[number])
    return loss


@RANKS
def test_gradients_of_the_whole_loss_are_its_differences(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Central differences of the sum of the four losses on sampled targets, part by part of the network.

    Keras computes in float32 at most on two of the backends. So the network is made smooth (a difference over the edge
    of a ReLU is no slope), each direction holds the gradient itself, which makes the difference large, and as much of
    a random one, which shows what the gradient lacks; and several steps are taken, since rounding spoils the short ones
    and curvature the long ones.
    """
    keras.utils.set_random_seed(1)
    monkeypatch.setattr(keras.layers.ReLU, "call", lambda _, inputs: ops.silu(inputs))
    network = FasterRCNN(settings(rank, stem="medium"))
    network.trunk.get_layer("window").activation = ops.silu
    generator = np.random.default_rng(0)
    # Away from the start, where scales of zero hide the gradients of half the network.
    network.set_weights([weight + generator.normal(0, 0.1, weight.shape) for weight in network.get_weights()])
    images, truth = scenes(network.settings.input_shape, 3)
    targets = network.sampled_targets(network.first_stage(images), truth)
    assert ops.convert_to_numpy(targets.region_positive).any()
    variables = network.trainable_variables
    value, found = differentiable(
        variables, lambda: sum(network.losses_of(network.first_stage(images, training=True), targets).values())
    )
    parts = ("stem", "stage", ("lateral", "pyramid"), "window", ("objectness", "anchor"), "judge", ("class", "region"))
    for part in parts:
        chosen = [number for number, variable in enumerate(variables) if variable.path.split("/")[-2].startswith(part)]
        gradient = np.concatenate([found[number].ravel() for number in chosen])
        random = generator.normal(size=gradient.shape)
        direction = gradient / np.linalg.norm(gradient) + random / np.linalg.norm(random)
        slope = gradient @ direction
        steps = np.linspace(1e-3, 8e-3, 8)
        rises = [
            moved(variables, chosen, step / slope / 2 * direction, value)
            - moved(variables, chosen, -step / slope / 2 * direction, value)
            for step in steps
        ]
        # A rise is odd in its step: the slope and a cube, fitted to all steps at once.
        (ratio, _), *_ = np.linalg.lstsq(np.stack([steps, steps**3 / steps[-1] ** 2], axis=1), np.array(rises))
        assert abs(ratio - 1) < 1e-3, part


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="same number of shapes"):
        settings(2, anchors=(((8, 8), (9, 9)), ((16, 16),)))
    with pytest.raises(ValidationError, match="last level"):
        settings(2, anchors=(((8, 8),), ()))
    with pytest.raises(ValidationError, match="2 sides each"):
        settings(2, anchors=(((8, 8, 8),),))


def test_paddings_leave_room() -> None:
    for most in (0, 7, 400, 1000):
        paddings = DetectorSettings.paddings(most)
        assert 1.5 * most <= paddings["max_detections"] < paddings["num_proposals"] < paddings["num_candidates"]


@pytest.mark.parametrize(
    ("name", "shape", "options", "strides"),
    [
        ("resnet10", (37, 50, 1), {"width": 4}, (4, 8, 16, 32)),
        ("resnet10", (12, 16, 9, 1), {"width": 4, "stem": "medium"}, (2, 4, 8, 16)),
        pytest.param(
            "mobilenetv3small",
            (64, 96, 3),
            {"width": None},
            (4, 8, 16, 32),
            marks=pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX takes minutes to draw its weights"),
        ),
    ],
)
def test_backbones_give_a_map_a_stride(name: str, shape: tuple[int, ...], options: dict, strides: tuple) -> None:
    network, found = backbone(name, shape, **options)
    assert found == strides
    sizes = [tuple(output.shape[1:-1]) for output in network.outputs]
    assert sizes == [tuple(-(-side // stride) for side in shape[:-1]) for stride in strides]


def test_backbones_that_cannot_be_built_are_refused() -> None:
    with pytest.raises(UsageError, match="No backbone is called 'resnet99'"):
        backbone("resnet99", (64, 64, 1))
    with pytest.raises(UsageError, match="take 2D images"):
        backbone("mobilenetv3small", (16, 16, 16, 1))
    with pytest.raises(UsageError, match="needs a width"):
        backbone("resnet10", (64, 64, 1), weights="imagenet")
