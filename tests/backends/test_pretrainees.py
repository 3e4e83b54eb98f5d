"""Pretraining on images alone: the loss against NumPy, networks of both ranks that learn, and what is hidden."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from hounsfield.errors import RunError
from hounsfield.models import resnet
from hounsfield.plans.augmentation import PATCH_STRENGTHS, Augmentation
from hounsfield.pretraining import reconstruction, vicreg
from hounsfield.pretraining.reconstruction import HiddenPatches, ReconstructionTrainee, hidden_cells
from hounsfield.pretraining.vicreg import VicregTrainee, vicreg_loss
from hounsfield.segmentation import residual_unet
from hounsfield.training.loop import fit
from hounsfield.training.schedule import Schedule
from plans import hand_made_mask_plan, hand_made_plan


def reference(first: np.ndarray, second: np.ndarray) -> float:
    """Equations 1 to 6 of the paper, with NumPy's own deviations and covariances."""
    total = 25 * np.square(first - second).mean()
    for embeddings in (first, second):
        deviation = np.sqrt(embeddings.var(axis=0, ddof=1) + 1e-4)
        total += 25 * np.maximum(0, 1 - deviation).mean() / 2
        matrix = np.cov(embeddings.T)
        total += np.square(matrix - np.diag(np.diag(matrix))).sum() / embeddings.shape[1]
    return float(total)


def test_the_loss_is_that_of_the_paper() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.normal(0.3, 0.8, (2, 12, 5)).astype(np.float32)
    assert float(vicreg_loss(first, second)) == pytest.approx(reference(first, second), rel=1e-5)
    # All alike: no invariance and no covariance, and a deviation that falls short by nearly all of it.
    same = np.ones((12, 5), np.float32)
    assert float(vicreg_loss(same, same)) == pytest.approx(25 * (1 - 0.01), rel=1e-4)


class Images:
    """Discs of different sizes and places under noise, of any rank."""

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        draw = np.random.default_rng(0)
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        centres, radii = draw.uniform(0.3, 0.7, (count, len(shape))) * shape, draw.uniform(1, min(shape) / 3, count)
        distance = np.linalg.norm(grid[None] - centres[:, *[None] * len(shape)], axis=-1)
        images = (distance < radii[:, *[None] * len(shape)]) + draw.normal(0, 0.1, (count, *shape))
        self.images = images[..., None].astype(np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: Any) -> np.ndarray:
        return self.images[rows]

    def pixels(self, row: int) -> np.ndarray:
        return self.images[row]


SHAPES = {2: (16, 16), 3: (8, 8, 8)}
# The networks themselves, and the loss, are tested on every backend.
ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="trained on TensorFlow alone")


def trained(trainee: Any, plan: Any) -> list[dict[str, Any]]:
    return fit(trainee, Schedule.of(plan), seed=0).history


@pytest.mark.parametrize("rank", [2, pytest.param(3, marks=ON_TENSORFLOW)])
def test_networks_of_both_ranks_learn_from_views(rank: int) -> None:
    shape = (*SHAPES[rank], 1)
    limits = Augmentation(flip_axes=(rank - 1,), translation=0.1, brightness=0.2, noise=0.1)
    plan: Any = hand_made_plan(input_shape=shape, augmentation=limits, batch_size=16, epochs=3, learning_rate=2e-3)
    whole = resnet(shape, 2, "binary", depth=10, width=4)
    encoder = keras.Model(whole.inputs[0], whole.get_layer("features").output)
    store: Any = Images(56, SHAPES[rank])
    trainee = VicregTrainee(encoder, store, np.arange(48), np.arange(48, 56), plan)
    history = trained(trainee, plan)
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert history[-1]["embedding_std"] > 0.1
    # What is kept fits the plain network.
    encoder.set_weights(trainee.weights())
    # The same for every image: a network whose last layer lost its weights.
    last = trainee.model.expander.get_layer("embeddings")
    last.set_weights([np.zeros_like(weight) for weight in last.get_weights()])
    with pytest.raises(RunError, match=r"after epoch 4, the standard deviation of the embeddings .* is 0,"):
        trainee.validate(3, last=True)


@pytest.mark.parametrize("rank", SHAPES)
def test_unets_of_both_ranks_fill_in_what_is_hidden(rank: int) -> None:
    shape, strides, kernels = (*SHAPES[rank], 1), ((2,) * rank,), ((3,) * rank,) * 2
    sizes = {"input_shape": shape, "strides": strides, "kernels": kernels, "spacing": (1.0,) * rank, "width": 4}
    limits = PATCH_STRENGTHS["light"]
    plan: Any = hand_made_mask_plan(**sizes, augmentation=limits, batch_size=8, epochs=4, learning_rate=5e-3)
    network = reconstruction.build_network(plan)
    store: Any = Images(40, SHAPES[rank])
    trainee = ReconstructionTrainee(network, store, np.arange(32), np.arange(32, 40), plan)
    history = trained(trainee, plan)
    assert history[-1]["val_loss"] < 0.9 * history[0]["val_loss"]
    assert history[-1]["feature_std"] > reconstruction.LEAST_SPREAD
    network.set_weights(trainee.weights())
    later = residual_unet(shape, 3, width=4, strides=strides, kernels=kernels)
    names = {layer.name for layer in network.layers}
    assert {layer.name for layer in later.layers if layer.weights and "logits" not in layer.name} <= names


def test_cells_are_hidden_whole_and_the_same_whenever_asked() -> None:
    hidden = hidden_cells((24, 16, 3), np.random.default_rng(0))
    # Cells of 6×4×1 pixels: 4 along each axis but the last, of 3.
    cells = hidden.reshape(4, 6, 4, 4, 3)
    assert (cells == cells[:, :1, :, :1]).all()
    assert cells[:, 0, :, 0].sum() == round(0.6 * 48)
    plan: Any = hand_made_mask_plan(augmentation=PATCH_STRENGTHS["light"])
    store: Any = Images(8, plan.input_shape[:-1])
    (seen, whole), (again, _) = (HiddenPatches(store, np.arange(8), plan, 3)[0] for _ in range(2))
    np.testing.assert_array_equal(seen, again)
    assert (seen[whole[..., -1] > 0] == 0).all()
    np.testing.assert_array_equal(seen[whole[..., -1] == 0], whole[..., :-1][whole[..., -1] == 0])


def test_views_of_masks_keep_their_values() -> None:
    """What the planner turns and moves alone is a shape."""
    shapes: Any = hand_made_plan(augmentation=Augmentation(rotation=7, translation=0.04))
    assert not {"noise", "gamma", "scale"} & set(vicreg.plan_of(shapes, 400).augmentation.changes())
    grey: Any = hand_made_plan(augmentation=Augmentation(rotation=7, brightness=0.1))
    assert {"noise", "gamma", "scale"} <= set(vicreg.plan_of(grey, 400).augmentation.changes())
