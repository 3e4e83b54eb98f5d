"""A point of the patient keeps its coordinates through every change of the grid; values against peers."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its own manual gives it
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hounsfield.errors import PreprocessingError
from hounsfield.images.image import Image
from hounsfield.images.nifti import read_nifti
from hounsfield.preprocessing import (
    CropBox,
    CropCenter,
    CropForeground,
    CropOrPad,
    Pad,
    Reorient,
    Resample,
    Resize,
    Step,
    Zoom,
)


def oblique_affine(spacing: tuple[float, float, float]) -> np.ndarray:
    """Columns for slice, row and column index along three oblique, orthogonal directions."""
    rotation, _ = np.linalg.qr(np.array([[0.2, 0.1, 0.9], [0.3, 0.9, -0.2], [0.9, -0.3, -0.1]]))
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = (-80.0, 35.5, 12.25)
    return affine


def linear_image(rank: int, shape: tuple[int, ...], spacing: tuple[float, float, float] = (2.5, 0.9, 0.7)) -> Image:
    """An image whose values are the patient's coordinates: channel 0 is x, 1 is y, 2 is z in millimetres."""
    affine = oblique_affine(spacing)
    return Image(coordinates(affine, shape), spacing=spacing[3 - rank :], affine=affine)


def coordinates(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    indices = np.stack(np.meshgrid(*map(np.arange, (1,) * (3 - len(shape)) + shape), indexing="ij"), axis=-1)
    points = indices @ affine[:3, :3].T + affine[:3, 3]
    return points.reshape(*shape, 3).astype(np.float32)


def assert_points_kept(result: Image, tolerance: float = 1e-3, border: int = 0) -> None:
    """Each pixel of the result holds the coordinates at which the result's own affine places it."""
    assert result.affine is not None
    expected = coordinates(result.affine, result.shape)
    inner = tuple(slice(border, length - border) for length in result.shape)
    np.testing.assert_allclose(result.pixels[inner], expected[inner], atol=tolerance)
    lengths = np.linalg.norm(result.affine[:3, :3], axis=0)[3 - result.rank :]
    np.testing.assert_allclose(result.spacing, lengths, rtol=1e-9)


STEPS_2D: list[Step] = [
    CropCenter(size=(10, 7)),
    CropBox(box=(3, 4, 20, 19)),
    Resize(size=(15, 18)),
    Resize(size=(60, 77)),
    Resize(size=(60, 11), interpolation="cubic"),
    Zoom(factor=0.75),
    Zoom(longest=40),
    Resample(spacing=(0.5, 0.5)),
    Resample(spacing=(1.0, 1.3)),
]
STEPS_3D: list[Step] = [
    CropCenter(size=(5, 10, 7)),
    CropBox(box=(1, 3, 4, 9, 20, 19)),
    Reorient(),
    Reorient(orientation="LAI"),
    Resize(size=(8, 15, 40)),
    Resize(size=(22, 50, 50), interpolation="cubic"),
    Zoom(factor=(1.0, 1.5, 0.75)),
    Resample(spacing=1.0),
    Resample(spacing=(3.0, 1.0, 1.0)),
]


@pytest.mark.parametrize("step", [*STEPS_2D, *STEPS_3D], ids=str)
def test_physical_points_keep_their_coordinates(step: Step) -> None:
    rank = 2 if step in STEPS_2D else 3
    result = step.apply(linear_image(rank, (12, 24, 28)[3 - rank :]))
    # Beyond the outermost centres there is nothing to interpolate, so values there stay those of the edge.
    border = 0 if isinstance(step, CropCenter | CropBox | Reorient) else 2
    # The mean over areas, and OpenCV's cubic kernel, are an eighth of a pixel off on a slope, evenly to both sides.
    averaging = (isinstance(step, Resize) and (step.interpolation == "cubic" or min(step.size) < 20)) or isinstance(
        step, Zoom
    )
    assert_points_kept(result, tolerance=0.32 if averaging else 1e-3, border=border)
    offset = result.pixels - coordinates(result.affine, result.shape)
    np.testing.assert_allclose(offset.mean(axis=tuple(range(rank))), 0, atol=1e-3)


@pytest.mark.parametrize("rank", [2, 3])
def test_crop_or_pad_and_letterbox_keep_points(rank: int) -> None:
    image = linear_image(rank, (5, 24, 9)[3 - rank :])
    image = image.replace(pixels=image.pixels + 1000)
    padded = CropOrPad(size=13, fill=0.0).apply(image)
    boxed = Resize(size=48, letterbox=True, fill=0.0).apply(image)
    for result in (padded, boxed):
        expected = coordinates(result.affine, result.shape) + 1000
        inside = (result.pixels != 0).all(axis=-1)
        assert 0.05 < inside.mean() < 0.7
        np.testing.assert_allclose((result.pixels - expected)[inside].mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(
        padded.pixels[(padded.pixels != 0).all(axis=-1)],
        1000 + coordinates(padded.affine, padded.shape)[(padded.pixels != 0).all(axis=-1)],
        atol=1e-3,
    )


def test_crop_foreground_keeps_points() -> None:
    image = linear_image(3, (12, 24, 28))
    pixels = np.zeros_like(image.pixels)
    pixels[2:9, 5:20, 6:22] = 100 + coordinates(image.affine, image.shape)[2:9, 5:20, 6:22]
    result = CropForeground().apply(image.replace(pixels=pixels))
    assert result.shape == (7, 15, 16)
    assert_points_kept(result.replace(pixels=result.pixels - 100), tolerance=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 2),
    size=st.tuples(*[st.integers(1, 60)] * 2),
    letterbox=st.booleans(),
    channels=st.sampled_from([1, 3]),
    interpolation=st.sampled_from(["nearest", "linear", "cubic"]),
)
def test_resize_keeps_the_extent(
    shape: tuple[int, int], size: tuple[int, int], letterbox: bool, channels: int, interpolation: str
) -> None:
    affine = oblique_affine((1.0, 0.9, 0.7))
    image = Image(np.zeros((*shape, channels), dtype=np.float32), spacing=(0.9, 0.7), affine=affine)
    result = Resize(size=size, letterbox=letterbox, interpolation=interpolation).apply(image)
    assert result.pixels.shape == (*size, channels)
    if not letterbox:
        for corner in (np.array([0, -0.5, -0.5, 1]), np.array([0, 1, 1, 0])):
            before = affine @ (corner * [0, *shape, 1] if corner[3] == 0 else corner)
            after = result.affine @ (corner * [0, *size, 1] if corner[3] == 0 else corner)
            np.testing.assert_allclose(before, after, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    old=st.tuples(*[st.floats(0.3, 5)] * 3),
    new=st.tuples(*[st.floats(0.3, 5)] * 3),
)
def test_resample_has_the_spacing_asked_for_and_the_same_centre(
    shape: tuple[int, int, int], old: tuple[float, ...], new: tuple[float, ...]
) -> None:
    affine = oblique_affine(old)
    image = Image(np.zeros((*shape, 1), dtype=np.float32), spacing=old, affine=affine)
    result = Resample(spacing=new).apply(image)
    assert result.spacing == new
    centres = [
        grid @ [*((np.array(lengths) - 1) / 2), 1] for grid, lengths in ((affine, shape), (result.affine, result.shape))
    ]
    np.testing.assert_allclose(*centres, atol=1e-6)
    for length, wanted, before, after in zip(shape, result.shape, old, new, strict=True):
        assert abs(wanted * after - length * before) <= after / 2 + 1e-6 or wanted == 1


def test_resample_leaves_what_is_within_its_tolerance() -> None:
    step = Resample(spacing=(2.0, 1.0, 1.0), tolerance=0.05)
    for old, kept in (((2.0, 1.0, 1.0), True), ((2.09, 0.96, 1.0), True), ((2.0, 1.0, 0.95), False)):
        image = Image(np.zeros((8, 9, 10, 1), np.float32), spacing=old, affine=oblique_affine(old))
        assert (step.apply(image).spacing == old) is kept


# ------------------------------------------------------------------------------------------ against SimpleITK


def to_itk(image: Image) -> sitk.Image:
    """ITK's order is (column, row, slice); its geometry is LPS, as ours."""
    assert image.affine is not None
    assert image.spacing is not None
    result = sitk.GetImageFromArray(image.pixels[..., 0])
    linear = image.affine[:3, :3][:, ::-1]
    lengths = np.linalg.norm(linear, axis=0)
    result.SetSpacing(lengths)
    result.SetDirection((linear / lengths).ravel())
    result.SetOrigin(image.affine[:3, 3])
    return result


def resampled_by_itk(image: Image, like: Image, interpolator: int) -> np.ndarray:
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(to_itk(like))
    resampler.SetInterpolator(interpolator)
    resampler.UseNearestNeighborExtrapolatorOn()
    return sitk.GetArrayFromImage(resampler.Execute(to_itk(image)))


def noise_volume() -> Image:
    pixels = np.random.default_rng(0).normal(0, 100, (9, 20, 23, 1)).astype(np.float32)
    return Image(pixels, spacing=(2.5, 0.9, 0.7), affine=oblique_affine((2.5, 0.9, 0.7)))


def test_resample_to_finer_equals_simpleitk() -> None:
    image = noise_volume()
    result = Resample(spacing=(1.1, 0.6, 0.31)).apply(image)
    np.testing.assert_allclose(result.pixels[..., 0], resampled_by_itk(image, result, sitk.sitkLinear), atol=1e-2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
@pytest.mark.parametrize("spacing", [(1.1, 0.57, 0.31), (4.1, 1.7, 1.6)])
def test_nearest_keeps_labels_and_equals_simpleitk(dtype: type, spacing: tuple[float, ...]) -> None:
    labels = np.random.default_rng(0).choice([0, 1, 2, 77], (9, 20, 23, 1)).astype(dtype)
    image = noise_volume().replace(pixels=labels)
    result = Resample(spacing=spacing, interpolation="nearest").apply(image)
    assert result.pixels.dtype == dtype
    assert set(np.unique(result.pixels)) <= {0, 1, 2, 77}
    np.testing.assert_array_equal(result.pixels[..., 0], resampled_by_itk(image, result, sitk.sitkNearestNeighbor))


def test_resample_to_coarser_equals_simpleitk_after_scipys_gaussian() -> None:
    image = noise_volume().replace(affine=oblique_affine((1.0, 1.0, 1.0)), spacing=(1.0, 1.0, 1.0))
    result = Resample(spacing=2.5).apply(image)
    sigma = math.sqrt(2.5**2 - 1) / (2 * math.sqrt(2 * math.log(2)))
    smooth = ndimage.gaussian_filter(image.pixels, (sigma, sigma, sigma, 0), mode="nearest", truncate=4)
    expected = resampled_by_itk(image.replace(pixels=smooth), result, sitk.sitkLinear)
    np.testing.assert_allclose(result.pixels[..., 0], expected, atol=2e-2)
    assert expected.std() > 5


def test_reorient_equals_simpleitk() -> None:
    image = noise_volume()
    turned = sitk.DICOMOrient(to_itk(image), "LPS")
    result = Reorient(orientation="SPL").apply(image)
    np.testing.assert_array_equal(result.pixels[..., 0], sitk.GetArrayFromImage(turned))
    np.testing.assert_allclose(result.affine[:3, 3], turned.GetOrigin(), atol=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("size", [(7, 9), (13, 40), (50, 11), (41, 46)])
def test_slices_and_volumes_are_resized_alike(size: tuple[int, int], dtype: type) -> None:
    pixels = np.random.default_rng(0).uniform(0, 250, (20, 23, 2)).astype(dtype)
    for interpolation in ("nearest", "linear", "cubic"):
        flat = Resize(size=size, interpolation=interpolation).apply(Image(pixels)).pixels
        volume = Resize(size=(1, *size), interpolation=interpolation).apply(Image(pixels[np.newaxis])).pixels[0]
        assert flat.dtype == dtype
        np.testing.assert_allclose(flat.astype(float), volume.astype(float), atol=2e-3 if dtype == np.float32 else 1)


def test_resize_down_averages_areas() -> None:
    pixels = np.random.default_rng(0).normal(0, 1, (12, 15, 1)).astype(np.float32)
    expected = pixels.reshape(4, 3, 5, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(Resize(size=(4, 5)).apply(Image(pixels)).pixels[..., 0], expected, atol=1e-6)
    volume = np.stack([pixels, pixels + 1])
    result = Resize(size=(1, 4, 5)).apply(Image(volume)).pixels[0, ..., 0]
    np.testing.assert_allclose(result, expected + 0.5, atol=1e-6)


@pytest.mark.parametrize("resize", [Resize(size=16), Resample(spacing=8.0)], ids=str)
def test_fine_stripes_do_not_alias(resize: Step) -> None:
    stripes = np.broadcast_to(np.where(np.arange(128) % 2, 1.0, -1.0)[None, :, None], (128, 128, 1)).astype(np.float32)
    result = resize.apply(Image(stripes, spacing=(1.0, 1.0))).pixels
    assert result.shape == (16, 16, 1)
    assert np.abs(result[:, 1:-1]).max() < 0.01  # without care every one of them would be 1 or -1


@pytest.mark.parametrize(("interpolation", "flag"), [("linear", cv2.INTER_LINEAR), ("cubic", cv2.INTER_CUBIC)])
def test_resize_up_is_opencvs(interpolation: str, flag: int) -> None:
    pixels = np.random.default_rng(0).normal(0, 1, (12, 15, 3)).astype(np.float32)
    result = Resize(size=(30, 40), interpolation=interpolation).apply(Image(pixels)).pixels
    np.testing.assert_array_equal(result, cv2.resize(pixels, (40, 30), interpolation=flag))


def test_resample_and_reorient_need_a_geometry() -> None:
    volume = Image(np.zeros((3, 4, 5, 1)))
    with pytest.raises(PreprocessingError, match="pixel spacing in millimetres"):
        Resample(spacing=1.0).apply(volume)
    with pytest.raises(PreprocessingError, match="this image has no affine"):
        Reorient().apply(volume)


def test_steps_without_geometry_leave_none() -> None:
    for step in (Pad(size=50), CropCenter(size=3), Resize(size=8)):
        result = step.apply(Image(np.zeros((20, 30, 1))))
        assert result.spacing is None
        assert result.affine is None


@pytest.mark.data
def test_real_volume_equals_simpleitk(data_folder: Path) -> None:
    path = min((data_folder / "hippocampus" / "images").glob("*.nii*"))
    image = read_nifti(path, 2**28)
    result = Resample(spacing=(0.8, 0.7, 0.9)).apply(
        Reorient().apply(image.replace(pixels=image.pixels.astype(np.float32)))
    )
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(to_itk(result))
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.UseNearestNeighborExtrapolatorOn()
    expected = sitk.GetArrayFromImage(resampler.Execute(sitk.ReadImage(str(path), sitk.sitkFloat32)))
    np.testing.assert_allclose(result.pixels[..., 0], expected, atol=1e-3 * np.abs(expected).max())
