"""From a name to a network: the table of all networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from hounsfield.errors import UsageError
from hounsfield.models.applications import application, application_names
from hounsfield.models.resnet import resnet
from hounsfield.models.simple_cnn import simple_cnn
from hounsfield.tasks import Task

NETWORKS: dict[str, Callable[..., keras.Model]] = {
    "simple_cnn": simple_cnn,
    "resnet10": partial(resnet, depth=10),
    "resnet18": partial(resnet, depth=18),
    "resnet34": partial(resnet, depth=34),
    "resnet50": partial(resnet, depth=50),
}


def network_names() -> tuple[str, ...]:
    """Every name that :func:`build` knows."""
    return (*NETWORKS, *application_names())


def build(name: str, input_shape: tuple[int, ...], num_labels: int, task: Task, **options: Any) -> keras.Model:
    """Build a network for whole images by name, in float32.

    Args:
        name: "simple_cnn", "resnet10", "resnet18", "resnet34", "resnet50", or a network of
            ``keras.applications`` in lower case.
        input_shape: (rows, columns, channels) or (slices, rows, columns, channels).
        num_labels: number of labels.
        task: "binary", "multi-class", "multi-label", "regression" or "ordinal".
        options: ``dropout`` for all; ``width``, ``stem``, ``pooling``, ``shrink`` and ``standardise`` for resnets;
            ``weights`` for applications.

    Returns:
        A plain functional ``keras.Model`` with the layers "features" and "probabilities".

    Raises:
        UsageError: the name is unknown, or an option does not belong to the network.
    """
    if name in NETWORKS:
        return _call(NETWORKS[name], name, input_shape, num_labels, task, options)
    if name in application_names():
        return _call(partial(application, name), name, input_shape, num_labels, task, options)
    raise UsageError(f"No network is called '{name}'. Known are: {', '.join(network_names())}.")


def _call(
    constructor: Callable[..., keras.Model],
    name: str,
    input_shape: tuple[int, ...],
    num_labels: int,
    task: Task,
    options: dict[str, Any],
) -> keras.Model:
    try:
        return constructor(input_shape, num_labels, task, **options)
    except TypeError as error:
        raise UsageError(f"The network '{name}' does not take these options: {options} ({error}).") from error
