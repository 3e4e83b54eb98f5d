"""The patch that a segmenter sees, and how its network reduces it: by lengths in space, not in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# An axis is halved while it keeps at least so many pixels, and no more often than this in all.
LEAST_SIDE, MOST_STAGES = 4, 6
# An axis along which pixels lie so many times further apart than along another waits until the other has caught up.
EVEN = 2.0


class Shape(NamedTuple):
    """The patch (rank,), the strides of each stage after the first, and the kernels of every stage."""

    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]


def fitted_shape(lengths: Sequence[float], spacing: Sequence[float], positions: float) -> Shape:
    """The largest patch of at most so many pixels that is as long in space along every axis, or as long as the images.

    Args:
        lengths: of a typical image, in pixels.
        spacing: of its pixels.
        positions: pixels of the patch, about; an axis never gets shorter than it needs to be halved once.
    """
    shortest, longest = 1.0, max(length * step for length, step in zip(lengths, spacing, strict=True))
    # The side of the cube in mm, by bisection: the number of pixels grows with it.
    for _ in range(40):
        middle = math.sqrt(shortest * longest) if shortest < longest else longest
        if math.prod(reduced(_cut(lengths, spacing, middle), spacing).patch) <= positions:
            shortest = middle
        else:
            longest = middle
    whole = reduced(lengths, spacing)
    return whole if math.prod(whole.patch) <= positions else reduced(_cut(lengths, spacing, shortest), spacing)


def _cut(lengths: Sequence[float], spacing: Sequence[float], side: float) -> list[float]:
    return [min(length, side / step) for length, step in zip(lengths, spacing, strict=True)]


def reduced(lengths: Sequence[float], spacing: Sequence[float]) -> Shape:
    """How a patch of about this shape is reduced stage by stage; it is rounded up to what the strides divide.

    The rules of nnU-Net (Isensee et al., 2021, supplementary note 2): an axis is halved while it keeps 4 pixels, but
    one along which pixels lie further apart only once the others have caught up, and until then kernels are 1 along
    it.
    """
    sides, steps = np.maximum(np.ceil(np.asarray(lengths, float)), 1.0), np.asarray(spacing, float)
    strides: list[tuple[int, ...]] = []
    kernels = [_kernel(steps, sides)]
    while len(strides) < MOST_STAGES:
        wide = sides / 2 >= LEAST_SIDE
        halved = wide & (steps < EVEN * steps[wide].min(initial=math.inf))
        if not halved.any():
            break
        strides.append(tuple(np.where(halved, 2, 1).tolist()))
        sides, steps = np.where(halved, sides / 2, sides), np.where(halved, 2 * steps, steps)
        kernels.append(_kernel(steps, sides))
    reduction = np.prod(np.array(strides, int).reshape(-1, len(sides)), axis=0)
    patch = np.ceil(np.maximum(np.ceil(np.asarray(lengths, float)), 1) / reduction) * reduction
    return Shape(tuple(int(side) for side in patch), tuple(strides), tuple(kernels))


def _kernel(steps: npt.NDArray[np.float64], sides: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """3 along each axis, but for one of a single pixel, and one along which pixels still lie further apart."""
    near = steps < EVEN * steps[sides > 1].min(initial=math.inf)
    return tuple(np.where(near & (sides > 1), 3, 1).tolist())
