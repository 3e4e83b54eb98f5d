"""Steps that crop or pad; the geometry is kept true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from hounsfield.errors import PreprocessingError
from hounsfield.images.image import Image
from hounsfield.preprocessing.foreground import background_threshold, foreground_box, foreground_mask
from hounsfield.preprocessing.geometry import per_axis, regrid, require_room
from hounsfield.preprocessing.step import Step

# One length for all spatial axes, or one per axis in the order (slices,) rows, columns.
Size = PositiveInt | Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=3)]
# The value of a border: a number, the image's minimum, or the nearest pixel of the image.
Fill = float | Literal["minimum", "edge"]


class CropCenter(Step):
    """Keep the middle ``size`` pixels of each axis; a shorter axis is left unchanged.

    Where an odd number of pixels is removed, the extra one is at the end. ``crop_or_pad`` also pads short axes.
    """

    name: Literal["crop_center"] = "crop_center"
    size: Size

    def _apply(self, image: Image) -> Image:
        return cropped(image, _central(image.shape, per_axis(self.size, image.rank, step=self.name, field="size")))


class CropForeground(Step):
    """Keep the smallest box around the foreground, with a margin of ``margin`` pixels.

    The foreground lies above ``threshold`` or, where none is given, above the value a quarter of the way from the
    first percentile to Otsu's threshold, so that faint tissue is kept. Connected parts of less than a
    twentieth of the largest one's size are ignored. An image without foreground is left unchanged.
    """

    name: Literal["crop_foreground"] = "crop_foreground"
    threshold: float | None = None
    margin: int = Field(default=0, ge=0)

    def _apply(self, image: Image) -> Image:
        threshold = background_threshold(image.pixels) if self.threshold is None else self.threshold
        box = foreground_box(foreground_mask(image.pixels, threshold))
        wider = [
            (max(0, first - self.margin), min(length, end + self.margin))
            for (first, end), length in zip(box, image.shape, strict=True)
        ]
        return cropped(image, wider)


class CropBox(Step):
    """Keep the half-open box (y0, x0, y1, x1), or (z0, y0, x0, z1, y1, x1) of a volume, in pixels.

    The box is clipped to the image; a box wholly outside is an error.
    """

    name: Literal["crop_box"] = "crop_box"
    box: tuple[int, ...]

    @model_validator(mode="after")
    def _box_has_extent(self) -> Self:
        rank = len(self.box) // 2
        if len(self.box) not in (4, 6) or any(self.box[i] >= self.box[i + rank] for i in range(rank)):
            raise ValueError(
                "'box' must be (y0, x0, y1, x1) or (z0, y0, x0, z1, y1, x1) with each end above its start, "
                f"got {self.box}"
            )
        return self

    @classmethod
    def name_values(cls, values: Sequence[Any]) -> dict[str, Any]:
        """Name values given without names: all of them are the box."""
        return {"box": tuple(values)} if len(values) > 1 else super().name_values(values)

    def _apply(self, image: Image) -> Image:
        if len(self.box) != 2 * image.rank:
            raise PreprocessingError(
                f"The 'box' of step 'crop_box' has {len(self.box)} numbers, but this image has {image.rank} spatial "
                f"axes: {2 * image.rank} numbers are needed."
            )
        inside = [
            (max(0, start), min(length, end))
            for start, end, length in zip(self.box[: image.rank], self.box[image.rank :], image.shape, strict=True)
        ]
        if any(start >= end for start, end in inside):
            raise PreprocessingError(
                f"The box {self.box} of step 'crop_box' lies outside this image of {'×'.join(map(str, image.shape))} "
                "pixels. Give a box that overlaps the image."
            )
        return cropped(image, inside)


class Pad(Step):
    """Add an even border until each axis has at least ``size`` pixels; a longer axis is left unchanged."""

    name: Literal["pad"] = "pad"
    size: Size
    fill: Fill = "minimum"

    def _apply(self, image: Image) -> Image:
        return padded(image, per_axis(self.size, image.rank, step=self.name, field="size"), self.fill)


class CropOrPad(Step):
    """Bring each axis to exactly ``size`` pixels: longer ones are cropped to the middle, shorter ones padded evenly."""

    name: Literal["crop_or_pad"] = "crop_or_pad"
    size: Size
    fill: Fill = "minimum"

    def _apply(self, image: Image) -> Image:
        size = per_axis(self.size, image.rank, step=self.name, field="size")
        return padded(cropped(image, _central(image.shape, size)), size, self.fill)


def cropped(image: Image, box: Sequence[tuple[int, int]]) -> Image:
    """Return the part of the image in ``box``, (start, end) per axis, with its geometry; memory is shared."""
    pixels = image.pixels[tuple(slice(start, end) for start, end in box)]
    return regrid(image, pixels, start=[start for start, _ in box], scale=[1.0] * image.rank)


def padded(image: Image, size: Sequence[int], fill: Fill) -> Image:
    """Return the image in the middle of a grid of at least ``size`` pixels per axis, with its geometry."""
    missing = [max(0, wanted - length) for wanted, length in zip(size, image.shape, strict=True)]
    if not any(missing):
        return image
    require_room([max(pair) for pair in zip(size, image.shape, strict=True)], image, step="pad")
    before = [count // 2 for count in missing]
    after = [count - count // 2 for count in missing]
    pixels = bordered(image.pixels, before, after, fill)
    return regrid(image, pixels, start=[-float(count) for count in before], scale=[1.0] * image.rank)


def bordered(pixels: NDArray[Any], before: Sequence[int], after: Sequence[int], fill: Fill) -> NDArray[Any]:
    """Return the pixels with a border; the type is kept, and a fill value beyond its range is clipped."""
    widths = [*zip(before, after, strict=True), (0, 0)]
    if fill == "edge":
        return np.pad(pixels, widths, mode="edge")
    value = pixels.min() if fill == "minimum" else float(fill)
    if pixels.dtype.kind in "iu" and fill != "minimum":
        limits = np.iinfo(pixels.dtype)
        value = int(min(max(round(float(fill)), limits.min), limits.max))
    return np.pad(pixels, widths, mode="constant", constant_values=value)


def _central(shape: Sequence[int], size: Sequence[int]) -> list[tuple[int, int]]:
    starts = [max(0, (length - wanted) // 2) for length, wanted in zip(shape, size, strict=True)]
    return [(start, start + min(wanted, length)) for start, wanted, length in zip(starts, size, shape, strict=True)]
