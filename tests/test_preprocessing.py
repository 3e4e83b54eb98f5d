"""Each step against an independent reference: SimpleITK, SciPy, OpenCV, pydicom, or a case worked by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its own manual gives it
from pydantic import ValidationError
from pydicom import Dataset
from pydicom.pixels import apply_windowing
from scipy import ndimage

from hounsfield.errors import PreprocessingError
from hounsfield.images.image import Image, Metadata
from hounsfield.images.windows import WINDOW_PRESETS
from hounsfield.preprocessing import (
    BiasField,
    Clahe,
    CropBox,
    CropCenter,
    CropForeground,
    CropOrPad,
    DatasetZScore,
    Denoise,
    Gamma,
    HistogramStandard,
    MinMax,
    Pad,
    Percentile,
    Resample,
    Resize,
    Step,
    ToChannels,
    Window,
    ZScore,
)
from hounsfield.preprocessing.foreground import foreground_mask
from hounsfield.preprocessing.statistics import all_finite


def random_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 30, (*shape, 1)).astype(np.float32)


def row(*values: float, dtype: type = np.float32) -> Image:
    """An image of one row, whose pixels can be read in the test."""
    return Image(np.array(values, dtype=dtype).reshape(1, -1, 1))


# ---------------------------------------------------------------------------------------------- normalisation


@pytest.mark.parametrize(("function", "voi"), [("linear", "LINEAR"), ("linear_exact", "LINEAR_EXACT")])
def test_window_equals_pydicom(function: str, voi: str) -> None:
    pixels = np.arange(-500, 700, 7, dtype=np.int16).reshape(1, -1, 1)
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 40, 400, voi
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.PixelRepresentation = "MONOCHROME2", 16, 1
    reference = apply_windowing(pixels, dataset)
    reference = (reference - reference.min()) / (reference.max() - reference.min())
    result = Window(center=40, width=400, function=function).apply(Image(pixels))
    np.testing.assert_allclose(result.pixels, reference, atol=1e-6)


def test_window_by_hand() -> None:
    result = Window(center=50, width=100, function="linear_exact").apply(row(-10, 0, 25, 100, 130))
    np.testing.assert_allclose(result.pixels.ravel(), [0, 0, 0.25, 1, 1])


def test_window_is_the_images_own_where_none_is_given() -> None:
    image = row(0, 10, 20, 40).replace(metadata=Metadata(windows=((20.0, 21.0), (5.0, 2.0))))
    np.testing.assert_allclose(Window().apply(image).pixels.ravel(), [0, 0.025, 0.525, 1], atol=1e-6)


def test_window_without_any_is_the_range_of_the_type_or_of_the_image() -> None:
    np.testing.assert_allclose(Window().apply(row(0, 51, 102, dtype=np.uint8)).pixels.ravel(), [0, 0.2, 0.4], atol=1e-6)
    np.testing.assert_allclose(Window().apply(row(0, 51, 102, dtype=np.int16)).pixels.ravel(), [0, 0.5, 1], atol=1e-6)


def test_every_preset_is_accepted_and_cuts_at_its_ends() -> None:
    for preset, (center, width) in WINDOW_PRESETS.items():
        ends = row(center - width, center - width / 2, center + width / 2 - 1, center + width)
        np.testing.assert_allclose(Window(preset=preset).apply(ends).pixels.ravel(), [0, 0, 1, 1], atol=1e-6)


def test_preset_in_hounsfield_units_is_refused_on_mr() -> None:
    with pytest.raises(PreprocessingError, match="in Hounsfield units, but the image's modality is MR"):
        Window(preset="lung").apply(row(0, 1).replace(modality="MR"))


@pytest.mark.parametrize("values", [{"center": 1.0}, {"width": 1.0}, {"preset": "lung", "center": 1.0, "width": 2.0}])
def test_half_a_window_or_two_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="a window"):
        Window.from_dict(values)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7, 9), (200, 300), (5, 40, 50)])
def test_percentile_equals_numpy(dtype: type, shape: tuple[int, ...]) -> None:
    pixels = np.clip(random_pixels(*shape), 0, 255).astype(dtype)
    low, high = np.percentile(pixels.astype(np.float64), (2.5, 97.0))
    expected = np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1)
    result = Percentile(low=2.5, high=97.0).apply(Image(pixels)).pixels
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=2e-6)


def test_percentile_of_sorted_and_of_mostly_equal_values_equals_numpy() -> None:
    rising = np.linspace(0, 1, 400 * 500, dtype=np.float32).reshape(400, 500, 1)
    mostly_zero = np.where(random_pixels(400, 500) > 130, random_pixels(400, 500), np.float32(0))
    for pixels in (rising, rising[::-1].copy(), mostly_zero):
        low, high = np.percentile(pixels.astype(np.float64), (1, 99))
        expected = np.clip((pixels - low) / (high - low), 0, 1)
        np.testing.assert_allclose(Percentile(low=1, high=99).apply(Image(pixels)).pixels, expected, atol=2e-6)


def test_percentile_of_a_mask_falls_back_to_its_range() -> None:
    mask = np.zeros((50, 50, 1), dtype=np.uint8)
    mask[0, 0] = 200
    np.testing.assert_array_equal(Percentile().apply(Image(mask)).pixels, mask / 200)


def test_finite_values_of_any_size_are_finite() -> None:
    # Their sum is not: it overflows, or is infinity less infinity.
    for values in ([3e38, 3e38], [3e38, 3e38, -3e38, -3e38], [0, -1]):
        assert all_finite(np.array(values, np.float32))
    for bad in (np.nan, np.inf, -np.inf):
        assert not all_finite(np.array([1, bad], np.float32))


def test_min_max_by_hand() -> None:
    np.testing.assert_allclose(MinMax().apply(row(-2, 0, 6)).pixels.ravel(), [0, 0.25, 1])


def test_z_score_has_mean_0_and_deviation_1() -> None:
    pixels = random_pixels(30, 40, 50)
    result = ZScore().apply(Image(pixels)).pixels.astype(np.float64)
    np.testing.assert_allclose(result, (pixels.astype(np.float64) - pixels.mean()) / pixels.std(), atol=1e-4)
    assert abs(result.mean()) < 1e-5
    assert abs(result.std() - 1) < 1e-5


def test_z_score_of_the_foreground_ignores_the_background() -> None:
    pixels = np.zeros((40, 40, 1), dtype=np.float32)
    pixels[10:30, 10:30] = random_pixels(20, 20) + 400
    inside = pixels[10:30, 10:30].astype(np.float64)
    result = ZScore(foreground=True).apply(Image(pixels)).pixels
    np.testing.assert_allclose(result[10:30, 10:30], (inside - inside.mean()) / inside.std(), atol=1e-4)
    np.testing.assert_allclose(result[0, 0], -inside.mean() / inside.std(), rtol=1e-5)


def test_z_score_of_a_constant_image_is_zeros_even_after_interpolation() -> None:
    constant = Image(np.full((18, 20, 24, 1), 7.1, dtype=np.float32))
    result = ZScore().apply(Resize(size=16).apply(constant))
    np.testing.assert_array_equal(result.pixels, np.zeros((16, 16, 16, 1)))


def test_dataset_z_score_learns_what_numpy_computes() -> None:
    rng = np.random.default_rng(3)
    images = [Image((rng.normal(1000, 5, (8, size, 2)) * [1, 3]).astype(np.float32)) for size in (3, 9, 20)]
    together = np.concatenate([image.pixels.reshape(-1, 2) for image in images]).astype(np.float64)
    fitted = DatasetZScore().fit(images)
    np.testing.assert_allclose(fitted.mean, together.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(fitted.std, together.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        fitted.apply(images[1]).pixels, (images[1].pixels - fitted.mean) / np.array(fitted.std), atol=1e-4
    )


def test_dataset_z_score_refuses_no_images_and_other_channels() -> None:
    with pytest.raises(PreprocessingError, match="no training image"):
        DatasetZScore().fit([])
    grey, colour = row(1, 2, 3), Image(np.zeros((2, 2, 3), dtype=np.float32))
    with pytest.raises(PreprocessingError, match="3 channels, after training images with 1"):
        DatasetZScore().fit([grey, colour])
    with pytest.raises(PreprocessingError, match="3 channels, after training images with 1"):
        DatasetZScore().fit([grey]).apply(colour)


# ------------------------------------------------------------------------------------- histogram standardisation


def test_histogram_standard_learns_the_mean_landmarks_by_hand() -> None:
    # Ramps from 1 to 2 and to a curve: every pixel lies in the foreground but the background's zeros.
    ramp = np.linspace(100, 200, 1001)
    curve = 100 + 100 * np.linspace(0, 1, 1001) ** 2
    percents = [1, *range(10, 100, 10), 99]
    landmarks = []
    images = []
    for values in (ramp, curve):
        images.append(Image(np.concatenate([np.zeros(1001), values]).astype(np.float32).reshape(2, -1, 1)))
        own = np.percentile(values, percents)
        landmarks.append((own - own[0]) / (own[-1] - own[0]))
    fitted = HistogramStandard().fit(images)
    np.testing.assert_allclose(fitted.landmarks, np.mean(landmarks, axis=0), atol=1e-4)


def test_histogram_standard_undoes_gain_and_offset() -> None:
    images = [
        Image(np.concatenate([np.zeros((20, 40, 1)), random_pixels(20, 40, seed=s) + 300]).astype(np.float32))
        for s in range(3)
    ]
    fitted = HistogramStandard().fit(images)
    other = images[0].replace(pixels=images[0].pixels * np.float32(7.5))
    np.testing.assert_allclose(fitted.apply(other).pixels, fitted.apply(images[0]).pixels, atol=1e-4)
    ends = np.percentile(fitted.apply(other).pixels[20:], (1, 99))
    np.testing.assert_allclose(ends, [0, 1], atol=1e-3)


def test_histogram_standard_goes_on_beyond_its_ends() -> None:
    straight = HistogramStandard(landmarks=(0.0, *np.linspace(9 / 98, 89 / 98, 9), 1.0))
    values = np.linspace(50, 150, 2001)
    image = Image(np.concatenate([np.full(2001, -1000), values]).astype(np.float32).reshape(2, -1, 1))
    first, last = np.percentile(values, (1, 99))
    result = straight.apply(image).pixels
    np.testing.assert_allclose(result, (image.pixels - first) / (last - first), atol=1e-4)
    assert result.min() < -10
    assert result.max() > 1.009


def test_histogram_standard_needs_contrast_to_learn() -> None:
    with pytest.raises(PreprocessingError, match="no training image with any contrast"):
        HistogramStandard().fit([row(5, 5, 5)])


# ------------------------------------------------------------------------------------------------ enhancement


def test_clahe_of_8_bits_is_opencvs() -> None:
    pixels = np.clip(random_pixels(64, 80), 0, 255).astype(np.uint8)
    expected = cv2.createCLAHE(3.0, (4, 4)).apply(pixels[..., 0])
    np.testing.assert_array_equal(Clahe(clip_limit=3, tiles=4).apply(Image(pixels)).pixels[..., 0], expected)


def test_clahe_raises_local_contrast_and_keeps_the_range_of_floats() -> None:
    faint = (random_pixels(128, 128) - 100) * np.float32(0.001)
    faint[:8, :8], faint[-8:, -8:] = -1, 1
    result = Clahe(clip_limit=4).apply(Image(faint)).pixels
    assert result.dtype == np.float32
    assert result[32:96].std() > 2 * faint[32:96].std()
    assert result.min() >= -1.001
    assert result.max() <= 1.001


def test_clahe_of_a_volume_is_that_of_its_slices() -> None:
    volume = np.clip(random_pixels(3, 40, 40), 0, 255).astype(np.uint8)
    result = Clahe().apply(Image(volume)).pixels
    for part, expected in zip(volume, result, strict=True):
        np.testing.assert_array_equal(Clahe().apply(Image(part)).pixels, expected)


def test_clahe_keeps_the_hue() -> None:
    lightness = np.linspace(40, 200, 64 * 64).reshape(64, 64, 1)
    colour = Image((lightness * [1.0, 0.5, 0.25]).astype(np.uint8))
    before, after = (
        cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)[..., 0] for pixels in (colour.pixels, Clahe().apply(colour).pixels)
    )
    assert np.abs(before.astype(int) - after).max() <= 6  # 180 hue steps; the rest is 8-bit rounding in CIELAB


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_gamma_by_hand(dtype: type) -> None:
    result = Gamma(gamma=2).apply(row(50, 100, 150, dtype=dtype))
    np.testing.assert_allclose(result.pixels.ravel(), [50, 75, 150], atol=1e-4)
    assert result.pixels.dtype == dtype


@pytest.mark.parametrize("strength", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(20, 25), (9, 10, 11)])
def test_median_equals_scipy(shape: tuple[int, ...], dtype: type, strength: float) -> None:
    pixels = np.clip(random_pixels(*shape), 0, 255).astype(dtype)
    expected = ndimage.median_filter(pixels[..., 0], size=int(2 * strength + 1), mode="nearest")
    result = Denoise(method="median", strength=strength).apply(Image(pixels)).pixels
    np.testing.assert_array_equal(result[..., 0], expected)


@pytest.mark.parametrize("shape", [(20, 25), (9, 10, 11)])
def test_gaussian_equals_scipy(shape: tuple[int, ...]) -> None:
    pixels = random_pixels(*shape)
    expected = ndimage.gaussian_filter(pixels[..., 0], 1.5, mode="nearest", truncate=4)
    result = Denoise(method="gaussian", strength=1.5).apply(Image(pixels)).pixels
    np.testing.assert_allclose(result[..., 0], expected, atol=2e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("method", ["bilateral", "non_local_means"])
def test_edge_keeping_filters_remove_noise_and_keep_the_edge(method: str, dtype: type) -> None:
    step = np.where(np.arange(60) < 30, 60.0, 180.0)[None, :, None]
    clean = np.broadcast_to(step, (60, 60, 1))
    noisy = (clean + np.random.default_rng(0).normal(0, 4, clean.shape)).astype(dtype)
    result = Denoise(method=method, strength=3).apply(Image(noisy)).pixels.astype(np.float64)
    flat = np.s_[10:50, 5:25]
    assert result[flat].std() < 0.5 * noisy[flat].astype(np.float64).std()
    assert result[:, 30].mean() - result[:, 29].mean() > 110


def test_bias_field_is_removed() -> None:
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, 40),) * 3, indexing="ij"))
    tissue = np.where((places**2).sum(axis=0) < 0.7, 100.0, 0.0)
    tissue[(places**2).sum(axis=0) < 0.2] = 140.0
    shading = np.exp(0.4 * places[2] + 0.2 * places[1] ** 2)
    image = Image(
        (tissue * shading + rng.normal(0, 1, tissue.shape))[..., None].astype(np.float32), spacing=(2.0, 1.0, 1.0)
    )
    corrected = BiasField(shrink=2, iterations=(30, 20)).apply(image).pixels[..., 0]
    inside = tissue == 100
    spread = [values[inside].std() / values[inside].mean() for values in (image.pixels[..., 0], corrected)]
    assert spread[0] > 0.15
    assert spread[1] < 0.05


def test_bias_field_equals_simpleitks_without_shrinking() -> None:
    pixels = np.clip(random_pixels(24, 24) * np.linspace(0.5, 1.5, 24)[None, :, None], 0, None).astype(np.float32)
    pixels[:4] = 0
    image = sitk.GetImageFromArray(pixels[..., 0])
    mask = sitk.OtsuThreshold(image, 0, 1, 256)
    reference = sitk.N4BiasFieldCorrectionImageFilter()
    reference.SetMaximumNumberOfIterations([10])
    expected = sitk.GetArrayFromImage(reference.Execute(image, mask))
    result = BiasField(shrink=1, iterations=(10,)).apply(Image(pixels)).pixels[..., 0]
    np.testing.assert_allclose(result, expected, rtol=0.02, atol=0.5)


def test_bias_field_keeps_the_colours() -> None:
    grey = np.clip(random_pixels(32, 32), 1, None)
    result = BiasField(iterations=(10,)).apply(Image(grey * np.array([1.0, 0.5, 0.25], dtype=np.float32))).pixels
    np.testing.assert_allclose(result[..., 1:] / result[..., :1], np.full((32, 32, 2), [0.5, 0.25]), rtol=1e-5)


# ---------------------------------------------------------------------------------------------------- cropping


def test_crop_center_by_hand() -> None:
    image = Image(np.arange(5 * 8).reshape(5, 8, 1))
    result = CropCenter(size=(3, 5)).apply(image).pixels[..., 0]
    np.testing.assert_array_equal(result, np.arange(40).reshape(5, 8)[1:4, 1:6])


def test_crop_center_leaves_short_axes() -> None:
    assert CropCenter(size=6).apply(Image(random_pixels(4, 9))).shape == (4, 6)
    assert CropOrPad(size=6).apply(Image(random_pixels(4, 9))).shape == (6, 6)


@pytest.mark.parametrize("threshold", [None, 50.0])
def test_crop_foreground_finds_the_box_and_ignores_specks(threshold: float | None) -> None:
    pixels = np.random.default_rng(0).uniform(0, 5, (60, 70, 1)).astype(np.float32)
    pixels[20:45, 10:52] += 200
    pixels[2, 66] = 255
    image = Image(pixels)
    np.testing.assert_array_equal(CropForeground(threshold=threshold).apply(image).pixels, pixels[20:45, 10:52])
    wider = CropForeground(threshold=threshold, margin=12).apply(image)
    np.testing.assert_array_equal(wider.pixels, pixels[8:57, 0:64])


def test_crop_foreground_keeps_faint_tissue_that_otsu_would_cut() -> None:
    pixels = np.random.default_rng(0).uniform(0, 5, (60, 60, 1)).astype(np.float32)
    pixels[10:50, 10:50] = 60  # soft tissue
    pixels[20:40, 20:40] = 250  # bone
    mask = sitk.GetArrayFromImage(sitk.OtsuThreshold(sitk.GetImageFromArray(pixels[..., 0]), 0, 1, 256))
    assert mask[15, 15] == 0
    assert CropForeground().apply(Image(pixels)).shape == (40, 40)


def test_otsu_equals_simpleitk() -> None:
    pixels = np.concatenate([random_pixels(40, 40), random_pixels(40, 40, seed=1) + 120])
    mask = sitk.GetArrayFromImage(sitk.OtsuThreshold(sitk.GetImageFromArray(pixels[..., 0]), 0, 1, 256))
    differing = np.count_nonzero(foreground_mask(pixels) != mask.astype(bool))
    assert differing <= 0.01 * mask.size  # one bin of 256 apart at most


def test_crop_box_by_hand_and_beyond_the_border() -> None:
    pixels = np.arange(48).reshape(6, 8, 1)
    np.testing.assert_array_equal(CropBox(box=(1, 2, 4, 7)).apply(Image(pixels)).pixels, pixels[1:4, 2:7])
    np.testing.assert_array_equal(CropBox(box=(-3, 5, 99, 99)).apply(Image(pixels)).pixels, pixels[:, 5:])
    with pytest.raises(PreprocessingError, match=r"outside this image of 6×8 pixels"):
        CropBox(box=(6, 0, 9, 4)).apply(Image(pixels))
    with pytest.raises(PreprocessingError, match="4 numbers, but this image has 3 spatial axes: 6 numbers"):
        CropBox(box=(0, 0, 2, 2)).apply(Image(random_pixels(3, 3, 3)))
    with pytest.raises(ValidationError, match="each end above its start"):
        CropBox(box=(4, 4, 2, 8))


@pytest.mark.parametrize(
    ("fill", "border"), [("minimum", 3), (0.0, 0), (-7.0, 0), (999.0, 255), ("edge", None)], ids=str
)
def test_pad_by_hand(fill: float | str, border: int | None) -> None:
    pixels = np.array([[3, 9]], dtype=np.uint8)[..., None]
    result = Pad(size=(1, 5), fill=fill).apply(Image(pixels)).pixels.ravel()
    ends = (3, 9) if border is None else (border, border)
    np.testing.assert_array_equal(result, [ends[0], 3, 9, ends[1], ends[1]])


# ----------------------------------------------------------------------------------------------------- channels


def test_to_channels_by_hand() -> None:
    colour = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], dtype=np.uint8)
    expected = [76, 150, 29, 18]  # 0.299 R + 0.587 G + 0.114 B, rounded
    for dtype in (np.uint8, np.uint16, np.int16, np.int32):
        result = ToChannels(channels=1).apply(Image(colour.astype(dtype))).pixels
        np.testing.assert_array_equal(result.ravel(), expected)
        assert result.dtype == dtype
    grey = random_pixels(2, 3, 4)
    np.testing.assert_array_equal(ToChannels(channels=3).apply(Image(grey)).pixels, np.concatenate([grey] * 3, axis=-1))
    with pytest.raises(PreprocessingError, match="an image with 2 channels"):
        ToChannels(channels=3).apply(Image(np.zeros((2, 2, 2))))


def test_to_channels_of_a_colour_volume() -> None:
    volume = np.random.default_rng(0).random((3, 4, 5, 3)).astype(np.float32)
    result = ToChannels(channels=1).apply(Image(volume)).pixels
    np.testing.assert_allclose(result[..., 0], volume @ [0.299, 0.587, 0.114], atol=1e-6)


def test_numbers_for_another_rank_are_refused() -> None:
    with pytest.raises(
        PreprocessingError, match=r"'size' of step 'resize' has 3 numbers \(4, 4, 4\), but the image has 2"
    ):
        Resize(size=(4, 4, 4)).apply(Image(random_pixels(9, 9)))


def test_numbers_beyond_float32_count_as_infinite() -> None:
    with pytest.raises(PreprocessingError, match="2 NaN or infinite values"):
        MinMax().apply(row(1e300, -1e300, 3, dtype=np.float64))
    # A sum beyond float32 is no proof of infinite values.
    np.testing.assert_allclose(MinMax().apply(row(3e38, 3e38, 1)).pixels.ravel(), [1, 1, 0], atol=1e-6)


@pytest.mark.parametrize(
    "step", [Resize(size=10**6), Resample(spacing=1e-6), Pad(size=10**6), CropOrPad(size=10**6)], ids=str
)
def test_results_of_absurd_size_are_refused_before_memory_is_asked_for(step: Step) -> None:
    with pytest.raises(PreprocessingError, match=r"from one of 4×5: [\d,]+ values, and at most 1,073,741,824"):
        step.apply(Image(random_pixels(4, 5), spacing=(1.0, 1.0)))
