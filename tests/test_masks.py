"""Masks: counts, volumes, parts and boxes; moved with their image by a pipeline, and exactly back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hounsfield import masks
from hounsfield.images.image import Image
from hounsfield.images.orientation import reorient
from hounsfield.masks import IGNORE
from hounsfield.preprocessing import (
    AnyStep,
    CropBox,
    CropCenter,
    CropForeground,
    CropOrPad,
    Pad,
    Pipeline,
    Reorient,
    Resample,
    Resize,
    Zoom,
    ZScore,
)
from hounsfield.preprocessing.grid_change import apply_and_trace, apply_with_mask


def oblique(
    flips: tuple[int, int, int] = (1, -1, 1), spacing: tuple[float, float, float] = (3.0, 0.8, 1.1)
) -> npt.NDArray[np.float64]:
    """An affine of axes that are swapped, flipped and turned by some degrees about two axes."""
    angle, tilt = np.deg2rad(17), np.deg2rad(-9)
    about_z = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    axes = (about_x @ about_z)[:, [2, 0, 1]] * np.array(flips) * np.array((3.0, 0.8, 1.1))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, (-31.25, 12.5, 407.0)
    return affine


def random_mask(shape: tuple[int, ...], seed: int, labels: int = 3) -> npt.NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    mask = generator.integers(0, labels + 1, (*shape, 1)).astype(np.uint8)
    mask[generator.random(mask.shape) < 0.05] = IGNORE
    return mask


def pair(shape: tuple[int, ...], seed: int, affine: npt.NDArray[np.float64] | None = None) -> tuple[Image, Image]:
    """An image that is bright where its mask has label 1."""
    mask = random_mask(shape, seed)
    pixels = np.random.default_rng(seed + 1).normal(0, 1, (*shape, 1)).astype(np.float32) + 9 * (mask == 1)
    spacing = None if affine is None else tuple(np.linalg.norm(affine[:3, 3 - len(shape) : 3], axis=0).tolist())
    return Image(pixels, spacing, affine), Image(mask, spacing, affine)


EXACT: dict[str, tuple[AnyStep, ...]] = {
    "nothing": (ZScore(),),
    "turned": (Reorient(orientation="SPL"), ZScore()),
    "cropped": (CropBox(box=(1, 2, 0, 6, 9, 7)),),
    "middle": (CropCenter(size=5), ZScore()),
    "padded": (Pad(size=20), Reorient(orientation="LAI")),
    "fitted": (Reorient(orientation="PSR"), CropOrPad(size=(4, 30, 6))),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_a_mask_goes_through_exact_steps_and_back_unchanged(name: str, flips: tuple[int, int, int]) -> None:
    image, mask = pair((7, 10, 8), 3, oblique(flips))
    prepared, moved, change = apply_with_mask(Pipeline(steps=EXACT[name]), image, mask)
    assert moved.shape == prepared.shape
    assert moved.affine is not None
    assert prepared.affine is not None
    np.testing.assert_allclose(moved.affine, prepared.affine)
    # The steps alone move a mask as they move any image, where none of them reads intensities.
    geometric = tuple(step for step in EXACT[name] if step.name != "z_score")
    alone = Pipeline(steps=geometric).apply_steps(mask.replace(pixels=mask.pixels.astype(np.int16)))
    kept = change.mask_forward(np.ones((*mask.shape, 1), np.uint8), prepared.shape) > 0
    np.testing.assert_array_equal(moved.pixels[kept], alone.pixels[kept])
    assert not moved.pixels[~kept].any()
    back = change.mask_back(moved.pixels, image.shape)
    inside = change.mask_back(np.ones((*prepared.shape, 1), np.uint8), image.shape) > 0
    np.testing.assert_array_equal(back[inside], mask.pixels[inside])
    assert not back[~inside].any()
    whole = change.labels_back(masks.one_hot(moved.pixels, 3).astype(np.float32), image.shape)
    np.testing.assert_array_equal(whole[inside], np.where(mask.pixels == IGNORE, 0, mask.pixels)[inside])


def test_what_is_cropped_by_content_moves_the_mask_along() -> None:
    pixels = np.zeros((20, 30, 1), np.float32)
    pixels[5:11, 8:20] = 100
    mask = np.where(pixels > 50, 2, 0).astype(np.uint8)
    prepared, moved, change = apply_with_mask(Pipeline(steps=(CropForeground(),)), Image(pixels), Image(mask))
    assert prepared.shape == (6, 12)
    assert (moved.pixels == 2).all()
    np.testing.assert_array_equal(change.mask_back(moved.pixels, (20, 30)), mask)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(3, 9), st.integers(3, 12), st.integers(3, 12)),
    flips=st.tuples(*[st.sampled_from([1, -1])] * 3),
    orientation=st.sampled_from(["SPL", "RAI", "PLS", "IRA", "LSP"]),
    seed=st.integers(0, 99),
)
def test_any_turn_and_crop_comes_back(
    shape: tuple[int, int, int], flips: tuple[int, int, int], orientation: str, seed: int
) -> None:
    image, mask = pair(shape, seed, oblique(flips))
    size = tuple(np.random.default_rng(seed).integers(2, 14, 3).tolist())
    _, moved, change = apply_with_mask(
        Pipeline(steps=(Reorient(orientation=orientation), CropOrPad(size=size))), image, mask
    )
    turned = reorient(mask, orientation)
    again = reorient(turned.replace(pixels=turned.pixels), "SPL")
    np.testing.assert_array_equal(again.pixels, reorient(mask, "SPL").pixels)
    back = change.mask_back(moved.pixels, image.shape)
    inside = change.mask_back(np.ones((*moved.shape, 1), np.uint8), image.shape) > 0
    np.testing.assert_array_equal(back[inside], mask.pixels[inside])


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("step", ["finer", "coarser", "resized", "letterbox", "zoomed"])
def test_a_mask_is_resampled_as_its_image(rank: int, step: str) -> None:
    shape = (24, 33, 28)[3 - rank :]
    centre = np.array(shape) / 2
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    ball = (np.square((places - centre) / (np.array(shape) / 3)).sum(-1) < 1)[..., np.newaxis]
    steps: dict[str, AnyStep] = {
        "finer": Resample(spacing=0.7),
        "coarser": Resample(spacing=2.6),
        "resized": Resize(size=tuple(int(1.4 * length) for length in shape)),
        "letterbox": Resize(size=40, letterbox=True),
        "zoomed": Zoom(longest=50),
    }
    affine = np.diag([*(1.2, 1.1, 0.9), 1.0])
    spacing = (1.2, 1.1, 0.9)[3 - rank :]
    image = Image(ball.astype(np.float32) * 100, spacing, affine)
    prepared, moved, change = apply_with_mask(
        Pipeline(steps=(steps[step],)), image, Image(ball.astype(np.uint8), spacing, affine)
    )
    near = prepared.pixels > 50
    least = 0.88 if step == "coarser" else 0.96
    assert 2 * (near & (moved.pixels > 0)).sum() / (near.sum() + moved.pixels.sum()) > least
    for back in (
        change.mask_back(moved.pixels, shape),
        change.labels_back(masks.one_hot(moved.pixels, 1).astype(np.float32), shape),
    ):
        assert 2 * (ball & (back > 0)).sum() / (ball.sum() + back.sum()) > least
    # Nothing is lost at the border, where a prepared grid is rounded to whole pixels.
    everywhere = change.mask_back(np.ones((*prepared.shape, 1), np.uint8), shape)
    assert everywhere.all()


def test_probabilities_are_interpolated_in_the_image_as_read() -> None:
    image, _ = pair((9, 14, 11), 5, oblique())
    _, change = apply_and_trace(Pipeline(steps=(Reorient(), Resample(spacing=(1.7, 1.3, 0.9)))), image)
    prepared = Pipeline(steps=(Reorient(), Resample(spacing=(1.7, 1.3, 0.9)))).apply(image)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), prepared.shape).astype(np.float32)
    # SciPy at the same places, from the matrix alone.
    places = np.stack(np.meshgrid(*map(np.arange, image.shape), [1], indexing="ij"), -1).reshape(-1, 4)
    inside = (np.linalg.inv(change.matrix) @ places.T)[:3]
    expected = np.stack(
        [ndimage.map_coordinates(probabilities[..., k], inside, order=1, mode="nearest") for k in range(4)], -1
    ).reshape(*image.shape, 4)
    found = change.probabilities_back(probabilities, image.shape)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    labels = change.labels_back(probabilities, image.shape)[..., 0]
    clear = np.sort(expected, axis=-1)
    decided = clear[..., -1] - clear[..., -2] > 1e-5
    np.testing.assert_array_equal(labels[decided], expected.argmax(-1)[decided])
    several = change.labels_back(probabilities, image.shape, overlapping=True, thresholds=(0.1, 0.2, 0.3, 0.4))
    far = np.abs(expected - np.array([0.1, 0.2, 0.3, 0.4])) > 1e-5
    np.testing.assert_array_equal(several[far], (expected > np.array([0.1, 0.2, 0.3, 0.4]))[far])


def test_slabs_do_not_change_what_is_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = pair((9, 14, 11), 5, oblique((-1, 1, -1)))
    _, change = apply_and_trace(Pipeline(steps=(Reorient(orientation="PLS"), Resample(spacing=1.3))), image)
    shape = Pipeline(steps=(Reorient(orientation="PLS"), Resample(spacing=1.3))).apply(image).shape
    values = np.random.default_rng(1).random((*shape, 2), np.float32)
    whole = change.probabilities_back(values, image.shape)
    monkeypatch.setattr("hounsfield.preprocessing.moving.SLAB_VALUES", 400)
    np.testing.assert_allclose(change.probabilities_back(values, image.shape), whole, atol=1e-6)


def test_counts_volumes_and_one_hot() -> None:
    mask = random_mask((4, 5, 6), 0)
    counts = masks.pixel_counts(mask, 3)
    assert counts.tolist() == [int((mask == label).sum()) for label in (1, 2, 3)]
    np.testing.assert_allclose(masks.label_sizes(mask, 3, (2.0, 5.0, 10.0)), counts * 0.1)
    assert masks.label_sizes(mask[0], 3, (2.0, 3.0)).tolist() == (masks.pixel_counts(mask[0], 3) * 6).tolist()
    assert masks.size_unit(3, None) == "voxels"
    hot = masks.one_hot(mask, 3)
    assert hot.shape == (4, 5, 6, 4)
    assert (hot.sum(-1) == masks.known_region(mask)).all()
    assert (hot[..., 2] == masks.region_of(mask, 1)).all()
    several = np.stack([mask[..., 0] == 1, mask[..., 0] > 1], -1).astype(np.uint8)
    several[0, 0, 0] = IGNORE
    assert masks.pixel_counts(several, 2, overlapping=True).tolist() == (several == 1).sum((0, 1, 2)).tolist()
    assert masks.one_hot(several, 2, overlapping=True).max() == 1
    assert not masks.known_region(several, 1, overlapping=True)[0, 0, 0]


def test_parts_touch_by_corners() -> None:
    region = np.zeros((6, 6), bool)
    region[0, 0] = region[1, 1] = region[4:6, 4] = region[5, 2] = True
    parts, count = masks.components(region)
    assert count == 3
    assert parts[0, 0] == parts[1, 1]
    assert masks.region_boxes(region).tolist() == [[0, 0, 6, 5]]
    assert masks.region_boxes(region, separate=True).tolist() == [[0, 0, 2, 2], [4, 4, 6, 5], [5, 2, 6, 3]]
    assert masks.largest_component(region).sum() == 2
    assert masks.largest_component(region)[0, 0]
    assert masks.region_boxes(np.zeros((2, 3, 4), bool)).shape == (0, 6)
    assert not masks.largest_component(np.zeros((3, 3), bool)).any()
