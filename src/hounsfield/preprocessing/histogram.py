"""The step that brings MR images, which have no units, to a common scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from hounsfield.errors import PreprocessingError
from hounsfield.images.image import Image
from hounsfield.preprocessing.foreground import foreground_mask
from hounsfield.preprocessing.statistics import extremes, is_constant, percentiles
from hounsfield.preprocessing.step import Step, require_finite, with_intensities

# The landmarks of Nyúl et al., section II: the ends of the intensity range of interest, and the deciles.
_PERCENTS = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)


class HistogramStandard(Step):
    """Map the image's histogram landmarks onto those learned from training images, linearly in between.

    Nyúl, Udupa & Zhang, "New variants of a method of MRI scale standardization", IEEE Trans. Med. Imaging 19
    (2000): percentiles 1, 10, 20, … 90, 99 of the foreground (above Otsu's threshold). ``fit`` scales the
    first and last of each training image to 0 and 1 and learns the mean positions of the others. Beyond the ends
    the outer segments are extrapolated. A constant image becomes zeros, and is ignored by ``fit``.
    """

    name: Literal["histogram_standard"] = "histogram_standard"
    landmarks: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _landmarks_rise(self) -> Self:
        known = self.landmarks
        if known is not None and (len(known) != len(_PERCENTS) or np.any(np.diff(known) < 0)):
            raise ValueError(f"'landmarks' must be {len(_PERCENTS)} numbers in ascending order")
        return self

    @property
    def needs_fit(self) -> bool:
        """Whether the landmarks have yet to be learned."""
        return self.landmarks is None

    def fit(self, images: Iterable[Image]) -> Self:
        """Learn the standard landmarks in one pass, one image in memory at a time.

        Raises:
            PreprocessingError: no image has any contrast.
        """
        total, count = np.zeros(len(_PERCENTS)), 0
        for image in images:
            require_finite(image.pixels, self.name)
            own = _own_landmarks(image)
            if not is_constant(own[0], own[-1]):
                total += (own - own[0]) / (own[-1] - own[0])
                count += 1
        if not count:
            raise PreprocessingError(
                f"The step '{self.name}' was given no training image with any contrast to learn from. At least one is "
                "needed: look at the training images with 'hounsfield inspect'."
            )
        return self.model_copy(update={"landmarks": tuple(map(float, total / count))})

    def _apply(self, image: Image) -> Image:
        own, place = np.unique(_own_landmarks(image), return_inverse=True)
        if is_constant(own[0], own[-1]):
            return with_intensities(image, np.zeros(image.pixels.shape, dtype=np.float32))
        # Landmarks that coincide in this image get the mean of their standard positions.
        standard = np.bincount(place, weights=np.asarray(self.landmarks)) / np.bincount(place)
        own, standard = _with_ends(own, standard, *extremes(image.pixels))
        pixels = np.empty(image.pixels.shape, dtype=np.float32)
        for part, result in zip(image.pixels, pixels, strict=True):
            result[...] = np.interp(part, own, standard)
        return with_intensities(image, pixels)


def _own_landmarks(image: Image) -> NDArray[np.float64]:
    return np.asarray(percentiles(image.pixels[foreground_mask(image.pixels)], _PERCENTS))


def _with_ends(own: NDArray[Any], standard: NDArray[Any], low: float, high: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Extrapolate the first and last segment to the image's minimum and maximum."""
    slopes = np.diff(standard) / np.diff(own)
    before = [low] if low < own[0] else []
    after = [high] if high > own[-1] else []
    places = np.concatenate([before, own, after])
    values = np.concatenate(
        [
            [standard[0] + (value - own[0]) * slopes[0] for value in before],
            standard,
            [standard[-1] + (value - own[-1]) * slopes[-1] for value in after],
        ]
    )
    return places, values
