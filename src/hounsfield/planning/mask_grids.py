"""The grid to which images are brought for a segmenter, and the patch of it that the network sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.cohorts.training_masks import TrainingMasks
from hounsfield.planning.patches import Shape, fitted_shape
from hounsfield.plans.masks import MaskPlan
from hounsfield.preprocessing.resampling import Resample, Zoom

# Slices that lie so many times further apart than pixels are segmented one by one.
THICK_SLICES = 5.0
# An axis on which spacing and lengths are both so uneven gets the 10th percentile of its spacings.
UNEVEN, FINE_PERCENTILE = 3.0, 10
# Spacings that differ by less are taken for equal.
SAME_SPACING = 1.05


@dataclass(frozen=True)
class PreparedGrid:
    """The grid of the prepared images, and the patch.

    Attributes:
        spacing: mm along each axis; ones where it is not known.
        resampled: whether images are brought to it.
        zoom: by which all images are made smaller, where their spacing is not known.
        shape: the patch and how it is reduced.
        why_spacing: in words.
        why_patch: in words.
    """

    spacing: tuple[float, ...]
    resampled: bool
    zoom: float
    shape: Shape
    why_spacing: str
    why_patch: str


def prepared_grid(masks: TrainingMasks, *, positions: int, seen: float, shortest: float) -> PreparedGrid:
    """Decide the spacing and the patch.

    Args:
        masks: of the training rows.
        positions: pixels of the patch, about.
        seen: share of a typical image that a patch sees along some axis, at least: else images are made coarser.
        shortest: pixels that a structure keeps along an axis; none gets shorter by making images coarser.
    """
    spacing, resampled, why = _spacing(masks)
    known = masks.grids.spacing
    lengths = masks.grids.shapes * (known / spacing if known is not None and resampled else 1.0)
    typical = np.median(lengths, axis=0)
    thick = _thick_axis(spacing) if len(typical) == 3 and known is not None else None
    if thick is not None:
        typical[thick] = 1
    shape = fitted_shape(typical.tolist(), spacing.tolist(), positions)
    factor = _reduction(masks, spacing if resampled else None, typical, shape, seen=seen, shortest=shortest)
    if factor < 1:
        wide = spacing < (spacing.min() * 2)
        step = np.where(wide, factor, 1.0) if thick is not None or not wide.all() else np.full(len(spacing), factor)
        typical, spacing = np.maximum(typical * step, 1), spacing / step
        shape = fitted_shape(typical.tolist(), spacing.tolist(), positions)
        why += f"; made coarser {1 / factor:.2g} times, so that a patch sees {seen:.0%} of an image along an axis"
    size = "×".join(map(str, shape.patch))
    told = f"typical images have {'×'.join(f'{length:.0f}' for length in typical)} pixels; "
    if thick is not None:
        told += f"slices lie {spacing[thick] / spacing.min():.1f} times further apart than pixels, so each is a patch; "
    told += (
        f"a patch of {size} holds them"
        if all(side >= length for side, length in zip(shape.patch, typical, strict=True))
        else f"a patch of {size} is what the memory and the time of this effort allow, as long in space on each axis"
    )
    rounded = tuple(float(f"{value:.4g}") for value in spacing)
    return PreparedGrid(rounded, known is not None and (resampled or factor < 1), factor, shape, why, told)


def _spacing(masks: TrainingMasks) -> tuple[npt.NDArray[np.float64], bool, str]:
    """The spacing to train on, whether images have to be brought to it, and why."""
    found = masks.grids.spacing
    if found is None:
        return np.ones(masks.grids.shapes.shape[1]), False, "not known of all images, which are taken as they are"
    spacing = np.median(found, axis=0)
    lengths = np.median(masks.grids.shapes, axis=0)
    coarse = int(spacing.argmax())
    others = np.delete(np.arange(len(spacing)), coarse)
    why = "the median of the training images"
    if spacing[coarse] > UNEVEN * spacing[others].max() and UNEVEN * lengths[coarse] < lengths[others].min():
        spacing[coarse] = np.percentile(found[:, coarse], FINE_PERCENTILE)
        why += f", along the thick slices the {FINE_PERCENTILE}th percentile"
    if (found.max(axis=0) / found.min(axis=0)).max() <= SAME_SPACING:
        return spacing, False, "that of all training images"
    return np.array([float(f"{value:.4g}") for value in spacing]), True, why


def _thick_axis(spacing: npt.NDArray[np.float64]) -> int | None:
    """The axis along which slices are so thick that each is segmented by itself."""
    coarse = int(spacing.argmax())
    return coarse if spacing[coarse] >= THICK_SLICES * np.delete(spacing, coarse).max() else None


def _reduction(
    masks: TrainingMasks,
    spacing: npt.NDArray[np.float64] | None,
    typical: npt.NDArray[np.float64],
    shape: Shape,
    *,
    seen: float,
    shortest: float,
) -> float:
    """By which factor images are made smaller, so that a patch sees enough of one: 1 where it does."""
    shares = [side / length for side, length in zip(shape.patch, typical, strict=True) if length > 1]
    enough = max(shares, default=1.0) / seen
    smallest = min(_structure_lengths(masks, spacing))
    factor = max(min(1.0, enough), min(1.0, shortest / smallest))
    return float(factor) if factor < 1 / SAME_SPACING else 1.0


def _structure_lengths(masks: TrainingMasks, spacing: npt.NDArray[np.float64] | None) -> list[float]:
    """For each label that is marked, how long it is in prepared pixels: the side of a cube of its median volume."""
    grids, rank = masks.grids, masks.grids.shapes.shape[1]
    pixels = masks.counts.astype(float)
    if spacing is not None and grids.spacing is not None:
        pixels *= (grids.spacing.prod(axis=1) / spacing.prod())[:, np.newaxis]
    return [float(np.median(column[column > 0])) ** (1 / rank) for column in pixels.T if (column > 0).any()]


def windows_of(plan: MaskPlan, masks: TrainingMasks) -> float:
    """Windows of a typical image, of which neighbours share half."""
    lengths = prepared_lengths(plan, masks)
    return float(
        np.prod(
            [
                1 if length <= side else math.ceil((length - side) / (side / 2)) + 1
                for length, side in zip(np.median(lengths, axis=0), plan.input_shape[:-1], strict=True)
            ]
        )
    )


def prepared_lengths(plan: MaskPlan, masks: TrainingMasks) -> npt.NDArray[np.float64]:
    """The lengths (images, rank) of images as the store keeps them."""
    lengths = masks.grids.shapes.astype(float)
    for step in plan.pipeline.steps:
        if isinstance(step, Resample) and masks.grids.spacing is not None:
            lengths = lengths * masks.grids.spacing / np.asarray(step.spacing)
        elif isinstance(step, Zoom) and step.factor is not None:
            lengths = lengths * np.asarray(step.factor)
    return np.maximum(np.round(lengths), 1)
