"""A mask brought onto the grid of its image: as it is, or by the geometry of both, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.image import Image
from hounsfield.images.orientation import is_usable

# Grids of one shape whose corners lie so close are one grid: headers round. In pixels.
SAME_GRID = 0.25
# A mask of another size than its image, and with exactly its geometry, may be cut off at an end; where one of the two
# is shorter than this share of the other along an axis, the mask was rather resized, and the header copied.
CUT_OFF = 0.75
# At most this share of what is marked may lie outside the image.
MOST_OUTSIDE = 0.5


@dataclass(frozen=True)
class OnGrid:
    """The values of a mask on the grid of an image.

    Attributes:
        mask: (spatial …).
        moved: whether it was on another grid.
        outside: share of the marked pixels that lie outside the image.
    """

    mask: npt.NDArray[Any]
    moved: bool = False
    outside: float = 0.0


def on_grid(mask: Image, image: Image) -> OnGrid:
    """The values of a mask at the pixels of an image; from the nearest pixel where the grids differ.

    Args:
        mask: integers in one channel.
        image: as read.

    Raises:
        ImageError: the grids differ and nothing tells how they lie to each other, or the geometry of the mask seems to
            be copied, or most of what is marked lies outside the image.
    """
    known = all(each.affine is not None and is_usable(each.affine) for each in (mask, image))
    if mask.shape == image.shape and (not known or _same_grid(mask, image)):
        return OnGrid(mask.pixels[..., 0])
    if not known:
        raise ImageError(
            f"the mask has the shape {_by(mask.shape)} and the image {_by(image.shape)}, and "
            f"{'neither says' if mask.affine is None and image.affine is None else 'not both say'} where it lies in "
            "the patient"
        )
    if mask.modality != "SEG" and _is_copied(mask, image):
        raise ImageError(
            f"the mask has the shape {_by(mask.shape)} and the image {_by(image.shape)}, and both give the same place "
            "of the first pixel and the same pixel size: the mask looks resized, with a copied header. Save it on the "
            "grid of its image, or with its own geometry"
        )
    return _resampled(mask, image)


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _same_grid(mask: Image, image: Image) -> bool:
    """Whether the corners of two grids of one shape are within a fraction of a pixel."""
    change = _change(mask, image)
    lengths = np.array([1] * (3 - image.rank) + list(image.shape))
    corners = np.stack(np.meshgrid(*[(0, length - 1) for length in lengths], [1], indexing="ij"), -1).reshape(-1, 4)
    moved = corners @ change.T
    return bool(np.abs(moved - corners).max() < SAME_GRID)


def _is_copied(mask: Image, image: Image) -> bool:
    """Whether a mask of a much smaller or larger size has exactly the geometry of its image."""
    sizes = [np.array([1] * (3 - each.rank) + list(each.shape)) for each in (mask, image)]
    same = np.allclose(_change(mask, image), np.eye(4), atol=1e-4)
    return bool(same and (np.minimum(*sizes) < CUT_OFF * np.maximum(*sizes)).any())


def _change(mask: Image, image: Image) -> npt.NDArray[np.float64]:
    """4×4: indices (slice, row, column, 1) of the image to those of the mask."""
    if mask.affine is None or image.affine is None:
        raise RuntimeError("both grids must be known")
    return np.asarray(np.linalg.solve(mask.affine, image.affine), np.float64)


def _resampled(mask: Image, image: Image) -> OnGrid:
    change = _change(mask, image)
    values = mask.pixels[..., 0].reshape((1,) * (3 - mask.rank) + mask.shape)
    shape = (1,) * (3 - image.rank) + image.shape
    result = np.zeros(shape, values.dtype)
    rows, columns = np.meshgrid(*(np.arange(length) for length in shape[1:]), indexing="ij")
    plane = np.stack([rows.ravel(), columns.ravel()])
    limits = np.array(values.shape)[:, np.newaxis]
    for index in range(shape[0]):
        places = change[:3, 1:3] @ plane + (change[:3, 3] + change[:3, 0] * index)[:, np.newaxis]
        nearest = np.floor(places + 0.5 + 1e-6).astype(np.int64)
        inside = ((nearest >= 0) & (nearest < limits)).all(axis=0)
        taken = np.zeros(plane.shape[1], values.dtype)
        taken[inside] = values[tuple(nearest[:, inside])]
        result[index] = taken.reshape(shape[1:])
    outside = _share_outside(values, change, shape)
    if outside > MOST_OUTSIDE:
        raise ImageError(
            f"{outside:.0%} of what its mask marks lies outside the image, by the geometry of both files: "
            f"the mask of shape {_by(mask.shape)} lies elsewhere in the patient than the image of shape "
            f"{_by(image.shape)}"
        )
    return OnGrid(result.reshape(image.shape), moved=True, outside=outside)


def _share_outside(values: npt.NDArray[Any], change: npt.NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Of the marked pixels of a mask, how many have no pixel of the image near them."""
    back = np.linalg.inv(change)
    marked = outside = 0
    limits = np.array(shape)[:, np.newaxis]
    for index, part in enumerate(values):
        rows, columns = np.nonzero(part)
        if not len(rows):
            continue
        places = back[:3] @ np.stack([np.full(len(rows), index), rows, columns, np.ones(len(rows))])
        beyond = (places < -1) | (places > limits)
        marked += len(rows)
        outside += int(beyond.any(axis=0).sum())
    return outside / marked if marked else 0.0
