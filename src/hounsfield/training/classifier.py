"""The loss of a classifier, and the figures of its epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def classification_loss(network: keras.Model, label_smoothing: float, *, by_label: bool = False) -> keras.losses.Loss:
    """Cross-entropy that suits the network's last activation.

    Args:
        network: with a layer "probabilities".
        label_smoothing: share of each target that is spread over all labels.
        by_label: whether each label of each image has its own weight.
    """
    if by_label:
        return WeightedCrossentropy(label_smoothing)
    softmax = network.get_layer("probabilities").activation is keras.activations.softmax
    kind = keras.losses.CategoricalCrossentropy if softmax else keras.losses.BinaryCrossentropy
    return kind(label_smoothing=label_smoothing)


class WeightedCrossentropy(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """Binary cross-entropy in which each label of each image has its own weight: 0 where its truth is not known.

    The targets that it takes are (batch, 2·labels): the truths, then the weights, as ``TrainingBatches`` gives them.

    Args:
        label_smoothing: share of each target that is spread over both answers.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__(name="weighted_crossentropy")
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """(batch,) the weighted loss of each image, its mean over the labels."""
        truth, weights = keras.ops.split(keras.ops.cast(y_true, y_pred.dtype), 2, axis=-1)
        truth = truth * (1 - self.label_smoothing) + self.label_smoothing / 2
        # As Keras's own does: away from 0 and 1, where the logarithm has no end.
        least = keras.config.epsilon()
        probability = keras.ops.clip(y_pred, least, 1 - least)
        losses = -(truth * keras.ops.log(probability) + (1 - truth) * keras.ops.log(1 - probability))
        return keras.ops.mean(weights * losses, axis=-1)


def weighted_scores(weights: np.ndarray) -> Callable[[np.ndarray, np.ndarray], dict[str, float]]:
    """As ``validation_scores``, with a loss in which each label of each row has its weight, as it has in training.

    The epoch that is kept is then chosen by what was trained for: of rare labels that weigh as much as frequent ones,
    the plain loss would prefer an epoch that says of none that it holds.

    Args:
        weights: (rows, labels) of the validation rows.
    """

    def judge(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
        known = np.where(weights > 0, targets, 0)
        probability = np.clip(predicted.astype(np.float64), 1e-7, 1 - 1e-7)
        losses = -(known * np.log(probability) + (1 - known) * np.log(1 - probability))
        loss = float((weights * losses).sum() / max(weights.sum(), 1e-7))
        return validation_scores(targets, predicted) | {"val_loss": loss}

    return judge


def validation_scores(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Log-loss and accuracy of probabilities (rows, outputs) against 0/1 targets of the same shape.

    A target that is NaN is not known, and counts in neither.
    """
    known = ~np.isnan(targets)
    if not known.all():
        # Each target that is known is a question of its own.
        return validation_scores(targets[known][:, None], predicted[known][:, None])
    probability = np.clip(predicted.astype(np.float64), 1e-7, 1 - 1e-7)
    if targets.shape[1] > 1 and np.all(targets.sum(1) == 1) and np.allclose(probability.sum(1), 1, atol=1e-3):
        loss = -np.log(probability[targets > 0]).mean()
        correct = probability.argmax(1) == targets.argmax(1)
    else:
        loss = -(targets * np.log(probability) + (1 - targets) * np.log(1 - probability)).mean()
        correct = (probability > 0.5) == (targets > 0.5)
    return {"val_loss": float(loss), "val_accuracy": float(correct.mean())}
