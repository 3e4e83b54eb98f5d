"""That nothing stands beside the pixels of a de-identified object, and that the pixels stay bit for bit."""

from __future__ import annotations

import struct

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom_samples import make_dicom
from hounsfield.errors import ImageError
from hounsfield.images import read_image
from hounsfield.images.deidentify import deidentify_file
from hounsfield.images.dicom_remains import clean_jpeg, clean_jpeg_2000, clean_rle

KEY = b"0123456789abcdef"
SECRET = b"SECRET^NAME."
PIXELS = np.random.default_rng(0).integers(0, 200, (40, 48)).astype(np.uint8)
COMMENT = b"\xff\xfe" + struct.pack(">H", len(SECRET) + 2) + SECRET
EXIF = b"\xff\xe1" + struct.pack(">H", len(SECRET) + 8) + b"Exif\0\0" + SECRET


def treated(path):
    deidentify_file(path, path.with_name("b.dcm"), KEY)
    content = path.with_name("b.dcm").read_bytes()
    assert SECRET in path.read_bytes()
    assert SECRET not in content
    return content


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("shape", [(40, 48), (3, 40, 48), (5, 7), (40, 48, 3)])
def test_bytes_after_the_last_pixel_are_cut(tmp_path, syntax, shape):
    samples = 3 if shape[-1] == 3 else 1
    pixels = np.random.default_rng(0).integers(0, 255, shape)
    pixels = pixels.astype(">u2" if syntax == ExplicitVRBigEndian else "u1")
    content = pixels.tobytes() + b"\0" * (pixels.size % 2) + SECRET
    path = make_dicom(tmp_path / "a.dcm", pixels, syntax=syntax, content=content, SamplesPerPixel=samples)
    treated(path)
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "b.dcm").pixel_array, pixels)


def test_single_bits_are_cut_at_the_byte(tmp_path):
    content = bytes([0b10110101, 0b1010]) + SECRET
    path = make_dicom(tmp_path / "a.dcm", np.zeros((3, 4), np.uint8), content=content, BitsAllocated=1, BitsStored=1)
    treated(path)
    assert pydicom.dcmread(tmp_path / "b.dcm").PixelData == content[:2]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("signed", [0, 1])
def test_bits_outside_the_stored_ones_are_cleared(tmp_path, order, signed):
    hidden = np.frombuffer(SECRET * 4, "u1").astype("u2") << 12
    stored = np.arange(hidden.size) - (20 if signed else 0)
    values = (stored.astype(f"{order}i2").view(f"{order}u2") & 0xFFF) | hidden
    path = make_dicom(
        tmp_path / "a.dcm",
        values.reshape(4, -1).astype(f"{order}u2"),
        syntax=ExplicitVRLittleEndian if order == "<" else ExplicitVRBigEndian,
        BitsStored=12,
        PixelRepresentation=signed,
    )
    deidentify_file(path, tmp_path / "b.dcm", KEY)
    dataset = pydicom.dcmread(tmp_path / "b.dcm")
    left = np.frombuffer(dataset.PixelData, f"{order}u2")
    np.testing.assert_array_equal(left & 0xFFF, values & 0xFFF)
    # A sign goes on above the stored bits, everything else is gone.
    np.testing.assert_array_equal(left >> 12, np.where(stored < 0, 15, 0))


@pytest.mark.parametrize("signed", [0, 1])
def test_pixels_without_remains_stay_byte_for_byte(tmp_path, signed):
    values = (np.arange(48) - 24 * signed).astype(np.int16).reshape(6, 8)
    for content in (values.tobytes(), (values.view(np.uint16) & 0xFFF).tobytes()):
        path = make_dicom(tmp_path / "a.dcm", values, content=content, BitsStored=12, PixelRepresentation=signed)
        deidentify_file(path, tmp_path / "b.dcm", KEY)
        assert pydicom.dcmread(tmp_path / "b.dcm").PixelData == content


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_frames_of_pydicoms_encoders(tmp_path, syntax):
    pixels = np.stack([PIXELS, PIXELS + 3])
    path = make_dicom(tmp_path / "a.dcm", pixels)
    dataset = pydicom.dcmread(path)
    dataset.compress(syntax)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=2))
    cleaner = {RLELossless: lambda frame: clean_rle(frame, PIXELS.size), JPEG2000Lossless: clean_jpeg_2000}[syntax]
    assert [cleaner(cleaner(frame)) for frame in frames] == [cleaner(frame) for frame in frames]
    dataset.PixelData = encapsulate([frame + SECRET for frame in frames] + [SECRET])
    dataset.save_as(path)
    treated(path)
    np.testing.assert_array_equal(read_image(tmp_path / "b.dcm").pixels[..., 0], pixels)


def test_what_stands_between_rle_planes_goes():
    plane = bytes([3, 1, 2, 3, 4, 253, 9])
    frame = struct.pack("<16I", 2, 64, 64 + 8 + 12, *[0] * 13) + plane + b"\0" + SECRET + plane
    cleaned = clean_rle(frame, 8)
    assert cleaned == struct.pack("<16I", 2, 64, 72, *[0] * 13) + (plane + b"\0") * 2
    for broken in (b"", bytes(64), frame[:70], struct.pack("<16I", 1, 64, *[0] * 14) + b"\x05\1"):
        with pytest.raises(ImageError):
            clean_rle(broken, 8)


def test_comments_of_jpeg_2000_go(tmp_path):
    path = make_dicom(tmp_path / "a.dcm", PIXELS)
    dataset = pydicom.dcmread(path)
    dataset.compress(JPEG2000Lossless)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    comment = b"\xff\x64" + struct.pack(">HH", len(SECRET) + 4, 1) + SECRET
    tile = frame.index(b"\xff\x90")
    (length,) = struct.unpack_from(">I", frame, tile + 6)
    part = bytearray(frame[tile : tile + 12] + comment + frame[tile + 12 :])
    struct.pack_into(">I", part, 6, length + len(comment))
    for marked in (frame[:tile] + comment + frame[tile:], frame[:tile] + bytes(part)):
        dataset.PixelData = encapsulate([b"box" + marked])
        dataset.save_as(path)
        treated(path)
        np.testing.assert_array_equal(read_image(tmp_path / "b.dcm").pixels[..., 0], PIXELS)
    for broken in (b"", frame[:50], frame[: tile + 4], frame[:tile] + b"\0" * 20):
        with pytest.raises(ImageError):
            clean_jpeg_2000(broken)


@pytest.mark.data
def test_comments_of_real_jpegs_go(data_folder, tmp_path):
    """Every JPEG of the zoo, of all its processes: marked, cleaned, and decoded to the same pixels."""
    seen = set()
    for path in sorted((data_folder / "dicom-zoo").rglob("*")):
        try:
            dataset = pydicom.dcmread(path)
            syntax = dataset.file_meta.TransferSyntaxUID
            encapsulated = syntax.is_encapsulated
            before = read_image(path).pixels
        except Exception:  # noqa: BLE001, S112 - the zoo holds broken files too
            continue
        if not encapsulated or "JPEG" not in syntax.name or "2000" in syntax.name:
            continue
        frames = list(generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames", 1) or 1)))
        marked = [frame[:2] + COMMENT + EXIF + frame[2:].rstrip(b"\0") + SECRET for frame in frames]
        dataset.PixelData = encapsulate(marked)
        dataset["PixelData"].is_undefined_length = True
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3"
        dataset.save_as(tmp_path / "a.dcm")
        deidentify_file(tmp_path / "a.dcm", tmp_path / "b.dcm", KEY, keep_pixels=True)
        assert SECRET not in (tmp_path / "b.dcm").read_bytes()
        np.testing.assert_array_equal(read_image(tmp_path / "b.dcm").pixels, before, err_msg=path.name)
        seen.add(syntax)
    assert len(seen) >= 4
    assert JPEGLSLossless in seen


def test_colour_segments_of_a_jpeg_stay():
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1"
    jfif = b"\xff\xe0\0\x10JFIF\0\1\2\0\0\1\0\1\0\0"
    thumbnail = b"\xff\xe0\0\x1cJFIF\0\1\2\0\0\1\0\1\2\2" + SECRET
    long = b"\xff\xee\0\x1aAdobe\0\x64\0\0\0\0\1" + SECRET
    reserved = b"\xff\xf0\0\x0e" + SECRET
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0" + b"data\xff\0data\xff\xd0data"
    frame = (
        b"\xff\xd8" + thumbnail + long + reserved + EXIF + COMMENT + scan + COMMENT + scan + b"\xff\xff\xd9" + SECRET
    )
    assert clean_jpeg(frame) == b"\xff\xd8" + jfif + adobe + scan * 2 + b"\xff\xd9"
    for broken in (b"", b"\xff\xd8data", b"\xff\xd8" + scan, b"\xff\xd8\xff\xfe\xff\xff"):
        with pytest.raises(ImageError):
            clean_jpeg(broken)


def test_truncated_frames_are_refused(tmp_path):
    path = make_dicom(tmp_path / "a.dcm", np.stack([PIXELS, PIXELS]))
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.NumberOfFrames = 3
    dataset.save_as(path)
    with pytest.raises(ImageError, match="3 frames"):
        deidentify_file(path, tmp_path / "b.dcm", KEY)
