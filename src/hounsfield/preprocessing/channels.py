"""The number of channels: grey, colour, or several pictures of one place."""

from __future__ import annotations

from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hounsfield.errors import PreprocessingError
from hounsfield.images.image import Image
from hounsfield.preprocessing.step import Step

# Far beyond the channels of any image that is not a volume.
MAX_CHANNELS = 512


class ToChannels(Step):
    """Make every image grey (1 channel) or colour (3 channels), or see that it has its channels.

    Colour becomes grey by the luma of ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B); grey becomes colour by three
    equal channels. The pixel type is kept. With ``separate`` the channels are several pictures of one place, such as
    the sequences of an MRI, of which none can stand for another: an image with another number of them is refused.
    """

    name: Literal["to_channels"] = "to_channels"
    channels: int = Field(default=1, ge=1, le=MAX_CHANNELS)
    separate: bool = False

    @model_validator(mode="after")
    def _known(self) -> Self:
        if not self.separate and self.channels not in (1, 3):
            raise ValueError("images are made grey (1) or coloured (3); other numbers need 'separate'")
        return self

    def _apply(self, image: Image) -> Image:
        if image.channels == self.channels:
            return image
        if self.separate:
            raise PreprocessingError(
                f"The step 'to_channels' met an image with {image.channels} channels, and expects {self.channels} "
                "pictures of one place as its channels. Give all of them, in the order of training."
            )
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
