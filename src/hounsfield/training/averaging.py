"""Averaging weights over the epochs, with batch-norm statistics that belong to the average.

Izmailov et al., "Averaging weights leads to wider optima", 2018 (arXiv:1803.05407), with an exponential
instead of a plain mean, so that it can be used and judged after every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from hounsfield.training.batches import TrainingBatches


class WeightAverage:
    """Exponential average of a model's weights, updated once an epoch.

    Args:
        decay: weight of the past; the effective decay grows from 0 so that the start is forgotten.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.weights: list[np.ndarray] = []

    def update(self, model: keras.Model) -> None:
        """Take in the weights that the model has now."""
        values = model.get_weights()
        decay = min(self.decay, self.count / (self.count + 1)) if self.count else 0.0
        self.weights = [
            (decay * old + (1 - decay) * new).astype(new.dtype)
            for old, new in zip(self.weights or values, values, strict=True)
        ]
        self.count += 1


@contextmanager
def averaged_weights(
    model: keras.Model,
    forward: Callable[[np.ndarray], Any],
    average: WeightAverage,
    batches: TrainingBatches,
    num_batches: int,
) -> Iterator[None]:
    """Let the model carry the averaged weights, with recalibrated statistics, for the length of a block."""
    current = model.get_weights()
    try:
        model.set_weights(average.weights)
        recalibrate(model, forward, batches, num_batches)
        yield
    finally:
        model.set_weights(current)


def recalibrate(
    model: keras.Model, forward: Callable[[np.ndarray], Any], batches: TrainingBatches, num_batches: int
) -> None:
    """Set the moving statistics of each batch normalisation to those of the model's present weights.

    ``model`` is a training twin, ``forward`` its ``training_forward``. Starting from zero, k batches at momentum m
    leave (1 − m^k) of their weighted mean: dividing by that gives the mean itself, as in the bias correction of Adam
    (Kingma & Ba, 2014, section 3).
    """
    layers = model.get_layer("network").layers
    normalisations = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not normalisations:
        return
    for layer in normalisations:
        layer.moving_mean.assign(np.zeros(layer.moving_mean.shape))
        layer.moving_variance.assign(np.zeros(layer.moving_variance.shape))
    num_batches = min(num_batches, len(batches))
    for index in range(num_batches):
        forward(batches[index][0])
    for layer in normalisations:
        share = 1 - layer.momentum**num_batches
        layer.moving_mean.assign(layer.moving_mean / share)
        layer.moving_variance.assign(layer.moving_variance / share)
