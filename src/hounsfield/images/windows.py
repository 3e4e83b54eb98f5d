"""Grey-value windows: the presets of radiology, and what a window does to values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# (center, width) in Hounsfield units, as used at the workstation for CT.
WINDOW_PRESETS: dict[str, tuple[float, float]] = {
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "soft tissue": (40.0, 400.0),
}


def apply_window(values: npt.NDArray[Any], center: float, width: float) -> npt.NDArray[np.float32]:
    """Map values to [0, 1] by DICOM's linear window (PS3.3 C.11.2.1.2.1).

    The lower end of the window, ``center − 0.5 − (width − 1) / 2``, becomes 0 and the upper end 1; values outside are
    clipped. A width of 1 is a threshold at ``center − 0.5``.

    Raises:
        ValueError: the width is less than 1, which the standard excludes.
    """
    if width < 1:
        raise ValueError(f"The 'width' of a window must be at least 1. Got {width} instead.")
    if width == 1:
        return (values > center - 0.5).astype(np.float32)
    scaled = values.astype(np.float32) - np.float32(center - 0.5)
    scaled /= np.float32(width - 1)
    scaled += np.float32(0.5)
    return np.clip(scaled, 0, 1, out=scaled)
