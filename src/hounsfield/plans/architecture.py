"""The choices of architecture that a plan names, known without any framework."""

from __future__ import annotations

from typing import Any, Literal

Stem = Literal["small", "medium", "large"]
Pooling = Literal["mean", "stages"]
# How the features of the images of a sample become one vector.
ViewPooling = Literal["attention", "mean", "max"]
# What a network starts from; null for random weights.
Weights = Literal["imagenet"] | None
# How a network that was trained before becomes one for other labels: its last layer alone is fitted, small matrices
# beside its attention are trained, or all of it.
Adapt = Literal["probe", "lora", "finetune"]

# Stem -> by how much it reduces the resolution.
STEM_REDUCTION: dict[Stem, int] = {"small": 1, "medium": 2, "large": 4}


def with_weights(values: Any) -> Any:
    """The fields of a plan or a detector with ``weights``, where an earlier version wrote ``pretrained: true``."""
    if not isinstance(values, dict) or not isinstance(values.get("pretrained"), bool):
        return values
    kept = {name: value for name, value in values.items() if name != "pretrained"}
    return {"weights": "imagenet" if values["pretrained"] else None} | kept
