"""Maps boxes and masks from an image as read to the image after a pipeline, and back.

Every step keeps the affine true, so the affines before and after give the mapping; an image without one gets a
temporary one. One rule moves the mask of an image, whatever the steps: each pixel of the prepared image gets the
nearest label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hounsfield.boxes import rank_of
from hounsfield.images.image import Image
from hounsfield.images.orientation import is_usable
from hounsfield.preprocessing.moving import AxisPlace, axis_places, moved_linear, moved_nearest
from hounsfield.preprocessing.pipeline import Pipeline

# The centre of pixel i has the index i, and is at i + 0.5 in half-open coordinates.
HALF = 0.5
# A prepared grid is rounded to whole pixels: so much of one may be missing at each border.
ROUNDED = 0.25


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

    def box_masks_forward(self, masks: NDArray[Any]) -> NDArray[Any]:
        """Box masks (n, side, side) of the image as read, whose boxes have been moved ``forward``: turned as they were.

        See ``hounsfield.object_masks``.
        """
        axes = self.matrix[1:3, 1:3]
        if abs(axes[0, 1]) > abs(axes[0, 0]):
            return np.asarray(np.flip(masks, _backward((axes[0, 1], axes[1, 0]))).transpose(0, 2, 1))
        return np.asarray(np.flip(masks, _backward((axes[0, 0], axes[1, 1]))))

    def box_masks_back(self, masks: NDArray[Any]) -> NDArray[Any]:
        """Box masks of the image after the pipeline, whose boxes have been moved ``back``: turned as they were."""
        axes = self.matrix[1:3, 1:3]
        if abs(axes[0, 1]) > abs(axes[0, 0]):
            return np.asarray(np.flip(masks.transpose(0, 2, 1), _backward((axes[0, 1], axes[1, 0]))))
        return self.box_masks_forward(masks)

    @property
    def is_exact(self) -> bool:
        """Whether every pixel is one of the image as read: the steps flip, transpose, crop or pad alone."""
        near = np.rint(self.matrix)
        return bool(np.allclose(self.matrix, near, atol=1e-6) and (np.abs(near[:3, :3]).sum(axis=0) == 1).all())

    def mask_forward(self, mask: NDArray[np.uint8], shape: Sequence[int]) -> NDArray[np.uint8]:
        """A mask of the image as read on the grid after the pipeline.

        Args:
            mask: (spatial …, channels); see ``hounsfield.masks``.
            shape: of the image after the pipeline.

        Returns:
            (shape …, channels): the nearest label, and background where a step has added a border.
        """
        return _as_mask(moved_nearest(mask, axis_places(self.matrix, mask.ndim - 1), shape, fill=0))

    def mask_back(self, mask: NDArray[np.uint8], shape: Sequence[int]) -> NDArray[np.uint8]:
        """A mask of the image after the pipeline on the grid of the image as read.

        Exact where the steps flip, transpose, crop or pad; background where they cropped.

        Args:
            mask: (spatial …, channels).
            shape: of the image as read.
        """
        return _as_mask(moved_nearest(mask, self._places_back(mask.ndim - 1), shape, fill=0, reach=ROUNDED))

    def labels_back(
        self,
        probabilities: NDArray[np.floating],
        shape: Sequence[int],
        *,
        overlapping: bool = False,
        thresholds: ArrayLike = 0.5,
    ) -> NDArray[np.uint8]:
        """The label map of probabilities on the grid of the image as read: interpolated linearly, then decided.

        Memory is that of the result and of a slab; the probabilities may be memory-mapped.

        Args:
            probabilities: (spatial …, labels + 1) with the background first, or (spatial …, labels) of labels that
                overlap; on the grid after the pipeline.
            shape: of the image as read.
            overlapping: which of both.
            thresholds: of labels that overlap, one or one for each: a label is where its probability is above.

        Returns:
            (shape …, 1) label map with the most probable label, the first of equal ones; or (shape …, labels). See
            ``hounsfield.masks``. Background where the pipeline has cropped.
        """
        channels = probabilities.shape[-1] if overlapping else 1
        labels = np.zeros((*shape, channels), np.uint8)
        places = self._places_back(probabilities.ndim - 1)
        for rows, slab in moved_linear(probabilities, places, shape, reach=ROUNDED):
            if overlapping:
                # Above no threshold where there is nothing.
                labels[rows] = slab > np.asarray(thresholds)
            else:
                labels[rows, ..., 0] = np.where(np.isnan(slab[..., 0]), 0, slab.argmax(axis=-1))
        return labels

    def probabilities_back(self, probabilities: NDArray[np.floating], shape: Sequence[int]) -> NDArray[np.float32]:
        """Probabilities on the grid of the image as read, interpolated linearly; NaN where the pipeline has cropped.

        Args:
            probabilities: (spatial …, channels).
            shape: of the image as read.
        """
        result = np.empty((*shape, probabilities.shape[-1]), np.float32)
        places = self._places_back(probabilities.ndim - 1)
        for rows, slab in moved_linear(probabilities, places, shape, reach=ROUNDED):
            result[rows] = slab
        return result

    def _places_back(self, rank: int) -> list[AxisPlace]:
        return axis_places(np.asarray(np.linalg.inv(self.matrix), np.float64), rank)


def apply_with_mask(pipeline: Pipeline, image: Image, mask: Image) -> tuple[Image, Image, GridChange]:
    """An image and its mask after the pipeline, and how their grid has changed.

    Args:
        pipeline: its intensity steps leave the mask as it is, the others move both.
        image: as read.
        mask: uint8 on the grid of ``image``.

    Raises:
        PreprocessingError: as ``Pipeline.apply``.
        ValueError: the mask has another shape than the image.
    """
    if mask.shape != image.shape:
        raise ValueError(f"The mask has the shape {mask.shape}, and the image {image.shape}.")
    prepared, change = apply_and_trace(pipeline, image)
    pixels = change.mask_forward(np.asarray(mask.pixels, np.uint8), prepared.shape)
    return prepared, mask.replace(pixels=pixels, spacing=prepared.spacing, affine=prepared.affine), change


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


def _backward(factors: Sequence[float]) -> tuple[int, ...]:
    """The axes of box masks along which positions run the other way."""
    return tuple(axis for axis, factor in enumerate(factors, start=1) if factor < 0)


def _as_mask(moved: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(moved, np.uint8)
