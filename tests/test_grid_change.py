"""A box moved by a pipeline equals the box of the moved mask, and comes back where it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hounsfield.errors import PreprocessingError
from hounsfield.images.image import Image
from hounsfield.preprocessing import CropOrPad, Pipeline, Resize
from hounsfield.preprocessing.grid_change import apply_and_trace
from hounsfield.preprocessing.orientation import Reorient
from hounsfield.preprocessing.resampling import Resample

BOX = {2: [6.0, 10, 14, 30], 3: [2.0, 6, 10, 6, 14, 30]}
SHAPE = {2: (24, 40), 3: (8, 24, 40)}


def masked(rank: int, affine: npt.NDArray[np.float64] | None = None) -> Image:
    pixels = np.zeros((*SHAPE[rank], 1), np.float32)
    box = BOX[rank]
    pixels[tuple(slice(int(box[axis]), int(box[rank + axis])) for axis in range(rank))] = 1
    spacing = None if affine is None else tuple(np.abs(np.diag(affine))[3 - rank : 3].tolist())
    return Image(pixels, spacing=spacing, affine=affine)


def box_of(pixels: npt.NDArray[Any]) -> list[int]:
    found = np.argwhere(pixels[..., 0] > 0.5)
    return [*found.min(axis=0).tolist(), *(found.max(axis=0) + 1).tolist()]


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("steps", ["resize", "letterbox", "crop", "two"])
def test_a_moved_box_is_the_box_of_the_moved_mask(rank: int, steps: str) -> None:
    double = tuple(2 * length for length in SHAPE[rank])
    chosen = {
        "resize": (Resize(size=double, interpolation="nearest"),),
        "letterbox": (Resize(size=(*(3 * length for length in SHAPE[rank][:-1]), 80), letterbox=True),),
        "crop": (CropOrPad(size=tuple(length - 2 for length in SHAPE[rank])),),
        "two": (CropOrPad(size=tuple(length + 6 for length in SHAPE[rank])), Resize(size=double)),
    }[steps]
    moved, change = apply_and_trace(Pipeline(steps=chosen), masked(rank))
    assert moved.affine is None
    boxes = np.array([BOX[rank]])
    np.testing.assert_allclose(change.forward(boxes)[0], box_of(moved.pixels), atol=0.75 if steps == "two" else 1e-4)
    np.testing.assert_allclose(change.back(change.forward(boxes)), boxes, atol=1e-4)
    assert change.forward(np.zeros((0, 2 * rank))).shape == (0, 2 * rank)


def test_turned_and_resampled_volumes() -> None:
    # Slices grow to the feet, rows to the left, columns to the back: each axis has to move for 'SPL'.
    affine = np.array([[0.0, 2, 0, 5], [0, 0, 3, -7], [-4, 0, 0, 9], [0, 0, 0, 1]])
    image = masked(3, affine).replace(spacing=(4.0, 2.0, 3.0))
    moved, change = apply_and_trace(Pipeline(steps=(Reorient(orientation="SPL"),)), image)
    assert moved.shape == (8, 40, 24)
    boxes = np.array([BOX[3]])
    assert change.forward(boxes)[0].tolist() == box_of(moved.pixels)
    finer, change = apply_and_trace(
        Pipeline(steps=(Reorient(orientation="SPL"), Resample(spacing=1.0, interpolation="nearest"))), image
    )
    np.testing.assert_allclose(change.forward(boxes)[0], box_of(finer.pixels), atol=1e-4)
    np.testing.assert_allclose(change.back(change.forward(boxes)), boxes, atol=1e-4)


def test_an_image_without_a_place_cannot_be_turned() -> None:
    with pytest.raises(PreprocessingError, match="has no affine"):
        apply_and_trace(Pipeline(steps=(Reorient(),)), masked(3))
