"""Where in the image the cells of feature maps look: strided layers look past the middle of their cell.

A layer of stride 2 whose padding is "same" pads an even axis at its end alone, so cell i of a 3×3 kernel looks at
pixels 2i to 2i + 2, half a pixel behind the pixels 2i and 2i + 1 that it stands for. Over several layers this adds up
to almost half a cell (Araujo et al., "Computing receptive fields of convolutional neural networks", Distill, 2019).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield.errors import require

Floats = npt.NDArray[np.float32]


class _View(NamedTuple):
    """The pixel in the middle of what the first cell looks at, and the pixels from one cell to the next, each axis."""

    first: npt.NDArray[np.float64]
    stride: npt.NDArray[np.float64]


def cell_shift(maps: Any) -> npt.NDArray[np.float64]:
    """How far the cells of feature maps look behind the part of the image that they stand for.

    Args:
        maps: a functional ``keras.Model`` from the image to feature maps.

    Returns:
        (rank,) in cells; zeros where a layer moves pixels in a way that is not known here.
    """
    image, made = maps.inputs[0], maps.outputs[0]
    shape, cells = (np.array(tensor.shape[1:-1], np.float64) for tensor in (image, made))
    views: dict[int, _View | None] = {id(image): _View(np.zeros(len(shape)), np.ones(len(shape)))}
    for layer in maps.layers[1:]:
        given = layer.input if isinstance(layer.input, list | tuple) else [layer.input]
        views[id(layer.output)] = _after(layer, [(tensor, views.get(id(tensor))) for tensor in given])
    view = views.get(id(made))
    if view is None:
        return np.zeros(len(shape))
    return np.asarray((view.first + view.stride * (cells - 1) / 2 - (shape - 1) / 2) * cells / shape)


def _after(layer: Any, given: list[tuple[Any, _View | None]]) -> _View | None:
    """What the cells after a layer look at; nothing that is known where it takes the whole image in, or is strange."""
    layers = require("keras", "explaining a network").layers
    grid = layer.output.shape[1:-1]
    known = [(tensor.shape[1:-1], view) for tensor, view in given if view is not None]
    if isinstance(layer, layers.ZeroPadding2D | layers.ZeroPadding3D) and known:
        first, stride = known[0][1]
        return _View(first - stride * np.array([pair[0] for pair in layer.padding]), stride)
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if window is None or not known:
        # Of branches that meet, each says something of the sum; which says more depends on the weights.
        views = [view for before, view in known if before == grid]
        return _View(*(np.mean(each, axis=0) for each in zip(*views, strict=True))) if views else None
    before, (first, stride) = known[0]
    spread = (np.array(window) - 1) * np.array(getattr(layer, "dilation_rate", 1))
    steps = np.array(layer.strides)
    if np.any(np.array(grid) > np.array(before)):
        return None
    missing = np.maximum((np.array(grid) - 1) * steps + spread + 1 - np.array(before), 0)
    ahead = missing // 2 if layer.padding == "same" else 0
    return _View(first + stride * (spread / 2 - ahead), stride * steps)


def moved(grid: Floats, shift: npt.NDArray[np.float64]) -> Floats:
    """A map whose values lie ``shift`` cells further along each axis, shared out between neighbours; sums are kept."""
    for axis, (length, cells) in enumerate(zip(grid.shape, shift, strict=True)):
        whole = int(np.floor(cells))
        share = np.float32(cells - whole)
        values = np.moveaxis(grid, axis, 0)
        result = np.zeros_like(values)
        for offset, part in ((whole, 1 - share), (whole + 1, share)):
            np.add.at(result, np.clip(np.arange(length) + offset, 0, length - 1), part * values)
        grid = np.moveaxis(result, 0, axis)
    return grid
