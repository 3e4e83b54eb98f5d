"""The step that removes the slow shading of MR images."""

from __future__ import annotations

import importlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from hounsfield.images.image import Image
from hounsfield.preprocessing.foreground import foreground_mask, grey
from hounsfield.preprocessing.statistics import extremes, is_constant
from hounsfield.preprocessing.step import Step

# An axis is shrunk no further than to this length, so that thin volumes keep enough slices for the fit.
_LEAST_LENGTH = 8


class BiasField(Step):
    """N4 bias field correction (Tustison et al., IEEE Trans. Med. Imaging 29, 2010) by SimpleITK, to float32.

    The field is estimated in the foreground (above Otsu's threshold) of an image shrunk by ``shrink``, with
    ``iterations`` at each level of refinement, and divided out at full resolution. Values below zero count as zero
    in the estimate. All channels are divided by one field, that of their mean, so colours are preserved. A
    constant image is left unchanged.
    """

    name: Literal["bias_field"] = "bias_field"
    shrink: PositiveInt = 4
    iterations: tuple[PositiveInt, ...] = Field(default=(50, 50, 50, 50), min_length=1)

    def _apply(self, image: Image) -> Image:
        if is_constant(*extremes(image.pixels)):
            return image
        mask = foreground_mask(image.pixels)
        field = self._field(grey(image.pixels), mask, image.spacing)
        return image.replace(pixels=np.divide(image.pixels, field[..., np.newaxis], dtype=np.float32))

    def _field(
        self, values: NDArray[Any], mask: NDArray[Any], spacing: tuple[float, ...] | None
    ) -> NDArray[np.float32]:
        # Imported on use, since the import takes longer than a prediction.
        sitk = importlib.import_module("SimpleITK")
        full = sitk.GetImageFromArray(np.clip(values, 0, None).astype(np.float32))
        inside = sitk.GetImageFromArray(mask.astype(np.uint8))
        if spacing is not None:
            full.SetSpacing(spacing[::-1])
            inside.SetSpacing(spacing[::-1])
        factors = [min(self.shrink, max(1, length // _LEAST_LENGTH)) for length in full.GetSize()]
        corrector = sitk.N4BiasFieldCorrectionImageFilter()
        corrector.SetMaximumNumberOfIterations(list(self.iterations))
        # One thread, so that results are reproducible to the bit.
        corrector.SetNumberOfThreads(1)
        corrector.Execute(sitk.Shrink(full, factors), sitk.Shrink(inside, factors))
        return np.asarray(np.exp(sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(full)).astype(np.float32)))
