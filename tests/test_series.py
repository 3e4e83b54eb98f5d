from __future__ import annotations

import gc
import logging
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.fileset import FileSet

from dicom_samples import PATIENT_NAME, make_dicom, make_series
from hounsfield.errors import ImageError
from hounsfield.images import group_series, read_image, read_series

DEPTHS = [0.0, 2.5, 5.0, 7.5, 10.0, 12.5]
# Axial, coronal, sagittal, and one turned out of all planes.
ORIENTATIONS = [
    (1, 0, 0, 0, 1, 0),
    (1, 0, 0, 0, 0, -1),
    (0, 1, 0, 0, 0, -1),
    (0.8, 0.6, 0, -0.48, 0.64, 0.6),
]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_slices_stand_in_the_order_of_their_positions_with_true_units_and_places(orientation, tmp_path) -> None:
    """Goes red when the order, the orientation or the Hounsfield units of the reader are wrong."""
    paths = make_series(tmp_path, DEPTHS, orientation=orientation)
    volume = read_series([paths[index] for index in (3, 0, 5, 1, 4, 2)])
    normal = np.cross(orientation[:3], orientation[3:])
    assert volume.shape == (6, 6, 5)
    assert volume.spacing == pytest.approx((2.5, 0.5, 0.75))
    for index, depth in enumerate(DEPTHS):
        # The sample's own rule: ten units a millimetre, one unit a row.
        np.testing.assert_array_equal(volume.pixels[index, :, 0, 0], np.round(depth * 10 + np.arange(6)))
        place = np.array([-100, -80, 30]) + normal * depth
        place = place + 4 * 0.75 * np.array(orientation[:3]) + 2 * 0.5 * np.array(orientation[3:])
        np.testing.assert_allclose((volume.affine @ [index, 2, 4, 1])[:3], place, atol=1e-4)


def test_neither_names_nor_instance_numbers_decide_the_order(tmp_path) -> None:
    paths = make_series(tmp_path, DEPTHS)
    by_name = [float(pydicom.dcmread(path).ImagePositionPatient[2]) for path in sorted(paths)]
    by_number = [float(pydicom.dcmread(p).ImagePositionPatient[2]) for p in sorted(paths, key=_instance_number)]
    assert by_name != sorted(by_name)
    assert by_number != sorted(by_number)
    (series,) = group_series(tmp_path).series
    assert [read_image(path).affine[2, 3] for path in series.paths] == [30 + depth for depth in DEPTHS]


def _instance_number(path: Path) -> int:
    return int(pydicom.dcmread(path).InstanceNumber)


@settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(angles=st.tuples(*[st.floats(-3, 3)] * 3), gap=st.floats(0.3, 8))
def test_any_orientation_agrees_with_simple_itk(angles, gap, tmp_path) -> None:
    turn = SimpleITK.Euler3DTransform((0, 0, 0), *angles).GetMatrix()
    matrix = np.array(turn).reshape(3, 3)
    orientation = tuple(np.round(np.concatenate([matrix[:, 0], matrix[:, 1]]), 12))
    shutil.rmtree(tmp_path / "s", ignore_errors=True)
    make_series(tmp_path / "s", [gap * index for index in range(4)], orientation=orientation)
    volume = read_series(tmp_path / "s")
    np.testing.assert_allclose(volume.affine, _simple_itk_affine(tmp_path / "s"), atol=1e-4)


def _simple_itk_affine(folder: Path) -> np.ndarray:
    """(slice, row, column, 1) to patient millimetres, as SimpleITK's reader of series has it."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    origin = np.array(image.TransformIndexToPhysicalPoint((0, 0, 0)))
    for axis in range(3):
        step = [0, 0, 0]
        step[2 - axis] = 1
        affine[:3, axis] = np.array(image.TransformIndexToPhysicalPoint(step)) - origin
    affine[:3, 3] = origin
    return affine


def test_missing_slices_are_named(tmp_path) -> None:
    make_series(tmp_path, [0, 2.5, 5, 10, 12.5, 20])
    with pytest.raises(
        ImageError, match=r"3 slices are missing at a spacing of 2\.5 mm \(after 35\.0, 42\.5 mm"
    ) as error:
        read_series(tmp_path)
    assert PATIENT_NAME not in str(error.value)


def test_uneven_slices_are_refused(tmp_path) -> None:
    make_series(tmp_path, [0, 2.5, 5, 8.1, 10.6])
    with pytest.raises(ImageError, match=r"unevenly spaced, from 2\.5 to 3\.1 mm"):
        read_series(tmp_path)


def test_rounded_positions_are_no_uneven_slices(tmp_path) -> None:
    make_series(tmp_path, [round(0.625 * index, 2) for index in range(8)])
    assert read_series(tmp_path).spacing[0] == pytest.approx(0.625, abs=1e-3)


def test_copies_of_a_file_are_left_out(tmp_path) -> None:
    paths = make_series(tmp_path, DEPTHS)
    shutil.copy(paths[2], tmp_path / "copy")
    (series,) = group_series(tmp_path).series
    assert len(series.paths) == 6
    assert len(series.copies) == 1
    assert read_series(series).shape[0] == 6


def test_two_slices_at_one_place_are_refused_unless_they_are_equal(tmp_path) -> None:
    paths = make_series(tmp_path, [*DEPTHS, 5.0])
    (series,) = group_series(tmp_path).series
    assert (len(series.paths), len(series.copies)) == (6, 1)
    assert read_series(tmp_path).shape == (6, 6, 5)
    dataset = pydicom.dcmread(paths[-1])
    dataset.PixelData = dataset.PixelData[:-2] + b"\0\1"
    dataset.save_as(paths[-1])
    with pytest.raises(ImageError, match="1 slices lie where another one lies"):
        read_series(tmp_path)


@pytest.mark.parametrize("keyword", ["EchoTime", "AcquisitionNumber", "TemporalPositionIdentifier"])
def test_a_mixed_series_is_taken_apart(keyword, tmp_path) -> None:
    make_series(tmp_path / "a", DEPTHS, **{keyword: 1})
    make_series(tmp_path / "b", DEPTHS, **{keyword: 2})
    grouping = group_series(tmp_path)
    assert [(series.kind, len(series.paths), series.problems) for series in grouping.series] == [("volume", 6, ())] * 2
    assert [len({path.parent for path in series.paths}) for series in grouping.series] == [1, 1]
    with pytest.raises(ImageError, match="holds 2 volumes"):
        read_series(tmp_path)


def test_orientations_and_sizes_are_taken_apart(tmp_path) -> None:
    make_series(tmp_path / "a", DEPTHS)
    make_series(tmp_path / "b", DEPTHS, orientation=(0, 1, 0, 0, 0, -1))
    make_series(tmp_path / "c", DEPTHS, PixelSpacing=[1, 1])
    make_series(tmp_path / "d", DEPTHS, SeriesInstanceUID="1.2.3.5")
    assert sorted(len(series.paths) for series in group_series(tmp_path).series) == [6, 6, 6, 6]


def test_localisers_and_other_files_stand_apart(tmp_path, caplog) -> None:
    make_series(tmp_path / "a", DEPTHS)
    make_series(tmp_path / "b", [50.0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (tmp_path / "notes.dcm").write_text("not an image")
    grouping = group_series(tmp_path)
    assert sorted(series.kind for series in grouping.series) == ["localiser", "volume"]
    assert [path.name for path, _ in grouping.refused] == ["notes.dcm"]
    with caplog.at_level(logging.WARNING):
        assert read_series(tmp_path).shape == (6, 6, 5)
    assert "notes.dcm" in caplog.text


def test_single_images_are_series_of_their_own(tmp_path) -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 4)
    for name in "ab":
        make_dicom(tmp_path / name, values, Modality="CR")
    grouping = group_series(tmp_path)
    assert [series.kind for series in grouping.series] == ["image", "image"]
    np.testing.assert_array_equal(read_series(grouping.series[0]).pixels[..., 0], values)


@pytest.mark.parametrize(("degrees", "depths"), [(12, DEPTHS), (-20, DEPTHS), (12, [0.0, 1.2, 2.4])])
def test_a_tilted_gantry_is_noticed_and_straightened(degrees, depths, tmp_path) -> None:
    """Shifted slices of a picture that is linear along its rows: interpolation must give that picture exactly."""
    tangent = np.tan(np.radians(degrees))
    # The sample moves by its rows with depth, as the table does under a tilted gantry.
    make_series(tmp_path, depths, shift=(0, tangent, 0))
    with pytest.raises(ImageError, match="tilted gantry"):
        read_series(tmp_path, tilt="refuse")
    volume = read_series(tmp_path)
    axes = volume.affine[:3, :3]
    np.testing.assert_allclose(axes.T @ axes, np.diag(np.square(volume.spacing)), atol=1e-6)
    assert volume.spacing[0] == pytest.approx(depths[1])
    for index, depth in enumerate(depths):
        values = volume.pixels[index, :, 2, 0]
        places = np.array([(volume.affine @ [index, row, 2, 1])[1] for row in range(len(values))])
        # Row r of the file lay at y = -80 + tangent * depth + 0.5 r and held 10 * depth + r.
        expected = depth * 10 + (places + 80 - tangent * depth) / 0.5
        inside = (expected >= depth * 10) & (expected <= depth * 10 + 5)
        assert inside.sum() >= 4
        np.testing.assert_allclose(values[inside], expected[inside], atol=1e-3)


def test_slices_that_wander_are_refused(tmp_path) -> None:
    make_series(tmp_path, DEPTHS)
    path = sorted(tmp_path.iterdir())[2]
    dataset = pydicom.dcmread(path)
    dataset.ImagePositionPatient[0] += 20
    dataset.save_as(path)
    with pytest.raises(ImageError, match="without a rule"):
        read_series(tmp_path)


def test_a_series_beyond_the_limit_is_refused(tmp_path) -> None:
    make_series(tmp_path, DEPTHS)
    with pytest.raises(ImageError, match="more than the limit of 100"):
        read_series(tmp_path, max_pixels=100)


def test_a_damaged_slice_is_named(tmp_path) -> None:
    paths = make_series(tmp_path, DEPTHS)
    paths[3].write_bytes(paths[3].read_bytes()[:-20])
    with pytest.raises(ImageError, match=paths[3].name):
        read_series(tmp_path)


def test_nothing_to_read(tmp_path) -> None:
    with pytest.raises(ImageError, match="no DICOM series"):
        read_series(tmp_path)
    with pytest.raises(ImageError, match="cannot be read"):
        read_series(tmp_path / "absent")


def test_slices_are_rescaled_one_by_one(tmp_path) -> None:
    """As positron emission tomography does it: each slice has a slope of its own."""
    paths = make_series(tmp_path, DEPTHS[:3])
    for index, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        dataset.RescaleSlope, dataset.RescaleIntercept = index + 1, 0
        dataset.save_as(path)
    volume = read_series(tmp_path)
    assert volume.pixels.dtype == np.float32
    expected = [(round(depth * 10) + 1024) * (index + 1) for index, depth in enumerate(DEPTHS[:3])]
    np.testing.assert_array_equal(volume.pixels[:, 0, 0, 0], expected)


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # pydicom's FileSet leaves its own
def test_a_directory_stands_for_its_files(tmp_path) -> None:
    medium = FileSet()
    for path in make_series(tmp_path / "source", DEPTHS, StudyDate="20200101", StudyTime="101010", StudyID="1"):
        dataset = pydicom.dcmread(path)
        dataset.SeriesNumber = 1
        medium.add(dataset)
    medium.write(tmp_path / "medium")
    del medium
    gc.collect()
    assert read_series(tmp_path / "medium" / "DICOMDIR").shape == (6, 6, 5)
    assert read_series(tmp_path / "medium").shape == (6, 6, 5)
    with pytest.raises(ImageError, match="DICOMDIR"):
        read_image(tmp_path / "medium" / "DICOMDIR")
    victim = next(
        path for path in sorted((tmp_path / "medium").rglob("*")) if path.is_file() and path.name != "DICOMDIR"
    )
    victim.unlink()
    grouping = group_series(tmp_path / "medium" / "DICOMDIR")
    assert [path.name for path, _ in grouping.refused] == [victim.name]


@pytest.mark.data
@pytest.mark.parametrize("name", ["ct-series", "mr-study/11-T1post-18670", "mr-study/36468-FLAIRreg-58706"])
def test_real_series_agree_with_simple_itk(name, data_folder) -> None:
    folder = data_folder / name
    volume = read_series(folder)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(volume.pixels[..., 0], SimpleITK.GetArrayFromImage(reader.Execute()))
    corners = np.array([[i, j, k, 1] for i in (0, 27) for j in (0, 511) for k in (0, 511)]).T
    np.testing.assert_allclose(volume.affine @ corners, _simple_itk_affine(folder) @ corners, atol=1e-4)


@pytest.mark.data
@pytest.mark.parametrize("name", ["ct-series", "mr-study"])
def test_slices_of_real_series_agree_with_simple_itk(name, data_folder) -> None:
    files = [path for series in group_series(data_folder / name).series for path in series.paths]
    assert len(files) == {"ct-series": 28, "mr-study": 44}[name]
    for path in files[::9]:
        image, other = read_image(path), SimpleITK.ReadImage(str(path))
        np.testing.assert_array_equal(image.pixels[..., 0], SimpleITK.GetArrayFromImage(other)[0])
        for row, column in ((0, 0), (100, 7), (image.shape[0] - 1, image.shape[1] - 1)):
            place = other.TransformIndexToPhysicalPoint((column, row, 0))
            np.testing.assert_allclose((image.affine @ [0, row, column, 1])[:3], place, atol=1e-4)
