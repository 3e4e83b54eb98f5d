"""The loss of labels that have their own weights, and the batches that bring them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from hounsfield.training.batches import Mixing, TrainingBatches
from hounsfield.training.classifier import WeightedCrossentropy, validation_scores, weighted_scores


def example(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 2, (8, 3)).astype(np.float32)
    return truth, generator.uniform(0.02, 0.98, (8, 3)).astype(np.float32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_with_equal_weights_it_is_the_usual_loss(smoothing: float) -> None:
    truth, predicted = example()
    beside = np.concatenate([truth, np.ones_like(truth)], axis=1)
    wanted = keras.losses.BinaryCrossentropy(label_smoothing=smoothing)(truth, predicted)
    assert float(WeightedCrossentropy(smoothing)(beside, predicted)) == pytest.approx(float(wanted), rel=1e-5)


def test_each_label_counts_by_its_weight_and_a_weight_of_zero_not_at_all() -> None:
    truth, predicted = example(1)
    weights = np.random.default_rng(2).integers(0, 3, truth.shape).astype(np.float32)
    single = -(truth * np.log(predicted) + (1 - truth) * np.log(1 - predicted))
    beside = np.concatenate([truth, weights], axis=1)
    assert float(WeightedCrossentropy()(beside, predicted)) == pytest.approx(float((weights * single).mean()), rel=1e-5)
    other = np.where(weights == 0, 0.5, predicted)
    assert float(WeightedCrossentropy()(beside, other)) == pytest.approx(float((weights * single).mean()), rel=1e-5)


class Rows:
    """The number of a row as its picture."""

    def batch(self, rows: np.ndarray) -> np.ndarray:
        return rows.astype(np.float32)[:, None, None, None]


def test_batches_bring_the_weights_beside_targets_without_nan() -> None:
    targets = np.array([[0, 1], [1, np.nan], [np.nan, np.nan], [1, 0]], np.float32)
    weights = (~np.isnan(targets)).astype(np.float32) * np.float32(2)
    images, beside, rows = TrainingBatches(Rows(), np.arange(4), targets, weights, batch_size=4)[0]
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert rows.tolist() == [1, 1, 1, 1]
    assert beside.tolist() == [[0, 1, 2, 2], [1, 0, 2, 0], [0, 0, 0, 0], [1, 0, 2, 2]]


def test_mixing_an_unknown_target_into_a_known_one_leaves_the_known_one() -> None:
    targets = np.array([[1], [np.nan]], np.float32)
    weights = np.array([[1], [0]], np.float32)
    batches = TrainingBatches(Rows(), np.arange(2), targets, weights, batch_size=2, mixing=Mixing(0.4), seed=3)
    images, beside, _ = batches[0]
    share = 1 - images[:, 0, 0, 0]  # of the first image, whose picture is 0
    assert ((share > 0) & (share < 1)).any()
    assert beside[:, 1] == pytest.approx(share)
    assert beside[beside[:, 1] > 0, 0] == pytest.approx(1)


def test_figures_of_an_epoch_are_of_known_targets() -> None:
    targets = np.array([[1, np.nan], [0, 1], [np.nan, np.nan]], np.float32)
    predicted = np.array([[0.8, 0.1], [0.4, 0.3], [0.9, 0.9]], np.float32)
    found = validation_scores(targets, predicted)
    assert found["val_loss"] == pytest.approx(-np.log([0.8, 0.6, 0.3]).mean(), rel=1e-5)
    assert found["val_accuracy"] == pytest.approx(2 / 3)


def test_epochs_are_compared_by_the_weighted_loss() -> None:
    truth, predicted = example(4)
    weights = np.random.default_rng(5).integers(0, 3, truth.shape).astype(np.float32)
    truth[weights == 0] = np.nan
    beside = np.concatenate([np.nan_to_num(truth), weights], axis=1)
    found = weighted_scores(weights)(truth, predicted)
    # The loss of the training is a mean over rows and labels, that of the validation one over the weights.
    wanted = float(WeightedCrossentropy()(beside, predicted)) * weights.size / weights.sum()
    assert found["val_loss"] == pytest.approx(wanted, rel=1e-5)
    assert found["val_accuracy"] == validation_scores(truth, predicted)["val_accuracy"]
    # Of a rare label that weighs as much as its absence, an epoch that finds it is the better one.
    rare = np.zeros((20, 1), np.float32)
    rare[0] = 1
    finds, says_no = np.where(rare, 0.9, 0.3), np.full((20, 1), 0.05)
    balanced = weighted_scores(np.where(rare, 10, 10 / 19).astype(np.float32))
    assert balanced(rare, finds)["val_loss"] < balanced(rare, says_no)["val_loss"]
    assert validation_scores(rare, finds)["val_loss"] > validation_scores(rare, says_no)["val_loss"]
