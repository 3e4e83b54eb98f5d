"""One convention for where a voxel is in the patient, and how to turn an image into a canonical orientation.

An ``Image`` counts voxels as (slice, row, column) and its affine maps ``(slice, row, column, 1)`` to millimetres in
DICOM's patient coordinates, LPS: x grows to the patient's Left, y to the Posterior, z to the Superior side (PS3.3
section C.7.6.2.1.1). NIfTI and nibabel count (i, j, k) = (column, row, slice) and use RAS, so x and y change sign.

An orientation is written as three letters, one for each of (slice, row, column): the side of the patient towards
which that index grows. ``"SPL"`` is canonical: slices from feet to head, rows from front to back, columns from the
patient's right to the left, which is how an axial slice is hung.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import ImageError
from hounsfield.images.image import Image

CANONICAL = "SPL"

# Letter -> (axis of LPS space, sign along it).
SIDES = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSE = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64)

# Millimetres; beyond is damage, and its square would leave the range of numbers.
_FARTHEST = 1e12

Affine = NDArray[np.float64]


def affine_from_ras(affine: NDArray[np.floating]) -> Affine:
    """Turn a NIfTI affine, (i, j, k) to RAS mm, into an ``Image`` affine, (slice, row, column) to LPS mm."""
    return _tidy(_RAS_TO_LPS @ np.asarray(affine, dtype=np.float64) @ _REVERSE)


def affine_to_ras(affine: NDArray[np.floating]) -> Affine:
    """Turn an ``Image`` affine into a NIfTI affine; the inverse of ``affine_from_ras``, to the bit."""
    return _tidy(_RAS_TO_LPS @ np.asarray(affine, dtype=np.float64) @ _REVERSE)


def affine_from_directions(
    origin: NDArray[np.floating], spacing: NDArray[np.floating], directions: NDArray[np.floating]
) -> Affine:
    """Build an ``Image`` affine from ITK's three facts.

    Args:
        origin: (3,) LPS mm of the centre of the first voxel.
        spacing: (3,) mm along (column index, row index, slice index), ITK's order.
        directions: (3, 3), its columns the unit directions of those three indices.
    """
    affine = np.eye(4)
    affine[:3, :3] = (np.asarray(directions, dtype=np.float64) * np.asarray(spacing, dtype=np.float64))[:, ::-1]
    affine[:3, 3] = origin
    return _tidy(affine)


def spacing_of(affine: NDArray[np.floating]) -> tuple[float, float, float]:
    """Distance in mm between neighbours along (slice, row, column): the lengths of the affine's columns."""
    lengths = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return float(lengths[0]), float(lengths[1]), float(lengths[2])


def patient_coordinates(affine: NDArray[np.floating], indices: NDArray[np.number]) -> NDArray[np.float64]:
    """LPS mm, shape (..., 3), of voxel indices (slice, row, column), shape (..., 3); whole numbers are centres."""
    matrix = np.asarray(affine, dtype=np.float64)
    return np.asarray(np.asarray(indices, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3])


def is_usable(affine: NDArray[np.floating]) -> bool:
    """Whether the affine is finite and gives each index a direction of its own."""
    if not np.isfinite(affine).all() or np.abs(affine).max() > _FARTHEST:
        return False
    linear = np.asarray(affine, dtype=np.float64)[:3, :3]
    lengths = np.linalg.norm(linear, axis=0)
    return bool((lengths > 0).all() and abs(np.linalg.det(linear / lengths)) > 1e-4)


def orientation_of(affine: NDArray[np.floating]) -> str:
    """The three letters of an affine: the side that each of (slice, row, column) comes nearest to.

    Every axis gets a side of its own: the assignment of the three indices to the three body axes with the largest
    sum of absolute cosines, so that oblique acquisitions have a name as well.

    Raises:
        ImageError: the affine is singular or not finite.
    """
    if not is_usable(affine):
        raise ImageError(
            f"The affine {np.asarray(affine).tolist()} has no orientation: its columns are not finite, or do not "
            "point in three different directions. Expected an invertible voxel-to-patient matrix; correct the "
            "geometry in the file's header, or remove it so that the image is read without one."
        )
    linear = np.asarray(affine, dtype=np.float64)[:3, :3]
    cosines = linear / np.linalg.norm(linear, axis=0)
    bodies = max(permutations(range(3)), key=lambda bodies: float(np.abs(cosines[bodies, range(3)]).sum()))
    return "".join(("LPS" if cosines[body, index] > 0 else "RAI")[body] for index, body in enumerate(bodies))


def reorient(image: Image, orientation: str = CANONICAL) -> Image:
    """Turn a volume so that its indices grow towards the given sides, by swapping and flipping axes only.

    No voxel is interpolated; an oblique volume stays oblique and becomes the nearest to what is asked for.

    Args:
        image: a volume with an affine.
        orientation: three letters for (slice, row, column), ``"SPL"`` by default.

    Raises:
        ImageError: the letters are wrong, the image is 2D, or its orientation is not known.
    """
    wanted = _parse(orientation)
    if image.rank != 3 or image.affine is None:
        found = "a 2D image" if image.rank != 3 else "a volume whose position in the patient is not known"
        raise ImageError(
            f"Found {found}, and only a volume with an affine can be turned to the orientation '{orientation}'. "
            "Take the reorientation out of the steps, or give a file whose header holds a geometry."
        )
    current = [SIDES[letter] for letter in orientation_of(image.affine)]
    bodies = [body for body, _ in current]
    order = [bodies.index(body) for body, _ in wanted]
    flips = [current[source][1] != sign for source, (_, sign) in zip(order, wanted, strict=True)]
    change = _index_change(order, flips, image.shape)
    pixels = image.pixels.transpose(*order, 3)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    affine = _tidy(image.affine @ change)
    return image.replace(pixels=np.ascontiguousarray(pixels), affine=affine, spacing=spacing_of(affine))


def turned_shape(shape: tuple[int, ...], orientation: str, wanted: str = CANONICAL) -> tuple[int, ...]:
    """The lengths of a volume of one orientation, (slice, row, column), once it is turned to another one."""
    bodies = [body for body, _ in _parse(orientation)]
    return tuple(shape[bodies.index(body)] for body, _ in _parse(wanted))


def _parse(orientation: str) -> list[tuple[int, int]]:
    sides = [SIDES[letter] for letter in orientation if letter in SIDES]
    if len(orientation) != 3 or sorted(body for body, _ in sides) != [0, 1, 2]:
        raise ImageError(
            f"The orientation '{orientation}' was found, and expected are three letters for (slice, row, column), "
            f"one of L or R, one of P or A, one of S or I, for example '{CANONICAL}'. Correct the letters."
        )
    return sides


def _index_change(order: list[int], flips: list[bool], shape: tuple[int, ...]) -> Affine:
    """The 4×4 matrix from an index after the turn to the index of the same voxel before it."""
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        change[old, new] = -1 if flip else 1
        change[old, 3] = shape[old] - 1 if flip else 0
    return change


def _tidy(affine: Affine) -> Affine:
    """A negative zero means nothing and reads badly."""
    return affine + 0.0
