"""Steps that bring intensities to a known scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from hounsfield.errors import PreprocessingError
from hounsfield.images.image import Image
from hounsfield.images.windows import WINDOW_PRESETS, apply_window
from hounsfield.preprocessing.foreground import foreground_mask
from hounsfield.preprocessing.statistics import extremes, is_constant, mean_and_std, percentiles
from hounsfield.preprocessing.step import Step, require_finite, with_intensities


def _known_preset(value: str) -> str:
    name = value.replace("_", " ")
    if name not in WINDOW_PRESETS:
        raise ValueError(f"the window presets are {', '.join(WINDOW_PRESETS)}")
    return name


# The presets are those of the images' own table; "soft_tissue" may stand for "soft tissue".
Preset = Annotated[str, AfterValidator(_known_preset), WithJsonSchema({"enum": list(WINDOW_PRESETS)})]


class Window(Step):
    """Clip intensities to a window and scale it to 0 to 1.

    The window is given by ``center`` and ``width``, or a CT ``preset``; where neither is given, it is the image's own
    first one. An image without one is scaled from the range of its type where that is 8 bits, otherwise from its
    minimum to its maximum.

    ``function`` is the standard's name (DICOM PS3.3 C.11.2.1.2): ``"linear"`` runs from ``center - width / 2``
    to ``center + width / 2 - 1``, ``"linear_exact"`` to ``center + width / 2``. With a width below 1, which
    ``"linear"`` does not define, ``"linear_exact"`` is used.
    """

    name: Literal["window"] = "window"
    center: float | None = None
    width: float | None = Field(default=None, gt=0)
    preset: Preset | None = None
    function: Literal["linear", "linear_exact"] = "linear"

    @model_validator(mode="after")
    def _one_window(self) -> Self:
        if (self.center is None) != (self.width is None):
            raise ValueError("a window needs both 'center' and 'width', or neither")
        if self.preset is not None and self.center is not None:
            raise ValueError("a window is given by 'preset' or by 'center' and 'width', not by both")
        return self

    @classmethod
    def name_values(cls, values: Sequence[Any]) -> dict[str, Any]:
        """Assign values given without names: a single word is a preset."""
        if len(values) == 1 and isinstance(values[0], str):
            return {"preset": values[0]}
        return super().name_values(values)

    def _apply(self, image: Image) -> Image:
        chosen = self._chosen(image)
        if chosen is None:
            low, high = (0.0, 255.0) if image.pixels.dtype == np.uint8 else extremes(image.pixels)
        else:
            center, width = chosen
            if self.function == "linear" and width >= 1:
                return with_intensities(image, apply_window(image.pixels, center, width))
            low, high = center - width / 2, center + width / 2
        return with_intensities(image, rescaled(image.pixels, low, high))

    def _chosen(self, image: Image) -> tuple[float, float] | None:
        if self.center is not None and self.width is not None:
            return self.center, self.width
        if self.preset is None:
            return next(iter(image.metadata.windows), None)
        if image.modality not in (None, "CT"):
            raise PreprocessingError(
                f"The window preset '{self.preset}' is in Hounsfield units, but the image's modality is "
                f"{image.modality}. Give 'center' and 'width' instead, or use the step 'percentile'."
            )
        return WINDOW_PRESETS[self.preset]


class MinMax(Step):
    """Scale from the image's minimum and maximum to 0 and 1; a constant image becomes zeros."""

    name: Literal["min_max"] = "min_max"

    def _apply(self, image: Image) -> Image:
        return with_intensities(image, rescaled(image.pixels, *extremes(image.pixels)))


class Percentile(Step):
    """Clip at two percentiles of the image and scale them to 0 and 1.

    With ``foreground`` the percentiles are of the pixels above Otsu's threshold. Where both percentiles are
    equal (a mask, a mostly black image), minimum and maximum are used instead; a constant image
    becomes zeros. All channels share one pair of percentiles, so colours keep their ratio; with ``by_channel`` each has
    its own.
    """

    name: Literal["percentile"] = "percentile"
    low: float = Field(default=0.5, ge=0, le=100)
    high: float = Field(default=99.5, ge=0, le=100)
    foreground: bool = False
    by_channel: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError("'low' must be below 'high'")
        return self

    def _apply(self, image: Image) -> Image:
        if self.by_channel:
            return _by_channel(image, self.model_copy(update={"by_channel": False}))
        low, high = percentiles(_considered(image, self.foreground), (self.low, self.high))
        if is_constant(low, high):
            low, high = extremes(image.pixels)
        return with_intensities(image, rescaled(image.pixels, low, high))


class ZScore(Step):
    """Subtract the image's mean and divide by its standard deviation; a constant image becomes zeros.

    With ``foreground`` both are of the pixels above Otsu's threshold, and applied to all pixels. With ``by_channel``
    each channel has its own.
    """

    name: Literal["z_score"] = "z_score"
    foreground: bool = False
    by_channel: bool = False

    def _apply(self, image: Image) -> Image:
        if self.by_channel:
            return _by_channel(image, self.model_copy(update={"by_channel": False}))
        mean, std = mean_and_std(_considered(image, self.foreground))
        return with_intensities(image, standardised(image.pixels, np.float32(mean), np.float32(std)))


class DatasetZScore(Step):
    """Subtract the mean and divide by the standard deviation of the training images, channel by channel.

    Both are learned by ``fit`` over all pixels of all training images. A channel that is constant in training
    becomes zeros there, and is only centred elsewhere.
    """

    name: Literal["dataset_z_score"] = "dataset_z_score"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.mean is None) != (self.std is None) or (self.mean and self.std and len(self.mean) != len(self.std)):
            raise ValueError("'mean' and 'std' must both be given, one number per channel, or both be left out")
        return self

    @property
    def needs_fit(self) -> bool:
        """Whether mean and standard deviation have yet to be learned."""
        return self.mean is None

    def fit(self, images: Iterable[Image]) -> Self:
        """Learn mean and standard deviation of each channel in one pass, one image in memory at a time.

        Raises:
            PreprocessingError: there is no image, or the images differ in their number of channels.
        """
        count, mean, spread = 0, np.zeros(0), np.zeros(0)
        for image in images:
            require_finite(image.pixels, self.name)
            pixels = image.pixels.reshape(-1, image.channels)
            mean = mean if count else np.zeros(image.channels)
            spread = spread if count else np.zeros(image.channels)
            self._require_channels(image.channels, len(mean))
            # Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for sample variances" (1979).
            added_mean = pixels.mean(axis=0, dtype=np.float64)
            added_spread = pixels.var(axis=0, dtype=np.float64) * len(pixels)
            total = count + len(pixels)
            shift = added_mean - mean
            spread = spread + added_spread + shift**2 * count * len(pixels) / total
            mean = mean + shift * len(pixels) / total
            count = total
        if not count:
            raise PreprocessingError(
                f"The step '{self.name}' was given no training image to learn from. At least one is needed."
            )
        std = np.sqrt(spread / count)
        return self.model_copy(update={"mean": tuple(map(float, mean)), "std": tuple(map(float, std))})

    def _apply(self, image: Image) -> Image:
        mean, std = (np.asarray(learned or (), dtype=np.float32) for learned in (self.mean, self.std))
        self._require_channels(image.channels, len(mean))
        return with_intensities(image, standardised(image.pixels, mean, np.where(std > 0, std, np.float32(1))))

    def _require_channels(self, found: int, expected: int) -> None:
        if found != expected:
            raise PreprocessingError(
                f"The step '{self.name}' got an image with {found} channels, after training images with {expected}. "
                "Put the step 'to_channels' before it."
            )


def rescaled(pixels: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """Return float32 pixels with ``low`` at 0 and ``high`` at 1, clipped outside; zeros where both are equal."""
    if is_constant(low, high):
        return np.zeros(pixels.shape, dtype=np.float32)
    result = np.subtract(pixels, np.float32(low), dtype=np.float32)
    result *= np.float32(1 / (high - low))
    return np.asarray(np.clip(result, 0, 1, out=result))


def standardised(pixels: NDArray[Any], mean: NDArray[Any] | np.float32, std: NDArray[Any] | np.float32) -> NDArray[Any]:
    """Return (pixels - mean) / std in float32; zeros where a scalar ``std`` is zero."""
    if np.ndim(std) == 0 and std <= 0:
        return np.zeros(pixels.shape, dtype=np.float32)
    result = np.subtract(pixels, mean, dtype=np.float32)
    result /= std
    return np.asarray(result)


def _by_channel(image: Image, step: Step) -> Image:
    """The image after a step on each of its channels."""
    channels = [
        step.apply(image.replace(pixels=values[..., np.newaxis])) for values in np.moveaxis(image.pixels, -1, 0)
    ]
    return with_intensities(image, np.concatenate([each.pixels for each in channels], axis=-1))


def _considered(image: Image, foreground: bool) -> NDArray[Any]:
    return image.pixels[foreground_mask(image.pixels)] if foreground else image.pixels
