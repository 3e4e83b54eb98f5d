"""Batch normalisation by TensorFlow's fused kernels, of a whole batch or of one that several processes share."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from hounsfield.errors import require
from hounsfield.shares import SharedBatchNormalization, current_share, total


@keras.saving.register_keras_serializable("hounsfield")
class FusedBatchNormalization(SharedBatchNormalization):
    """Batch normalisation by TensorFlow's fused kernel, which Keras does not use.

    On CPUs Keras composes the layer from elementary operations, each of which reads the whole tensor; the
    fused kernel reads it twice forward. Results agree to the precision of the tensor's type.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise by the batch's statistics in training, by the moving ones otherwise."""
        if not training or mask is not None or not self.trainable or not (self.center and self.scale):
            return super().call(inputs, training=training, mask=mask)
        if len(inputs.shape) not in (4, 5) or self.axis not in (-1, len(inputs.shape) - 1):
            return super().call(inputs, training=training, mask=mask)
        tensorflow = require("tensorflow", "training on the TensorFlow backend")
        shape = tensorflow.shape(inputs)
        # The kernel takes images only: the first two axes of a volume are merged.
        images = (
            inputs
            if len(inputs.shape) == 4
            else tensorflow.reshape(inputs, [shape[0], shape[1] * shape[2], shape[3], inputs.shape[-1]])
        )
        normalised = _by_batch if current_share().is_whole else _by_shared_batch
        scale, offset = (tensorflow.cast(each, "float32") for each in (self.gamma, self.beta))
        outputs, mean, variance = normalised(images, scale, offset, self.epsilon)
        self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1 - self.momentum))
        self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1 - self.momentum))
        return outputs if len(inputs.shape) == 4 else tensorflow.reshape(outputs, shape)


def _by_batch(images: Any, scale: Any, offset: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """The normalised images, and the mean and the biased variance of each channel."""
    tensorflow = require("tensorflow", "training on the TensorFlow backend")
    outputs, mean, variance, *_ = tensorflow.raw_ops.FusedBatchNormV3(
        x=images, scale=scale, offset=offset, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    # The kernel returns the unbiased variance, Keras keeps the biased one.
    count = _count(images)
    return outputs, mean, variance * ((count - 1) / count)


def _by_shared_batch(images: Any, scale: Any, offset: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """The same by the statistics of all processes, whose parts are equally large.

    The kernels know the statistics of their own part alone. So they are made to normalise by given ones, as in use,
    and of the gradient what goes through the statistics is taken off here (Ioffe & Szegedy, 2015, arXiv:1502.03167,
    section 3).
    """
    tensorflow = require("tensorflow", "training on the TensorFlow backend")
    share = current_share()

    def fixed(values: Any, scale: Any, offset: Any, mean: Any, variance: Any) -> Any:
        return tensorflow.raw_ops.FusedBatchNormV3(
            x=values, scale=scale, offset=offset, mean=mean, variance=variance, epsilon=epsilon, is_training=False
        )[0]

    def normalise(images: Any, scale: Any, offset: Any) -> tuple[Any, Any]:
        _, own_mean, own_variance = _by_batch(images, scale, offset, epsilon)
        joined = total(ops.stack([own_mean, own_variance + own_mean * own_mean])) / share.size
        mean, variance = joined[0], ops.maximum(joined[1] - joined[0] * joined[0], 0.0)

        def backward(upstream: Any, *_: Any) -> tuple[Any, Any, Any]:
            direct, of_scale, of_offset, *_ = tensorflow.raw_ops.FusedBatchNormGradV3(
                y_backprop=upstream,
                x=images,
                scale=scale,
                reserve_space_1=mean,
                reserve_space_2=variance,
                reserve_space_3=tensorflow.constant(np.zeros(0, np.float32)),
                epsilon=epsilon,
                is_training=False,
            )
            factor = scale * ops.rsqrt(variance + epsilon) / (_count(images) * share.size)
            through_variance, through_mean = ops.unstack(factor * total(ops.stack([of_scale, of_offset])), 2)
            indirect = fixed(images, through_variance, through_mean, mean, variance)
            return direct - indirect, of_scale, of_offset

        return (fixed(images, scale, offset, mean, variance), mean, variance), backward

    made: tuple[Any, Any, Any] = tensorflow.custom_gradient(normalise)(images, scale, offset)
    return made


def _count(images: Any) -> Any:
    """How many values each channel has."""
    tensorflow = require("tensorflow", "training on the TensorFlow backend")
    return tensorflow.cast(tensorflow.size(images) // images.shape[-1], "float32")
