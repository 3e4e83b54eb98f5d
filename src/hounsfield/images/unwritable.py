"""The refusal of an image that a format cannot hold."""

from __future__ import annotations

from hounsfield.errors import ImageError
from hounsfield.images.image import Image


def unwritable(image: Image, kind: str, holds: str) -> ImageError:
    """What to raise.

    Args:
        image: what was to be written.
        kind: of the file, as in "A PNG".
        holds: what it can hold.
    """
    pixels = image.pixels
    return ImageError(
        f"{kind} holds {holds}, and the image has {pixels.dtype} pixels of shape {pixels.shape} from "
        f"{pixels.min()} to {pixels.max()}. Choose a window to make a picture of it, or a format that keeps these "
        "values (.nii.gz, .nrrd, .npz)."
    )
