"""The shapes of COCO's annotations as masks: polygons, and run lengths, plain or compressed.

https://cocodataset.org/#format-data: runs go down the columns, of zeros first. The compressed text holds, in groups of
five bits from the lowest on, the difference of each run to the one two before (from the fourth run on), 48 added to
each group; the sixth bit says that another group follows, and the fifth of the last one is the sign.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hounsfield.errors import ImageError
from hounsfield.masks import Region, filled_polygons
from hounsfield.object_masks import ObjectMask

FIRST, MORE, SIGN, BITS = 48, 0x20, 0x10, 5


def shape_mask(shape: Any, size: tuple[int, int]) -> Region:
    """The pixels of one annotation's ``segmentation``.

    Args:
        shape: a list of polygons [x, y, x, y, …], or ``{"counts": …, "size": [rows, columns]}``.
        size: (rows, columns) of the image.

    Raises:
        ImageError: it is neither, or it is of an image of another size.
    """
    if isinstance(shape, dict):
        return _runs_mask(shape, size)
    if not isinstance(shape, list) or not all(_is_polygon(each) for each in shape):
        raise ImageError(f"it has a shape that is neither polygons nor run lengths: {str(shape)[:60]}")
    mask = np.zeros(size, bool)
    for polygon in shape:
        # The centre of the first pixel is at 0.5, 0.5 here.
        points = np.asarray(polygon, np.float64).reshape(-1, 2)[:, ::-1] - 0.5
        mask |= filled_polygons([points], size)
    return mask


def object_mask(shape: Any, size: tuple[int, int]) -> ObjectMask:
    """The same as the mask of one object; polygons are filled within their own bounds, not in the whole image.

    Raises:
        ImageError: as of :func:`shape_mask`, or nothing is marked.
    """
    start = np.zeros(2, np.int64)
    if isinstance(shape, list) and shape and all(map(_is_polygon, shape)):
        corners = np.concatenate([np.asarray(each, np.float64).reshape(-1, 2)[:, ::-1] for each in shape])
        start = np.clip(np.floor(corners.min(axis=0)), 0, size).astype(np.int64)
        end = np.clip(np.ceil(corners.max(axis=0)), start, size).astype(np.int64)
        shape = [(np.asarray(each, np.float64).reshape(-1, 2) - start[::-1]).ravel().tolist() for each in shape]
        size = (int(end[0] - start[0]), int(end[1] - start[1]))
    mask = ObjectMask.of(shape_mask(shape, size), start.tolist())
    if not mask.bits:
        raise ImageError("its mask has no pixel in the image")
    return mask


def _is_polygon(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 6
        and len(value) % 2 == 0
        and all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in value)
        and bool(np.isfinite(np.asarray(value, np.float64)).all())
    )


def _runs_mask(shape: dict[str, Any], size: tuple[int, int]) -> Region:
    if list(shape.get("size", ())) != list(size):
        raise ImageError(f"it has run lengths for an image of {shape.get('size')}, and the image has {list(size)}")
    counts = shape.get("counts")
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        raise ImageError(f"it has run lengths that cannot be read: {str(counts)[:60]}")
    if sum(runs) != size[0] * size[1]:
        raise ImageError(f"its run lengths add up to {sum(runs):,} pixels, and the image has {size[0] * size[1]:,}")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.asarray(values.reshape(size[1], size[0]).T)


def _unpacked(text: str) -> list[int] | None:
    """The runs of a compressed text; ``None`` where it is none."""
    runs: list[int] = []
    value, shift = 0, 0
    for letter in text.encode("utf-8"):
        group = letter - FIRST
        if not 0 <= group < 2 * MORE or shift > 60:
            return None
        value |= (group & (MORE - 1)) << shift
        shift += BITS
        if not group & MORE:
            if group & SIGN:
                value |= -1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    return runs if not shift else None


def marked_shape(item: dict[str, Any]) -> bool:
    """Whether an annotation has a shape beside its box."""
    shape = item.get("segmentation")
    return bool(shape) and isinstance(shape, (list, dict))
