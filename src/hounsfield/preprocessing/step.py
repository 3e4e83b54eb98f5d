"""The base of every step: a frozen, serialisable image operation that checks its input."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hounsfield.errors import PreprocessingError
from hounsfield.images.image import Image
from hounsfield.preprocessing.statistics import all_finite

_LARGEST = float(np.finfo(np.float32).max)


class Step(BaseModel):
    """One image operation; the same class serves slices and volumes, the rank is that of the image.

    A subclass has a literal ``name``, declares its parameters as fields and implements
    ``_apply``. No step changes its input: the result is a new ``Image`` with the same number of axes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    ranks: ClassVar[tuple[int, ...]] = (2, 3)
    name: str

    @property
    def needs_fit(self) -> bool:
        """Whether the step has yet to learn something from training images."""
        return False

    def fit(self, images: Iterable[Image]) -> Self:
        """Return the step fitted on ``images``; a step without anything to learn returns itself."""
        del images
        return self

    def apply(self, image: Image) -> Image:
        """Return the image after this step.

        Raises:
            PreprocessingError: the image has NaN or infinite values, is empty or has a rank that the step does not
                support, or the step was never fitted.
        """
        if image.rank not in self.ranks:
            raise PreprocessingError(
                f"The step '{self.name}' works on images of rank {' or '.join(map(str, self.ranks))}, but this image "
                f"has rank {image.rank} (shape {image.pixels.shape}). Leave the step out for such images."
            )
        if self.needs_fit:
            raise PreprocessingError(
                f"The step '{self.name}' learns from training images and was never fitted. Call Pipeline.fit with the "
                "training images first, or load a pipeline that was saved after fitting."
            )
        require_finite(image.pixels, self.name)
        return self._apply(image)

    def _apply(self, image: Image) -> Image:
        raise NotImplementedError

    @classmethod
    def name_values(cls, values: Sequence[Any]) -> dict[str, Any]:
        """Assign values given without names, as on a command line: they fill the fields in order."""
        fields = [field for field in cls.model_fields if field != "name"]
        if len(values) > len(fields):
            raise ValueError(f"takes at most {len(fields)} values ({', '.join(fields) or 'none'}), got {len(values)}")
        return dict(zip(fields, values, strict=False))

    def to_dict(self) -> dict[str, Any]:
        """Return the step as plain values that JSON and YAML can hold."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build the step from ``to_dict``'s values; raises ``pydantic.ValidationError`` where they do not fit."""
        return cls.model_validate(values)


def require_finite(pixels: NDArray[Any], step: str) -> None:
    """Raise a ``PreprocessingError`` for an empty image or one with NaN or infinite values."""
    if pixels.size == 0:
        raise PreprocessingError(
            f"The step '{step}' got an image without pixels (shape {pixels.shape}). Remove the image from the cohort."
        )
    if pixels.dtype.kind != "f":
        return
    if pixels.dtype.itemsize <= 4 and all_finite(pixels):
        return
    # Steps work in float32, in which larger values would become infinite.
    num_bad = pixels.size - int(np.count_nonzero(np.abs(pixels) <= _LARGEST))
    if num_bad:
        raise PreprocessingError(
            f"The step '{step}' got an image with {num_bad:,} NaN or infinite values (in float32) among "
            f"{pixels.size:,}. "
            "Finite pixels are needed: repair or remove the image, for example with numpy.nan_to_num."
        )


def with_intensities(image: Image, pixels: NDArray[Any]) -> Image:
    """Return ``image`` with pixels in new units: windows and bit depth of the source no longer hold and are removed."""
    metadata = image.metadata
    if metadata.windows or metadata.bits is not None:
        metadata = dataclasses.replace(metadata, windows=(), bits=None)
    return image.replace(pixels=pixels, metadata=metadata)
