"""Images with boxes drawn on them: those of a cohort by class, those of a test by outcome.

Colours are Okabe and Ito's; findings are also dashed, for print without colour and for colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hounsfield.boxes import rank_of
from hounsfield.drawing.pictures import COLOURS, preview
from hounsfield.evaluation.detection_matching import matched_pairs
from hounsfield.evaluation.detections import Detections
from hounsfield.images.image import Image
from hounsfield.object_masks import ObjectMask

SIDE = 512
# The outcome of a box, with its colour, its dash, and whether its line is wider: errors should be seen first.
FOUND, MISSED, TRUE, FALSE = COLOURS[0], COLOURS[1], COLOURS[5], COLOURS[3]
OUTCOMES = (
    ("object, found", FOUND, False, False),
    ("object, missed", MISSED, False, True),
    ("finding, correct", TRUE, True, False),
    ("finding, false positive", FALSE, True, True),
)
DASH = 5  # pixels of the picture


class BoxGroup(NamedTuple):
    """Boxes (n, 2·rank) that are drawn alike."""

    boxes: NDArray[np.floating]
    colour: str
    dashed: bool = False
    strong: bool = False


def boxed(image: Image, groups: Sequence[BoxGroup], *, side: int = SIDE) -> NDArray[np.uint8]:
    """An image for display, with boxes.

    Of a volume the slice is shown that most of the boxes cross, and only these are drawn.

    Args:
        image: 2D or 3D.
        groups: boxes in pixels of the image, drawn in this order.
        side: pixels of the longer side of the picture.

    Returns:
        (rows, columns, 3) as red, green, blue.
    """
    if image.rank == 3:
        number = busiest_slice(image.shape[0], groups)
        groups = [group._replace(boxes=_crossing(group.boxes, number)) for group in groups]
        spacing = image.spacing[1:] if image.spacing else None
        image = image.replace(pixels=image.pixels[number], spacing=spacing)
    shown = preview(image, side)
    picture = np.ascontiguousarray(shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=-1))
    factors = np.array(picture.shape[:2]) / np.array(image.shape)
    width = max(1, round(side / 350))
    for group in groups:
        colour = _rgb(group.colour)
        for box in np.asarray(group.boxes, np.float64).reshape(-1, 4):
            # The line lies on the outermost pixels of the box.
            first, last = np.rint(box[:2] * factors).astype(int), np.rint(box[2:] * factors).astype(int) - 1
            _rectangle(picture, first, np.maximum(first, last), colour, width + group.strong, dashed=group.dashed)
    return picture


def draw_masks(
    picture: NDArray[np.uint8], masks: Sequence[ObjectMask], colours: Sequence[str], shape: Sequence[int]
) -> None:
    """Draw the outlines of masks of objects into a picture of an image of this shape."""
    factors = np.array(picture.shape[:2]) / np.array(shape)
    for mask, colour in zip(masks, colours, strict=True):
        # With a border, so that what ends at the edge of the part is outlined there.
        region = np.pad(mask.region.astype(np.uint8), 1)
        contours, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        for contour in contours:
            # OpenCV has the column first; the centre of a pixel lies half a pixel from its edge.
            points = (contour[:, 0, ::-1] - 1 + np.array(mask.start) + 0.5) * factors - 0.5
            line = np.rint(points[:, ::-1]).astype(np.int32)
            cv2.polylines(picture, [line], isClosed=True, color=_rgb(colour), thickness=1, lineType=cv2.LINE_AA)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))


def by_class(boxes: NDArray[np.floating], classes: NDArray[np.integer]) -> list[BoxGroup]:
    """The boxes of an image, one colour per class; see ``class_colour``."""
    return [BoxGroup(boxes[classes == label], class_colour(int(label))) for label in np.unique(classes)]


def class_colour(label: int) -> str:
    """The colour of a class by its index."""
    return COLOURS[label % len(COLOURS)]


def by_outcome(detections: Detections, image: int, *, threshold: float, overlap: float) -> list[BoxGroup]:
    """The outcomes of a test for one image: objects found and missed, findings correct and false; see ``OUTCOMES``."""
    findings, objects = matched_pairs(detections, threshold=threshold, overlap=overlap)
    is_true, is_found = np.zeros(len(detections.scores), bool), np.zeros(len(detections.truth_classes), bool)
    is_true[findings], is_found[objects] = True, True
    reported = (detections.images == image) & (detections.scores >= threshold)
    here = detections.truth_images == image
    parts = (
        detections.truth_boxes[here & is_found],
        detections.truth_boxes[here & ~is_found],
        detections.boxes[reported & is_true],
        detections.boxes[reported & ~is_true],
    )
    return [
        BoxGroup(part, colour, dashed, strong)
        for part, (_, colour, dashed, strong) in zip(parts, OUTCOMES, strict=True)
    ]


def busiest_slice(num_slices: int, groups: Sequence[BoxGroup]) -> int:
    """The slice of a volume that most boxes cross, near their middles; without boxes the middle one."""
    counts = np.zeros(num_slices)
    for group in groups:
        for box in group.boxes:
            # The middle of a box shows more of it than its ends.
            counts[max(0, int(box[0])) : int(np.ceil(box[3]))] += 1
            counts[min(max(int((box[0] + box[3]) / 2), 0), num_slices - 1)] += 0.5
    return int(counts.argmax()) if counts.any() else num_slices // 2


def _crossing(boxes: NDArray[np.floating], number: int) -> NDArray[np.floating]:
    """The outlines in one slice of the boxes (n, 6) that cross it."""
    if not len(boxes) or rank_of(boxes) == 2:
        return boxes
    return boxes[crosses(boxes, number)][:, [1, 2, 4, 5]]


def crosses(boxes: NDArray[np.floating], number: int) -> NDArray[np.bool_]:
    """(n,): which boxes (n, 6) cross the slice of this number."""
    return np.asarray((boxes[:, 0] < number + 1) & (boxes[:, 3] > number))


def _rectangle(
    picture: NDArray[np.uint8],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    colour: tuple[int, ...],
    width: int,
    *,
    dashed: bool,
) -> None:
    (top, left), (bottom, right) = first.tolist(), last.tolist()
    if not dashed:
        cv2.rectangle(picture, (left, top), (right, bottom), colour, width)
        return
    for start in range(left, right + 1, 2 * DASH):
        end = min(start + DASH - 1, right)
        for row in (top, bottom):
            cv2.line(picture, (start, row), (end, row), colour, width)
    for start in range(top, bottom + 1, 2 * DASH):
        end = min(start + DASH - 1, bottom)
        for column in (left, right):
            cv2.line(picture, (column, start), (column, end), colour, width)
