"""Spacing and affine of an image whose pixel grid changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import PreprocessingError
from hounsfield.images.image import Image

_MOST_VALUES = 2**30

_Number = TypeVar("_Number", int, float)


def regrid(image: Image, pixels: NDArray[Any], *, start: Sequence[float], scale: Sequence[float]) -> Image:
    """Return ``image`` with ``pixels`` on a new grid whose index ``j`` lies at ``start + scale * j`` of the old one.

    Both are given per spatial axis, in pixels of the old grid. Patient coordinates are preserved:
    with A the old affine, the new one is A · [[diag(scale), start], [0, 1]].
    """
    spacing = image.spacing
    if spacing is not None:
        spacing = tuple(float(mm * factor) for mm, factor in zip(spacing, scale, strict=True))
    affine = image.affine
    if affine is not None:
        # In the affine the slice index comes first, also for a 2D image, whose slice index is always 0.
        change = np.eye(4)
        for axis, (offset, factor) in enumerate(zip(start, scale, strict=True), start=3 - image.rank):
            change[axis, axis] = factor
            change[axis, 3] = offset
        affine = affine @ change
    return image.replace(pixels=pixels, spacing=spacing, affine=affine)


def require_room(size: Sequence[int], image: Image, *, step: str) -> None:
    """Refuse an unreasonably large result before its memory is allocated.

    Raises:
        PreprocessingError: the result would hold more than 2**30 values.
    """
    num_values = math.prod(size) * image.channels
    if num_values > _MOST_VALUES:
        raise PreprocessingError(
            f"The step '{step}' would make an image of {'×'.join(map(str, size))} pixels from one of "
            f"{'×'.join(map(str, image.shape))}: {num_values:,} values, and at most {_MOST_VALUES:,} are allowed. "
            "Choose a smaller size or a coarser spacing."
        )


def per_axis(value: _Number | tuple[_Number, ...], rank: int, *, step: str, field: str) -> tuple[_Number, ...]:
    """Spread one number over all spatial axes, or check that a tuple has one number per axis.

    Raises:
        PreprocessingError: the length of the tuple differs from the number of spatial axes.
    """
    if not isinstance(value, tuple):
        return (value,) * rank
    if len(value) != rank:
        raise PreprocessingError(
            f"The '{field}' of step '{step}' has {len(value)} numbers {value}, but the image has {rank} spatial axes. "
            f"Give one number, or {rank} in the order {'slices, rows, columns' if rank == 3 else 'rows, columns'}."
        )
    return value
