"""Fewer samples by averaging areas: small pictures of large ones."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt


def area_reduced(values: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Average float32 values of any rank down to ``shape``: each cell takes the fraction of a sample that it covers."""
    if values.ndim == 2 and all(cells <= length for cells, length in zip(shape, values.shape, strict=True)):
        # Both axes at once takes a small image a third of the time; where one grows, OpenCV would average neither.
        flat = np.ascontiguousarray(values, dtype=np.float32)
        return np.asarray(cv2.resize(flat, shape[::-1], interpolation=cv2.INTER_AREA), np.float32)
    for axis, cells in enumerate(shape):
        values = area_reduced_axis(values, axis, cells)
    return values


def area_reduced_axis(values: npt.NDArray[np.float32], axis: int, cells: int) -> npt.NDArray[np.float32]:
    """The exact area average along one axis; values that have this length already are returned as they are."""
    if values.shape[axis] == cells:
        return values
    front = np.moveaxis(values, axis, 0)
    # Not a matrix product: for matrices as small as these, BLAS spends its time on waking the other cores.
    flat = np.ascontiguousarray(front, dtype=np.float32).reshape(len(front), -1)
    reduced = cv2.resize(flat, (flat.shape[1], cells), interpolation=cv2.INTER_AREA)
    return np.moveaxis(reduced.reshape(cells, *front.shape[1:]), 0, axis)
