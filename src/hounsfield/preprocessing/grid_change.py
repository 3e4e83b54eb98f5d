"""Maps boxes from an image as read to the image after a pipeline, and back.

Every step keeps the affine true, so the affines before and after give the mapping; an image without one gets a
temporary one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hounsfield.boxes import rank_of
from hounsfield.images.image import Image
from hounsfield.images.orientation import is_usable
from hounsfield.preprocessing.pipeline import Pipeline

# The centre of pixel i has the index i, and is at i + 0.5 in half-open coordinates.
HALF = 0.5


@dataclass(frozen=True, eq=False)
class GridChange:
    """The mapping between the pixel grids before and after a pipeline.

    Attributes:
        matrix: 4×4; maps (slice, row, column, 1) indices after the pipeline to those before. Axes stay parallel.
    """

    matrix: NDArray[np.float64]

    def forward(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes (n, 2·rank) of the image as read, in pixels of the image after the pipeline; not clipped."""
        return _moved(boxes, np.asarray(np.linalg.inv(self.matrix), np.float64))

    def back(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes (n, 2·rank) of the image after the pipeline, in pixels of the image as read."""
        return _moved(boxes, self.matrix)


def apply_and_trace(pipeline: Pipeline, image: Image) -> tuple[Image, GridChange]:
    """The image after the pipeline, as ``Pipeline.apply`` gives it, and how its grid has changed.

    Raises:
        PreprocessingError: as ``Pipeline.apply``.
    """
    known = image.affine is not None and is_usable(image.affine)
    needed = any(step.name == "reorient" for step in pipeline.steps)
    if known or needed:
        result = pipeline.apply(image)
        before, after = image.affine, result.affine
    else:
        traced = pipeline.apply(image.replace(affine=np.eye(4)))
        before, after = np.eye(4), traced.affine
        result = traced.replace(affine=None)
    if before is None or after is None:
        raise RuntimeError("a step has lost the affine of its image")
    return result, GridChange(np.asarray(np.linalg.solve(before, after), np.float64))


def _moved(boxes: NDArray[np.floating], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    boxes = np.asarray(boxes, np.float64)
    rank = rank_of(boxes)
    # In the affine the slice index comes first, also for a 2D image, whose slice index is always 0.
    axes, shift = matrix[3 - rank : 3, 3 - rank : 3], matrix[3 - rank : 3, 3]
    ends = [(corner - HALF) @ axes.T + shift + HALF for corner in (boxes[..., :rank], boxes[..., rank:])]
    lower, upper = np.minimum(*ends), np.maximum(*ends)
    return np.concatenate([lower, upper], axis=-1).astype(np.float32)
