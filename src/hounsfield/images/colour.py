"""Whether an image has colours, or one picture in all its channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLED_PIXELS = 4096


def is_grey(pixels: npt.NDArray[Any], extent: float | None = None) -> bool:
    """Whether all channels carry one picture, to within 1 % of the image's range at a sample of its pixels.

    Args:
        pixels: channels last.
        extent: greatest less smallest value; that of the sample where not given.
    """
    if pixels.shape[-1] == 1:
        return True
    points = pixels.reshape(-1, pixels.shape[-1])
    sample = points[:: max(1, len(points) // SAMPLED_PIXELS)].astype(np.float32)
    extent = float(np.ptp(sample)) if extent is None else extent
    spread = sample.max(axis=1) - sample.min(axis=1)
    return bool(np.quantile(spread, 0.99) <= 0.01 * extent)
