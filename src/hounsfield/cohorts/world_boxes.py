"""Boxes around findings that a table gives by their centre and diameter in millimetres, as LUNA16's annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hounsfield.cohorts.files import ordered_map
from hounsfield.errors import CohortError, ImageError
from hounsfield.images import Reference
from hounsfield.images.reading import read_reference

Affine = npt.NDArray[np.float64]


def boxes_of_spheres(spheres: npt.NDArray[np.float64], images: Sequence[str], root: Path) -> npt.NDArray[np.float64]:
    """The box of each sphere in voxels, half-open: the voxels whose centres lie within it on each axis.

    Args:
        spheres: (n, 4) x, y, z of the centre in patient coordinates (x to the left, y to the back, z to the head, as in
            DICOM and ITK) and the diameter, in millimetres; NaN where a row has none.
        images: of each row; the empty text for a row without a finding.
        root: the folder that these are relative to.

    Returns:
        (n, 6) ``z0, y0, x0, z1, y1, x1``; NaN where the row has no finding or its image cannot be read.

    Raises:
        CohortError: an image is no volume with a place in the patient.
    """
    stated = np.flatnonzero(np.isfinite(spheres).all(axis=1)).tolist()
    distinct = sorted({images[row] for row in stated})
    affines = dict(zip(distinct, ordered_map(lambda image: _affine(image, root), distinct), strict=True))
    boxes = np.full((len(spheres), 6), np.nan)
    for row in stated:
        affine = affines[images[row]]
        if affine is not None:
            boxes[row] = _box(spheres[row], affine)
    return boxes


def _box(sphere: npt.NDArray[np.float64], affine: Affine) -> npt.NDArray[np.float64]:
    inverse = np.linalg.inv(affine)
    centre = inverse[:3, :3] @ sphere[:3] + inverse[:3, 3]
    # Of a sphere, half the extent along an axis of the grid is the radius times the length of that row of the inverse.
    reach = sphere[3] / 2 * np.linalg.norm(inverse[:3, :3], axis=1)
    # Index i stands for the voxel from i − ½ to i + ½, and boxes count from its edge.
    return np.concatenate([centre - reach + 0.5, centre + reach + 0.5])


def _affine(image: str, root: Path) -> Affine | None:
    reference = Reference.parse(image, root)
    try:
        found = read_reference(reference.replace(path=str(root / reference.path)))
    except ImageError:
        # Whoever reads its pixels will say what is wrong with it.
        return None
    if found.affine is None or found.rank != 3:
        raise CohortError(
            f"The boxes are in millimetres, and the image '{image}' has no place in the patient: expected volumes "
            "whose files say where they lie. Give the original files, or boxes in voxels."
        )
    return found.affine
