"""The number of channels: grey or colour."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import PreprocessingError
from hounsfield.images.image import Image
from hounsfield.preprocessing.step import Step


class ToChannels(Step):
    """Make every image grey (1 channel) or colour (3 channels).

    Colour becomes grey by the luma of ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B); grey becomes colour by three
    equal channels. The pixel type is kept.
    """

    name: Literal["to_channels"] = "to_channels"
    channels: Literal[1, 3] = 1

    def _apply(self, image: Image) -> Image:
        if image.channels == self.channels:
            return image
        if image.channels not in (1, 3):
            raise PreprocessingError(
                f"The step 'to_channels' got an image with {image.channels} channels. It converts between grey (1) and "
                "red, green, blue (3) only: select the channels before."
            )
        if self.channels == 3:
            return image.replace(pixels=np.repeat(image.pixels, 3, axis=-1))
        return image.replace(pixels=luma(image.pixels)[..., np.newaxis])


def luma(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the BT.601 luma of RGB pixels, shape = the spatial axes, in the type of the pixels."""
    if pixels.dtype.name in ("uint8", "uint16", "float32"):
        flat = cv2.cvtColor(pixels.reshape(pixels.shape[0], -1, 3), cv2.COLOR_RGB2GRAY)
        return np.asarray(flat).reshape(pixels.shape[:-1])
    exact = pixels @ np.array([0.299, 0.587, 0.114])
    return np.asarray(np.rint(exact) if pixels.dtype.kind in "iu" else exact).astype(pixels.dtype)
