"""How near a prediction is to another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def doubt_of(content: Mapping[str, Any], threshold: float | tuple[float, ...], task: str) -> float:
    """How near a prediction is to another one, 0 to 1.

    Of labels that exclude each other, one minus the distance of the two most probable; of others and of boxes, how near
    the nearest probability is to the threshold; of masks the mean entropy of their pixels; of values 0, which nothing
    tells.

    Args:
        content: of the prediction, as plain values.
        threshold: of the decision; one for each label where they have thresholds of their own.
        task: of the bundle.
    """
    thresholds = threshold if isinstance(threshold, tuple) else (threshold,)
    if "findings" in content:
        return max((_nearness(each["score"], thresholds[0]) for each in content["findings"]), default=0.0)
    if "labels" in content:
        found = [facts["uncertainty"] for facts in content["labels"].values() if facts["uncertainty"] is not None]
        return float(np.mean(found)) if found else 0.0
    probabilities = list(content.get("probabilities", {}).values())
    if not probabilities:
        return 0.0
    if task == "binary":
        return _nearness(probabilities[1], thresholds[0])
    if task == "multi-label":
        own = thresholds if len(thresholds) == len(probabilities) else thresholds[:1] * len(probabilities)
        return max(_nearness(value, limit) for value, limit in zip(probabilities, own, strict=True))
    second, first = sorted(probabilities)[-2:] if len(probabilities) > 1 else (0.0, probabilities[0])
    return float(1 - (first - second))


def _nearness(probability: float, threshold: float) -> float:
    """1 at the threshold, 0 at the farther end."""
    side = threshold if probability < threshold else 1 - threshold
    return 1.0 if side <= 0 else max(0.0, 1 - abs(probability - threshold) / side)
