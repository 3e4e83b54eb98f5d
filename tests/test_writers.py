"""What is written is read back by us and by others; what a format cannot hold is refused, and leaves nothing."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hounsfield.errors import ImageError
from hounsfield.images.arrays import read_array
from hounsfield.images.dicom import read_dicom
from hounsfield.images.dicom_writer import write_series
from hounsfield.images.image import Image, Metadata
from hounsfield.images.metaimage import read_metaimage
from hounsfield.images.nifti import read_nifti
from hounsfield.images.nrrd import read_nrrd
from hounsfield.images.orientation import affine_to_ras, patient_coordinates, reorient, spacing_of
from hounsfield.images.raster import read_raster
from hounsfield.images.writers import WRITERS, as_stored, write_image

LIMIT = 2**28
# (slice, row, column) → LPS: oblique by 30°, right-angled, slices against the normal.
TURN = np.array([[0, -np.sin(0.5), np.cos(0.5)], [0, np.cos(0.5), np.sin(0.5)], [-1, 0, 0]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * [4.0, 0.8, 0.7]
AFFINE[:3, 3] = [-101.25, 33.125, 1234.5]


def volume(dtype: str = "int16", channels: int = 1, affine: np.ndarray | None = AFFINE, **facts) -> Image:
    pixels = np.random.default_rng(1).integers(0, 200, (3, 5, 4, channels)).astype(dtype)
    spacing = None if affine is None else spacing_of(affine)
    return Image(pixels=pixels, spacing=spacing, affine=affine, metadata=Metadata(**facts))


def picture(dtype: str = "uint8", channels: int = 1, **facts) -> Image:
    return Image(pixels=volume(dtype, channels).pixels[0], metadata=Metadata(**facts))


@pytest.mark.parametrize(
    ("values", "bits", "expected"),
    [
        ([-1024, 3071], 12, "int16"),
        ([0, 65535], 16, "uint16"),
        ([-1, 65535], 16, "int32"),
        ([-40000, 40000], 16, "int32"),
        ([0.5, 2], 16, "float32"),
        ([np.nan, 2], 16, "float32"),
        ([3e9, 2], 16, "float32"),
        ([1, 2], None, "float32"),
    ],
)
def test_what_was_stored_as_integers_is_so_again(values, bits, expected):
    pixels = np.zeros((2, 3, 4, 1), np.float32)
    pixels[0, 0, :2, 0] = values
    image = as_stored(Image(pixels=pixels, metadata=Metadata(bits=bits)))
    assert image.pixels.dtype == np.dtype(expected)
    np.testing.assert_array_equal(image.pixels, pixels)


def test_archives_are_packed_at_zlib_s_fastest_level(tmp_path):
    write_image(volume(), tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_DEFLATED}
        expected = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        content = archive.read("pixels.npy")
        assert archive.getinfo("pixels.npy").compress_size == len(expected.compress(content) + expected.flush())
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["pixels"], volume().pixels)


def nothing_is_left(folder: Path) -> bool:
    return not list(folder.iterdir())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".png", "uint8"), (".png", "uint16")]
    + [(".tif", dtype) for dtype in ("uint8", "uint16", "int16", "int32", "float32", "float64")],
)
def test_pictures_come_back(tmp_path, suffix, dtype, channels):
    image = picture(dtype, channels)
    write_image(image, tmp_path / f"a{suffix}")
    again = read_raster(tmp_path / f"a{suffix}", LIMIT)
    assert again.pixels.dtype == image.pixels.dtype
    np.testing.assert_array_equal(again.pixels, image.pixels)
    theirs = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(theirs[..., ::-1] if channels == 3 else theirs[..., None], image.pixels)


def test_a_png_holds_whole_numbers_that_fit(tmp_path):
    write_image(picture("int64"), tmp_path / "a.png")
    again = read_raster(tmp_path / "a.png", LIMIT).pixels
    assert again.dtype == np.uint16
    np.testing.assert_array_equal(again, picture().pixels)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("a.png", picture("float32")),
        ("a.png", picture("int16").replace(pixels=picture("int16").pixels - 1000)),
        ("a.png", picture("int32").replace(pixels=picture("int32").pixels + 70000)),
        ("a.png", volume("uint8")),
        ("a.png", picture(channels=2)),
        ("a.tif", picture("uint32")),
        ("a.tif", volume("uint8")),
        ("a.nii.gz", volume("int16", channels=3)),
        ("a.nrrd", volume(affine=None)),
        ("a.nrrd", picture()),
        ("a.mha", volume(channels=2)),
        ("a.dcm", picture("int32").replace(pixels=picture("int32").pixels + 70000)),
        ("a.dcm", picture("uint16", 3)),
        ("a.dcm", picture("float32").replace(pixels=np.full((2, 2, 1), np.nan))),
        ("a.jpg", picture()),
        ("a", picture()),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, name, image):
    with pytest.raises(ImageError):
        write_image(image, tmp_path / name)
    assert nothing_is_left(tmp_path)


def test_a_window_makes_a_picture_of_anything(tmp_path):
    image = picture("float32").replace(pixels=np.linspace(-1000, 1000, 21, dtype=np.float32).reshape(3, 7, 1))
    write_image(image, tmp_path / "a.png", window=(40, 400))
    again = read_raster(tmp_path / "a.png", LIMIT).pixels
    values = image.pixels.astype(np.float64)
    expected = np.clip(((values - 39.5) / 399 + 0.5) * 255, 0, 255)  # PS3.3 C.11.2.1.2.1
    assert again.dtype == np.uint8
    np.testing.assert_allclose(again, expected, atol=0.51)
    for name, window in (("a.nii.gz", (40, 400)), ("b.png", (40, 0)), ("b.png", (np.nan, 4))):
        with pytest.raises(ImageError, match="window"):
            write_image(image, tmp_path / name, window=window)


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.png"
    write_image(picture(), path)
    before = path.read_bytes()
    with pytest.raises(ImageError):
        write_image(picture("float32"), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(OSError, match="absent"):
        write_image(picture(), tmp_path / "absent" / "a.png")


READ = {".nii": read_nifti, ".nii.gz": read_nifti, ".nrrd": read_nrrd, ".mha": read_metaimage, ".npz": read_array}


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
)
@pytest.mark.parametrize("suffix", READ)
def test_volumes_come_back_with_their_place(tmp_path, suffix, dtype):
    image = volume(dtype)
    write_image(image, tmp_path / f"a{suffix}")
    again = READ[suffix](tmp_path / f"a{suffix}")
    assert again.pixels.dtype == (np.uint8 if dtype == "bool" else np.dtype(dtype))
    np.testing.assert_array_equal(again.pixels, image.pixels)
    np.testing.assert_allclose(again.affine, image.affine, atol=1e-4)
    np.testing.assert_allclose(again.spacing, image.spacing, rtol=1e-6)
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".npz"])
def test_colour_volumes_come_back(tmp_path, suffix):
    image = volume("uint8", 3)
    write_image(image, tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(READ[suffix](tmp_path / f"a{suffix}").pixels, image.pixels)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_others_see_the_volume_where_we_put_it(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_image(volume(), path)
    theirs = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(theirs), volume().pixels[..., 0])
    for index in ([0, 0, 0], [2, 4, 3]):
        point = theirs.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose(patient_coordinates(AFFINE, index), point, atol=1e-4)
    if suffix == ".nii.gz":
        header = nibabel.load(path).header
        np.testing.assert_allclose(header.get_sform(), affine_to_ras(AFFINE), atol=1e-4)
        np.testing.assert_allclose(header.get_qform(), affine_to_ras(AFFINE), atol=1e-3)
        assert header.get_xyzt_units()[0] == "mm"


def test_nifti_keeps_shear_and_the_absence_of_a_position(tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 1] += 0.5
    write_image(volume(affine=sheared), tmp_path / "a.nii")
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").affine, sheared, atol=1e-4)
    assert nibabel.load(tmp_path / "a.nii").header["qform_code"] == 0
    write_image(volume(affine=None).replace(spacing=(3.0, 2.0, 1.0)), tmp_path / "b.nii")
    again = read_nifti(tmp_path / "b.nii")
    assert again.affine is None
    assert again.spacing == (3.0, 2.0, 1.0)


def test_a_long_image_becomes_nifti_2(tmp_path):
    image = Image(pixels=np.zeros((1, 1, 40000, 1), np.uint8), affine=AFFINE, spacing=spacing_of(AFFINE))
    write_image(image, tmp_path / "a.nii.gz")
    assert isinstance(nibabel.load(tmp_path / "a.nii.gz"), nibabel.Nifti2Image)
    assert read_nifti(tmp_path / "a.nii.gz").shape == (1, 1, 40000)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3), places=st.lists(st.floats(-900, 900, width=32), min_size=3, max_size=3)
)
def test_nifti_round_trips_are_exact_in_float_32(tmp_path, shape, places):
    affine = AFFINE.astype(np.float32).astype(np.float64)
    affine[:3, 3] = places
    pixels = np.arange(np.prod(shape), dtype=np.int32).reshape(*shape, 1)
    write_image(Image(pixels=pixels, affine=affine, spacing=spacing_of(affine)), tmp_path / "a.nii")
    again = read_nifti(tmp_path / "a.nii")
    np.testing.assert_array_equal(again.affine, affine)
    np.testing.assert_array_equal(again.pixels, pixels)


@pytest.mark.parametrize("image", [picture(), picture("float64", 3), volume(channels=1), volume("uint8", 3)])
def test_npy_and_npz_keep_every_shape(tmp_path, image):
    write_image(image, tmp_path / "a.npy")
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy", LIMIT).pixels, image.pixels)
    write_image(image, tmp_path / "a.npz")
    np.testing.assert_array_equal(read_array(tmp_path / "a.npz").pixels, image.pixels)


def test_a_secondary_capture_reads_in_pydicom_and_here(tmp_path):
    facts = {
        "patient": "P7",
        "sex": "F",
        "age": 45.3,
        "study": "1.2.3",
        "date": "2020-01-31",
        "windows": ((50.0, 300.0),),
    }
    image = picture("uint16", **facts).replace(modality="DX", spacing=(0.2, 0.3))
    write_image(image, tmp_path / "a.dcm")
    written = pydicom.dcmread(tmp_path / "a.dcm")
    np.testing.assert_array_equal(written.pixel_array, image.pixels[..., 0])
    assert written.SOPClassUID.name == "Secondary Capture Image Storage"
    assert list(written.ImageType) == ["DERIVED", "SECONDARY"]
    assert (written.PatientID, written.PatientAge, written.StudyInstanceUID) == ("P7", "045Y", "1.2.3")
    assert written.PatientName == ""
    again = read_dicom(tmp_path / "a.dcm", LIMIT)
    np.testing.assert_array_equal(again.pixels, image.pixels)
    assert again.spacing == (0.2, 0.3)
    assert (again.metadata.sex, again.metadata.date, again.metadata.windows) == ("F", "2020-01-31", ((50.0, 300.0),))
    write_image(picture("uint8", 3), tmp_path / "c.dcm")
    np.testing.assert_array_equal(read_dicom(tmp_path / "c.dcm", LIMIT).pixels, picture("uint8", 3).pixels)


def test_a_slice_keeps_its_place(tmp_path):
    slice_of_ct = picture("int16").replace(affine=AFFINE * np.array([[-1], [-1], [-1], [1]]), spacing=(0.8, 0.7))
    write_image(slice_of_ct, tmp_path / "a.dcm")
    again = read_dicom(tmp_path / "a.dcm", LIMIT)
    corners = [[0, 0, 0], [0, 4, 3]]
    expected = patient_coordinates(slice_of_ct.affine, corners)
    np.testing.assert_allclose(patient_coordinates(again.affine, corners), expected, atol=1e-4)
    assert again.spacing == (0.8, 0.7)
    np.testing.assert_allclose(spacing_of(again.affine), (4.0, 0.8, 0.7), atol=1e-6)


def test_hounsfield_units_are_stored_exactly_and_other_floats_to_half_a_step(tmp_path):
    whole = picture("float32").replace(pixels=picture("float32").pixels * 10 - 1000)
    write_image(whole, tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_dicom(tmp_path / "a.dcm", LIMIT).pixels, whole.pixels)
    real = picture("float64").replace(pixels=np.random.default_rng(0).normal(3, 50, (20, 30, 1)))
    write_image(real, tmp_path / "b.dcm")
    step = np.ptp(real.pixels) / 65535
    np.testing.assert_allclose(read_dicom(tmp_path / "b.dcm", LIMIT).pixels, real.pixels, atol=0.51 * step)
    flat = picture("float64").replace(pixels=np.full((3, 4, 1), 0.37))
    write_image(flat, tmp_path / "c.dcm")
    np.testing.assert_allclose(read_dicom(tmp_path / "c.dcm", LIMIT).pixels, 0.37, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_a_volume_in_one_dicom_file_keeps_its_place(tmp_path, dtype):
    image = volume(dtype)
    write_image(image, tmp_path / "a.dcm")
    assert pydicom.dcmread(tmp_path / "a.dcm").NumberOfFrames == 3
    assert_same_place(read_dicom(tmp_path / "a.dcm", LIMIT), image)


def assert_same_place(found: Image, expected: Image) -> None:
    """The same voxels in the same place, whichever way the slices are counted."""
    found, expected = reorient(found), reorient(expected)
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)


@pytest.mark.parametrize("modality", ["CT", "MR", None])
def test_a_series_stacks_in_simpleitk_where_it_was(tmp_path, modality):
    image = volume().replace(modality=modality)
    paths = write_series(image, tmp_path)
    assert len({pydicom.dcmread(path).SOPInstanceUID for path in paths}) == 3
    assert len({pydicom.dcmread(path).SeriesInstanceUID for path in paths}) == 1
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    theirs = SimpleITK.ReadImage(names)
    affine = np.eye(4)
    affine[:3, :3] = (np.reshape(theirs.GetDirection(), (3, 3)) * theirs.GetSpacing())[:, ::-1]
    affine[:3, 3] = theirs.GetOrigin()
    stacked = Image(pixels=SimpleITK.GetArrayFromImage(theirs)[..., None].astype(np.int16), affine=affine)
    assert_same_place(stacked, image)


def test_dicom_without_right_angles_is_refused(tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 1] += 0.5
    for write in (
        lambda: write_image(volume(affine=sheared), tmp_path / "a.dcm"),
        lambda: write_series(volume(affine=sheared), tmp_path),
    ):
        with pytest.raises(ImageError, match="right angles"):
            write()
    with pytest.raises(ImageError, match="position in the patient"):
        write_series(volume(affine=None), tmp_path)
    assert nothing_is_left(tmp_path)


def test_a_derived_image_names_its_sources_and_keeps_patient_and_study(tmp_path):
    write_image(picture("uint16", patient="P1", study="1.2.3"), tmp_path / "first.dcm")
    source = pydicom.dcmread(tmp_path / "first.dcm")
    source.PatientName, source.LossyImageCompression = "Müller^Anna", "01"
    source.save_as(tmp_path / "first.dcm")
    write_image(picture("uint8", patient="other"), tmp_path / "second.dcm", sources=[tmp_path / "first.dcm"])
    derived = pydicom.dcmread(tmp_path / "second.dcm")
    (reference,) = derived.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == source.SOPClassUID
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert (derived.PatientID, derived.StudyInstanceUID, derived.LossyImageCompression) == ("P1", "1.2.3", "01")
    assert derived.PatientName == "Müller^Anna"
    assert derived.SOPInstanceUID != source.SOPInstanceUID
    assert derived.SeriesInstanceUID != source.SeriesInstanceUID
    (tmp_path / "no.dcm").write_bytes(b"nothing")
    with pytest.raises(ImageError, match="source"):
        write_image(picture(), tmp_path / "third.dcm", sources=[tmp_path / "no.dcm"])
    with pytest.raises(ImageError, match="references"):
        write_image(picture(), tmp_path / "third.png", sources=[tmp_path / "first.dcm"])


def test_every_suffix_has_its_format():
    assert set(WRITERS) == {".png", ".tif", ".tiff", ".npy", ".npz", ".nii", ".nii.gz", ".nrrd", ".mha"}


@pytest.mark.data
def test_real_nifti_comes_back_bit_for_bit(data_folder, tmp_path):
    paths = sorted((data_folder / "hippocampus").rglob("*.nii.gz"))[::20]
    paths += [path for path in sorted((data_folder / "nifti").rglob("*.nii.gz"))[::7] if "warp" not in path.name]
    assert len(paths) > 20
    for path in paths:
        image = read_nifti(path)
        write_image(image, tmp_path / "a.nii.gz")
        again = read_nifti(tmp_path / "a.nii.gz")
        np.testing.assert_array_equal(again.affine, image.affine)
        np.testing.assert_array_equal(again.pixels, image.pixels)
        assert again.pixels.dtype == image.pixels.dtype
