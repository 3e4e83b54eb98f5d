"""``hounsfield convert``, as a person calls it: geometry there and back, refusals, and de-identification."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from typer.testing import CliRunner

from dicom_samples import make_series
from hounsfield.cli.main import app
from hounsfield.errors import HounsfieldError, ImageError, UsageError
from hounsfield.images import group_series, read_image, read_series
from hounsfield.images.dicom_writer import write_series
from hounsfield.images.image import Image, Metadata
from hounsfield.images.orientation import orientation_of, patient_coordinates, reorient, spacing_of
from hounsfield.images.writers import write_image

AFFINE = np.array([[0, -0.2, 0.7, -101.25], [0, 0.7, 0.2, 33.125], [3.0, 0, 0, 900.5], [0, 0, 0, 1]])


@pytest.fixture
def scan() -> Image:
    pixels = np.random.default_rng(1).integers(-1000, 1000, (4, 6, 5, 1)).astype(np.int16)
    facts = Metadata(patient="4711", windows=((40.0, 400.0),))
    return Image(pixels=pixels, spacing=spacing_of(AFFINE), affine=AFFINE, modality="CT", metadata=facts)


def convert(*words: object) -> dict:
    """Run the command; its JSON."""
    done = CliRunner().invoke(app, ["convert", *map(str, words), "--json"], catch_exceptions=False)
    return json.loads(done.stdout)


def refused(kind: type[HounsfieldError], match: str, *words: object) -> None:
    with pytest.raises(kind, match=match):
        CliRunner().invoke(app, ["convert", *map(str, words)], catch_exceptions=False, standalone_mode=False)


def assert_same_place(found: Image, expected: Image) -> None:
    found, expected = reorient(found), reorient(expected)
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)


def test_a_volume_goes_through_every_format_and_comes_back(tmp_path, scan):
    write_image(scan, tmp_path / "0.nii.gz")
    path = tmp_path / "0.nii.gz"
    for number, name in enumerate(["1.nrrd", "2.mha", "3.npz", "4.dcm", "series", "5.nii", "6.nii.gz"], start=1):
        result = convert(path, tmp_path / name)
        assert result["output"].endswith(name), number
        path = tmp_path / name
    assert_same_place(read_image(path), scan)


@pytest.mark.parametrize(
    ("elements", "is_integer"),
    [
        ({"RescaleSlope": "0.5", "RescaleIntercept": "-100.25"}, True),
        ({"RescaleSlope": "1.57802197", "RescaleIntercept": "0", "Modality": "MR"}, True),
        ({"RescaleSlope": "0.37", "RescaleIntercept": "0", "PhotometricInterpretation": "MONOCHROME1"}, True),
        # Near zero the intercept cancels the values, and more than the last digit would be lost.
        ({"RescaleSlope": "0.37", "RescaleIntercept": "-382.21"}, False),
    ],
)
def test_rescaled_integers_stay_integers_in_nifti(elements, is_integer, tmp_path):
    """As in dcm2niix, whose integers, slope and intercept are the same."""
    paths = make_series(tmp_path / "in", [0.0, 2.0, 4.0], **elements)
    before = read_series(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "a.nii.gz")
    written = nibabel.load(tmp_path / "a.nii.gz")
    stored = np.asanyarray(written.dataobj.get_unscaled())
    assert (stored.dtype.kind == "i") == is_integer
    after = read_image(tmp_path / "a.nii.gz")
    assert after.pixels.dtype == np.float32
    # By no more than the last digit, here and in nibabel.
    np.testing.assert_array_max_ulp(after.pixels, before.pixels, 1)
    np.testing.assert_array_max_ulp(np.asarray(written.dataobj, np.float32).T[..., np.newaxis], before.pixels, 1)
    if is_integer and "PhotometricInterpretation" not in elements:
        slope, intercept = (np.float32(elements[name]) for name in ("RescaleSlope", "RescaleIntercept"))
        assert (written.dataobj.slope, written.dataobj.inter) == (slope, intercept)
        assert set(stored.ravel()) == {value for path in paths for value in pydicom.dcmread(path).pixel_array.ravel()}
        convert(tmp_path / "a.nii.gz", tmp_path / "b.nii")
        again = nibabel.load(tmp_path / "b.nii")
        np.testing.assert_array_equal(again.dataobj.get_unscaled(), stored)
        assert (again.dataobj.slope, again.dataobj.inter) == (slope, intercept)


def test_slices_of_several_slopes_are_floats_in_nifti(tmp_path):
    (tmp_path / "in").mkdir()
    for number, slope in enumerate(("0.37", "0.41")):
        make_series(tmp_path / "in" / str(number), [2.0 * number], RescaleSlope=slope, RescaleIntercept="0")
    before = read_series(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "a.nii")
    assert nibabel.load(tmp_path / "a.nii").get_data_dtype() == np.float32
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").pixels, before.pixels)


def test_a_folder_that_is_more_than_a_series_is_never_replaced(tmp_path, scan, monkeypatch):
    write_image(scan, tmp_path / "a.nii.gz")
    refused(UsageError, "holds the input", tmp_path / "a.nii.gz", tmp_path, "--overwrite")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    refused(UsageError, "first 'notes.txt'", tmp_path / "a.nii.gz", tmp_path / "other", "--overwrite")
    assert (tmp_path / "other" / "notes.txt").exists()
    convert(tmp_path / "a.nii.gz", tmp_path / "series")
    convert(tmp_path / "a.nii.gz", tmp_path / "series", "--overwrite")
    assert len(list((tmp_path / "series").iterdir())) == 4
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    convert(tmp_path / "a.nii.gz", ".")
    assert len(list((tmp_path / "empty").iterdir())) == 4


def test_a_replaced_series_leaves_no_slice_of_the_old_one(tmp_path, scan, monkeypatch):
    write_image(scan, tmp_path / "long.nii.gz")
    write_image(scan.replace(pixels=scan.pixels[:2]), tmp_path / "short.nii.gz")
    convert(tmp_path / "long.nii.gz", tmp_path / "series")

    def fail(*_):
        raise OSError("the disk went away")

    with monkeypatch.context() as broken:
        broken.setattr("hounsfield.atomic._switch", fail)
        done = CliRunner().invoke(app, ["convert", f"{tmp_path}/short.nii.gz", f"{tmp_path}/series", "--overwrite"])
        assert done.exit_code == 1
    assert read_series(group_series(tmp_path / "series").series[0]).shape[0] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.nii.gz", "series", "short.nii.gz"]
    convert(tmp_path / "short.nii.gz", tmp_path / "series", "--overwrite")
    assert read_series(group_series(tmp_path / "series").series[0]).shape[0] == 2


def test_the_result_says_what_was_written(tmp_path, scan):
    write_image(scan, tmp_path / "a.nii.gz")
    result = convert(tmp_path / "a.nii.gz", tmp_path / "b.nrrd", "--orientation", "SPL")
    assert result["shape"] == [4, 6, 5, 1]
    assert result["type"] == "int16"
    assert result["orientation"] == "SPL"
    assert orientation_of(read_image(tmp_path / "b.nrrd").affine) == "SPL"
    done = CliRunner().invoke(app, ["convert", str(tmp_path / "a.nii.gz"), str(tmp_path / "c.nii")])
    assert "orientation: SPL" in done.stdout


def test_a_dicom_series_becomes_a_volume_where_simpleitk_puts_it(tmp_path, scan):
    (tmp_path / "in").mkdir()
    write_series(scan, tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "a.nii.gz")
    theirs = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    slices = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "in")))
    for index in ([0, 0, 0], [4, 5, 3]):
        np.testing.assert_allclose(
            theirs.TransformIndexToPhysicalPoint(index), slices.TransformIndexToPhysicalPoint(index), atol=1e-4
        )
    convert(tmp_path / "a.nii.gz", tmp_path / "back")
    assert_same_place(read_series(tmp_path / "back"), scan)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".npz"])
def test_hounsfield_units_are_written_as_integers(tmp_path, scan, suffix):
    (tmp_path / "in").mkdir()
    for path in write_series(scan, tmp_path / "in"):
        slice_ = pydicom.dcmread(path)
        slice_.RescaleIntercept = -24
        slice_.save_as(path)
    result = convert(tmp_path / "in", tmp_path / f"a{suffix}")
    assert result["type"] == "int16"
    np.testing.assert_array_equal(
        reorient(read_image(tmp_path / f"a{suffix}")).pixels, reorient(scan).pixels - np.int16(24)
    )


def test_a_derived_series_refers_to_its_sources(tmp_path, scan):
    (tmp_path / "in").mkdir()
    paths = write_series(scan, tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "a.dcm")
    written = pydicom.dcmread(tmp_path / "a.dcm")
    referenced = {item.ReferencedSOPInstanceUID for item in written.SourceImageSequence}
    assert referenced == {pydicom.dcmread(path).SOPInstanceUID for path in paths}
    assert written.StudyInstanceUID == pydicom.dcmread(paths[0]).StudyInstanceUID


def test_pictures_get_the_window_that_is_said_or_the_file_s_own(tmp_path, scan):
    write_image(scan.replace(pixels=scan.pixels[0], spacing=None, affine=None), tmp_path / "a.dcm")
    arguments = ["convert", str(tmp_path / "a.dcm"), str(tmp_path / "a.png")]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "own window" in done.stderr
    assert read_image(tmp_path / "a.png").pixels.dtype == np.uint8
    convert(tmp_path / "a.dcm", tmp_path / "b.png", "--window", "lung")
    convert(tmp_path / "a.dcm", tmp_path / "c.png", "--window", "-600,1500")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png").pixels, read_image(tmp_path / "c.png").pixels)
    refused(UsageError, "CENTER,WIDTH", tmp_path / "a.dcm", tmp_path / "d.png", "--window", "liver")
    refused(ImageError, "window", tmp_path / "a.dcm", tmp_path / "d.nrrd", "--window", "lung")


def test_a_lost_geometry_is_said(tmp_path, scan):
    write_image(scan.replace(pixels=scan.pixels[0], spacing=(0.7, 0.8), affine=None), tmp_path / "a.nii")
    done = CliRunner().invoke(
        app, ["convert", str(tmp_path / "a.nii"), str(tmp_path / "a.tif")], catch_exceptions=False
    )
    assert "no place for geometry" in done.stderr


def test_a_frame_can_be_chosen(tmp_path):
    series = np.arange(120, dtype=np.int16).reshape(5, 2, 3, 4)
    volume = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(one) for one in series])
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        SimpleITK.WriteImage(volume, str(tmp_path / f"a{suffix}"))
        refused(ImageError, "--volume 0", tmp_path / f"a{suffix}", tmp_path / "b.nii")
        for choice in (["--frame", 2], ["--volume", 2]):
            convert(tmp_path / f"a{suffix}", tmp_path / "b.npy", *choice, "--overwrite")
            np.testing.assert_array_equal(np.load(tmp_path / "b.npy")[..., 0], series[2])
        convert(f"{tmp_path}/a{suffix}[3]", tmp_path / "b.npy", "--overwrite")
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy")[..., 0], series[3])
        convert(f"{tmp_path}/a{suffix}[3][1]", tmp_path / "b.npy", "--overwrite")
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy")[..., 0], series[3][1])
        refused(ImageError, "number 5", tmp_path / f"a{suffix}", tmp_path / "d.npy", "--volume", 5)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(series[0]), str(tmp_path / "c.nii"))
    convert(tmp_path / "c.nii", tmp_path / "c.npy", "--frame", 1)
    np.testing.assert_array_equal(np.load(tmp_path / "c.npy")[..., 0], series[0][1])
    refused(ImageError, "one volume", tmp_path / "c.nii", tmp_path / "d.npy", "--volume", 1)
    refused(ImageError, "2 frames", tmp_path / "c.nii", tmp_path / "d.npy", "--frame", 2)


def test_wrong_calls_are_refused_and_write_nothing(tmp_path, scan):
    path = tmp_path / "a.nii.gz"
    write_image(scan, path)
    before = path.read_bytes()
    (tmp_path / "empty").mkdir()
    refused(ImageError, "does not exist", tmp_path / "absent.nii", tmp_path / "b.nii")
    refused(UsageError, "does not exist", path, tmp_path / "new" / "b.nrrd")
    refused(ImageError, "No writer", path, tmp_path / "b.xyz")
    refused(ImageError, "no DICOM series", tmp_path / "empty", tmp_path / "b.nii")
    refused(ImageError, "2D image", path, tmp_path / "b.png", "--window", "lung")
    refused(UsageError, "keeps the values", path, tmp_path / "series", "--window", "lung")
    refused(ImageError, "three letters", path, tmp_path / "b.nii", "--orientation", "UP")
    refused(UsageError, "never replaced", path, path, "--overwrite")
    write_image(scan, tmp_path / "b.nii")
    refused(UsageError, "--overwrite", path, tmp_path / "b.nii")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.nii.gz", "b.nii", "empty"]
    assert path.read_bytes() == before
    convert(path, tmp_path / "b.nii", "--overwrite")


def test_a_folder_of_two_series_is_refused(tmp_path, scan):
    for name in ("one", "two"):
        (tmp_path / "in" / name).mkdir(parents=True)
        write_series(scan, tmp_path / "in" / name)
    refused(ImageError, "holds 2 volumes", tmp_path / "in", tmp_path / "a.nii.gz")


def test_a_series_is_deidentified_and_still_one_volume(tmp_path, scan):
    (tmp_path / "in").mkdir()
    write_series(scan, tmp_path / "in")
    (tmp_path / "in" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 50)
    words = [tmp_path / "in", tmp_path / "out", "--deidentify", "--key-file", tmp_path / "key", "--keep-pixels"]
    result = convert(*words)
    assert (result["files"], result["left_out"]) == (4, 1)
    assert len(result["burned_in"]) == 4  # what Hounsfield wrote is a capture
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.startswith("HF-")
    assert_same_place(read_series(folder), scan)
    assert not [path for path in folder.iterdir() if b"4711" in path.read_bytes()]
    names = {path.name for path in folder.iterdir()}
    convert(*words, "--overwrite")
    assert {path.name for path in folder.iterdir()} == names  # the key was kept, so the identities are


def test_one_file_is_deidentified(tmp_path, scan):
    write_image(scan, tmp_path / "a.dcm")
    convert(tmp_path / "a.dcm", tmp_path / "b.dcm", "--deidentify", "--key-file", tmp_path / "key", "--keep-pixels")
    assert pydicom.dcmread(tmp_path / "b.dcm").PatientID.startswith("HF-")
    np.testing.assert_array_equal(read_image(tmp_path / "b.dcm").pixels, read_image(tmp_path / "a.dcm").pixels)


def test_deidentification_needs_a_key_and_like_for_like(tmp_path, scan):
    write_image(scan, tmp_path / "a.dcm")
    key = ["--key-file", tmp_path / "key"]
    refused(UsageError, "--key-file", tmp_path / "a.dcm", tmp_path / "b.dcm", "--deidentify")
    refused(UsageError, "--deidentify, which was not given", tmp_path / "a.dcm", tmp_path / "b.dcm", *key)
    refused(UsageError, "--deidentify", tmp_path / "a.dcm", tmp_path / "b.dcm", "--keep-characteristics")
    refused(UsageError, "pixels", tmp_path / "a.dcm", tmp_path / "b.nii", "--deidentify", *key)
    refused(UsageError, "pixels", tmp_path / "a.dcm", tmp_path / "b.dcm", "--deidentify", "--window", "lung", *key)
    refused(UsageError, "like into like", tmp_path / "a.dcm", tmp_path / "b", "--deidentify", *key)
    refused(UsageError, "like into like", tmp_path, tmp_path / "b.dcm", "--deidentify", *key)
    np.save(tmp_path / "c.npy", np.zeros((4, 4)))
    refused(UsageError, "is for DICOM", tmp_path / "c.npy", tmp_path / "d.npy", "--deidentify", *key)
    (tmp_path / "c.npy").unlink()
    (tmp_path / "key").write_text("short")
    refused(ImageError, "at least 16", tmp_path / "a.dcm", tmp_path / "b.dcm", "--deidentify", *key)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.dcm", "key"]


@pytest.mark.data
@pytest.mark.parametrize("name", ["ct-series", "mr-study"])
def test_real_series_keep_their_geometry_through_nifti_and_back(data_folder, tmp_path, name):
    series = next(one for one in group_series(data_folder / name).series if one.kind == "volume")
    folder = tmp_path / "in"
    folder.mkdir()
    for path in series.paths:
        (folder / path.name).symlink_to(path)
    before = read_series(folder)
    convert(folder, tmp_path / "a.nii")
    middle = read_image(tmp_path / "a.nii")
    convert(tmp_path / "a.nii", tmp_path / "back")
    after = read_series(tmp_path / "back")
    corners = np.array([[0, 0, 0], [size - 1 for size in before.shape]])
    expected = patient_coordinates(before.affine, corners)
    np.testing.assert_allclose(patient_coordinates(middle.affine, corners), expected, atol=1e-4)
    np.testing.assert_array_equal(middle.pixels, before.pixels)
    assert_same_place(after, before)
    theirs = SimpleITK.ReadImage(str(tmp_path / "a.nii"))
    points = [theirs.TransformIndexToPhysicalPoint([int(value) for value in corner[::-1]]) for corner in corners]
    np.testing.assert_allclose(expected, points, atol=1e-4)
