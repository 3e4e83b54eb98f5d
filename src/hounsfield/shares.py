"""Batches that several processes share: each has a part of every batch, and what is computed is that of one process.

In a process that has a share, sums over a batch are added up over all processes, and random values are drawn for the
whole batch, of which the process takes its part. Which share it has is a state of the process: graphs are traced in
threads of the backend too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from hounsfield.errors import require

# Adds a float32 vector up over all processes, which call it in the same order; and gives the means of float32 arrays,
# those of the gradients, which ends a step.
Sum = Callable[[np.ndarray], np.ndarray]
Means = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class Share:
    """The part of each batch that this process has.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
        add_up: over all of them.
        average: over all of them; without it, gradients stay those of this process.
    """

    rank: int = 0
    size: int = 1
    add_up: Sum | None = None
    average: Means | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the process works alone."""
        return self.add_up is None

    def of(self, count: int) -> slice:
        """The part of so many rows, which the number of processes divides."""
        length = count // self.size
        return slice(self.rank * length, (self.rank + 1) * length)


WHOLE = Share()
_current = [WHOLE]


def current_share() -> Share:
    """The share of this process."""
    return _current[-1]


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Let this process have a share for the length of a block."""
    _current.append(share)
    try:
        yield
    finally:
        _current.pop()


def total(values: Any) -> Any:
    """The sum of a tensor over all processes, with its gradient, which is the sum of their gradients."""
    share = current_share()
    if share.is_whole:
        return values
    flat = ops.reshape(ops.cast(values, "float32"), (-1,))
    return ops.reshape(ops.cast(_differentiable(share)(flat), values.dtype), values.shape)


def mean_of_gradients(gradients: Sequence[Any]) -> list[Any]:
    """The means over all processes of tensors, in one message; those that are ``None`` stay so."""
    average = current_share().average
    present = [_dense(gradient) for gradient in gradients if gradient is not None]
    if average is None or not present:
        return list(gradients)
    found = _called(average, [ops.cast(each, "float32") for each in present])
    means = iter([ops.cast(mean, each.dtype) for mean, each in zip(found, present, strict=True)])
    return [None if gradient is None else next(means) for gradient in gradients]


def uniform(shape: Sequence[Any], low: float = 0.0, high: float = 1.0, *, seed: keras.random.SeedGenerator) -> Any:
    """Uniform values for each row of a batch."""
    return _own_rows(shape, lambda whole: keras.random.uniform(whole, low, high, seed=seed))


def normal(shape: Sequence[Any], *, seed: keras.random.SeedGenerator) -> Any:
    """Standard normal values for each row of a batch."""
    return _own_rows(shape, lambda whole: keras.random.normal(whole, seed=seed))


def _own_rows(shape: Sequence[Any], draw: Callable[[tuple[Any, ...]], Any]) -> Any:
    share = current_share()
    if share.is_whole:
        return draw(tuple(shape))
    count = shape[0]
    return draw((count * share.size, *shape[1:]))[share.rank * count : (share.rank + 1) * count]


class SharedDropout(keras.layers.Dropout):  # type: ignore[misc]  # Keras has no types
    """Dropout that draws what one process draws for the whole batch."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop values in training."""
        share = current_share()
        if share.is_whole or not training or not self.rate:
            return super().call(inputs, training=training)
        shape = ops.shape(inputs)
        ones = ops.ones((shape[0] * share.size, *shape[1:]), dtype=inputs.dtype)
        return inputs * super().call(ones, training=True)[share.rank * shape[0] : (share.rank + 1) * shape[0]]


class SharedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
    """Batch normalisation by the statistics of the whole batch."""

    def _moments(self, inputs: Any, mask: Any) -> Any:
        mean, variance = super()._moments(inputs, mask)
        share = current_share()
        if share.is_whole:
            return mean, variance
        # All parts have as many values, so the moments of the whole are their means.
        joined = total(ops.stack([mean, variance + mean * mean])) / share.size
        return joined[0], ops.maximum(joined[1] - joined[0] * joined[0], 0.0)


def _dense(gradient: Any) -> Any:
    """A tensor in place of TensorFlow's rows of one."""
    return gradient if gradient is None or hasattr(gradient, "reshape") else ops.convert_to_tensor(gradient)


def _called(function: Means, tensors: Sequence[Any]) -> list[Any]:
    """What a function of float32 arrays gives of tensors: others of the same shapes, without gradients."""

    def call(*values: Any) -> list[np.ndarray]:
        return function([np.asarray(value, np.float32, order="C") for value in values])

    backend = keras.backend.backend()
    if backend == "tensorflow":
        tensorflow = require("tensorflow", "training on the TensorFlow backend")
        given = tensorflow.numpy_function(call, list(tensors), [tensorflow.float32] * len(tensors))
        # Outside of a graph, one tensor comes by itself.
        found: list[Any] = given if isinstance(given, list) else [given]
        for tensor, like in zip(found, tensors, strict=True):
            tensor.set_shape(like.shape)
        return found
    if backend == "jax":
        callback = require("jax.experimental", "training on the JAX backend").io_callback
        jax = require("jax", "training on the JAX backend")
        shapes = [jax.ShapeDtypeStruct(tensor.shape, np.float32) for tensor in tensors]
        # Ordered: each process has to send its vectors in the same order.
        return list(callback(call, shapes, *tensors, ordered=True))
    torch = require("torch", "training on the PyTorch backend")
    arrays = call(*(tensor.detach().cpu().numpy() for tensor in tensors))
    return [torch.from_numpy(array).to(tensor.device) for array, tensor in zip(arrays, tensors, strict=True)]


def _differentiable(share: Share) -> Callable[[Any], Any]:
    """The sum of a vector over the processes, whose gradient is the sum of their gradients."""

    def add_up(vectors: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [vector if share.add_up is None else share.add_up(vector) for vector in vectors]

    def summed(vector: Any) -> tuple[Any, Callable[..., Any]]:
        def backward(*arguments: Any, upstream: Any = None) -> Any:
            return _called(add_up, [arguments[0] if upstream is None else upstream])[0]

        return _called(add_up, [vector])[0], backward

    made: Callable[[Any], Any] = ops.custom_gradient(summed)
    return made
