"""The faults, planted in pictures without them: what they look like, and how many of them are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hounsfield.quality.measures import END, PICTURE, ends_of, saturated, sharpness

# Standard deviation of the blur, as a share of the shorter side and in samples at least.
BLUR, LEAST_BLUR = 0.012, 1.0
# Share of the values that clipping takes at one end, of those that do not stand there already.
CLIPPED = 0.15
# Share of an image that is cut off, or of which a transfer left nothing.
CUT = 0.3
# Degrees of a tilt, and share of each axis that a collimator leaves.
TILT, OPEN = 25.0, 0.6

Pictures = NDArray[np.uint8]


class Planted(NamedTuple):
    """What faults make of the measures of one picture.

    Attributes:
        sharpness: once blurred.
        saturated: share at the maximum once bright values are clipped, and at the minimum once dark ones are.
    """

    sharpness: tuple[float, float]
    saturated: tuple[float, float]


def planted(planes: NDArray[Any]) -> Planted:
    """Blur and clip (planes, rows, columns, channels) samples, and measure them."""
    width = max(LEAST_BLUR, BLUR * min(planes.shape[1:3]))
    soft = np.stack([cv2.GaussianBlur(plane, (0, 0), width).reshape(plane.shape) for plane in planes])
    low, high = ends_of(planes)
    inside = planes[(planes > low + (high - low) * END) & (planes < high - (high - low) * END)]
    ends = np.quantile(inside, [CLIPPED, 1 - CLIPPED]) if inside.size else (low, high)
    darker = np.minimum(planes, np.asarray(ends[1]).astype(planes.dtype))
    brighter = np.maximum(planes, np.asarray(ends[0]).astype(planes.dtype))
    top, bottom = (saturated(each, ends_of(each)) for each in (darker, brighter))
    return Planted(sharpness(soft, ends_of(soft)), (top[0] if top else 1.0, bottom[1] if bottom else 1.0))


def _tilted(degrees: float) -> Callable[[Pictures], Pictures]:
    middle = (PICTURE - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), degrees, 1)

    def tilt(pictures: Pictures) -> Pictures:
        size = (PICTURE, PICTURE)
        return np.stack([cv2.warpAffine(each, matrix, size, borderMode=cv2.BORDER_REPLICATE) for each in pictures])

    return tilt


def _turned(quarters: int) -> Callable[[Pictures], Pictures]:
    return lambda pictures: np.rot90(pictures, quarters, (1, 2))


KEPT = round((1 - CUT) * PICTURE)
# What is left once each side is cut off, and what a transfer that broke off leaves empty.
LEFT = (np.s_[:, :KEPT], np.s_[:, PICTURE - KEPT :], np.s_[:, :, :KEPT], np.s_[:, :, PICTURE - KEPT :])
LOST = (np.s_[:, KEPT:], np.s_[:, : PICTURE - KEPT], np.s_[:, :, KEPT:], np.s_[:, :, : PICTURE - KEPT])


def _cropped(side: int) -> Callable[[Pictures], Pictures]:
    def crop(pictures: Pictures) -> Pictures:
        parts = np.ascontiguousarray(pictures[LEFT[side]])
        return np.stack([cv2.resize(each, (PICTURE, PICTURE), interpolation=cv2.INTER_LINEAR) for each in parts])

    return crop


def _broken(side: int) -> Callable[[Pictures], Pictures]:
    def lose(pictures: Pictures) -> Pictures:
        found = pictures.copy()
        # Black, grey or white in turn.
        found[LOST[side]] = (np.arange(len(found)) % 3 * 127).astype(np.uint8)[:, None, None]
        return found

    return lose


def _collimated(pictures: Pictures) -> Pictures:
    edge = round((1 - OPEN) / 2 * PICTURE)
    inside = np.s_[:, edge : PICTURE - edge, edge : PICTURE - edge]
    found = np.zeros_like(pictures)
    found[inside] = pictures[inside]
    return found


# Fault and variant -> what makes it of small pictures (n, 32, 32).
VARIANTS: dict[tuple[str, str], Callable[[Pictures], Pictures]] = {
    **{("rotated", f"by {90 * quarters}°"): _turned(quarters) for quarters in (1, 2, 3)},
    **{("rotated", f"by {degrees:g}°"): _tilted(degrees) for degrees in (TILT, -TILT)},
    **{
        ("cut", f"{name} cut off"): _cropped(side)
        for side, name in enumerate(("lower part", "upper part", "right part", "left part"))
    },
    **{
        ("cut", f"{name} empty"): _broken(side)
        for side, name in enumerate(("lower part", "upper part", "right part", "left part"))
    },
    ("collimated", "to the middle"): _collimated,
}
