"""Instance normalisation in one pass over the maps."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("hounsfield")
class InstanceNormalization(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Each channel of each image is brought to mean 0 and deviation 1, then scaled and shifted as is learned.

    Ulyanov, Vedaldi, Lempitsky, "Instance normalization", 2016 (arXiv:1607.08022). It is the same in training and in
    use, whatever the size of the batch. Mean and mean square are taken in float32 in one pass, and one multiplication
    and one addition follow; ``keras.layers.GroupNormalization`` composes it of more passes. Means are taken over the
    first axis last: TensorFlow adds up a whole map one pixel after another, which loses two digits over 90,000 voxels.

    Args:
        epsilon: added to the variance.
    """

    def __init__(self, *, epsilon: float = 1e-5, **options: Any) -> None:
        super().__init__(**options)
        self.epsilon = epsilon

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        return config | {"epsilon": self.epsilon}

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make ``gamma`` and ``beta``, one of each for a channel."""
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        r"""Maps (batch, \*spatial, channels), normalised."""
        exact = ops.cast(inputs, "float32")
        mean = _mean(exact)
        variance = ops.maximum(_mean(ops.square(exact)) - ops.square(mean), 0.0)
        scale = ops.cast(self.gamma, "float32") * ops.rsqrt(variance + self.epsilon)
        shift = ops.cast(self.beta, "float32") - mean * scale
        return inputs * ops.cast(scale, inputs.dtype) + ops.cast(shift, inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the input."""
        return input_shape


def _mean(maps: Any) -> Any:
    """Of each channel of each image."""
    inner = tuple(range(2, len(maps.shape) - 1))
    return ops.mean(ops.mean(maps, inner, keepdims=True), 1, keepdims=True)
