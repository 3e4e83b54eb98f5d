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

from hounsfield.shares import WHOLE, Share

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
def averaged_weights(
    trainee: Recalibrated, average: WeightAverage, batches: Batches, share: Share = WHOLE
) -> Iterator[None]:
    """Let the model carry the averaged weights, with recalibrated statistics, for the length of a block.

    Args:
        trainee: whose model it is.
        average: of the weights.
        batches: from which the statistics are taken.
        share: of this process in that, where others do it at the same time.
    """
    model = trainee.model
    current = model.get_weights()
    try:
        model.set_weights(average.weights)
        recalibrate(model, trainee.forward, batches, trainee.num_recalibrating, share)
        yield
    finally:
        model.set_weights(current)


def recalibrate(
    model: keras.Model,
    forward: Callable[[np.ndarray], Any],
    batches: Batches,
    num_images: int,
    share: Share = WHOLE,
) -> None:
    """Set the moving statistics of each batch normalisation that is trained to those of the model's present weights.

    ``forward`` passes images through it in training mode, several small batches at once: what a pass costs beside its
    arithmetic would add up. Starting from zero, k passes at momentum m leave (1 − m^k) of their weighted mean: dividing
    by that gives the mean itself, as in the bias correction of Adam (Kingma & Ba, 2014, section 3).

    A pass does not depend on those before it, since its random values are drawn by its number, and what it adds to the
    statistics only fades. So several processes make the passes in turn, each lets its own fade through those of the
    others, and the sum is that of all passes.
    """
    # Keras has no public walk through nested networks.
    layers = model._flatten_layers(include_self=False)
    normalisations = [
        layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not normalisations:
        return
    statistics = [each for layer in normalisations for each in (layer.moving_mean, layer.moving_variance)]
    momenta = [layer.momentum for layer in normalisations for _ in range(2)]
    for each in statistics:
        each.assign(np.zeros(each.shape))
    seeds = [generator.state for layer in layers for generator in layer._seed_generators]
    before = [keras.ops.convert_to_numpy(seed) for seed in seeds]
    num_batches = min(math.ceil(num_images / batches.batch_size), len(batches))
    # As many in each pass, a rest is left out: a compiled pass is compiled for one size.
    at_once = min(_batches_at_once(batches[0][0]), num_batches)
    num_passes = num_batches // at_once
    for number in range(num_passes):
        if number % share.size == share.rank:
            # The second value is Keras's counter of draws.
            for seed, value in zip(seeds, before, strict=True):
                seed.assign(value + np.array([0, number], value.dtype))
            forward(np.concatenate([batches[number * at_once + index][0] for index in range(at_once)]))
        else:
            for each, momentum in zip(statistics, momenta, strict=True):
                each.assign(each * momentum)
    for seed, value in zip(seeds, before, strict=True):
        seed.assign(value)
    values = [keras.ops.convert_to_numpy(each) for each in statistics]
    if share.add_up is not None:
        flat = share.add_up(np.concatenate([value.astype(np.float32) for value in values]))
        values = np.split(flat, np.cumsum([len(value) for value in values])[:-1])
    for each, value, momentum in zip(statistics, values, momenta, strict=True):
        each.assign(value / (1 - momentum**num_passes))


def _batches_at_once(images: np.ndarray) -> int:
    """How many batches like this one are passed at once: so many images, and values, that memory hardly notices."""
    return max(1, min(PASSED_IMAGES // len(images), PASSED_VALUES // images.size))
