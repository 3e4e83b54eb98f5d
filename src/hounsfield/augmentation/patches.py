"""Patches of an image with its mask: where they lie, how they are turned and scaled, and how they are read.

They run on the host, on one image at a time, because images come in many sizes and a turned patch needs what lies
around it. What is drawn (``PatchPlacement``) is separate from its use, so it can be looked at and replayed.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.plans.augmentation import PatchAugmentation

# Planes are turned in which pixels lie at most so many times further apart along one axis than along the other.
TURNED_ANISOTROPY = 2.0
# A pixel that is to be in the patch comes within this share of it, around its middle.
TARGET_SHARE = 0.5
# What lies outside of the image, in the network's input and in the mask.
OUTSIDE_VALUE, OUTSIDE_LABEL = 0.0, 0


@dataclass(frozen=True, eq=False)
class PatchPlacement:
    """Where a patch is read: the pixel at offset d from its centre is the image at ``centre + matrix · d``.

    Attributes:
        shape: of the patch.
        centre: (rank,) in pixels of the image, which may be fractions.
        matrix: (rank, rank), the identity for a patch that is only cut out.
    """

    shape: tuple[int, ...]
    centre: npt.NDArray[np.float64]
    matrix: npt.NDArray[np.float64]

    @property
    def offset(self) -> npt.NDArray[np.float64]:
        """Where the first pixel of the patch lies in the image."""
        return np.asarray(self.centre - self.matrix @ ((np.array(self.shape) - 1) / 2))


def draw_placement(
    generator: np.random.Generator,
    image_shape: Sequence[int],
    shape: Sequence[int],
    limits: PatchAugmentation,
    *,
    spacing: Sequence[float],
    target: npt.ArrayLike | None = None,
) -> PatchPlacement:
    """Draw where a patch is read.

    Args:
        generator: of every draw.
        image_shape: the image's spatial shape; along an axis that is shorter than the patch, all of it is seen.
        shape: the patch's spatial shape.
        limits: of the changes.
        spacing: mm along each axis; a turn is one in space, and not of pixels.
        target: (rank,) a pixel that is to be in the patch, near its middle.
    """
    lengths, sides = np.array(image_shape), np.array(shape)
    first, last = np.minimum(lengths - sides, 0), np.maximum(lengths - sides, 0)
    start = generator.integers(first, last + 1)
    if target is not None:
        within = (0.5 + TARGET_SHARE * (generator.random(len(sides)) - 0.5)) * sides
        wanted = np.clip(np.round(np.asarray(target) - within).astype(np.int64), first, last)
        start = np.where(lengths > sides, wanted, start)
    centre = start + (sides - 1) / 2
    return PatchPlacement(tuple(map(int, shape)), centre, _matrix(generator, limits, np.asarray(spacing, np.float64)))


def _matrix(
    generator: np.random.Generator, limits: PatchAugmentation, spacing: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Mirrored × scaled × turned, from offsets in the patch to offsets in the image, both in pixels."""
    rank = len(spacing)
    flips = generator.random(rank) < 0.5
    turns, scale, stretch = (
        generator.uniform(-1, 1, (rank, rank)),
        generator.uniform(-1, 1),
        generator.uniform(-1, 1, rank),
    )
    matrix = np.eye(rank)
    if generator.random() >= limits.unchanged_share:
        matrix *= np.exp(scale * np.log1p(limits.scale) + stretch * np.log1p(limits.stretch))
        for first, second in itertools.combinations(range(rank), 2):
            pair = spacing[[first, second]]
            if pair.max() <= TURNED_ANISOTROPY * pair.min():
                matrix = matrix @ _turn(np.deg2rad(limits.rotation * turns[first, second]), first, second, spacing)
    signs = np.array([-1.0 if axis in limits.flip_axes and flips[axis] else 1.0 for axis in range(rank)])
    return np.asarray(signs[:, None] * matrix)


def _turn(angle: float, first: int, second: int, spacing: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A rotation in the plane of two axes, of lengths in mm, as it acts on pixels."""
    turned = np.eye(len(spacing))
    turned[[first, second], [first, second]] = np.cos(angle)
    turned[first, second], turned[second, first] = -np.sin(angle), np.sin(angle)
    return np.asarray(turned * spacing[None, :] / spacing[:, None])


def read_patch(pixels: npt.NDArray[np.floating], placement: PatchPlacement) -> npt.NDArray[np.float32]:
    """The image at a placement, between its pixels by linear interpolation: (*patch, channels) float32.

    Args:
        pixels: (spatial …, channels).
        placement: drawn for an image of this shape.
    """
    return _read(pixels, placement, order=1, outside=OUTSIDE_VALUE).astype(np.float32, copy=False)


def read_mask_patch(mask: npt.NDArray[np.uint8], placement: PatchPlacement) -> npt.NDArray[np.uint8]:
    """The mask at a placement, each pixel that of the nearest one: (*patch, channels) uint8."""
    return _read(mask, placement, order=0, outside=OUTSIDE_LABEL)


def _read(pixels: npt.NDArray[Any], placement: PatchPlacement, *, order: int, outside: float) -> npt.NDArray[Any]:
    shape, rank = placement.shape, len(placement.shape)
    corners = (
        placement.offset + np.array(list(itertools.product(*((0, side - 1) for side in shape)))) @ placement.matrix.T
    )
    lengths = np.array(pixels.shape[:-1])
    low = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, lengths)
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, low, lengths)
    # Only what is needed is read: the image may lie on disk.
    part = np.asarray(pixels[tuple(slice(*ends) for ends in zip(low, high, strict=True))])
    patch = np.full((*shape, pixels.shape[-1]), outside, pixels.dtype)
    if part.size == 0:
        return patch
    offset = placement.offset - low
    if np.array_equal(placement.matrix, np.eye(rank)) and np.array_equal(offset, np.round(offset)):
        # Cut out as it is.
        start = np.round(-offset).astype(int)
        inside = tuple(slice(max(s, 0), s + n) for s, n in zip(start, part.shape, strict=False))
        patch[inside] = part
        return patch
    ndimage: Any = importlib.import_module("scipy.ndimage")
    for channel in range(pixels.shape[-1]):
        ndimage.affine_transform(
            part[..., channel],
            placement.matrix,
            offset,
            output_shape=shape,
            output=patch[..., channel],
            order=order,
            mode="constant",
            cval=outside,
        )
    return patch
