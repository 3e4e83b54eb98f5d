"""What a network gives for a few inputs, and how far outputs are from each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class KnownAnswer(NamedTuple):
    """What a network gives: some inputs (n, …) and, by name, the outputs that Keras computed from them, float32."""

    inputs: npt.NDArray[np.float32]
    outputs: dict[str, npt.NDArray[np.float32]]


def largest_difference(
    found: Mapping[str, npt.NDArray[np.float32]], expected: Mapping[str, npt.NDArray[np.float32]]
) -> float:
    """How far outputs are from others, relative to these outputs' size where that is above 1.

    NaN counts as infinitely far, and so does another shape.
    """
    worst = 0.0
    for name, wanted in expected.items():
        if found[name].shape != wanted.shape:
            return np.inf
        distance = float(np.max(np.abs(found[name] - wanted))) / max(1.0, float(np.max(np.abs(wanted))))
        worst = max(worst, distance if np.isfinite(distance) else np.inf)
    return worst
