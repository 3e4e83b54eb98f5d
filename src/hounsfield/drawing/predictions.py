"""Predictions drawn on their image: boxes with labels, scores and counts, or a caption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from unicodedata import east_asian_width

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from hounsfield.drawing.boxed import BoxGroup, boxed, busiest_slice, by_class, class_colour, crosses, draw_masks
from hounsfield.drawing.pictures import preview, shown_slice
from hounsfield.images.image import Image
from hounsfield.object_masks import ObjectMask

SIDE = 1000  # pixels of the picture's longer side
DOTS = 100  # pixels per inch of the figure
MARGIN = 34  # pixels above and below the picture
TITLE, CAPTION = 11.0, 8.0  # points
LONGEST_TITLE = 110  # characters
# Up to so many boxes have their label beside them, and up to so many their score; beyond, the legend must do.
WITH_LABELS, WITH_SCORES = 60, 250
# Width of a character and height of a line of a caption, in pixels.
CHARACTER, LINE = 0.64 * CAPTION * DOTS / 72, 1.5 * CAPTION * DOTS / 72
# Colours lighter than this have black letters.
LIGHT = 0.5


class Findings(NamedTuple):
    """Findings of one image, best first: boxes (n, 2·rank) in its pixels, classes (n,), scores (n,), maybe masks."""

    boxes: NDArray[np.floating]
    classes: NDArray[np.integer]
    scores: NDArray[np.floating]
    masks: Sequence[ObjectMask] | None = None


class Place(NamedTuple):
    """Where a caption is, in pixels of the picture."""

    top: float
    left: float
    bottom: float
    right: float


def findings_figure(image: Image, found: Findings, *, labels: Sequence[str], title: str = "") -> Figure:
    """Draw the findings of an image, one colour per label, with scores, a title, and a legend with counts.

    Of a volume the slice is shown that most of the boxes cross, and what crosses it. Beyond 60 boxes only scores are
    written beside them, and beyond 250 nothing.

    Args:
        image: 2D or 3D, as it was read.
        found: in its pixels.
        labels: by class index.
        title: above the picture, such as the image's name.
    """
    counts = np.bincount(np.asarray(found.classes, np.int64), minlength=len(labels))
    if image.rank == 3:
        number, slices, total = busiest_slice(image.shape[0], _groups(found)), image.shape[0], len(found.boxes)
        image, found = _sliced(image, found, number)
        title = f"{title}  slice {number + 1} of {slices}, crossed by {len(found.boxes)} of {total} findings"
    picture = boxed(image, _groups(found), side=SIDE)
    if found.masks is not None:
        draw_masks(picture, found.masks, [class_colour(int(each)) for each in found.classes], image.shape)
    figure, axes = _framed(picture, title)
    factors = np.tile(np.array(picture.shape[:2]) / np.array(image.shape), 2)
    _caption(axes, found._replace(boxes=found.boxes * factors), labels)
    handles = [
        Patch(color=class_colour(number), label=f"{label}: {count}")
        for number, (label, count) in enumerate(zip(labels, counts.tolist(), strict=True))
    ]
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), fontsize=TITLE, frameon=False, borderpad=0)
    return figure


def captioned_figure(image: Image, caption: str, *, title: str = "") -> Figure:
    """Draw an image, of a volume its middle slice, under a title and over a caption."""
    if image.rank == 3:
        title = f"{title}  slice {image.shape[0] // 2 + 1} of {image.shape[0]}"
    figure, _ = _framed(preview(image, SIDE), title)
    figure.text(0.01, 0.01, caption, fontsize=TITLE)
    return figure


def _framed(picture: NDArray[np.uint8], title: str) -> tuple[Figure, Axes]:
    """A picture with a margin above, for its title, and below it; coordinates of the axes are pixels of the picture."""
    rows, columns = picture.shape[:2]
    height = rows + 2 * MARGIN
    figure = Figure(figsize=(columns / DOTS, height / DOTS), dpi=DOTS)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, MARGIN / height, 1, rows / height))
    axes.imshow(picture, extent=(0, columns, rows, 0), cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()
    text = title.strip()
    axes.set_title(text if len(text) <= LONGEST_TITLE else f"…{text[-LONGEST_TITLE:]}", fontsize=TITLE, loc="left")
    return figure, axes


def _groups(found: Findings) -> list[BoxGroup]:
    return by_class(found.boxes, found.classes)


def _sliced(image: Image, found: Findings, number: int) -> tuple[Image, Findings]:
    """One slice of a volume, displayed in the range of the whole, and the outlines of what crosses it."""
    here = crosses(found.boxes, number)
    outlines = Findings(found.boxes[here][:, [1, 2, 4, 5]], found.classes[here], found.scores[here])
    return shown_slice(image, number), outlines


def _caption(axes: Axes, found: Findings, labels: Sequence[str]) -> None:
    """Write label and score beside the boxes, each where it overlaps other captions least, the best score first."""
    count = len(found.boxes)
    if count > WITH_SCORES:
        return
    taken: list[Place] = []
    for box, label, score in zip(found.boxes.tolist(), found.classes.tolist(), found.scores.tolist(), strict=True):
        text = f"{labels[label]} {score:.2f}" if count <= WITH_LABELS else f"{score:.2f}"
        size = axes.viewLim.size
        free = [place for place in _places(box, _length(text)) if _is_inside(place, size[1], size[0])]
        if not free:
            continue
        place = min(free, key=lambda here: sum(_overlap(here, other) for other in taken))
        taken.append(place)
        colour = class_colour(label)
        light = float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114))) > LIGHT
        axes.text(
            place.left + 2,
            (place.top + place.bottom) / 2,
            text,
            fontsize=CAPTION,
            color="black" if light else "white",
            va="center_baseline",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
        )


def _length(text: str) -> float:
    """The length of a caption in Latin letters; an East Asian one is half as wide again."""
    return sum(1.5 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _places(box: Sequence[float], length: float) -> Iterator[Place]:
    """Where the caption of a box may be: above it, below it, inside at its top, right and left of it."""
    top, left, bottom, right = box
    width = length * CHARACTER
    for row, column in (
        (top - LINE - 1, left),
        (bottom + 2, left),
        (top - LINE - 1, right - width),
        (bottom + 2, right - width),
        (top + 2, right + 3),
        (top + 2, left - width - 3),
        (top + 2, left + 2),
    ):
        yield Place(row, column, row + LINE, column + width)


def _is_inside(place: Place, height: float, width: float) -> bool:
    return place.top >= 0 and place.left >= 0 and place.bottom <= abs(height) and place.right <= abs(width)


def _overlap(first: Place, second: Place) -> float:
    rows = min(first.bottom, second.bottom) - max(first.top, second.top)
    columns = min(first.right, second.right) - max(first.left, second.left)
    return max(rows, 0) * max(columns, 0)
