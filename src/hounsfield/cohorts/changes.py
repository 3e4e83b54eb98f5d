"""What was done to a picture between one image of it and another, in words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MIRRORED = "mirrored"
TURNED = "turned by quarters"
ROTATED = "rotated"
SHIFTED = "shifted"
ZOOMED = "zoomed or cropped"
SHEARED = "sheared or stretched"
GREY_VALUES = "other grey values"
RESAVED = "re-encoded, resized or brightened"
KINDS = (MIRRORED, TURNED, ROTATED, SHIFTED, ZOOMED, SHEARED, GREY_VALUES, RESAVED)

# What the alignment of two pictures may be off by: degrees, share of the longer side, factor of length.
LEAST_DEGREES = 2.0
LEAST_SHIFT = 0.025
LEAST_ZOOM = 1.03
LEAST_SHEAR = 1.04


def described(
    affine: npt.NDArray[np.float64], first: tuple[int, ...], second: tuple[int, ...]
) -> tuple[tuple[str, ...], str]:
    """Take an affine map apart into mirroring, quarter turns, rotation, shift, zoom and shear.

    Args:
        affine: (2, 3), from x and y of the first picture to those of the second, in pixels.
        first: rows and columns of the first picture.
        second: those of the second.

    Returns:
        The kinds of change, in the order of ``KINDS``, and the same with figures.
    """
    linear = affine[:, :2]
    mirrored = bool(np.linalg.det(linear) < 0)
    left, lengths, right = np.linalg.svd(linear @ np.diag([-1.0 if mirrored else 1.0, 1.0]))
    turn = left @ right
    degrees = float(np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0])))
    if mirrored and abs(degrees) > 90:
        # Mirrored from top to bottom: half a turn from mirrored from left to right.
        degrees -= 180 * np.sign(degrees)
    quarters = round(degrees / 90) % 4
    degrees -= 90 * round(degrees / 90)
    middle, target = ((np.array(shape[::-1]) - 1) / 2 for shape in (first, second))
    shift = float(np.abs(linear @ middle + affine[:, 2] - target).max() / max(second))
    zoom, shear = float(np.sqrt(lengths.prod())), float(lengths[0] / lengths[1])
    parts = {
        MIRRORED: MIRRORED if mirrored else "",
        TURNED: f"turned by {90 * quarters}°" if quarters else "",
        ROTATED: f"rotated by {abs(degrees):.0f}°" if abs(degrees) >= LEAST_DEGREES else "",
        SHIFTED: f"shifted by {shift:.0%}" if shift >= LEAST_SHIFT else "",
        ZOOMED: f"zoomed to {zoom:.0%}" if max(zoom, 1 / zoom) >= LEAST_ZOOM else "",
        SHEARED: SHEARED if shear >= LEAST_SHEAR else "",
    }
    found = {kind: text for kind, text in parts.items() if text} or {GREY_VALUES: GREY_VALUES}
    return tuple(found), ", ".join(found.values())
