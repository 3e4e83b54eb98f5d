"""Low-rank adaptation of vision transformers: their weights stay, and small matrices beside them are trained.

Hu et al., "LoRA: low-rank adaptation of large language models", 2022 (arXiv:2106.09685), on the queries and values of
attention as there. What was learned is added to the weights at the end, so that the network is a plain one again.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from hounsfield.models.training_model import Precision
from hounsfield.training.image_trainee import ImageTrainee

# The matrices have this rank, and their product counts so many times (α / r).
RANK, SCALE = 8, 2.0


class LowRank(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A projection of attention that stays as it is, and a product of two small matrices that is added to it.

    Args:
        dense: the projection (…, width) → (…, heads, length).
        rank: of the product.
    """

    def __init__(self, dense: keras.Layer, rank: int) -> None:
        super().__init__(name=f"{dense.name}_low_rank")
        self.dense, self.rank = dense, rank
        dense.trainable = False
        self.out = tuple(dense.kernel.shape[1:])
        self.build((None, None, dense.kernel.shape[0]))

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the matrices; the second is zero, so that the network is the same at first."""
        self.down = self.add_weight((shape[-1], self.rank), "he_uniform", dtype="float32", name="down")
        self.up = self.add_weight((self.rank, math.prod(self.out)), "zeros", dtype="float32", name="up")
        self.built = True

    def call(self, inputs: Any) -> Any:
        """(batch, tokens, heads, length)."""
        added = ops.matmul(ops.matmul(ops.cast(inputs, "float32"), self.down), self.up)
        kept = self.dense(inputs)
        return kept + ops.cast(SCALE * ops.reshape(added, (-1, inputs.shape[1], *self.out)), kept.dtype)

    def merged(self) -> np.ndarray:
        """The kernel of a plain projection that gives the same."""
        down, up, kernel = (
            np.asarray(ops.convert_to_numpy(each), np.float64) for each in (self.down, self.up, self.dense.kernel)
        )
        return np.asarray(kernel + SCALE * (down @ up).reshape(kernel.shape), np.float32)


class LowRankTrainee(ImageTrainee):
    """Trains low-rank matrices beside the queries and values of each attention, and the last layer."""

    def _build(
        self, network: keras.Model, precision: Precision, augmentation: list[keras.Layer]
    ) -> tuple[keras.Model, keras.Model]:
        model, plain = super()._build(network, precision, augmentation)
        self._projections = []
        for layer in plain.layers:
            if isinstance(layer, layers.MultiHeadAttention):
                self._projections += _adapt(layer, RANK)
            elif layer.name != "probabilities":
                layer.trainable = False
        return model, plain

    def weights(self) -> list[np.ndarray]:
        """Those of a plain network that gives the same."""
        merged = {id(each.dense._kernel): each.merged() for each in self._projections}
        added = {id(matrix) for each in self._projections for matrix in (each.down, each.up)}
        plain = [variable for variable in self._plain.weights if id(variable) not in added]
        return [merged.get(id(each), np.asarray(ops.convert_to_numpy(each))) for each in plain]


def _adapt(attention: layers.MultiHeadAttention, rank: int) -> list[LowRank]:
    """Put matrices beside the queries and values, and keep all else as it is."""
    for dense in (attention.key_dense, attention.output_dense):
        dense.trainable = False
    # A layer that is built takes no further ones; Keras's own enable_lora does the same.
    attention._tracker.unlock()
    attention._query_dense = LowRank(attention.query_dense, rank)
    attention._value_dense = LowRank(attention.value_dense, rank)
    attention._tracker.lock()
    return [attention._query_dense, attention._value_dense]
