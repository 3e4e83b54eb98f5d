"""Every network of ``keras.applications`` by name, for grey and colour input."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import keras
from keras import layers

from hounsfield.errors import UsageError
from hounsfield.models.blocks import classification_head
from hounsfield.plans.architecture import Weights
from hounsfield.tasks import Task

logger = logging.getLogger(__name__)

# Detectors start here: coarser levels follow; finer ones cost more than they add.
FINEST_STRIDE = 4


def application_names() -> tuple[str, ...]:
    """The names of the networks in the installed ``keras.applications``, in lower case."""
    return tuple(sorted(_constructors()))


def application(
    name: str,
    input_shape: tuple[int, ...],
    num_labels: int,
    task: Task,
    *,
    weights: Weights = None,
    dropout: float = 0.0,
) -> keras.Model:
    """A network of ``keras.applications`` with a new head.

    Args:
        name: for example "efficientnetv2b0"; see :func:`application_names`.
        input_shape: (rows, columns, channels); with ImageNet weights a single channel is repeated to three.
        num_labels: number of labels of the task.
        task: decides the last layer's units and activation.
        weights: that the network starts from; where those of ImageNet cannot be had, this is an error,
            because a network from scratch is another experiment.
        dropout: share of the pooled features that is dropped in training.

    Raises:
        UsageError: no such network, input of rank 3, too small an input, or the weights cannot be had.
    """
    _check(name, input_shape)
    inputs = keras.Input(input_shape, name="image")
    features = layers.GlobalAveragePooling2D(name="features")(_backbone(name, inputs, weights).output)
    return keras.Model(inputs, classification_head(features, num_labels, task, dropout=dropout), name=name)


def application_stages(name: str, inputs: Any, *, weights: Weights = None) -> tuple[list[Any], tuple[int, ...]]:
    """The last feature map of each resolution, from a stride of 4 on, as detectors take them.

    Args:
        name: of a network of ``keras.applications``.
        inputs: the symbolic image (batch, rows, columns, channels).
        weights: as for :func:`application`.

    Returns:
        The feature maps, finest first, and their strides.

    Raises:
        UsageError: as for :func:`application`; or the network never has a stride of 4.
    """
    shape = tuple(inputs.shape[1:])
    _check(name, shape)
    last = {}
    for layer in _backbone(name, inputs, weights).layers:
        last[tuple(layer.output.shape[1:-1])] = layer.output
    stages, strides = [], []
    stride = FINEST_STRIDE
    while (size := tuple(-(-length // stride) for length in shape[:-1])) in last:
        stages.append(last[size])
        strides.append(stride)
        stride *= 2
    if not stages:
        raise UsageError(
            f"The network '{name}' has no feature maps of a quarter, an eighth, … of an input of {shape[0]}×{shape[1]} "
            "pixels, which a feature pyramid needs. Choose an input whose sides are multiples of 32, or a resnet."
        )
    return stages, tuple(strides)


def _check(name: str, input_shape: tuple[int, ...]) -> None:
    known = _constructors()
    if name not in known:
        raise UsageError(f"No network of keras.applications is called '{name}'. Known are: {', '.join(sorted(known))}.")
    if len(input_shape) != 3:
        raise UsageError(
            f"The networks of keras.applications take 2D images. Got input of shape {input_shape}: use resnet instead."
        )


def _constructors() -> dict[str, Any]:
    found = vars(keras.applications).items()
    return {name.lower(): value for name, value in found if inspect.isfunction(value) and not name.startswith("_")}


def _backbone(name: str, inputs: Any, weights: Weights) -> keras.Model:
    constructor = _constructors()[name]
    if weights is not None and inputs.shape[-1] == 1:
        inputs = layers.Concatenate(name="grey_to_colour")([inputs, inputs, inputs])
    options: dict[str, Any] = {
        "include_top": False,
        "input_tensor": inputs,
        "weights": weights,
    }
    if "include_preprocessing" in inspect.signature(constructor).parameters:
        # The pipeline normalises already; a second rescaling would flatten its values.
        options["include_preprocessing"] = False
    try:
        return constructor(**options)
    except ValueError as error:
        raise UsageError(
            f"The network '{name}' cannot be built on input of shape {tuple(inputs.shape[1:])}: {error}. "
            "Choose a larger input size in the plan, or a resnet."
        ) from error
    except Exception as error:
        # keras.utils.get_file raises a bare Exception when a download fails.
        if weights is None:
            raise
        raise UsageError(
            f"The ImageNet weights of '{name}' could not be downloaded ({error}). Connect to the internet once, "
            "put the file into Keras's cache folder, or train from scratch with 'weights: null' in the plan."
        ) from error
