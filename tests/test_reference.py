from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from dicom_samples import make_dicom
from hounsfield.errors import ImageError, SeveralVolumes, UsageError
from hounsfield.images import Reference, read_image

AFFINE = np.array([[-2.0, 0, 0, 10], [0, -3.0, 0, 20], [0, 0, 4.0, 30], [0, 0, 0, 1]])


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Three volumes of five slices, whose voxels hold ten times the volume plus the slice."""
    values = np.zeros((6, 7, 5, 3), np.int16)
    values += (np.arange(5)[:, np.newaxis] + 10 * np.arange(3)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / "four.nii.gz")
    return tmp_path / "four.nii.gz"


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("a/b.nii", Reference("a/b.nii")),
        ("a/b.nii[3]", Reference("a/b.nii", frame=3)),
        ("a/b.nii[3][12]", Reference("a/b.nii", 3, 12)),
        ("a[1]/b.nii", Reference("a[1]/b.nii")),
        ("a[1]/b.nii[2]", Reference("a[1]/b.nii", frame=2)),
        ("[3]", Reference("[3]")),
        ("a[-1]", Reference("a[-1]")),
        ("a[x]", Reference("a[x]")),
        ("a[1][2][3]", Reference("a[1]", 2, 3)),
    ],
)
def test_what_a_person_types(text: str, reference: Reference) -> None:
    assert Reference.parse(text) == reference
    assert Reference.parse(text).text == str(reference) == text


def test_a_file_whose_own_name_has_brackets_is_meant_as_a_whole(tmp_path) -> None:
    (tmp_path / "scan[1]").write_bytes(b"")
    assert Reference.parse("scan[1]", tmp_path) == Reference("scan[1]")
    assert Reference.parse("scan[2]", tmp_path) == Reference("scan", frame=2)
    with pytest.raises(UsageError, match="empty name"):
        Reference.parse(" ")


def test_identifiers_take_no_part_in_the_comparison() -> None:
    assert Reference("a", 1, study="1.2") == Reference("a", 1, study="1.3")
    assert len({Reference("a", 1, series="1.2"), Reference("a", 1)}) == 1
    assert Reference("a", 1) != Reference("a", 1, 0)


def test_a_single_number_counts_volumes_where_there_are_several(four) -> None:
    with pytest.raises(SeveralVolumes, match="holds 3 volumes") as caught:
        read_image(four)
    assert len(caught.value.volumes) == 3
    image = read_image(Reference.parse(f"{four}[2]"))
    assert image.reference == Reference(str(four), 2)
    np.testing.assert_array_equal(image.pixels[:, 0, 0, 0], 20 + np.arange(5))
    np.testing.assert_array_equal(read_image(four, volume=2).pixels, image.pixels)
    with pytest.raises(ImageError, match="number 3"):
        read_image(four, volume=3)


def test_a_single_number_counts_slices_where_there_is_one_volume(tmp_path) -> None:
    values = np.zeros((6, 7, 5), np.int16) + np.arange(5, dtype=np.int16)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / "one.nii")
    whole, one = read_image(tmp_path / "one.nii"), read_image(Reference.parse(f"{tmp_path / 'one.nii'}[3]"))
    assert one.reference == Reference(str(tmp_path / "one.nii"), frame=3)
    assert (one.shape, one.spacing) == ((7, 6), whole.spacing[1:])
    assert set(one.pixels.ravel()) == {3}
    np.testing.assert_allclose(one.affine @ [0, 1, 2, 1], whole.affine @ [3, 1, 2, 1])
    with pytest.raises(ImageError, match="5 frames or slices, and number 5"):
        read_image(Reference.parse(f"{tmp_path / 'one.nii'}[5]"))
    with pytest.raises(ImageError, match="holds one volume, and volume 1"):
        read_image(tmp_path / "one.nii", volume=1)


def test_a_slice_of_a_volume(four) -> None:
    image = read_image(Reference.parse(f"{four}[1][4]"))
    assert image.reference == Reference(str(four), 1, 4)
    assert set(image.pixels.ravel()) == {14}


def test_the_identifiers_of_dicom_are_found(tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), SOPInstanceUID="1.2.3.4.5")
    found = read_image(path).reference
    assert (found.path, found.study, found.series, found.instance) == (str(path), "1.2.3", "1.2.3.4", "1.2.3.4.5")
