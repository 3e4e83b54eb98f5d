"""Bundles of detectors: a trunk from an image to anchors and features, and a head from regions to labels.

Where the detector outlines objects there is a third network, from regions to masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hounsfield.bundle.base import Kept, Part
from hounsfield.errors import BundleError
from hounsfield.evaluation.detection_uncertainty import DetectionUncertainty
from hounsfield.onnx_export.ends import Ends, numbered_ends, output_names
from hounsfield.tasks import Task

# On the head, which is small, hang labels and places.
PARTS: tuple[Part, ...] = (Part("trunk.onnx"), Part("head.onnx", exact=True), Part("masks.onnx"))
KEPT: type[Kept] = DetectionUncertainty
LAYERS: str | None = "hounsfield.detection"


def export_note(settings: Mapping[str, Any]) -> str:
    """What lies around the networks; see ``Form``."""
    named = "two networks: trunk, from an image to features and anchors, and head, from regions to labels"
    if settings.get("mask_bins"):
        named = "three networks: trunk, from an image to features and anchors, head, from regions to labels, and masks"
    return f"A detector has {named}. docs/detection-prediction.md describes what lies between them."


def check(network: Any, labels: Sequence[str], task: Task) -> None:  # noqa: ARG001 - there is one task
    """It has as many classes as there are labels; see ``Form``."""
    if network.settings.num_labels != len(labels):
        raise BundleError(
            f"The network has {network.settings.num_labels} classes of objects, and {len(labels)} labels were given: "
            f"{', '.join(labels)}. Give the labels that it was trained on."
        )


def deployed(network: Any) -> Any:
    """The detector itself, which computes in float32; see ``Form``."""
    return network


def settings(network: Any, given: Mapping[str, Any]) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The fields of its ``DetectorSettings``, and the strides of its levels; see ``Form``.

    Args:
        network: a ``FasterRCNN``.
        given: ``window_overlap``, the share of a window that neighbours share in images larger than the input.
    """
    known = network.settings
    return tuple(known.input_shape), known.to_dict() | {"strides": list(network.strides)} | dict(given)


def ends(network: Any) -> list[tuple[Any, Ends]]:
    """Trunk, head and mask head, their outputs numbered; see ``Form``."""
    return [(part, numbered_ends(part)) for part in network.parts]


def outputs(settings: Mapping[str, Any]) -> list[list[str]]:
    """All levels, the logits of those with anchors, their offsets; the head's two; the mask head's; see ``Form``."""
    anchors = settings["anchors"]
    masks = [output_names(1)] if settings.get("mask_bins") else []
    return [output_names(len(anchors) + 2 * sum(map(bool, anchors))), output_names(2), *masks]
