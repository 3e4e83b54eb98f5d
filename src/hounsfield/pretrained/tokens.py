"""What pretrained networks need beside Keras's own layers: tokens (batch, tokens, width), and slices of volumes."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable("hounsfield")
class AddPositions(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Put tokens in front of those of the patches, and add a learned vector to each: (n, P, D) → (n, P + prefix, D).

    Args:
        num_prefix: tokens in front: a class token, registers, or none.
        options: of any layer.
    """

    def __init__(self, num_prefix: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.num_prefix = num_prefix

    def build(self, input_shape: Shape) -> None:
        """Make the vectors (P + prefix, D); those in front are token and position in one."""
        count = int(input_shape[1] or 0) + self.num_prefix
        self.positions = self.add_weight((count, input_shape[2]), "zeros", name="positions")

    def call(self, inputs: Any) -> Any:
        """Tokens with positions."""
        return ops.pad(inputs, ((0, 0), (self.num_prefix, 0), (0, 0))) + self.positions

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """So many tokens more."""
        return (input_shape[0], int(input_shape[1] or 0) + self.num_prefix, input_shape[2])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        base: dict[str, Any] = super().get_config()
        return base | {"num_prefix": self.num_prefix}


@keras.saving.register_keras_serializable("hounsfield")
class FirstToken(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The first token alone: (n, P, D) → (n, D)."""

    def call(self, inputs: Any) -> Any:
        """The first token."""
        return inputs[:, 0]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Without the axis of tokens."""
        return (input_shape[0], input_shape[2])


@keras.saving.register_keras_serializable("hounsfield")
class LayerScale(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A learned factor for each channel (Touvron et al., 2021, arXiv:2103.17239)."""

    def build(self, input_shape: Shape) -> None:
        """Make the factors (D,)."""
        self.gamma = self.add_weight((input_shape[-1],), "ones", name="gamma")

    def call(self, inputs: Any) -> Any:
        """The scaled tokens."""
        return inputs * self.gamma

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The same."""
        return input_shape


@keras.saving.register_keras_serializable("hounsfield")
class TanhGelu(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """GELU in its approximation by a hyperbolic tangent (Hendrycks & Gimpel, 2016, arXiv:1606.08415, section 2)."""

    def call(self, inputs: Any) -> Any:
        """The activated values."""
        return ops.gelu(inputs, approximate=True)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The same."""
        return input_shape


@keras.saving.register_keras_serializable("hounsfield")
class Probe(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """One learned token, which attends to those of an image in order to pool them: (n, P, D) → (n, 1, D)."""

    def build(self, input_shape: Shape) -> None:
        """Make the token (D,)."""
        self.token = self.add_weight((input_shape[-1],), "zeros", name="token")

    def call(self, inputs: Any) -> Any:
        """The token for each image."""
        return ops.zeros_like(inputs[:, :1]) + self.token

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """A single token."""
        return (input_shape[0], 1, input_shape[2])


@keras.saving.register_keras_serializable("hounsfield")
class RotaryAttention(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Attention of tokens to one another, whose queries and keys are rotated by the place of their patch.

    Siméoni et al., "DINOv3", 2025 (arXiv:2508.10104); rotary positions by Su et al., 2021 (arXiv:2104.09864).

    Args:
        num_heads: of the attention.
        num_prefix: tokens in front, which have no place and are not rotated.
        grid: rows and columns of patches.
        theta: base of the wavelengths.
        options: of any layer.
    """

    def __init__(self, num_heads: int, num_prefix: int, grid: tuple[int, int], theta: float, **options: Any) -> None:
        super().__init__(**options)
        self.num_heads, self.num_prefix, self.grid, self.theta = num_heads, num_prefix, tuple(grid), theta

    def build(self, input_shape: Shape) -> None:
        """Make kernel and bias of queries, keys, values and of what joins them, each (D, D) and (D,)."""
        width = input_shape[-1]
        names = ("query", "key", "value", "output")
        self.kernels = [self.add_weight((width, width), name=f"{name}_kernel") for name in names]
        self.biases = [self.add_weight((width,), "zeros", name=f"{name}_bias") for name in names]

    def rotations(self, size: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Cosines and sines (tokens, size) of the angles by which each channel of a head is rotated."""
        places = [(np.arange(count) + 0.5) / count * 2 - 1 for count in self.grid]
        rows, columns = np.meshgrid(*places, indexing="ij")
        waves = self.theta ** -np.arange(0, 1, 4 / size)
        angles = 2 * math.pi * np.stack([rows.ravel(), columns.ravel()], -1)[:, :, None] * waves
        angles = np.tile(angles.reshape(len(angles), -1), (1, 2))
        angles = np.concatenate([np.zeros((self.num_prefix, size)), angles])
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def call(self, inputs: Any) -> Any:
        """Tokens that have attended."""
        tokens, width = inputs.shape[1:]
        size = width // self.num_heads
        query, key, value = (
            ops.reshape(ops.matmul(inputs, kernel) + bias, (-1, tokens, self.num_heads, size))
            for kernel, bias in zip(self.kernels[:3], self.biases[:3], strict=True)
        )
        cosine, sine = (ops.convert_to_tensor(each[:, None], inputs.dtype) for each in self.rotations(size))
        query, key = (each * cosine + _half_turned(each, size) * sine for each in (query, key))
        scores = ops.einsum("nqhd,nkhd->nhqk", query, key) / math.sqrt(size)
        joined = ops.einsum("nhqk,nkhd->nqhd", ops.softmax(scores, axis=-1), value)
        return ops.matmul(ops.reshape(joined, (-1, tokens, width)), self.kernels[3]) + self.biases[3]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The same."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        base: dict[str, Any] = super().get_config()
        own = {"num_heads": self.num_heads, "num_prefix": self.num_prefix, "grid": self.grid, "theta": self.theta}
        return base | own


def _half_turned(heads: Any, size: int) -> Any:
    return ops.concatenate([-heads[..., size // 2 :], heads[..., : size // 2]], axis=-1)


@keras.saving.register_keras_serializable("hounsfield")
class SlicesApart(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The slices of volumes as images: (n, S, rows, columns, channels) → (n · S, rows, columns, channels)."""

    def call(self, inputs: Any) -> Any:
        """The slices of all volumes."""
        return ops.reshape(inputs, (-1, *inputs.shape[2:]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Without the axis of slices."""
        return (None, *input_shape[2:])


@keras.saving.register_keras_serializable("hounsfield")
class SlicesTogether(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The vectors of slices by volume: (n · S, D) → (n, S, D).

    Args:
        num_slices: of a volume.
        options: of any layer.
    """

    def __init__(self, num_slices: int, **options: Any) -> None:
        super().__init__(**options)
        self.num_slices = num_slices

    def call(self, inputs: Any) -> Any:
        """The vectors of each volume."""
        return ops.reshape(inputs, (-1, self.num_slices, inputs.shape[-1]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """With the axis of slices."""
        return (None, self.num_slices, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        base: dict[str, Any] = super().get_config()
        return base | {"num_slices": self.num_slices}


@keras.saving.register_keras_serializable("hounsfield")
class AttendedMean(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The mean of vectors (n, S, D), weighted by the softmax of their scores (n, S, 1)."""

    def call(self, inputs: Any) -> Any:
        """(n, D) of the vectors and their scores."""
        vectors, scores = inputs
        return ops.sum(vectors * ops.softmax(scores, axis=1), axis=1)

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """Without the axis of slices."""
        return (input_shape[0][0], input_shape[0][2])
