"""The geometry convention, against nibabel and SimpleITK, and the laws that a turn must keep."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hounsfield.errors import ImageError
from hounsfield.images.image import Image
from hounsfield.images.orientation import (
    affine_from_directions,
    affine_from_ras,
    affine_to_ras,
    is_usable,
    orientation_of,
    patient_coordinates,
    reorient,
    spacing_of,
    turned_shape,
)

CODES = ["".join(letters) for sides in itertools.product("LR", "PA", "SI") for letters in itertools.permutations(sides)]


@st.composite
def affines(draw: st.DrawFn, tilt: float = 45) -> np.ndarray:
    """A rotated, scaled and shifted (slice, row, column) → LPS matrix, left- or right-handed."""
    angles = [90 * draw(st.integers(-2, 2)) + draw(st.floats(-tilt, tilt)) for _ in range(3)]
    spacing = [draw(st.floats(0.1, 20)) for _ in range(3)]
    flip = draw(st.sampled_from([-1, 1]))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.array(spacing) * [1, 1, flip]
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return affine


def numbered_volume(affine: np.ndarray, shape: tuple[int, int, int] = (2, 3, 4)) -> Image:
    pixels = np.arange(np.prod(shape), dtype=np.int16).reshape(*shape, 1)
    return Image(pixels=pixels, spacing=spacing_of(affine), affine=affine)


def places(image: Image) -> dict[int, np.ndarray]:
    """Value of each voxel -> where it is in the patient."""
    indices = np.stack(np.meshgrid(*(np.arange(size) for size in image.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    where = patient_coordinates(image.affine, indices)
    return dict(zip(image.pixels.reshape(-1).tolist(), where, strict=True))


def test_there_are_48_orientations():
    assert len(set(CODES)) == 48


@given(affines())
def test_ras_and_back_is_the_same_matrix(affine):
    np.testing.assert_array_equal(affine_from_ras(affine_to_ras(affine)), affine)


@given(affines(), st.lists(st.integers(0, 50), min_size=3, max_size=3))
def test_coordinates_equal_nibabel_with_two_signs_changed(affine, index):
    ras = nibabel.affines.apply_affine(affine_to_ras(affine), index[::-1])
    np.testing.assert_allclose(patient_coordinates(affine, index), ras * [-1, -1, 1], atol=1e-9)


@given(affines(), st.lists(st.integers(0, 50), min_size=3, max_size=3))
def test_coordinates_equal_simpleitk(affine, index):
    volume = SimpleITK.Image([1, 1, 1], SimpleITK.sitkUInt8)
    spacing = np.array(spacing_of(affine))
    volume.SetSpacing(spacing[::-1].tolist())
    volume.SetOrigin(affine[:3, 3].tolist())
    volume.SetDirection((affine[:3, :3] / spacing)[:, ::-1].reshape(-1).tolist())
    built = affine_from_directions(
        np.array(volume.GetOrigin()), np.array(volume.GetSpacing()), np.reshape(volume.GetDirection(), (3, 3))
    )
    np.testing.assert_allclose(built, affine, atol=1e-9)
    theirs = volume.TransformContinuousIndexToPhysicalPoint([float(value) for value in index[::-1]])
    np.testing.assert_allclose(patient_coordinates(affine, index), theirs, atol=1e-6)


@given(affines(tilt=15))
def test_orientation_is_nibabel_s_with_the_axes_reversed(affine):
    assert orientation_of(affine) == "".join(nibabel.aff2axcodes(affine_to_ras(affine)))[::-1]


def test_an_axial_slice_is_hung_canonically():
    assert orientation_of(np.eye(4)[[2, 1, 0, 3]]) == "SPL"


@settings(max_examples=60)
@given(affines(), st.sampled_from(CODES))
def test_a_turn_moves_no_voxel_in_the_patient(affine, code):
    before = numbered_volume(affine)
    after = reorient(before, code)
    old, new = places(before), places(after)
    assert old.keys() == new.keys()
    for value, place in old.items():
        np.testing.assert_allclose(new[value], place, atol=1e-9)


@settings(max_examples=60)
@given(affines(), st.sampled_from(CODES))
def test_a_turn_reaches_what_was_asked_for_and_can_be_undone(affine, code):
    # Half way between two axes either name is right.
    towards = np.sort(np.abs(affine[:3, :3]) / np.linalg.norm(affine[:3, :3], axis=0), axis=0)
    assume(np.all(towards[2] - towards[1] > 1e-6))
    before = numbered_volume(affine)
    after = reorient(before, code)
    assert orientation_of(after.affine) == code
    assert turned_shape(before.shape, orientation_of(affine), code) == after.shape
    back = reorient(after, orientation_of(affine))
    np.testing.assert_array_equal(back.pixels, before.pixels)
    np.testing.assert_allclose(back.affine, before.affine, atol=1e-9)


@pytest.mark.parametrize("code", CODES)
def test_a_turn_equals_simpleitk_s(code):
    affine = affine_from_ras(np.array([[0, -2.0, 0, 10], [3, 0, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]]))
    before = numbered_volume(affine)
    volume = SimpleITK.GetImageFromArray(before.pixels[..., 0])
    volume.SetSpacing(before.spacing[::-1])
    volume.SetOrigin(affine[:3, 3].tolist())
    volume.SetDirection((affine[:3, :3] / before.spacing)[:, ::-1].reshape(-1).tolist())
    theirs = SimpleITK.DICOMOrient(volume, code[::-1])
    after = reorient(before, code)
    np.testing.assert_array_equal(after.pixels[..., 0], SimpleITK.GetArrayFromImage(theirs))
    np.testing.assert_allclose(after.affine[:3, 3], theirs.GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(after.spacing[::-1], theirs.GetSpacing(), atol=1e-9)


@pytest.mark.parametrize("code", ["LPX", "LL", "LRS", "", "lps", "SPLL"])
def test_wrong_letters_are_refused(code):
    with pytest.raises(ImageError, match="three letters"):
        reorient(numbered_volume(np.eye(4)), code)


def test_without_a_position_there_is_nothing_to_turn():
    with pytest.raises(ImageError, match="not known"):
        reorient(Image(pixels=np.zeros((2, 2, 2, 1))))
    with pytest.raises(ImageError, match="2D"):
        reorient(Image(pixels=np.zeros((2, 2, 1)), affine=np.eye(4)))


@pytest.mark.parametrize("broken", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1.0, 1.0, 0.0, 1.0])])
def test_a_singular_matrix_is_no_geometry(broken):
    assert not is_usable(broken)
    with pytest.raises(ImageError, match="no orientation"):
        orientation_of(broken)
