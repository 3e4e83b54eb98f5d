"""What a vision transformer needs beside Keras's own layers: positions with a class token, and that token alone."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("hounsfield")
class AddPositions(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Put a token in front of those of the patches, and add a learned vector to each: (n, P, D) → (n, P + 1, D)."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the vectors (P + 1, D); the first one is class token and position in one."""
        self.positions = self.add_weight((int(input_shape[1] or 0) + 1, input_shape[2]), "zeros", name="positions")

    def call(self, inputs: Any) -> Any:
        """Tokens with positions."""
        return keras.ops.pad(inputs, ((0, 0), (1, 0), (0, 0))) + self.positions

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """One token more."""
        return (input_shape[0], int(input_shape[1] or 0) + 1, input_shape[2])


@keras.saving.register_keras_serializable("hounsfield")
class FirstToken(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The class token alone: (n, P, D) → (n, D)."""

    def call(self, inputs: Any) -> Any:
        """The first token."""
        return inputs[:, 0]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Without the axis of tokens."""
        return (input_shape[0], input_shape[2])
