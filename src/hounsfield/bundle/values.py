"""Bundles of regressors: one network, with the layers "features" and "probabilities", as of classifiers.

Its last layer is called "probabilities" like that of a classifier, since all that takes networks apart knows it by this
name; that of values is linear and gives the standardised value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hounsfield.bundle import labels as label_form
from hounsfield.bundle.base import Kept
from hounsfield.bundle.labels import LAYERS, PARTS, deployed, ends, outputs
from hounsfield.errors import BundleError
from hounsfield.evaluation.value_uncertainty import ValueUncertainty
from hounsfield.tasks import TASKS, Task

__all__ = ["KEPT", "LAYERS", "PARTS", "check", "deployed", "ends", "export_note", "outputs", "settings"]

KEPT: type[Kept] = ValueUncertainty


def export_note(settings: Mapping[str, Any]) -> str:
    """What the output stands for, and how samples of several images are put together; see ``Form``."""
    scale = (
        "The output 'probabilities' of a network for values is the standardised value: times settings.deviation plus "
        "settings.mean of bundle.json. For grades it is the probability of a grade above each but the last."
    )
    return f"{scale} {label_form.export_note(settings)}".rstrip()


def check(network: Any, labels: Sequence[str], task: Task) -> None:
    """Its outputs are those of the value or of the grades; see ``Form``."""
    label_form.check(network, labels, task)
    found = network.get_layer("probabilities").activation.__name__
    if found != TASKS[task].activation:
        raise BundleError(
            f"The network ends in the activation {found}, and the task {task} needs {TASKS[task].activation}. Build it "
            "with hounsfield.models.build."
        )


def settings(network: Any, given: Mapping[str, Any]) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The network's input, and for values the mean and the deviation by which they were standardised; see ``Form``.

    Raises:
        BundleError: they are missing, or no numbers that a value could be had from.
    """
    known = dict(given)
    linear = network.get_layer("probabilities").activation.__name__ == "linear"
    scale = [known.get(name) for name in ("mean", "deviation")]
    if linear and not all(isinstance(value, float) and math.isfinite(value) for value in scale):
        raise BundleError(
            f"A network for values needs the settings mean and deviation, by which values were standardised; found "
            f"{scale[0]} and {scale[1]}. Give both as numbers."
        )
    return label_form.settings(network, known)
