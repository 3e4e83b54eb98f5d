"""Finds the lungs in CT images, as air inside the body."""

from __future__ import annotations

import importlib
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hounsfield.images.image import Image
from hounsfield.images.orientation import is_usable, orientation_of
from hounsfield.preprocessing.cropping import cropped
from hounsfield.preprocessing.foreground import grey
from hounsfield.preprocessing.step import Step

Box = tuple[tuple[int, int], ...]

# HU between aerated lung and soft tissue, as in Armato & Sensakovic, Academic Radiology 11 (2004).
AIR = -400
# Lungs are searched for on a grid of at most this many positions per axis, which locates them to a few millimetres.
COARSE = 96
# Smallest share of the body that lungs fill: gas in the bowel and sinuses stays below.
LEAST_SHARE = 0.05
# Parts below this share of the largest are not lungs.
LEAST_PART = 0.1


class CropLungs(Step):
    """Keep the smallest box around both lungs, with a margin of ``margin`` millimetres; for CT in Hounsfield units.

    See :func:`lung_box`. The margin is in pixels where an image has no spacing. An image without lungs is
    left unchanged.
    """

    name: Literal["crop_lungs"] = "crop_lungs"
    margin: float = Field(default=10.0, ge=0)

    def _apply(self, image: Image) -> Image:
        box = lung_box(image, self.margin)
        return image if box is None else cropped(image, box)


def lung_box(image: Image, margin: float = 10.0) -> Box | None:
    """The half-open box around the lungs, (start, end) per axis in pixels, or ``None`` if there are none.

    Lungs are the large connected parts below −400 HU that do not reach the sides of the image, as the air around the
    patient does, if together they fill a twentieth of the body or more. The first and last slice may cut them.

    Args:
        image: CT in Hounsfield units, a slice or a volume of any orientation.
        margin: added on every side, in mm; in pixels where the image has no spacing.
    """
    ndimage = importlib.import_module("scipy.ndimage")
    strides = tuple(math.ceil(length / COARSE) for length in image.shape)
    air = grey(image.pixels[tuple(slice(None, None, stride) for stride in strides)]) < AIR
    # A thin wall, or the trachea leaving the image, must not connect the lungs to the air around the patient.
    parts, _ = ndimage.label(ndimage.binary_opening(air))
    around = _at_the_sides(parts, upright_axis(image))
    outside = ndimage.binary_dilation(np.isin(parts, around), mask=air)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    sizes[around] = 0
    lungs = (sizes >= max(1.0, LEAST_PART * sizes.max()))[parts]
    # An image of air alone has no body.
    if not lungs.any() or lungs.sum() < LEAST_SHARE * (~outside).sum():
        return None
    spacing = image.spacing or (1.0,) * image.rank
    found = ndimage.find_objects(lungs.astype(np.uint8))[0]
    return tuple(
        (
            max(0, axis.start * stride - math.ceil(margin / step)),
            min(length, axis.stop * stride + math.ceil(margin / step)),
        )
        for axis, stride, step, length in zip(found, strides, spacing, image.shape, strict=True)
    )


def upright_axis(image: Image) -> int | None:
    """The axis of a volume along the patient, by default that of the slices; ``None`` for a slice."""
    if image.rank == 2:
        return None
    if image.affine is None or not is_usable(image.affine):
        return 0
    return next(axis for axis, side in enumerate(orientation_of(image.affine)) if side in "SI")


def _at_the_sides(parts: NDArray[np.integer], upright: int | None) -> NDArray[np.integer]:
    """Labels of the parts that touch the first or last position of an axis across the patient."""
    faces = [parts.take((0, -1), axis=axis).ravel() for axis in range(parts.ndim) if axis != upright]
    found = np.unique(np.concatenate(faces))
    return found[found > 0]
