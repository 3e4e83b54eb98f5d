from __future__ import annotations

import importlib
import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hounsfield.images
from dicom_samples import make_dicom
from hounsfield.errors import ImageError
from hounsfield.images import READERS, WINDOW_PRESETS, Image, apply_window, image_files, read_image


def test_image_is_read_only_and_leaves_the_callers_array_writeable() -> None:
    pixels = np.zeros((4, 5, 1), np.float32)
    image = Image(pixels, spacing=(1.0, 2.0), affine=np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        image.affine[0] = 1
    pixels[0] = 1
    assert (image.rank, image.shape, image.channels) == (2, (4, 5), 1)


def test_replace_keeps_the_rest() -> None:
    image = Image(np.zeros((2, 4, 5, 3)), spacing=(3.0, 1.0, 2.0), modality="MR")
    other = image.replace(pixels=np.ones((1, 4, 5, 3)))
    assert (other.shape, other.spacing, other.modality, other.rank) == ((1, 4, 5), (3.0, 1.0, 2.0), "MR", 3)


@pytest.mark.parametrize(
    "parts",
    [
        {"pixels": np.zeros((4, 5))},
        {"pixels": np.zeros((0, 5, 1))},
        {"pixels": np.zeros((4, 5, 1)), "spacing": (1.0,)},
        {"pixels": np.zeros((4, 5, 1)), "affine": np.eye(3)},
    ],
)
def test_parts_that_do_not_fit_are_refused(parts: dict[str, object]) -> None:
    with pytest.raises(ImageError):
        Image(**parts)


def test_every_public_name_exists() -> None:
    assert sorted(hounsfield.images.__all__) == sorted(set(hounsfield.images.__all__))
    assert all(hasattr(hounsfield.images, name) for name in hounsfield.images.__all__)
    with pytest.raises(AttributeError, match="no attribute 'read_everything'"):
        _ = hounsfield.images.read_everything


@pytest.mark.parametrize("suffix", READERS)
def test_every_reader_takes_a_path_and_a_limit_and_refuses_what_is_missing(suffix, tmp_path) -> None:
    module, function = READERS[suffix]
    parameters = list(inspect.signature(getattr(importlib.import_module(module), function)).parameters)
    assert parameters[:2] == ["path", "max_pixels"]
    for content in (None, b"", b"\0" * 400, bytes(range(256)) * 4):
        path = tmp_path / f"image{suffix}"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ImageError, match="image"):
            read_image(path)


def test_a_file_without_a_known_suffix_is_sniffed(tmp_path) -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 4)
    dicom = make_dicom(tmp_path / "1.2.840.113619.2.5", values)
    np.save(tmp_path / "array.npy", values)
    (tmp_path / "array.npy").rename(tmp_path / "array")
    for path in (dicom, tmp_path / "array"):
        np.testing.assert_array_equal(read_image(path).pixels[..., 0], values)


def test_folders_and_unknown_files_are_refused(tmp_path) -> None:
    (tmp_path / "notes").write_text("no image")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="no known format"):
        read_image(tmp_path / "notes")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path / "absent")


def test_image_files_skips_what_is_hidden_or_no_image(tmp_path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    wanted = [tmp_path / "a.PNG", tmp_path / "b" / "c.nii.gz"]
    for path in [*wanted, tmp_path / ".hidden" / "d.png", tmp_path / ".e.png", tmp_path / "labels.csv"]:
        path.write_bytes(b"x")
    wanted.append(make_dicom(tmp_path / "b" / "IM0001", np.zeros((2, 2), np.uint8)))
    make_dicom(tmp_path / "DICOMDIR", np.zeros((2, 2), np.uint8))
    assert image_files(tmp_path) == sorted(wanted)
    link = tmp_path / ".hidden" / "link"
    link.symlink_to(tmp_path / "b")
    assert image_files(link.parent) == [link.parent / "d.png", link / "IM0001", link / "c.nii.gz"]
    (tmp_path / "b" / "round").symlink_to(tmp_path)
    (tmp_path / "there").symlink_to(tmp_path / "b")
    assert image_files(tmp_path) == sorted(wanted)
    with pytest.raises(ImageError, match="is no folder"):
        image_files(tmp_path / "absent")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 5), (4, 5, 1)),
        ((4, 5, 3), (4, 5, 3)),
        ((4, 5, 4),) * 2,
        ((7, 4, 5), (7, 4, 5, 1)),
        ((2, 4, 5, 3),) * 2,
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays(shape, expected, order, tmp_path) -> None:
    values = np.asarray(np.random.default_rng(0).normal(size=shape), order=order)
    np.save(tmp_path / "a.npy", values)
    image = read_image(tmp_path / "a.npy")
    assert image.pixels.shape == expected
    np.testing.assert_array_equal(image.pixels, values.reshape(expected))


def test_transparency_of_bytes_is_dropped(tmp_path) -> None:
    values = np.arange(80, dtype=np.uint8).reshape(4, 5, 4)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy").pixels, values[..., :3])


@pytest.mark.parametrize(("stored", "read"), [("?", "|u1"), ("<f2", "<f4"), (">i2", "<i2"), ("<u8", "<u8")])
def test_array_types(stored, read, tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 4), stored))
    pixels = read_image(tmp_path / "a.npy").pixels
    assert pixels.dtype == np.dtype(read)
    assert np.all(pixels == 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[{}]], dtype=object), "no grey values"),
        (np.ones((3, 4), complex), "no grey values"),
        (np.ones(3), "expected"),
        (np.ones((2, 3, 4, 5)), "1, 3 or 4 channels"),
        (np.ones((300, 300)), "limit"),
    ],
)
def test_arrays_that_are_no_image(values, message, tmp_path) -> None:
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    with pytest.raises(ImageError, match=message):
        read_image(tmp_path / "a.npy", max_pixels=1000)


def test_a_truncated_array_and_one_that_declares_too_much(tmp_path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.ones((30, 30)))
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)
    path.write_bytes(content.replace(b"(30, 30)", b"(99, 99)"))
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)
    path.write_bytes(content.replace(b"(30, 30), }", b"(9**9, 9), "))
    with pytest.raises(ImageError, match="not a NumPy array"):
        read_image(path)


def test_archives_hold_one_array(tmp_path) -> None:
    values = np.arange(30.0).reshape(2, 3, 5)
    np.savez_compressed(tmp_path / "one.npz", values)
    np.savez(tmp_path / "two.npz", train=values, test=values)
    np.testing.assert_array_equal(read_image(tmp_path / "one.npz").pixels[..., 0], values)
    with pytest.raises(ImageError):
        read_image(tmp_path / "two.npz")


def test_presets_are_those_of_ct() -> None:
    assert set(WINDOW_PRESETS) == {"lung", "bone", "brain", "soft tissue"}
    assert all(width > 1 for _, width in WINDOW_PRESETS.values())


@given(center=st.floats(-500, 500), width=st.floats(2, 2000), value=st.floats(-4000, 4000))
def test_window_follows_the_standard(center: float, width: float, value: float) -> None:
    # PS3.3 C.11.2.1.2.1, word for word, with the output range 0 to 1.
    if value <= center - 0.5 - (width - 1) / 2:
        expected = 0.0
    elif value > center - 0.5 + (width - 1) / 2:
        expected = 1.0
    else:
        expected = (value - (center - 0.5)) / (width - 1) + 0.5
    assert apply_window(np.array([value]), center, width)[0] == pytest.approx(expected, abs=2e-3)


def test_window_of_width_one_is_a_threshold() -> None:
    np.testing.assert_array_equal(apply_window(np.array([9, 10, 11]), 10, 1), [0, 1, 1])
    with pytest.raises(ValueError, match="at least 1"):
        apply_window(np.zeros(1), 0, 0.5)
