"""Patches with masks: where they are read, and that image and mask are moved alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from hounsfield.augmentation.patches import PatchPlacement, draw_placement, read_mask_patch, read_patch
from hounsfield.plans.augmentation import PATCH_STRENGTHS, PatchAugmentation

STILL = PatchAugmentation()


def volume(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(*shape, 1)).astype(np.float32)


def placed(
    shape: tuple[int, ...], limits: PatchAugmentation = STILL, *, seed: int = 0, **options: object
) -> PatchPlacement:
    generator = np.random.default_rng(seed)
    spacing = options.pop("spacing", (1.0, 1.0, 1.0))
    size = options.pop("size", (8, 8, 8))
    return draw_placement(generator, shape, size, limits, spacing=spacing, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(8))
def test_a_patch_without_changes_is_a_piece_of_the_image(seed: int) -> None:
    pixels = volume(12, 15, 9)
    placement = placed((12, 15, 9), seed=seed)
    start = placement.offset.astype(int)
    expected = pixels[tuple(slice(low, low + 8) for low in start)]
    np.testing.assert_array_equal(read_patch(pixels, placement), expected)


@pytest.mark.parametrize("seed", range(8))
def test_a_small_image_is_seen_as_a_whole_with_zeros_around_it(seed: int) -> None:
    pixels = volume(5, 8, 3)
    patch = read_patch(pixels, placed((5, 8, 3), seed=seed))
    assert patch.shape == (8, 8, 8, 1)
    assert np.count_nonzero(patch) == pixels.size
    np.testing.assert_array_equal(patch[patch != 0], pixels.ravel())


@pytest.mark.parametrize("seed", range(20))
def test_a_target_is_in_the_patch(seed: int) -> None:
    target = np.random.default_rng(seed).integers(0, (40, 6, 25))
    mask = np.zeros((40, 6, 25, 1), np.uint8)
    mask[tuple(target)] = 3
    assert 3 in read_mask_patch(mask, placed((40, 6, 25), seed=seed, target=target))


def test_mirrored_and_turned_exactly() -> None:
    pixels = volume(8, 8, 8)
    centre = np.full(3, 3.5)
    mirrored = PatchPlacement((8, 8, 8), centre, np.diag([1.0, 1.0, -1.0]))
    np.testing.assert_allclose(read_patch(pixels, mirrored), pixels[:, :, ::-1], atol=1e-6)
    quarter = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    turned = read_patch(pixels, PatchPlacement((8, 8, 8), centre, quarter))
    np.testing.assert_allclose(turned, np.rot90(pixels, axes=(2, 1)), atol=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_a_mask_goes_where_its_image_goes(seed: int) -> None:
    ball = np.zeros((30, 30, 30, 1), np.float32)
    grid = np.indices((30, 30, 30)) - np.array([14, 17, 12]).reshape(3, 1, 1, 1)
    ball[(grid**2).sum(0) < 36] = 1
    limits = PATCH_STRENGTHS["strong"].model_copy(update={"flip_axes": (0, 1, 2), "unchanged_share": 0.0})
    placement = placed((30, 30, 30), limits, seed=seed, size=(24, 24, 24))
    image, mask = read_patch(ball, placement), read_mask_patch(ball.astype(np.uint8), placement)
    assert mask.any()
    # Nearest and linear reading differ by less than a pixel at the surface.
    inner = ndimage.binary_erosion(mask[..., 0], iterations=1)
    assert (image[..., 0][inner] > 0.5).all()
    outer = ndimage.binary_dilation(mask[..., 0], iterations=1)
    assert (image[..., 0][~outer] < 0.5).all()


def test_turns_are_turns_in_space() -> None:
    limits = PatchAugmentation(rotation=30)
    matrix = placed((20, 20, 20), limits, spacing=(1.5, 1.0, 1.0)).matrix
    scale = np.diag([1.5, 1.0, 1.0])
    in_space = scale @ matrix @ np.linalg.inv(scale)
    np.testing.assert_allclose(in_space @ in_space.T, np.eye(3), atol=1e-12)
    assert np.abs(in_space - np.eye(3)).max() > 0.05


def test_thick_slices_are_turned_in_their_plane_alone() -> None:
    matrix = placed((20, 20, 20), PatchAugmentation(rotation=30), spacing=(5.0, 1.0, 1.0)).matrix
    np.testing.assert_array_equal(matrix[0], [1, 0, 0])
    np.testing.assert_array_equal(matrix[:, 0], [1, 0, 0])
    assert abs(matrix[1, 2]) > 0.05


def test_what_is_drawn_is_drawn_again() -> None:
    first, again = (placed((30, 30, 30), PATCH_STRENGTHS["medium"], seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.matrix, again.matrix)
    np.testing.assert_array_equal(first.centre, again.centre)


def test_two_axes_and_several_channels() -> None:
    pixels = np.random.default_rng(1).normal(size=(20, 30, 3)).astype(np.float32)
    placement = draw_placement(
        np.random.default_rng(0), (20, 30), (16, 8), PATCH_STRENGTHS["strong"], spacing=(1.0, 1.0)
    )
    patch = read_patch(pixels, placement)
    assert patch.shape == (16, 8, 3)
    alone = read_patch(pixels[..., 1:2], placement)
    np.testing.assert_array_equal(patch[..., 1:2], alone)
