"""Every network of ``keras.applications`` by name, for grey and colour input."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import keras
from keras import layers

from hounsfield.errors import UsageError
from hounsfield.models.blocks import Task, classification_head

logger = logging.getLogger(__name__)


def application_names() -> tuple[str, ...]:
    """The names of the networks in the installed ``keras.applications``, in lower case."""
    return tuple(sorted(_constructors()))


def application(
    name: str,
    input_shape: tuple[int, ...],
    num_labels: int,
    task: Task,
    *,
    pretrained: bool = False,
    dropout: float = 0.0,
) -> keras.Model:
    """A network of ``keras.applications`` with a new head.

    Args:
        name: for example "efficientnetv2b0"; see :func:`application_names`.
        input_shape: (rows, columns, channels); with ImageNet weights a single channel is repeated to three.
        num_labels: number of labels of the task.
        task: decides the last layer's units and activation.
        pretrained: start from ImageNet weights; where these cannot be had, this is an error that says so,
            because a network from scratch is another experiment.
        dropout: share of the pooled features that is dropped in training.

    Raises:
        UsageError: no such network, input of rank 3, too small an input, or the weights cannot be had.
    """
    constructors = _constructors()
    if name not in constructors:
        raise UsageError(
            f"No network of keras.applications is called '{name}'. Known are: {', '.join(sorted(constructors))}."
        )
    if len(input_shape) != 3:
        raise UsageError(
            f"The networks of keras.applications take 2D images. Got input of shape {input_shape}: use resnet instead."
        )
    inputs = keras.Input(input_shape, name="image")
    hidden = inputs
    if pretrained and input_shape[-1] == 1:
        hidden = layers.Concatenate(name="grey_to_colour")([inputs, inputs, inputs])
    features = layers.GlobalAveragePooling2D(name="features")(_backbone(name, constructors[name], hidden, pretrained))
    return keras.Model(inputs, classification_head(features, num_labels, task, dropout=dropout), name=name)


def _constructors() -> dict[str, Any]:
    found = vars(keras.applications).items()
    return {name.lower(): value for name, value in found if inspect.isfunction(value) and not name.startswith("_")}


def _backbone(name: str, constructor: Any, inputs: Any, pretrained: bool) -> Any:
    options: dict[str, Any] = {
        "include_top": False,
        "input_tensor": inputs,
        "weights": "imagenet" if pretrained else None,
    }
    if "include_preprocessing" in inspect.signature(constructor).parameters:
        # The pipeline normalises already; a second rescaling would flatten its values.
        options["include_preprocessing"] = False
    try:
        return constructor(**options).output
    except ValueError as error:
        raise UsageError(
            f"The network '{name}' cannot be built on input of shape {tuple(inputs.shape[1:])}: {error}. "
            "Choose a larger input size in the plan, or a resnet."
        ) from error
    except Exception as error:
        # keras.utils.get_file raises a bare Exception when a download fails.
        if not pretrained:
            raise
        raise UsageError(
            f"The ImageNet weights of '{name}' could not be downloaded ({error}). Connect to the internet once, "
            "put the file into Keras's cache folder, or train from scratch with 'pretrained: false' in the plan."
        ) from error
