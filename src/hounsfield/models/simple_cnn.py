"""The small network of introductory tutorials, as a baseline for the others."""

from __future__ import annotations

import keras
from keras import layers

from hounsfield.models.blocks import CONVOLUTIONS, MAX_POOLINGS, classification_head
from hounsfield.tasks import TASKS, Task

LOSSES = {"sigmoid": "binary_crossentropy", "softmax": "categorical_crossentropy", "linear": "huber"}


def simple_cnn(
    input_shape: tuple[int, ...] = (64, 64, 3), num_labels: int = 2, task: Task = "binary", *, dropout: float = 0.0
) -> keras.Model:
    r"""Conv(32, 3) → ReLU → MaxPooling(2) → Flatten → Dense(128, ReLU) → Dense.

    At the default arguments exactly ``Conv2D(32, (3, 3), activation="relu")``, ``MaxPooling2D((2, 2))``,
    ``Flatten()``, ``Dense(128, activation="relu")``, ``Dense(1, activation="sigmoid")`` on 64×64×3, compiled
    with Adam, binary cross-entropy and accuracy.

    Args:
        input_shape: (rows, columns, channels) or (slices, rows, columns, channels).
        num_labels: number of labels of the task.
        task: decides the last layer's units and activation, and the loss.
        dropout: share of the 128 features that is dropped in training.

    Returns:
        A compiled ``keras.Model`` from (batch, \*input_shape) to (batch, 1) or (batch, num_labels).
    """
    rank = len(input_shape) - 1
    inputs = keras.Input(input_shape, name="image")
    hidden = CONVOLUTIONS[rank](32, 3, activation="relu", name="convolution")(inputs)
    hidden = MAX_POOLINGS[rank](2, name="pooling")(hidden)
    hidden = layers.Flatten(name="flatten")(hidden)
    features = layers.Dense(128, activation="relu", name="features")(hidden)
    network = keras.Model(inputs, classification_head(features, num_labels, task, dropout=dropout), name="simple_cnn")
    network.compile(optimizer="adam", loss=LOSSES[TASKS[task].activation], metrics=["accuracy"])
    return network
