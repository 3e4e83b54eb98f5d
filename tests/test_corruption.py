"""Corruptions: what each does, that it is replayed by its seed, and that it gets worse."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage

from hounsfield.errors import UsageError
from hounsfield.images import Image
from hounsfield.preprocessing.corruption import CORRUPTIONS, SEVERITIES, corrupted, corruption_names


def picture(shape: tuple[int, ...] = (48, 64), channels: int = 1, dtype: str = "uint8") -> Image:
    """A bright disc or ball with a fine pattern, of values 10 to 210."""
    grid = np.meshgrid(*(np.linspace(-1, 1, length) for length in shape), indexing="ij")
    values = 60 + 120 * (sum(axis**2 for axis in grid) < 0.5) + 30 * np.sin(20 * grid[-1]) * np.sin(17 * grid[-2])
    pixels = np.repeat(values[..., None], channels, axis=-1)
    return Image(pixels=pixels.astype(dtype), spacing=(2.0,) * len(shape), affine=np.eye(4))


KINDS = {"2D": picture(), "colour": picture(channels=3), "float": picture(dtype="float32"), "3D": picture((8, 40, 30))}
CASES = [(name, kind) for kind, image in KINDS.items() for name in corruption_names(image.rank)]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_corruption_keeps_type_and_rank_and_is_replayed(name: str, kind: str) -> None:
    image = KINDS[kind]
    before = image.pixels.copy()
    for severity in SEVERITIES:
        found = corrupted(image, name, severity, seed=3)
        assert (found.pixels.dtype, found.rank, found.channels) == (image.pixels.dtype, image.rank, image.channels)
        assert np.isfinite(found.pixels).all()
        assert found.pixels.min() >= image.pixels.min() - 1e-4
        assert found.pixels.max() <= image.pixels.max() + 1e-4
        np.testing.assert_array_equal(found.pixels, corrupted(image, name, severity, seed=3).pixels)
        changed = found.pixels.shape != image.pixels.shape or (found.pixels != image.pixels).any()
        assert changed or severity == 1
    np.testing.assert_array_equal(image.pixels, before)


@pytest.mark.parametrize("name", ["noise", "blur", "contrast", "gamma", "jpeg", "rotation", "missing_slices"])
def test_severities_get_worse(name: str) -> None:
    image = picture((40, 48, 48), dtype="float32")
    errors = [
        np.mean([np.abs(corrupted(image, name, severity, seed=seed).pixels - image.pixels).mean() for seed in range(4)])
        for severity in SEVERITIES
    ]
    assert (np.diff(errors) > 0).all()


@pytest.mark.parametrize("name", ["noise", "rotation", "crop", "gamma"])
def test_another_seed_gives_another_image(name: str) -> None:
    found = {corrupted(picture(), name, 3, seed=seed).pixels.tobytes() for seed in range(8)}
    assert len(found) > 1


def test_noise_has_the_deviation_that_it_says() -> None:
    rng = np.random.default_rng(0)
    image = Image(pixels=rng.uniform(400, 600, (200, 200, 1)).astype(np.float32))
    middle = np.abs(image.pixels - 500) < 20
    added = corrupted(image, "noise", 1).pixels - image.pixels
    assert added[middle].std() == pytest.approx(0.02 * 198, rel=0.05)


def test_noise_of_a_grey_picture_in_three_channels_is_grey() -> None:
    found = corrupted(picture(channels=3), "noise", 4).pixels
    np.testing.assert_array_equal(found[..., 0], found[..., 2])
    tinted = picture(channels=3, dtype="float32")
    tinted = tinted.replace(pixels=tinted.pixels * np.array([1, 0.5, 0.2], np.float32))
    difference = corrupted(tinted, "noise", 4).pixels - tinted.pixels
    assert np.abs(difference[..., 0] - difference[..., 2]).max() > 1


def test_blur_is_scipys_in_every_slice() -> None:
    image = picture((3, 60, 80), dtype="float32")
    sigma = CORRUPTIONS["blur"].strengths[3] * 60
    expected = np.stack([ndimage.gaussian_filter(part[..., 0], sigma, mode="nearest") for part in image.pixels])
    np.testing.assert_allclose(corrupted(image, "blur", 4).pixels[..., 0], expected, atol=1.5)


def test_contrast_by_hand() -> None:
    image = picture(dtype="float32")
    mean = image.pixels.mean()
    np.testing.assert_allclose(
        corrupted(image, "contrast", 2).pixels, mean + 0.4 * (image.pixels - mean), rtol=1e-5, atol=1e-3
    )
    assert len(np.unique(corrupted(picture(), "contrast", 5).pixels)) < len(np.unique(picture().pixels)) / 3


def test_gamma_by_hand_in_both_directions() -> None:
    pixels = np.linspace(0, 1, 4001, dtype=np.float32).reshape(1, -1, 1)
    low, high = np.percentile(pixels, (0.5, 99.5))
    share = np.clip((pixels - low) / (high - low), 0, 1)
    found = [corrupted(Image(pixels=pixels), "gamma", 3, seed=seed).pixels for seed in range(12)]
    powers = [1.9 if np.allclose(each, low + share**1.9 * (high - low), atol=1e-4) else 0.0 for each in found]
    inverse = [
        1 / 1.9 if np.allclose(each, low + share ** (1 / 1.9) * (high - low), atol=1e-4) else 0 for each in found
    ]
    assert {max(pair) for pair in zip(powers, inverse, strict=True)} == {1.9, 1 / 1.9}


def test_jpeg_keeps_colours_apart() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[..., 0] = 200
    pixels[:16, :, 2] = 250
    found = corrupted(Image(pixels=pixels), "jpeg", 1).pixels.astype(int)
    assert np.abs(found - pixels).mean() < 5
    whole = np.random.default_rng(0).integers(0, 256, (40, 50, 1)).astype(np.uint8)
    whole.flat[:2] = 0, 255
    _, encoded = cv2.imencode(".jpg", whole, [cv2.IMWRITE_JPEG_QUALITY, 20])
    expected = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(corrupted(Image(pixels=whole), "jpeg", 3).pixels[..., 0], expected)


def test_rotation_about_the_centre() -> None:
    pixels = np.zeros((41, 41, 1), np.float32)
    pixels[20, 35] = 1
    turned = [corrupted(Image(pixels=pixels), "rotation", 5, seed=seed).pixels[..., 0] for seed in range(10)]
    places = {tuple(np.unravel_index(each.argmax(), each.shape)) for each in turned}
    down = round(20 + 15 * np.sin(np.deg2rad(22)))
    assert places == {(down, 34), (40 - down, 34)}


def test_cropping_leaves_a_part_of_the_field_and_its_spacing() -> None:
    image = picture((50, 100))
    found = corrupted(image, "crop", 5)
    assert found.shape == (35, 70)
    assert (found.spacing, found.affine) == (image.spacing, None)
    windows = np.lib.stride_tricks.sliding_window_view(image.pixels[..., 0], found.shape)
    assert (windows == found.pixels[..., 0]).all(axis=(2, 3)).any()


def test_missing_slices_are_as_many_as_said() -> None:
    image = picture((40, 10, 12))
    found = corrupted(image, "missing_slices", 3).pixels
    lost = (found == image.pixels.min()).all(axis=(1, 2, 3))
    assert lost.sum() == 8
    np.testing.assert_array_equal(found[~lost], image.pixels[~lost])
    assert not (corrupted(picture((1, 9, 9)), "missing_slices", 5).pixels == picture((1, 9, 9)).pixels.min()).all()


@pytest.mark.parametrize("name", corruption_names(3))
def test_a_blank_image_stays_one(name: str) -> None:
    found = corrupted(Image(pixels=np.full((4, 20, 20, 1), 7, np.uint8)), name, 4)
    assert np.unique(found.pixels).tolist() == [7]


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="no corruption 'fog'"):
        corrupted(picture(), "fog", 1)
    with pytest.raises(UsageError, match="severity 6"):
        corrupted(picture(), "noise", 6)
    with pytest.raises(UsageError, match="is for volumes"):
        corrupted(picture(), "missing_slices", 1)
    assert "missing_slices" not in corruption_names(2)
