"""Averaging weights over the epochs, with batch-norm statistics that belong to the average.

Izmailov et al., "Averaging weights leads to wider optima", 2018 (arXiv:1803.05407), with an exponential
instead of a plain mean, so that it can be used and judged after every epoch. The statistics are those of images as they
are in use, since varied ones have others (Touvron et al., "Fixing the train-test resolution discrepancy", 2019,
arXiv:1906.06423).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import keras
import numpy as np

# Images, and values of theirs, that are passed at once where batch-norm statistics are taken anew.
PASSED_IMAGES, PASSED_VALUES = 64, 2**20


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


class Batches(Protocol):
    """Batches of an epoch: the images first, then what is not looked at here."""

    batch_size: int

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """One of them."""


class Recalibrated(Protocol):
    """The part of a ``Trainee`` that averaging needs."""

    model: keras.Model
    num_recalibrating: int

    def forward(self, images: np.ndarray) -> Any:
        """Pass a batch in training mode, for what it leaves in moving statistics."""


@contextmanager
def averaged_weights(trainee: Recalibrated, average: WeightAverage, batches: Batches) -> Iterator[None]:
    """Let the model carry the averaged weights, with recalibrated statistics, for the length of a block."""
    model = trainee.model
    current = model.get_weights()
    try:
        model.set_weights(average.weights)
        recalibrate(model, trainee.forward, batches, trainee.num_recalibrating)
        yield
    finally:
        model.set_weights(current)


def recalibrate(model: keras.Model, forward: Callable[[np.ndarray], Any], batches: Batches, num_images: int) -> None:
    """Set the moving statistics of each batch normalisation that is trained to those of the model's present weights.

    ``forward`` passes images through it in training mode, several small batches at once: what a pass costs beside its
    arithmetic would add up. Starting from zero, k passes at momentum m leave (1 − m^k) of their weighted mean: dividing
    by that gives the mean itself, as in the bias correction of Adam (Kingma & Ba, 2014, section 3).
    """
    # Keras has no public walk through nested networks.
    layers = model._flatten_layers(include_self=False)
    normalisations = [
        layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not normalisations:
        return
    for layer in normalisations:
        layer.moving_mean.assign(np.zeros(layer.moving_mean.shape))
        layer.moving_variance.assign(np.zeros(layer.moving_variance.shape))
    num_batches = min(math.ceil(num_images / batches.batch_size), len(batches))
    waiting: list[np.ndarray] = []
    num_passes = 0
    for index in range(num_batches):
        waiting.append(batches[index][0])
        # As many in each pass, a rest is left out: a compiled pass is compiled for one size.
        if len(waiting) == min(_batches_at_once(waiting[0]), num_batches):
            forward(np.concatenate(waiting))
            waiting.clear()
            num_passes += 1
    for layer in normalisations:
        share = 1 - layer.momentum**num_passes
        layer.moving_mean.assign(layer.moving_mean / share)
        layer.moving_variance.assign(layer.moving_variance / share)


def _batches_at_once(images: np.ndarray) -> int:
    """How many batches like this one are passed at once: so many images, and values, that memory hardly notices."""
    return max(1, min(PASSED_IMAGES // len(images), PASSED_VALUES // images.size))
