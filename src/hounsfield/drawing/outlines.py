"""Outlines of masks on their image: those of a prediction by label, those of a test beside the true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from hounsfield.drawing.pictures import COLOURS, preview, shown_slice
from hounsfield.images.image import Image
from hounsfield.masks import region_of

SIDE = 512  # pixels of a picture's longer side
INCHES = 4.2  # of a picture in a figure
LONGEST_TITLE = 110  # characters
# Of a volume, where slices are shown within the extent of its masks.
PLACES = (0.25, 0.5, 0.75)
DASH = 6  # points of a dashed outline
# Okabe and Ito's colours, those first that are seen on dark images.
ON_DARK = (COLOURS[4], COLOURS[5], COLOURS[3], COLOURS[2], COLOURS[1], COLOURS[0])


class Outline(NamedTuple):
    """A region (spatial …) and how its border is drawn."""

    region: NDArray[np.bool_]
    colour: str
    dashed: bool = False


def label_colour(index: int) -> str:
    """The colour of a label by its index."""
    return ON_DARK[index % len(ON_DARK)]


def outlined(image: Image, outlines: Sequence[Outline], *, side: int = SIDE) -> NDArray[np.uint8]:
    """An image for display with the borders of regions; of a volume the slice with most of them.

    Args:
        image: 2D or 3D.
        outlines: on the grid of the image.
        side: pixels of the longer side of the picture.

    Returns:
        (rows, columns, 3) as red, green, blue.
    """
    image, outlines = flat(image, outlines)
    shown = preview(image, side)
    picture = np.ascontiguousarray(shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=-1))
    width = max(2, round(side / 250))
    # Dashed over solid, and what is small last: the border of a lesion is that of the hole in its organ, too.
    for each in sorted(outlines, key=lambda one: (one.dashed, -int(one.region.sum()))):
        colour = tuple(int(each.colour[start : start + 2], 16) for start in (1, 3, 5))
        # Enlarged first: borders of small masks would be as coarse as their pixels.
        large = cv2.resize(each.region.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        for border in cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]:
            if not each.dashed:
                cv2.drawContours(picture, [border], -1, colour, width)
                continue
            for start in range(0, len(border), 2 * DASH):
                cv2.polylines(picture, [border[start : start + DASH]], False, colour, width)
    return picture


def flat(image: Image, outlines: Sequence[Outline]) -> tuple[Image, Sequence[Outline]]:
    """What is shown of an image: of a volume the slice in which the regions have most voxels, with what lies in it."""
    if image.rank == 2:
        return image, outlines
    return _sliced(image, outlines, fullest_slice(image.shape[0], [each.region for each in outlines]))


def fullest_slice(num_slices: int, regions: Sequence[NDArray[np.bool_]]) -> int:
    """The slice of a volume in which regions have most voxels; without any the middle one."""
    counts = np.sum([region.sum(axis=(1, 2)) for region in regions] or [np.zeros(num_slices)], axis=0)
    return int(counts.argmax()) if counts.any() else num_slices // 2


def outlines_figure(image: Image, mask: Image, *, labels: Mapping[str, str], title: str = "") -> Figure:
    """Draw a mask on its image, one colour per label, under a title and over a legend; of a volume three slices.

    Args:
        image: 2D or 3D, as it was read.
        mask: on its grid; see ``hounsfield.masks``.
        labels: in class order, each with what the legend says of it.
        title: above the picture, such as the image's name.
    """
    overlapping = mask.channels > 1
    outlines = [
        Outline(region_of(np.asarray(mask.pixels), index, overlapping=overlapping), label_colour(index))
        for index in range(len(labels))
    ]
    shown = [(image, outlines, "")]
    if image.rank == 3:
        numbers = _shown_slices(image.shape[0], [each.region for each in outlines])
        shown = [(*_sliced(image, outlines, number), f"slice {number + 1} of {image.shape[0]}") for number in numbers]
    pictures = [(outlined(each, here), name) for each, here, name in shown]
    tallest = max(picture.shape[0] / picture.shape[1] for picture, _ in pictures)
    figure = Figure(figsize=(INCHES * len(pictures), INCHES * tallest + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    for position, (picture, name) in enumerate(pictures, start=1):
        axes = figure.add_subplot(1, len(pictures), position)
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(name, fontsize=9)
    figure.suptitle(title if len(title) <= LONGEST_TITLE else f"…{title[-LONGEST_TITLE:]}", fontsize=11)
    handles = [
        Patch(color=label_colour(index), label=f"{label}: {text}") for index, (label, text) in enumerate(labels.items())
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), frameon=False, fontsize=9)
    return figure


def _shown_slices(num_slices: int, regions: Sequence[NDArray[np.bool_]]) -> list[int]:
    """Slices within the extent of the regions; of a volume without any those of the whole."""
    held = np.flatnonzero(np.any([region.any(axis=(1, 2)) for region in regions], axis=0))
    first, last = (held[0], held[-1]) if len(held) else (0, num_slices - 1)
    return sorted({round(first + place * (last - first)) for place in PLACES})


def _sliced(image: Image, outlines: Sequence[Outline], number: int) -> tuple[Image, list[Outline]]:
    """One slice of a volume, displayed in the range of the whole, with what lies in it."""
    return shown_slice(image, number), [each._replace(region=each.region[number]) for each in outlines]
