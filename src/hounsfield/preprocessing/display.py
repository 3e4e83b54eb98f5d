"""Images for display: in 8 bits, and a contact sheet of before and after."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hounsfield.images.image import Image
from hounsfield.preprocessing.channels import ToChannels
from hounsfield.preprocessing.normalisation import Window, rescaled
from hounsfield.preprocessing.resampling import Resize
from hounsfield.preprocessing.statistics import extremes
from hounsfield.preprocessing.step import with_intensities


def to_display(image: Image) -> Image:
    """Return the image in 8 bits.

    8-bit images are left unchanged. An image with a window is shown through it. Other values are shown from 0 to 1
    where all lie in that range (as after normalisation), otherwise from minimum to maximum.
    """
    if image.pixels.dtype == np.uint8:
        return image
    low, high = extremes(image.pixels)
    if image.metadata.windows:
        scaled = Window().apply(image).pixels
    elif image.pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        scaled = image.pixels
    else:
        scaled = rescaled(image.pixels, low, high)
    return with_intensities(image, np.rint(scaled * np.float32(255)).astype(np.uint8))


def contact_sheet(pairs: Sequence[tuple[Image, Image]], *, cell: int = 256, columns: int = 4) -> Image:
    """Return one colour picture of pairs side by side, ``columns`` pairs per row, with the middle slice of volumes."""
    gap = 4
    rows = -(-len(pairs) // columns)
    columns = min(columns, len(pairs))
    sheet = np.full((rows * (cell + gap) + gap, columns * (2 * cell + 2 * gap) + gap, 3), 40, dtype=np.uint8)
    for index, pair in enumerate(pairs):
        top = gap + index // columns * (cell + gap)
        for side, image in enumerate(pair):
            left = gap + index % columns * (2 * cell + 2 * gap) + side * (cell + 1)
            sheet[top : top + cell, left : left + cell] = _cell(image, cell)
    return Image(sheet)


def _cell(image: Image, size: int) -> np.ndarray:
    if image.rank == 3:
        middle = image.pixels[image.shape[0] // 2]
        image = Image(middle, modality=image.modality, metadata=image.metadata)
    shown = to_display(image)
    if shown.channels not in (1, 3):
        shown = shown.replace(pixels=shown.pixels[..., :1])
    shown = Resize(size=size, letterbox=True, fill=0.0).apply(shown)
    return ToChannels(channels=3).apply(shown).pixels
