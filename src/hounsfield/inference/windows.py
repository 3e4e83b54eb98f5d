"""Detection on an image of any size: windows of the network's canvas, and their findings made one.

A window's inner border cuts objects. Neighbours share part of what they see, so an object is told by what both say of
the shared part: where they agree, two pieces are one object, and a piece beside the whole goes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield import boxes as geometry
from hounsfield.errors import ImageError
from hounsfield.object_masks import reframed

Floats = npt.NDArray[np.float32]
# (batch, *canvas, channels) -> padded boxes, classes, scores and count, as a detector's predict gives them.
Run = Callable[[Floats], Mapping[str, npt.NDArray[Any]]]

# A box that ends this near to a border is cut by it: a share of the canvas, and at least so many pixels.
TOUCH_SHARE, TOUCH_PIXELS = 0.01, 1.0
# A finding that is cut has seen part of its object: it goes before a whole one if its score is so many times as high.
CUT_HANDICAP = 2.0


class Found(NamedTuple):
    """What was found in one image.

    Boxes (n, 2·rank) float32, class indices (n,) int64, falling scores (n,) float32; and of a detector that outlines
    objects their box masks (n, side, side) float32 from 0 to 1, see ``hounsfield.object_masks``.
    """

    boxes: Floats
    classes: npt.NDArray[np.int64]
    scores: Floats
    masks: Floats | None = None

    def at(self, rows: npt.NDArray[Any] | slice) -> Found:
        """Those of these rows."""
        return Found(*(None if part is None else part[rows] for part in self))  # type: ignore[arg-type]  # by field


class Pieces(NamedTuple):
    """Findings of windows, in pixels of the image.

    Attributes:
        boxes: (n, 2·rank) float32.
        classes: (n,).
        scores: (n,) float32.
        views: (n, 2·rank), the part of the image that the finding's window shows.
        cut: (n, 2·rank), which sides lie on an inner border of the window.
        masks: (n, side, side) box masks, of a detector that outlines objects.
    """

    boxes: Floats
    classes: npt.NDArray[np.int64]
    scores: Floats
    views: Floats
    cut: npt.NDArray[np.bool_]
    masks: Floats | None = None

    def at(self, rows: npt.NDArray[Any]) -> Pieces:
        """Those of these rows."""
        return Pieces(*(None if part is None else part[rows] for part in self))  # type: ignore[arg-type]  # by field


def find(
    run: Run,
    pixels: Floats,
    canvas: Sequence[int],
    *,
    window_overlap: float,
    detection_overlap: float,
    max_detections: int | None = None,
) -> Found:
    """What a detector of fixed input finds in an image of any size.

    Args:
        run: the detector; it is called with one window at a time.
        pixels: (*spatial, channels), of rank 2 or 3; shorter axes than the canvas's are filled with 0 at their end.
        canvas: the detector's spatial lengths.
        window_overlap: share of a window that neighbours share, from 0 to below 1.
        detection_overlap: IoU above which two findings of one label are one.
        max_detections: to be returned at most; ``None`` for all.

    Returns:
        Boxes in pixels of the image, inside it, and their classes and scores, best first.

    Raises:
        ImageError: the image has another rank than the canvas, or an axis without a pixel.
    """
    shape = pixels.shape[:-1]
    if len(shape) != len(canvas) or 0 in shape:
        raise ImageError(
            f"Found an image of {'×'.join(map(str, shape))} pixels: expected {len(canvas)} axes of at least one pixel, "
            "as the network takes. Give images of the kind that it was trained on."
        )
    starts = [window_starts(length, side, window_overlap) for length, side in zip(shape, canvas, strict=True)]
    parts = [_look(run, pixels, canvas, start) for start in itertools.product(*starts)]
    if len(parts) == 1:
        # The network has suppressed what is double in its one view.
        found = _sorted(Found(parts[0].boxes, parts[0].classes, parts[0].scores, parts[0].masks))
    else:
        found = merged(_joined(parts), overlap=detection_overlap)
    return found.at(slice(max_detections))


def window_starts(length: int, side: int, overlap: float) -> list[int]:
    """Where windows of a side start along an axis: evenly, the first and the last at the image's borders.

    Args:
        length: of the axis, in pixels.
        side: of a window.
        overlap: the least share of a window that neighbours share.
    """
    if length <= side:
        return [0]
    step = max(1, math.floor(side * (1 - overlap)))
    count = math.ceil((length - side) / step) + 1
    return [int(start) for start in np.linspace(0, length - side, count).tolist()]


def merged(pieces: Pieces, *, overlap: float) -> Found:
    """One finding an object, from the findings of several windows.

    The surest finding is taken first. If a border cut it, it is continued by what windows beyond that border say of the
    same object. Then the rest goes that is the same: what overlaps it by more than the threshold, and what a border
    cut and lies in it by more than that.

    Args:
        pieces: of all windows.
        overlap: IoU, in the part that both windows show, above which two findings of one label are one.
    """
    parts = [_merged_class(pieces.at(pieces.classes == label), overlap) for label in np.unique(pieces.classes)]
    if not parts:
        return Found(pieces.boxes, pieces.classes, pieces.scores, pieces.masks)
    return _sorted(Found(*(_concatenated(values) for values in zip(*parts, strict=True))))


def _look(run: Run, pixels: Floats, canvas: Sequence[int], start: Sequence[int]) -> Pieces:
    """The findings of one window."""
    rank, shape = len(canvas), pixels.shape[:-1]
    view = pixels[tuple(slice(first, first + side) for first, side in zip(start, canvas, strict=True))]
    filled = np.zeros((1, *canvas, pixels.shape[-1]), np.float32)
    inside: tuple[Any, ...] = (0, *(slice(length) for length in view.shape[:-1]))
    filled[inside] = view
    outcome = run(filled)
    count = int(outcome["count"][0])
    whole = np.asarray(outcome["boxes"][0][:count], np.float32).reshape(-1, 2 * rank)
    inside_view = geometry.clipped(whole, view.shape[:-1])
    usable = geometry.are_valid(inside_view)
    masks = reframed(outcome["masks"][0][:count], whole, inside_view)[usable] if "masks" in outcome else None
    boxes = geometry.shifted(inside_view, start)[usable]
    classes, scores = (np.asarray(outcome[name][0][:count])[usable] for name in ("classes", "scores"))
    ends = [first + length for first, length in zip(start, view.shape[:-1], strict=True)]
    limits = np.array([*start, *ends], np.float32)
    inner = limits != np.array([*[0] * rank, *shape])
    touch = np.maximum(TOUCH_PIXELS, TOUCH_SHARE * np.tile(canvas, 2))
    cut = (np.abs(boxes - limits) <= touch) & inner
    views = np.broadcast_to(limits, boxes.shape)
    return Pieces(boxes, classes.astype(np.int64), scores.astype(np.float32), views, cut, masks)


def _joined(parts: Sequence[Pieces]) -> Pieces:
    return Pieces(*(_concatenated(values) for values in zip(*parts, strict=True)))


def _concatenated(values: Sequence[Any]) -> Any:
    return None if values[0] is None else np.concatenate(values)


def _sorted(found: Found) -> Found:
    return found.at(np.argsort(-found.scores, kind="stable"))


def _merged_class(pieces: Pieces, overlap: float) -> Found:
    handicap = np.where(pieces.cut.any(axis=1), CUT_HANDICAP, 1)
    rest = pieces.at(np.argsort(-pieces.scores / handicap, kind="stable"))
    boxes, scores, masks = [], [], []
    while len(rest.boxes):
        members, box = _continued(rest, overlap)
        boxes.append(box)
        scores.append(rest.scores[members].max())
        if rest.masks is not None:
            # What any window sees of an object is part of it.
            frames = np.broadcast_to(box, (len(members), box.size))
            masks.append(reframed(rest.masks[members], rest.boxes[members], frames).max(axis=0))
        rest = rest.at(~_same(rest, members, box, overlap))
    classes = np.full(len(boxes), pieces.classes[0])
    return Found(np.stack(boxes), classes, np.array(scores, np.float32), np.stack(masks) if masks else None)


def _continued(rest: Pieces, overlap: float) -> tuple[list[int], Floats]:
    """The first piece with those that continue it beyond the borders that cut it: their rows, and the box of all."""
    rank = geometry.rank_of(rest.boxes)
    members, box, cut = [0], rest.boxes[0].copy(), rest.cut[0].copy()
    # Starts are turned round, so that further out is larger on all sides.
    outward = np.repeat([-1, 1], rank)
    reach = rest.views[0] * outward
    for piece in _continuations(rest, members, overlap):
        beyond = cut & (rest.views[piece] * outward > reach)
        if not beyond.any():
            continue
        members.append(piece)
        box[beyond], cut[beyond] = rest.boxes[piece][beyond], rest.cut[piece][beyond]
        reach[beyond] = (rest.views[piece] * outward)[beyond]
        if not cut.any():
            break
    return members, box


def _continuations(rest: Pieces, members: list[int], overlap: float) -> Iterator[int]:
    """Rows of pieces that agree with a member, surest first; ``members`` may grow meanwhile."""
    if not rest.cut[0].any():
        return
    waiting = np.ones(len(rest.boxes), bool)
    asked = 0
    agreeing = np.zeros(len(rest.boxes), bool)
    while True:
        for member in members[asked:]:
            agreeing |= _agree(rest, member, overlap)
            # Of one window the network has told apart what is not the same.
            waiting &= (rest.views != rest.views[member]).any(axis=1)
        asked = len(members)
        candidates = np.flatnonzero(waiting & agreeing)
        if not len(candidates):
            return
        waiting[candidates[0]] = False
        yield int(candidates[0])


def _agree(rest: Pieces, row: int, overlap: float) -> npt.NDArray[np.bool_]:
    """(n,): whether a piece and the others look alike in the part of the image that both of their windows show."""
    rank = geometry.rank_of(rest.boxes)
    low = np.maximum(rest.views[:, :rank], rest.views[row, :rank])
    high = np.minimum(rest.views[:, rank:], rest.views[row, rank:])
    shared = [
        np.concatenate([np.clip(boxes[..., :rank], low, high), np.clip(boxes[..., rank:], low, high)], axis=-1)
        for boxes in (rest.boxes, np.broadcast_to(rest.boxes[row], rest.boxes.shape))
    ]
    return np.asarray(geometry.iou(*shared) > overlap)


def _same(rest: Pieces, members: list[int], box: Floats, overlap: float) -> npt.NDArray[np.bool_]:
    """(n,): which pieces are the object of this box."""
    same = np.asarray(geometry.iou(rest.boxes, box) > overlap)
    inside = geometry.intersections(rest.boxes, box) > overlap * geometry.volumes(rest.boxes)
    elsewhere = (rest.views[:, np.newaxis] != rest.views[members]).any(axis=2).all(axis=1)
    same |= rest.cut.any(axis=1) & inside & elsewhere
    same[members] = True
    return same
