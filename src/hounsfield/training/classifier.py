"""The loss of a classifier, and the figures of its epochs."""

from __future__ import annotations

import keras
import numpy as np


def classification_loss(network: keras.Model, label_smoothing: float) -> keras.losses.Loss:
    """Cross-entropy that suits the network's last activation.

    Args:
        network: with a layer "probabilities".
        label_smoothing: share of each target that is spread over all labels.
    """
    softmax = network.get_layer("probabilities").activation is keras.activations.softmax
    kind = keras.losses.CategoricalCrossentropy if softmax else keras.losses.BinaryCrossentropy
    return kind(label_smoothing=label_smoothing)


def validation_scores(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Log-loss and accuracy of probabilities (rows, outputs) against 0/1 targets of the same shape."""
    probability = np.clip(predicted.astype(np.float64), 1e-7, 1 - 1e-7)
    if targets.shape[1] > 1 and np.all(targets.sum(1) == 1) and np.allclose(probability.sum(1), 1, atol=1e-3):
        loss = -np.log(probability[targets > 0]).mean()
        correct = probability.argmax(1) == targets.argmax(1)
    else:
        loss = -(targets * np.log(probability) + (1 - targets) * np.log(1 - probability)).mean()
        correct = (probability > 0.5) == (targets > 0.5)
    return {"val_loss": float(loss), "val_accuracy": float(correct.mean())}
