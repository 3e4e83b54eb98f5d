"""Steps that resample an image to another size or spacing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from hounsfield.errors import PreprocessingError
from hounsfield.images.image import Image
from hounsfield.preprocessing.cropping import Fill, Size, padded
from hounsfield.preprocessing.geometry import per_axis, regrid, require_room
from hounsfield.preprocessing.interpolation import (
    Interpolation,
    along_axis,
    area_matrix,
    gaussian_matrix,
    kernel_matrix,
    nearest_indices,
    to_type,
)
from hounsfield.preprocessing.step import Step

Factor = PositiveFloat | Annotated[tuple[PositiveFloat, ...], Field(min_length=2, max_length=3)]
Spacing = PositiveFloat | Annotated[tuple[PositiveFloat, ...], Field(min_length=2, max_length=3)]


class Resize(Step):
    """Bring the image to ``size`` pixels.

    Axes that shrink are averaged over the area of each new pixel, which prevents aliasing; axes that grow are
    interpolated. ``"nearest"`` does neither, for label maps. Integer types are kept (values are rounded); others
    become float32.

    With ``letterbox`` all axes have one factor, so nothing is distorted, and the rest is padded evenly with ``fill``.
    The factor is in pixels: where they are not square, put ``resample`` before.
    """

    name: Literal["resize"] = "resize"
    size: Size
    letterbox: bool = False
    interpolation: Interpolation = "linear"
    fill: Fill = "minimum"

    def _apply(self, image: Image) -> Image:
        size = per_axis(self.size, image.rank, step=self.name, field="size")
        require_room(size, image, step=self.name)
        if not self.letterbox:
            return _resized(image, size, self.interpolation)
        factor = min(wanted / length for wanted, length in zip(size, image.shape, strict=True))
        inner = [min(wanted, max(1, round(length * factor))) for wanted, length in zip(size, image.shape, strict=True)]
        return padded(_resized(image, inner, self.interpolation), size, self.fill)


class Zoom(Step):
    """Enlarge or shrink the image with its proportions kept, interpolated as by ``resize``.

    Either by ``factor``, one number or one per axis, or so that its longest side has ``longest`` pixels.
    """

    name: Literal["zoom"] = "zoom"
    factor: Factor | None = None
    longest: PositiveInt | None = None
    interpolation: Interpolation = "linear"

    @model_validator(mode="after")
    def _one_of_both(self) -> Zoom:
        if (self.factor is None) == (self.longest is None):
            raise ValueError("the step zoom takes either 'factor' or 'longest'")
        return self

    def _apply(self, image: Image) -> Image:
        # One of both is given.
        factor = self.factor if self.factor is not None else (self.longest or 1) / max(image.shape)
        factors = per_axis(factor, image.rank, step=self.name, field="factor")
        size = [max(1, round(length * factor)) for length, factor in zip(image.shape, factors, strict=True)]
        require_room(size, image, step=self.name)
        return _resized(image, size, self.interpolation)


class Resample(Step):
    """Resample the image to pixels of ``spacing`` millimetres, one number or one per axis.

    The new grid has exactly this spacing, the number of pixels that best fits the old extent, and the same centre. On
    an axis that gets coarser by a factor k, a Gaussian before the interpolation widens the point spread function as
    the coarser pixel would: sigma = sqrt(k² - 1) / (2 sqrt(2 ln 2)) old pixels (Cardoso et al., "Scale factor
    point spread function matching", MICCAI 2015). ``"nearest"``, for label maps, has none.

    An image whose spacing is as wanted but for the share ``tolerance``, on every axis, stays as it is.
    """

    name: Literal["resample"] = "resample"
    spacing: Spacing
    interpolation: Interpolation = "linear"
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def _apply(self, image: Image) -> Image:
        if image.spacing is None:
            raise PreprocessingError(
                "The step 'resample' needs the pixel spacing in millimetres, which this image does not have. Use the "
                "step 'resize', or a file format with the spacing (DICOM, NIfTI)."
            )
        wanted = per_axis(self.spacing, image.rank, step=self.name, field="spacing")
        scale = [new / old for new, old in zip(wanted, image.spacing, strict=True)]
        if self.tolerance and max(max(factor, 1 / factor) for factor in scale) <= 1 + self.tolerance:
            return image
        size = [max(1, round(length / factor)) for length, factor in zip(image.shape, scale, strict=True)]
        require_room(size, image, step=self.name)
        start = _centred_start(image.shape, size, scale)
        if self.interpolation == "nearest":
            pixels = _nearest(image.pixels, size, start, scale)
        else:
            pixels = _interpolated(image.pixels, size, start, scale, self.interpolation)
        # The requested spacing itself, without the rounding of two divisions.
        return regrid(image, pixels, start=start, scale=scale).replace(spacing=tuple(map(float, wanted)))


def _centred_start(shape: Sequence[int], size: Sequence[int], scale: Sequence[float]) -> list[float]:
    """Return the position of the first new pixel on the old grid, for grids with the same centre."""
    return [
        (length - 1) / 2 - factor * (wanted - 1) / 2 for length, wanted, factor in zip(shape, size, scale, strict=True)
    ]


def _resized(image: Image, size: Sequence[int], interpolation: Interpolation) -> Image:
    if tuple(size) == image.shape:
        return image
    scale = [length / wanted for length, wanted in zip(image.shape, size, strict=True)]
    start = _centred_start(image.shape, size, scale)
    if interpolation == "nearest":
        pixels = _nearest(image.pixels, size, start, scale)
    elif image.rank == 2 and image.channels <= 4:
        pixels = _resized_slice(image.pixels, size, interpolation)
    else:
        pixels = _resized_volume(image.pixels, size, interpolation)
    return regrid(image, pixels, start=start, scale=scale)


def _resized_slice(
    pixels: NDArray[Any], size: Sequence[int], interpolation: Literal["linear", "cubic"]
) -> NDArray[Any]:
    dtype = pixels.dtype
    result = pixels if dtype.name in ("uint8", "uint16", "int16", "float32") else pixels.astype(np.float64)
    rows, columns = (min(wanted, length) for wanted, length in zip(size, pixels.shape[:2], strict=True))
    # OpenCV averages areas only where no axis grows, so axes that shrink are resized first.
    if (rows, columns) != pixels.shape[:2]:
        result = cv2.resize(result, (columns, rows), interpolation=cv2.INTER_AREA)
    if (rows, columns) != tuple(size):
        growing = cv2.INTER_LINEAR if interpolation == "linear" else cv2.INTER_CUBIC
        result = cv2.resize(result, (size[1], size[0]), interpolation=growing)
    result = result.reshape(*size, pixels.shape[-1])
    return result if result.dtype == dtype else to_type(result, dtype)


def _resized_volume(
    pixels: NDArray[Any], size: Sequence[int], interpolation: Literal["linear", "cubic"]
) -> NDArray[Any]:
    result = pixels.astype(np.float32, copy=False)
    # The axis that shrinks most goes first, which leaves the least work for the others.
    for axis in sorted(range(len(size)), key=lambda axis: size[axis] / pixels.shape[axis]):
        length, wanted = pixels.shape[axis], size[axis]
        if wanted < length:
            result = along_axis(area_matrix(length, wanted), result, axis)
        elif wanted > length:
            scale = length / wanted
            result = along_axis(kernel_matrix(length, wanted, scale / 2 - 0.5, scale, interpolation), result, axis)
    return to_type(result, pixels.dtype)


def _interpolated(
    pixels: NDArray[Any],
    size: Sequence[int],
    start: Sequence[float],
    scale: Sequence[float],
    interpolation: Literal["linear", "cubic"],
) -> NDArray[Any]:
    result = pixels.astype(np.float32, copy=False)
    for axis in sorted(range(len(size)), key=lambda axis: -scale[axis]):
        length = pixels.shape[axis]
        matrix = kernel_matrix(length, size[axis], start[axis], scale[axis], interpolation)
        if scale[axis] > 1:
            sigma = math.sqrt(scale[axis] ** 2 - 1) / (2 * math.sqrt(2 * math.log(2)))
            matrix = matrix @ gaussian_matrix(length, sigma)
        result = along_axis(matrix, result, axis)
    return to_type(result, pixels.dtype)


def _nearest(pixels: NDArray[Any], size: Sequence[int], start: Sequence[float], scale: Sequence[float]) -> NDArray[Any]:
    """Pick the nearest pixels, so that no new value arises; for any type."""
    places = zip(pixels.shape[:-1], size, start, scale, strict=True)
    return pixels[np.ix_(*(nearest_indices(*place) for place in places))]
