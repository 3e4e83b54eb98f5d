"""Building blocks of networks of rank 2 and rank 3."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from hounsfield.tasks import TASKS, Task, num_outputs

CONVOLUTIONS = {2: layers.Conv2D, 3: layers.Conv3D}
MAX_POOLINGS = {2: layers.MaxPooling2D, 3: layers.MaxPooling3D}
AVERAGE_POOLINGS = {2: layers.AveragePooling2D, 3: layers.AveragePooling3D}
GLOBAL_AVERAGE_POOLINGS = {2: layers.GlobalAveragePooling2D, 3: layers.GlobalAveragePooling3D}
GLOBAL_MAX_POOLINGS = {2: layers.GlobalMaxPooling2D, 3: layers.GlobalMaxPooling3D}


def convolution(filters: int, kernel: int, rank: int, *, strides: int = 1, name: str, **options: Any) -> keras.Layer:
    """A convolution of rank 2 or 3 with "same" padding, He initialisation and no bias.

    He et al., "Delving deep into rectifiers", 2015 (arXiv:1502.01852), equation 10, with fan-out.
    """
    settings: dict[str, Any] = {
        "padding": "same",
        "use_bias": False,
        "kernel_initializer": keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal"),
    }
    return CONVOLUTIONS[rank](filters, kernel, strides=strides, name=name, **(settings | options))


def normalised(inputs: Any, layer: keras.Layer, *, relu: bool = True, gamma: str = "ones") -> Any:
    """Convolution → batch normalisation → optional ReLU, named after the convolution."""
    outputs = layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_initializer=gamma, name=f"{layer.name}_normalisation"
    )(layer(inputs))
    return layers.ReLU(name=f"{layer.name}_relu")(outputs) if relu else outputs


def classification_head(features: Any, num_labels: int, task: Task, *, dropout: float = 0.0) -> Any:
    """Dropout and the dense layer "probabilities" on a tensor of pooled vectors (batch, features).

    One sigmoid unit for a binary task (probability of the second label), one softmax unit per label for
    a multi-class task, one sigmoid unit per label for a multi-label task, one linear unit for regression. Always
    computed in float32.

    For K grades in order, K − 1 sigmoid units give the probabilities of a grade above each but the last: one score, the
    layer "severity", minus a threshold each (the cumulative link model of McCullagh 1980, "Regression models for
    ordinal data"; for networks Cao, Mirjalili, Raschka 2020, arXiv:1901.07884). The constraint keeps the score's
    weights at one.
    """
    if dropout:
        features = layers.Dropout(dropout, name="dropout")(features)
    units, traits = num_outputs(num_labels, task), TASKS[task]
    options: dict[str, Any] = {}
    if traits.ordered:
        features = layers.Dense(1, use_bias=False, dtype="float32", name="severity")(features)
        options = {"kernel_initializer": "ones", "kernel_constraint": keras.constraints.UnitNorm(axis=0)}
    return layers.Dense(units, activation=traits.activation, dtype="float32", name="probabilities", **options)(features)
