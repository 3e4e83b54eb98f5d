"""NIfTI, NRRD, MetaImage and .npz volumes, each held against the other library, and files that lie."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from hounsfield.errors import ImageError
from hounsfield.images import image_files, read_image
from hounsfield.images.arrays import read_array
from hounsfield.images.image import Image
from hounsfield.images.metaimage import read_metaimage
from hounsfield.images.nifti import read_nifti
from hounsfield.images.nrrd import read_nrrd
from hounsfield.images.orientation import orientation_of, patient_coordinates
from hounsfield.images.writers import write_image

RAS = np.array([[0, -2.0, 0.5, 10], [3, 0, 0, 20], [0, 0.1, 4, 30], [0, 0, 0, 1]])
ORTHOGONAL = np.array([[0, -2.0, 0, 10], [3, 0, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]])


def voxels(dtype: str = "int16", shape: tuple[int, ...] = (4, 3, 2)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def write_nifti(
    path: Path, values: np.ndarray, affine: np.ndarray | None = ORTHOGONAL, kind=nibabel.Nifti1Image
) -> Path:
    image = kind(values, affine, dtype=values.dtype)
    if affine is not None:
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
    nibabel.save(image, path)
    return path


def edit_header(path: Path, offset: int, form: str, *values: float) -> Path:
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, offset, *values)
    path.write_bytes(content)
    return path


def itk_volume(values: np.ndarray) -> SimpleITK.Image:
    volume = SimpleITK.GetImageFromArray(values, isVector=False)
    volume.SetSpacing([1.5, 2.0, 3.0])
    volume.SetOrigin([10.0, -20.0, 30.0])
    volume.SetDirection([0, 1, 0, -1, 0, 0, 0, 0, 1])
    return volume


def corners(image: Image) -> np.ndarray:
    return np.array([[0, 0, 0], [size - 1 for size in image.shape], [1, 2, 0]])


def assert_placed_as_simpleitk(image: Image, path: Path) -> None:
    theirs = SimpleITK.ReadImage(str(path))
    points = [
        theirs.TransformContinuousIndexToPhysicalPoint([float(value) for value in index[::-1]])
        for index in corners(image)
    ]
    np.testing.assert_allclose(patient_coordinates(image.affine, corners(image)), points, atol=1e-4)
    np.testing.assert_allclose(image.spacing[::-1], theirs.GetSpacing(), atol=1e-4)


def assert_placed_as_nibabel(image: Image, path: Path) -> None:
    points = nibabel.affines.apply_affine(nibabel.load(path).affine, corners(image)[:, ::-1]) * [-1, -1, 1]
    np.testing.assert_allclose(patient_coordinates(image.affine, corners(image)), points, atol=1e-4)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr"])
def test_nifti_keeps_values_and_type(tmp_path, dtype, suffix):
    values = voxels(dtype)
    kind = nibabel.Nifti1Pair if suffix == ".hdr" else nibabel.Nifti1Image
    image = read_nifti(write_nifti(tmp_path / f"a{suffix}", values, kind=kind))
    assert image.pixels.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.pixels[..., 0].T, values)
    assert image.pixels.flags.c_contiguous
    assert not image.pixels.flags.writeable


def test_nifti_2_and_big_endian(tmp_path):
    values = voxels("int16")
    image = read_nifti(write_nifti(tmp_path / "two.nii", values, kind=nibabel.Nifti2Image))
    np.testing.assert_array_equal(image.pixels[..., 0].T, values)
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(values, ORTHOGONAL, header), tmp_path / "big.nii")
    image = read_nifti(tmp_path / "big.nii")
    assert image.pixels.dtype.isnative
    np.testing.assert_array_equal(image.pixels[..., 0].T, values)
    assert_placed_as_simpleitk(image, tmp_path / "big.nii")


def test_nifti_slope_is_applied(tmp_path):
    path = write_nifti(tmp_path / "a.nii", voxels())
    edit_header(path, 112, "<ff", 0.5, -1024.0)
    image = read_nifti(path)
    assert image.pixels.dtype == np.float32
    np.testing.assert_allclose(image.pixels[..., 0].T, nibabel.load(path).get_fdata(), rtol=1e-6)
    np.testing.assert_allclose(
        image.pixels[..., 0], SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))), rtol=1e-6
    )
    edit_header(path, 112, "<ff", 0.0, 5.0)
    assert read_nifti(path).pixels.dtype == np.int16
    edit_header(path, 112, "<ff", 2.0, np.nan)
    with pytest.raises(ImageError, match="scl_inter"):
        read_nifti(path)


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (1, 1), (2, 1), (1, 4)])
def test_nifti_takes_the_sform_before_the_qform(tmp_path, codes):
    image = nibabel.Nifti1Image(voxels(), ORTHOGONAL)
    other = ORTHOGONAL.copy()
    other[:3, 3] += 7
    image.set_sform(other, codes[0])
    image.set_qform(ORTHOGONAL, codes[1])
    nibabel.save(image, tmp_path / "a.nii")
    assert_placed_as_nibabel(read_nifti(tmp_path / "a.nii"), tmp_path / "a.nii")


def test_nifti_without_codes_has_a_spacing_and_no_position(tmp_path):
    image = nibabel.Nifti1Image(voxels(), None)
    image.header.set_zooms((2.0, 3.0, 4.0))
    nibabel.save(image, tmp_path / "a.nii")
    read = read_nifti(tmp_path / "a.nii")
    assert read.affine is None
    assert read.spacing == (4.0, 3.0, 2.0)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("meter", 1000), ("micron", 0.001)])
def test_nifti_lengths_become_millimetres(tmp_path, unit, factor):
    path = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(voxels(), ORTHOGONAL)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    read = read_nifti(path)
    np.testing.assert_allclose(read.spacing, np.array([4, 2, 3]) * factor, rtol=1e-6)
    assert_placed_as_simpleitk(read, path)


def test_nifti_with_shear_keeps_its_matrix(tmp_path):
    path = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(voxels(), RAS)
    nibabel.save(image, path)
    assert_placed_as_nibabel(read_nifti(path), path)


def test_nifti_four_dimensions_need_a_choice(tmp_path):
    values = voxels(shape=(4, 3, 2, 5))
    for name in ("a.nii", "a.nii.gz"):
        path = write_nifti(tmp_path / name, values)
        with pytest.raises(ImageError, match="5 volumes"):
            read_nifti(path)
        for frame in range(5):
            np.testing.assert_array_equal(read_nifti(path, volume=frame).pixels[..., 0].T, values[..., frame])
        with pytest.raises(ImageError, match="number 5"):
            read_nifti(path, volume=5)
    path = write_nifti(tmp_path / "one.nii", values[..., :1])
    np.testing.assert_array_equal(read_nifti(path).pixels[..., 0].T, values[..., 0])


def test_nifti_displacement_fields_are_refused(tmp_path):
    image = nibabel.Nifti1Image(voxels("float32", (4, 3, 2, 1, 3)), ORTHOGONAL)
    image.header.set_intent("vector")
    nibabel.save(image, tmp_path / "warp.nii.gz")
    with pytest.raises(ImageError, match="5-D vector field"):
        read_nifti(tmp_path / "warp.nii.gz")


def test_nifti_colour_and_two_dimensions(tmp_path):
    colour = np.zeros((4, 3, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for channel, name in enumerate("RGB"):
        colour[name] = voxels("uint8") + channel
    nibabel.save(nibabel.Nifti1Image(colour, ORTHOGONAL), tmp_path / "rgb.nii")
    image = read_nifti(tmp_path / "rgb.nii")
    assert image.pixels.shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(image.pixels[..., 2].T, voxels("uint8") + 2)
    flat = read_nifti(write_nifti(tmp_path / "flat.nii", voxels(shape=(4, 3))))
    assert (flat.rank, flat.shape, flat.spacing) == (2, (3, 4), (2.0, 3.0))
    nibabel.save(nibabel.Nifti1Image(voxels().astype(np.complex64), ORTHOGONAL), tmp_path / "complex.nii")
    with pytest.raises(ImageError, match="complex"):
        read_nifti(tmp_path / "complex.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_that_is_cut_short_is_refused(tmp_path, suffix):
    whole = write_nifti(tmp_path / f"a{suffix}", voxels(shape=(30, 30, 30))).read_bytes()
    path = tmp_path / f"cut{suffix}"
    for length in [0, 1, 3, 100, 347, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ImageError):
            read_nifti(path)


def test_nifti_with_a_wrong_checksum_is_refused(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", voxels(shape=(30, 30, 30)))
    edit_header(path, path.stat().st_size - 6, "<B", 0x5A)
    with pytest.raises(ImageError, match="cannot be read as NIfTI"):
        read_nifti(path)


def test_nifti_in_several_gzip_members_reads(tmp_path):
    values = voxels(shape=(30, 30, 30))
    content = write_nifti(tmp_path / "a.nii", values).read_bytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(
        gzip.compress(content[:200]) + gzip.compress(content[200:5000]) + gzip.compress(content[5000:]) + b"\0" * 9
    )
    np.testing.assert_array_equal(read_nifti(path).pixels[..., 0].T, values)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_that_declares_a_huge_image_is_refused_at_once(tmp_path, suffix):
    path = edit_header(write_nifti(tmp_path / "a.nii", voxels()), 40, "<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)
    bounded = edit_header(write_nifti(tmp_path / "b.nii", voxels()), 40, "<8h", 3, 1200, 1200, 1200, 1, 1, 1, 1)
    if suffix == ".nii.gz":
        for file in (path, bounded):
            file.write_bytes(gzip.compress(file.read_bytes()))
    with pytest.raises(ImageError, match="more than the 2,147,483,648 allowed"):
        read_nifti(path)
    with pytest.raises(ImageError, match="more than a file of"):
        read_nifti(bounded)
    with pytest.raises(ImageError, match="more than the 10 allowed"):
        read_nifti(write_nifti(tmp_path / "c.nii", voxels()), 10)


@pytest.mark.parametrize(
    ("offset", "form", "values", "words"),
    [
        (344, "<4s", (b"oops",), "is not NIfTI"),
        (0, "<i", (7,), "is not NIfTI"),
        (40, "<h", (9,), "dimensions"),
        (42, "<h", (-3,), "dimensions"),
        (70, "<h", (1,), "datatype 1"),
        (70, "<h", (77,), "datatype 77"),
        (108, "<f", (np.nan,), "places its voxels"),
        (108, "<f", (1e30,), "places its voxels"),
        (108, "<f", (1e6,), "more than a file"),
        (280, "<12f", (0.0,) * 12, "position in the patient"),
    ],
)
def test_nifti_with_a_damaged_header_is_refused(tmp_path, offset, form, values, words):
    path = edit_header(write_nifti(tmp_path / "a.nii", voxels()), offset, form, *values)
    edit_header(path, 252, "<h", 0)
    with pytest.raises(ImageError, match=words):
        read_nifti(path)


def test_nifti_with_a_broken_sform_falls_back_on_the_qform(tmp_path, caplog):
    path = write_nifti(tmp_path / "a.nii", voxels())
    expected = read_nifti(path).affine
    edit_header(path, 280, "<12f", *(0.0,) * 12)
    np.testing.assert_allclose(read_nifti(path).affine, expected, atol=1e-5)
    assert "its position is that of the qform" in caplog.text


@pytest.mark.parametrize("qfac", [0.0, 3.0])
def test_nifti_whose_qfac_is_neither_sign_is_read_as_one(tmp_path, qfac):
    path = write_nifti(tmp_path / "a.nii", voxels())
    edit_header(path, 252, "<2h", 1, 0)
    expected = read_nifti(path).affine
    edit_header(path, 76, "<f", qfac)
    np.testing.assert_array_equal(read_nifti(path).affine, expected)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_fourth_channel_is_not_dropped(tmp_path, suffix):
    values = np.arange(96, dtype=np.int16).reshape(2, 3, 4, 4)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values, isVector=True), str(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").pixels, values)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_nrrd_and_metaimage_keep_values_type_and_place(tmp_path, suffix, compressed, dtype):
    values = voxels(dtype)
    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(itk_volume(values), str(path), compressed)
    image = read_nrrd(path) if suffix == ".nrrd" else read_metaimage(path)
    assert image.pixels.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.pixels[..., 0], values)
    assert_placed_as_simpleitk(image, path)
    assert image.spacing == (3.0, 2.0, 1.5)


def test_nrrd_and_metaimage_agree_with_nibabel_on_the_same_volume(tmp_path):
    SimpleITK.WriteImage(itk_volume(voxels()), str(tmp_path / "a.nii.gz"))
    SimpleITK.WriteImage(itk_volume(voxels()), str(tmp_path / "a.nrrd"))
    assert_placed_as_nibabel(read_nrrd(tmp_path / "a.nrrd"), tmp_path / "a.nii.gz")
    ours = read_nifti(tmp_path / "a.nii.gz")
    assert orientation_of(ours.affine) == orientation_of(read_nrrd(tmp_path / "a.nrrd").affine)


NRRD = "NRRD0004\ntype: short\ndimension: 3\n{space}sizes: 4 3 2\nencoding: raw\nendian: little\n{rest}\n"
DIRECTIONS = "space directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (5,6,7)\n"


@pytest.mark.parametrize(
    ("space", "signs"),
    [("left-posterior-superior", (1, 1, 1)), ("right-anterior-superior", (-1, -1, 1)), ("LAS", (1, -1, 1))],
)
def test_nrrd_spaces_become_lps(tmp_path, space, signs):
    path = tmp_path / "a.nrrd"
    path.write_bytes(
        NRRD.format(space=f"space: {space}\n", rest=DIRECTIONS).encode() + voxels(shape=(2, 3, 4)).tobytes()
    )
    image = read_nrrd(path)
    np.testing.assert_allclose(image.affine[:3, 3], np.array([5, 6, 7]) * signs)
    np.testing.assert_allclose(image.affine[:3, 2], np.array([1, 0, 0]) * signs)


@pytest.mark.parametrize(("space", "rest"), [("", "spacings: 1 2 3\n"), ("space: scanner-xyz\n", DIRECTIONS)])
def test_nrrd_without_a_space_of_the_patient_has_no_position(tmp_path, space, rest):
    path = tmp_path / "a.nrrd"
    path.write_bytes(NRRD.format(space=space, rest=rest).encode() + voxels(shape=(2, 3, 4)).tobytes())
    image = read_nrrd(path)
    assert image.affine is None
    assert image.spacing == (3.0, 2.0, 1.0)


@pytest.mark.parametrize(
    ("units", "factor"), [("um", 0.001), ("\u00b5m", 0.001), ("cm", 10), ("mm", 1), ("parsec", 1)], ids=str
)
def test_nrrd_lengths_become_millimetres(tmp_path, units, factor):
    data = voxels(shape=(2, 3, 4)).tobytes()
    named = " ".join([f'"{units}"'] * 3)
    placed = NRRD.format(space="space: LPS\n", rest=f"{DIRECTIONS}space units: {named}\n").encode()
    (tmp_path / "a.nrrd").write_bytes(placed + data)
    image = read_nrrd(tmp_path / "a.nrrd")
    np.testing.assert_allclose(image.spacing, np.array([3, 2, 1]) * factor)
    np.testing.assert_allclose(image.affine[:3, 3], np.array([5, 6, 7]) * factor)
    np.testing.assert_allclose(np.linalg.norm(image.affine[:3, :3], axis=0), image.spacing)
    unplaced = NRRD.format(space="", rest=f"spacings: 1 2 3\nunits: {named}\n").encode()
    (tmp_path / "b.nrrd").write_bytes(unplaced + data)
    np.testing.assert_allclose(read_nrrd(tmp_path / "b.nrrd").spacing, np.array([3, 2, 1]) * factor)


def test_nrrd_axes_in_several_units_are_refused(tmp_path):
    header = NRRD.format(space="space: LPS\n", rest=f'{DIRECTIONS}space units: "mm" "mm" "um"\n').encode()
    (tmp_path / "a.nrrd").write_bytes(header + voxels(shape=(2, 3, 4)).tobytes())
    with pytest.raises(ImageError, match="several units"):
        read_nrrd(tmp_path / "a.nrrd")


def test_itk_frames_colour_and_vector_fields(tmp_path):
    series = voxels(shape=(5, 2, 3, 4))
    SimpleITK.WriteImage(
        SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(one) for one in series]), str(tmp_path / "a.mha")
    )
    with pytest.raises(ImageError, match="5 volumes"):
        read_metaimage(tmp_path / "a.mha")
    np.testing.assert_array_equal(read_metaimage(tmp_path / "a.mha", volume=3).pixels[..., 0], series[3])
    colour = voxels("uint8", (2, 3, 4, 3))
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(colour, isVector=True), str(tmp_path / "c.nrrd"))
    np.testing.assert_array_equal(read_nrrd(tmp_path / "c.nrrd").pixels, colour)
    field = SimpleITK.GetImageFromArray(colour.astype(np.float32), isVector=True)
    SimpleITK.WriteImage(field, str(tmp_path / "f.mha"))
    with pytest.raises(ImageError, match="vector field"):
        read_metaimage(tmp_path / "f.mha")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_itk_damage_is_refused(tmp_path, suffix, compressed):
    read = read_nrrd if suffix == ".nrrd" else read_metaimage
    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(itk_volume(voxels(shape=(20, 30, 40))), str(path), compressed)
    content = path.read_bytes()
    for length in (0, 5, 60, len(content) // 2, len(content) - 9):
        path.write_bytes(content[:length])
        with pytest.raises(ImageError):
            read(path)
    if compressed:
        damaged = bytearray(content)
        damaged[-2000] ^= 0x55
        path.write_bytes(damaged)
        with pytest.raises(ImageError):
            read(path)


@pytest.mark.parametrize(
    "sizes", [b"40000 40000 4000", b"800 800 400", b"0 1 1", b"-4 3 2", b"4 3", b"4 3 99999999999999999999"]
)
def test_itk_headers_that_lie_are_refused(tmp_path, sizes):
    for suffix, read in ((".nrrd", read_nrrd), (".mha", read_metaimage)):
        path = tmp_path / f"a{suffix}"
        SimpleITK.WriteImage(itk_volume(voxels(shape=(2, 3, 4))), str(path))
        content = path.read_bytes()
        assert b"4 3 2" in content
        path.write_bytes(content.replace(b"4 3 2", sizes))
        with pytest.raises(ImageError):
            read(path)


def test_itk_data_files_elsewhere_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    SimpleITK.WriteImage(itk_volume(voxels()), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").rename(tmp_path / "other" / "a.raw")
    header = tmp_path / "a.mhd"
    with pytest.raises(ImageError, match="not there"):
        read_metaimage(header)
    for name in ("other/a.raw", "../a.raw", "/etc/passwd", "LIST", "a%03d.raw 1 2 1"):
        header.write_text(header.read_text().rpartition("ElementDataFile")[0] + f"ElementDataFile = {name}\n")
        with pytest.raises(ImageError, match="same folder"):
            read_metaimage(header)


def meta(values: np.ndarray, *lines: str, end: str = "\n", data: str = "LOCAL", kind: str = "MET_SHORT") -> bytes:
    """A MetaImage header of 2 × 3 × 4 voxels, and its voxels where they are local."""
    fields = ["ObjectType = Image", "NDims = 3", "DimSize = 2 3 4", f"ElementType = {kind}", *lines]
    header = "\n".join([*fields, f"ElementDataFile = {data}"]) + end
    return header.encode() + (values.tobytes() if data == "LOCAL" else b"")


SMALL = np.arange(24, dtype="<i2").reshape(4, 3, 2)
PLACED = ("ElementSpacing = 1 2 3", "Offset = 10 20 30")


@pytest.mark.parametrize("name", ["a.raw", "./a.raw"])
def test_mhd_needs_no_line_end_and_its_folder_may_be_named(tmp_path, name):
    (tmp_path / "a.raw").write_bytes(SMALL.tobytes())
    (tmp_path / "a.mhd").write_bytes(meta(SMALL, *PLACED, end="", data=name))
    image = read_metaimage(tmp_path / "a.mhd")
    np.testing.assert_array_equal(image.pixels[..., 0], SMALL)
    assert_placed_as_simpleitk(image, tmp_path / "a.mhd")


@pytest.mark.parametrize("size", [None, 1, "right"])
def test_compressed_metaimage_is_inflated_whatever_it_says_of_its_length(tmp_path, size):
    values = voxels("int16", (16, 32, 32))
    deflated = zlib.compress(values.tobytes())
    lines = [] if size is None else [f"CompressedDataSize = {len(deflated) if size == 'right' else size}"]
    header = meta(values, "CompressedData = True", *PLACED, *lines, end="\n").replace(b"2 3 4", b"32 32 16")
    (tmp_path / "a.mha").write_bytes(header[: header.index(b"LOCAL\n") + 6] + deflated)
    np.testing.assert_array_equal(read_metaimage(tmp_path / "a.mha").pixels[..., 0], values)


@pytest.mark.parametrize(
    "lines", [(), ("Offset = 1 2 3",), ("ElementSpacing = 1 nan 2", "TransformMatrix = 1 0 0 0 1 0 0 0 1")]
)
def test_metaimage_without_a_spacing_has_none_and_no_position(tmp_path, lines):
    (tmp_path / "a.mha").write_bytes(meta(SMALL, *lines))
    image = read_metaimage(tmp_path / "a.mha")
    assert (image.spacing, image.affine) == (None, None)


def test_metaimage_of_other_forms(tmp_path):
    path = tmp_path / "a.mha"
    oblique = "TransformMatrix = 0.8 0.6 0 -0.6 0.8 0 0 0 1"
    for lines, dtype, kind in [
        (("BinaryDataByteOrderMSB = True", *PLACED, oblique), ">i2", "MET_SHORT"),
        (("ElementByteOrderMSB = True", *PLACED), ">f4", "MET_FLOAT"),
        (("HeaderSize = -1", *PLACED), "<u2", "MET_USHORT"),
        (("ElementSize = 1 2 3", "Position = 1 2 3"), "<i4", "MET_LONG"),
    ]:
        path.write_bytes(meta(SMALL.astype(dtype), *lines, kind=kind))
        image = read_metaimage(path)
        np.testing.assert_array_equal(image.pixels[..., 0], SMALL)
        assert_placed_as_simpleitk(image, path)
    text = meta(SMALL, "BinaryData = False", *PLACED)[: -SMALL.nbytes] + b" ".join(b"%d" % v for v in SMALL.ravel())
    path.write_bytes(text)
    np.testing.assert_array_equal(read_metaimage(path).pixels[..., 0], SMALL)
    path.write_bytes(text.replace(b" 23", b" 99999"))
    with pytest.raises(ImageError, match="range"):
        read_metaimage(path)
    path.write_bytes(meta(SMALL, *PLACED, "DistanceUnits = cm"))
    assert read_metaimage(path).spacing == (30, 20, 10)
    path.write_bytes(meta(SMALL, "ElementSpacing = 1 0 3"))
    with pytest.raises(ImageError, match="spacing"):
        read_metaimage(path)


@pytest.mark.parametrize("rest", ["", "spacings: 1 2 nan\n", "space directions: (1,0,0) (0,2,0) (0,0,nan)\n"])
def test_nrrd_without_a_spacing_has_none(tmp_path, rest):
    (tmp_path / "a.nrrd").write_bytes(NRRD.format(space="space: LPS\n", rest=rest).encode() + voxels().tobytes())
    image = read_nrrd(tmp_path / "a.nrrd")
    assert (image.spacing, image.affine) == (None, None)


def test_nrrd_of_other_forms(tmp_path):
    path = tmp_path / "a.nrrd"
    values = voxels(shape=(2, 3, 4))
    header = NRRD.format(
        space="space: RAS\n", rest="space directions: (0.8, 0.6, 0) (-0.6,0.8,0) (0,0,3)\nspace origin: (5,6,7)\n"
    )
    big = header.replace("little", "big").encode() + values.astype(">i2").tobytes()
    detached = header.rstrip("\n").encode()
    (tmp_path / "a.raw").write_bytes(b"line\n" + bytes(3) + values.tobytes())
    (tmp_path / "b.raw").write_bytes(bytes(7) + values.tobytes())
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(3) + values.tobytes()))
    forms = {
        "a.nrrd": big,
        "a.nhdr": detached + b"\ndata file: ./a.raw\nline skip: 1\nbyte skip: 3\n",
        "b.nhdr": detached + b"\nbyte skip: -1\ndata file: b.raw\n",
        "c.nhdr": detached.replace(b"raw", b"gzip") + b"\nbyteskip: 3\ndatafile: a.gz\n",
        "b.nrrd": header.replace("raw", "ascii").encode() + b" ".join(b"%d" % value for value in values.ravel()),
    }
    for name, content in forms.items():
        path = tmp_path / name
        path.write_bytes(content)
        image = read_nrrd(path)
        np.testing.assert_array_equal(image.pixels[..., 0], values, err_msg=name)
        assert_placed_as_simpleitk(image, path)
    (tmp_path / "b.nhdr").write_bytes(forms["b.nhdr"].rstrip())
    np.testing.assert_array_equal(read_nrrd(tmp_path / "b.nhdr").pixels[..., 0], values)
    path.write_bytes(header.replace("endian: little\n", "").encode() + values.tobytes())
    with pytest.raises(ImageError, match="order"):
        read_nrrd(path)


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_nrrd_axes_by_their_kinds(tmp_path, axis):
    values = voxels("int16", (4, 3, 2, 5))  # (slice, row, column, time), moved where the header says
    stored = np.moveaxis(values, -1, 3 - axis)
    kinds, directions = ["domain"] * 3, ["(1,0,0)", "(0,2,0)", "(0,0,3)"]
    kinds.insert(axis, "list")
    directions.insert(axis, "none")
    header = "NRRD0005\ntype: int16\ndimension: 4\nspace: left-posterior-superior\n"
    header += f"sizes: {' '.join(map(str, stored.shape[::-1]))}\nencoding: raw\nendian: little\n"
    header += f"kinds: {' '.join(kinds)}\nspace directions: {' '.join(directions)}\nspace origin: (0,0,0)\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + stored.tobytes())
    with pytest.raises(ImageError, match="5 volumes"):
        read_nrrd(tmp_path / "a.nrrd")
    for number in range(5):
        image = read_nrrd(tmp_path / "a.nrrd", volume=number)
        np.testing.assert_array_equal(image.pixels[..., 0], values[..., number])
        assert image.spacing == (3, 2, 1)
    colour = header.replace("list", "RGBA-color").replace("int16", "uint8").replace("5", "4", 2)
    pixels = voxels("uint8", (4, 3, 2, 4))
    (tmp_path / "b.nrrd").write_bytes(
        colour.replace("NRRD0004", "NRRD0005").encode() + np.moveaxis(pixels, -1, 3 - axis).tobytes()
    )
    np.testing.assert_array_equal(read_nrrd(tmp_path / "b.nrrd").pixels, pixels[..., :3])


# nibabel leaves the file open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
def test_freesurfer_volumes_equal_nibabel_s(tmp_path, dtype, suffix):
    values = voxels(dtype)
    oblique = np.array([[0.8, -0.6 * 2, 0, 5], [0.6, 0.8 * 2, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    path = tmp_path / f"a{suffix}"
    nibabel.save(nibabel.MGHImage(values, oblique), path)
    image = read_image(path)
    assert image.pixels.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.pixels[..., 0].T, values)
    assert_placed_as_nibabel(image, path)
    np.testing.assert_allclose(image.spacing, (3, 2, 1), rtol=1e-6)
    series = voxels(dtype, (4, 3, 2, 5))
    nibabel.save(nibabel.MGHImage(series, oblique), path)
    with pytest.raises(ImageError, match="5 volumes"):
        read_image(path)
    for number in range(5):
        np.testing.assert_array_equal(read_image(path, volume=number).pixels[..., 0].T, series[..., number])


def test_freesurfer_volumes_that_are_damaged_or_unplaced(tmp_path):
    nibabel.save(nibabel.MGHImage(voxels(shape=(30, 30, 30)), np.eye(4)), tmp_path / "a.mgh")
    whole = (tmp_path / "a.mgh").read_bytes()
    path = tmp_path / "b.mgh"
    for length in (0, 3, 90, 283, 284, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(ImageError):
            read_image(path)
        (tmp_path / "b.mgz").write_bytes(gzip.compress(whole)[: length // 2])
        with pytest.raises(ImageError):
            read_image(tmp_path / "b.mgz")
    path.write_bytes(whole)
    for offset, value in ((0, 7), (4, 0), (4, 2**31 - 1), (16, 2**31 - 1), (20, 2)):
        (tmp_path / "c.mgh").write_bytes(whole)
        with pytest.raises(ImageError):
            read_image(edit_header(tmp_path / "c.mgh", offset, ">i", value))
    image = read_image(edit_header(path, 28, ">h", 0))
    assert (image.spacing, image.affine) == (None, None)


@pytest.mark.parametrize("names", [("a.hdr", "a.img"), ("a.hdr.gz", "a.img.gz"), ("A.HDR", "A.IMG")])
def test_either_file_of_a_pair_is_the_volume_and_a_folder_has_it_once(tmp_path, names):
    nibabel.save(nibabel.Nifti1Pair(voxels(), ORTHOGONAL), tmp_path / "seed.img")
    for name, seed in zip(names, ("seed.hdr", "seed.img"), strict=True):
        content = (tmp_path / seed).read_bytes()
        (tmp_path / seed).unlink()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    for name in names:
        image = read_image(tmp_path / name)
        np.testing.assert_array_equal(image.pixels[..., 0].T, voxels())
        assert image.spacing == (4, 2, 3)
    assert [path.name for path in image_files(tmp_path)] == [names[0]]
    (tmp_path / names[1]).unlink()
    with pytest.raises(ImageError, match="img"):
        read_image(tmp_path / names[0])


def test_img_without_a_header_is_what_its_content_says(tmp_path):
    write_image(Image(pixels=voxels(shape=(2, 3, 4, 1))), tmp_path / "a.dcm")
    (tmp_path / "a.dcm").rename(tmp_path / "a.img")
    np.testing.assert_array_equal(read_image(tmp_path / "a.img").pixels, voxels(shape=(2, 3, 4, 1)))
    (tmp_path / "b.img").write_bytes(SMALL.tobytes())
    (tmp_path / "b.mhd").write_bytes(meta(SMALL, *PLACED, data="b.img"))
    np.testing.assert_array_equal(read_image(tmp_path / "b.mhd").pixels[..., 0], SMALL)
    with pytest.raises(ImageError, match="no known format"):
        read_image(tmp_path / "b.img")
    assert [path.name for path in image_files(tmp_path)] == ["a.img", "b.mhd"]


def test_npz_keeps_its_geometry(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, pixels=voxels(shape=(2, 3, 4, 1)), spacing=[3.0, 2.0, 1.0], affine=RAS)
    image = read_array(path)
    np.testing.assert_array_equal(image.pixels, voxels(shape=(2, 3, 4, 1)))
    np.testing.assert_array_equal(image.affine, RAS)
    assert image.spacing == (3.0, 2.0, 1.0)
    np.savez(path, voxels(shape=(5, 6, 7)))
    assert read_array(path).shape == (5, 6, 7)


@pytest.mark.parametrize(
    "arrays",
    [
        {"pixels": np.zeros((2, 2, 2, 1)), "other": np.zeros(3)},
        {"pixels": np.zeros((2, 2, 2, 1)), "affine": np.zeros((4, 4))},
        {"pixels": np.zeros((2, 2, 2, 1)), "affine": np.eye(3)},
        {"pixels": np.zeros((2, 2, 2, 1)), "spacing": np.ones(2)},
        {"pixels": np.zeros((2, 2, 2, 1)), "spacing": np.array([1.0, 0.0, np.nan])},
        {"pixels": np.zeros((2, 2, 2, 1)), "affine": np.zeros((400, 400))},
        {"pixels": np.array([{}], dtype=object), "spacing": np.ones(3)},
        {"train_images": np.zeros((2, 2, 2)), "test_images": np.zeros((2, 2, 2))},
    ],
)
def test_npz_that_is_no_volume_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ImageError):
        read_array(tmp_path / "a.npz")


@pytest.mark.parametrize("read", [read_nifti, read_nrrd, read_metaimage, read_array])
def test_missing_empty_and_foreign_files_are_refused(tmp_path, read):
    with pytest.raises(ImageError):
        read(tmp_path / "absent")
    (tmp_path / "empty").touch()
    with pytest.raises(ImageError):
        read(tmp_path / "empty")
    (tmp_path / "text").write_text("no image\n" * 100)
    with pytest.raises(ImageError):
        read(tmp_path / "text")
    with pytest.raises(ImageError):
        read(tmp_path)


@pytest.mark.data
@pytest.mark.parametrize("folder", ["nifti", "hippocampus"])
def test_real_volumes_are_placed_as_simpleitk_and_nibabel_place_them(data_folder, folder):
    paths = sorted((data_folder / folder).rglob("*.nii.gz"))
    assert paths
    for path in paths[:: max(1, len(paths) // 60)]:
        if "warp" in path.name:
            with pytest.raises(ImageError, match="vector field"):
                read_nifti(path)
            continue
        image = read_nifti(path)
        assert_placed_as_simpleitk(image, path)
        assert_placed_as_nibabel(image, path)
        np.testing.assert_allclose(image.pixels[..., 0].T, np.asanyarray(nibabel.load(path).dataobj), rtol=1e-6)
