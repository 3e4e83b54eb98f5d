from __future__ import annotations

import contextlib
import logging
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from dicom_samples import PATIENT_NAME, make_dicom
from hounsfield.errors import ImageError, SeveralVolumes
from hounsfield.images import read_image

RANDOM = np.random.default_rng(11)
STORED = RANDOM.integers(0, 4096, (7, 5), np.uint16)


def item(**elements: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_native_values(syntax, dtype, tmp_path) -> None:
    limits = np.iinfo(dtype)
    values = RANDOM.integers(limits.min, limits.max, (7, 5), np.dtype(dtype), endpoint=True)
    content = b""
    if syntax == ExplicitVRBigEndian:
        # Bytes stand in words, whose halves change places.
        words = np.append(values.ravel(), np.zeros(1, dtype)).view("u2") if values.itemsize == 1 else values
        content = words.astype(words.dtype.newbyteorder(">")).tobytes()
    path = make_dicom(tmp_path / "a.dcm", values, syntax=syntax, content=content)
    pixels = read_image(path).pixels
    assert pixels.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(pixels[..., 0], values)


@pytest.mark.parametrize("bits", [1, 7, 9, 12, 15])
@pytest.mark.parametrize("signed", [False, True])
def test_unused_bits_are_dropped_and_the_sign_is_kept(bits, signed, tmp_path) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    values = RANDOM.integers(low, high, (7, 5)).astype(np.int32)
    overlay = RANDOM.integers(0, 2 ** (16 - bits), (7, 5))
    stored = ((values & (2**bits - 1)) | (overlay << bits)).astype(np.uint16)
    path = make_dicom(tmp_path / "a.dcm", stored, BitsStored=bits, PixelRepresentation=int(signed))
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], values)


def test_bits_at_the_upper_end(tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED << 4, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], STORED)


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (2.5, -1000.5), (-1, 0), (0.0001, 7)])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_rescaling(slope, intercept, syntax, tmp_path) -> None:
    elements = {"RescaleSlope": slope, "RescaleIntercept": intercept, "BitsStored": 12}
    image = read_image(make_dicom(tmp_path / "a.dcm", STORED, syntax=syntax, **elements))
    assert image.pixels.dtype == np.float32
    np.testing.assert_allclose(image.pixels[..., 0], STORED * float(slope) + intercept, rtol=1e-6)


def test_hounsfield_units_are_exact(tmp_path) -> None:
    values = np.array([[-1024, -1000, 0], [40, 1000, 3071]])
    path = make_dicom(
        tmp_path / "a.dcm", (values + 1024).astype(np.uint16), BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024
    )
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], values)


def test_identity_keeps_the_type(tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED, RescaleSlope="1.0", RescaleIntercept="0")
    assert read_image(path).pixels.dtype == np.uint16


def test_a_slope_of_zero_is_refused(tmp_path) -> None:
    with pytest.raises(ImageError, match="slope of 0"):
        read_image(make_dicom(tmp_path / "a.dcm", STORED, RescaleSlope=0, RescaleIntercept=5))


@pytest.mark.parametrize("signed", [False, True])
def test_monochrome1_is_mirrored_with_its_windows(signed, tmp_path) -> None:
    values = STORED.astype(np.int32) - 2048 * signed
    stored = (values & 0xFFF).astype(np.uint16)
    common = {"BitsStored": 12, "PixelRepresentation": int(signed), "WindowCenter": 1000.5, "WindowWidth": 300}
    plain = read_image(make_dicom(tmp_path / "a.dcm", stored, **common))
    image = read_image(make_dicom(tmp_path / "b.dcm", stored, PhotometricInterpretation="MONOCHROME1", **common))
    total = -1 if signed else 4095
    np.testing.assert_array_equal(image.pixels[..., 0], total - values)
    ((center, width),), ((old, _),) = image.metadata.windows, plain.metadata.windows
    # The window stays on the same pixels: its ends are mirrored about the same point.
    assert (center - 0.5) + (old - 0.5) == total
    assert width == 300


def test_monochrome1_is_mirrored_after_rescaling(tmp_path) -> None:
    elements = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 0.5, "RescaleIntercept": 100}
    image = read_image(make_dicom(tmp_path / "a.dcm", STORED, BitsStored=12, **elements))
    np.testing.assert_allclose(image.pixels[..., 0], (4095 - STORED.astype(int)) * 0.5 + 100)


@pytest.mark.parametrize("first", [0, 10, -3])
def test_modality_table_equals_pydicom(first, tmp_path) -> None:
    stored = RANDOM.integers(-20, 60, (7, 5)).astype(np.int16)
    table = item(LUTDescriptor=[32, first, 16], ModalityLUTType="HU", LUTData=RANDOM.integers(0, 4000, 32).tolist())
    table["LUTDescriptor"].VR = "SS"
    table["LUTData"].VR = "US"
    path = make_dicom(tmp_path / "a.dcm", stored, ModalityLUTSequence=Sequence([table]))
    expected = np.array(table.LUTData)[np.clip(stored.astype(int) - first, 0, 31)]
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], expected)
    if first >= 0:
        np.testing.assert_array_equal(apply_modality_lut(stored, pydicom.dcmread(path)), expected)


def test_a_voi_table_becomes_a_window_where_there_is_none(tmp_path) -> None:
    table = item(LUTDescriptor=[100, 50, 8], LUTData=[0] * 20 + list(range(60)) + [59] * 20)
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    path = make_dicom(tmp_path / "a.dcm", STORED, VOILUTSequence=Sequence([table]))
    image = read_image(path)
    # Entries 20 to 79 differ, that is values 70 to 129: c - 0.5 ± (w - 1) / 2.
    assert image.metadata.windows == ((100.0, 60.0),)
    np.testing.assert_array_equal(image.pixels[..., 0], STORED)


def test_windows_are_kept_and_impossible_ones_dropped(tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED, WindowCenter=[40, 40, -600, 5], WindowWidth=[80, 80, 1500, 0])
    assert read_image(path).metadata.windows == ((40.0, 80.0), (-600.0, 1500.0))


def test_padding_keeps_its_value(tmp_path) -> None:
    values = np.array([[-2000, 0], [100, -2000]], np.int16)
    path = make_dicom(tmp_path / "a.dcm", values, PixelPaddingValue=-2000, RescaleSlope=1, RescaleIntercept=-1024)
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], values - 1024)


# --- colours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_planar_configuration(planar, dtype, tmp_path) -> None:
    values = RANDOM.integers(0, np.iinfo(dtype).max, (2, 7, 5, 3)).astype(dtype)
    stored = np.ascontiguousarray(np.moveaxis(values, -1, 1)).reshape(values.shape) if planar else values
    path = make_dicom(tmp_path / "a.dcm", stored, SamplesPerPixel=3, PlanarConfiguration=planar)
    np.testing.assert_array_equal(read_image(path).pixels, values)


def test_ybr_full_follows_the_standard(tmp_path) -> None:
    values = RANDOM.integers(0, 256, (8, 6, 3), np.uint8)
    path = make_dicom(tmp_path / "a.dcm", values, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL")
    y, b, r = (values[..., index].astype(float) - (0, 128, 128)[index] for index in range(3))
    # The inverse of PS3.3 C.7.6.3.1.2.
    expected = np.stack([y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b], axis=-1)
    assert np.abs(read_image(path).pixels - np.clip(expected, 0, 255)).max() <= 1


@pytest.mark.parametrize(("bits", "shift"), [(8, 0), (16, 8)])
@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_palette(bits, shift, first, syntax, tmp_path) -> None:
    tables = RANDOM.integers(0, 256, (3, 16)).astype(np.uint16) << shift
    stored = RANDOM.integers(0, 22, (8, 6), np.uint16)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    elements: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [16, first, bits]
        data = table.astype(np.uint8 if bits == 8 else f"{order}u2").tobytes()
        elements[f"{colour}PaletteColorLookupTableData"] = data
    path = make_dicom(tmp_path / "a.dcm", stored.astype(f"{order}u2"), syntax=syntax, **elements)
    expected = (tables >> shift)[:, np.clip(stored.astype(int) - first, 0, 15)]
    image = read_image(path)
    assert image.pixels.dtype == np.uint8
    np.testing.assert_array_equal(image.pixels, np.moveaxis(expected, 0, -1))


# --- geometry and metadata --------------------------------------------------------------------------------------------

ORIENTATION = [0.8, 0.6, 0, 0, 0, -1]
PLACE = {"ImagePositionPatient": [-10, 20, 30.5], "ImageOrientationPatient": ORIENTATION, "PixelSpacing": [0.5, 0.75]}


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_affine_of_a_slice_is_that_of_the_standard(syntax, tmp_path) -> None:
    image = read_image(make_dicom(tmp_path / "a.dcm", STORED, syntax=syntax, SliceThickness=3, **PLACE))
    # PS3.3 equation C.7.6.2.1-1 by hand for row 2, column 4: 4 steps of 0.75 mm along the first three cosines and 2 of
    # 0.5 mm along the others.
    np.testing.assert_allclose(image.affine @ [0, 2, 4, 1], [-10 + 2.4, 20 + 1.8, 30.5 - 1, 1])
    np.testing.assert_allclose(np.linalg.norm(image.affine[:3, 0]), 3)
    np.testing.assert_allclose(image.affine[:3, 0] @ image.affine[:3, 1:3], 0, atol=1e-12)
    assert image.spacing == (0.5, 0.75)


def test_geometry_that_is_none(tmp_path) -> None:
    bare = read_image(make_dicom(tmp_path / "a.dcm", STORED))
    assert (bare.spacing, bare.affine) == (None, None)
    detector = read_image(make_dicom(tmp_path / "b.dcm", STORED, ImagerPixelSpacing=[0.2, 0.1]))
    assert (detector.spacing, detector.affine) == ((0.2, 0.1), None)
    skewed = {**PLACE, "ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}
    assert read_image(make_dicom(tmp_path / "c.dcm", STORED, **skewed)).affine is None


def test_ultrasound_spacing_is_in_millimetres(tmp_path) -> None:
    region = item(PhysicalUnitsXDirection=3, PhysicalUnitsYDirection=3, PhysicalDeltaX=0.02, PhysicalDeltaY=0.03)
    path = make_dicom(tmp_path / "a.dcm", STORED, SequenceOfUltrasoundRegions=Sequence([region]), Modality="US")
    assert read_image(path).spacing == pytest.approx((0.3, 0.2))


@pytest.mark.parametrize(
    ("elements", "age"),
    [
        ({"PatientAge": "045Y"}, 45),
        ({"PatientAge": "006M"}, 0.5),
        ({"PatientAge": "002W"}, 14 / 365.25),
        ({"PatientBirthDate": "20000101", "StudyDate": "20100101"}, 3653 / 365.25),
        ({"PatientAge": "old"}, None),
        ({"PatientBirthDate": "20300101", "StudyDate": "20100101"}, None),
    ],
)
def test_age(elements, age, tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED, **elements)
    assert read_image(path).metadata.age == (None if age is None else pytest.approx(age))


def test_metadata(tmp_path) -> None:
    elements = {
        "SpecificCharacterSet": "ISO_IR 192",
        "InstitutionName": "Universitätsklinik Würzburg",
        "PatientSex": "F",
        "StudyDate": "2004.01.19",
        "ViewPosition": "PA",
        "Laterality": "L",
        "Manufacturer": "Philips",
        "ManufacturerModelName": "Brilliance",
        "BodyPartExamined": "CHEST",
        "BitsStored": 12,
    }
    image = read_image(make_dicom(tmp_path / "a.dcm", STORED, **elements))
    facts = image.metadata
    assert image.modality == "CT"
    assert (facts.patient, facts.study, facts.series) == ("P1", "1.2.3", "1.2.3.4")
    assert (facts.sex, facts.date, facts.view, facts.laterality, facts.bits) == ("F", "2004-01-19", "PA", "L", 12)
    assert (facts.site, facts.scanner, facts.body_part) == ("Universitätsklinik Würzburg", "Brilliance", "CHEST")
    assert PATIENT_NAME not in repr(facts)


@pytest.mark.parametrize("character_set", ["ISO_IR 999", "ISO_IR 100", None])
def test_a_wrong_character_set_does_not_cost_the_image(character_set, tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED, InstitutionName="Klinik Koeln", SpecificCharacterSet="ISO_IR 100")
    named = (character_set or "").encode().ljust(10)
    path.write_bytes(path.read_bytes().replace(b"Koeln", b"K\xf6lln").replace(b"ISO_IR 100", named))
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[..., 0], STORED)
    assert image.metadata.site is not None
    assert image.metadata.site.startswith("Klinik K")


# --- several frames ---------------------------------------------------------------------------------------------------

FRAMES = RANDOM.integers(0, 1000, (4, 7, 5), np.uint16)


def enhanced(depths: list[float], slopes: list[float] | None = None) -> dict[str, object]:
    frames = []
    for index, depth in enumerate(depths):
        frame = item(PlanePositionSequence=Sequence([item(ImagePositionPatient=[1, 2, depth])]))
        if slopes:
            value = item(RescaleSlope=slopes[index], RescaleIntercept=-index, RescaleType="HU")
            frame.PixelValueTransformationSequence = Sequence([value])
        frames.append(frame)
    shared = item(
        PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
        PixelMeasuresSequence=Sequence([item(PixelSpacing=[0.5, 0.75], SliceThickness=3)]),
        FrameVOILUTSequence=Sequence([item(WindowCenter=40, WindowWidth=80)]),
    )
    return {
        "PerFrameFunctionalGroupsSequence": Sequence(frames),
        "SharedFunctionalGroupsSequence": Sequence([shared]),
    }


def test_enhanced_frames_are_sorted_along_the_normal(tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", FRAMES, **enhanced([6, 0, 4, 2]))
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[..., 0], FRAMES[[1, 3, 2, 0]])
    assert image.spacing == pytest.approx((2, 0.5, 0.75))
    np.testing.assert_allclose(image.affine @ [3, 2, 4, 1], [1 + 4 * 0.75, 2 + 2 * 0.5, 6, 1])
    assert image.metadata.windows == ((40.0, 80.0),)


def test_enhanced_frames_are_rescaled_one_by_one(tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", FRAMES, **enhanced([0, 2, 4, 6], slopes=[1, 2, 3, 4]))
    factors = np.arange(4)[:, np.newaxis, np.newaxis]
    np.testing.assert_allclose(read_image(path).pixels[..., 0], FRAMES * (factors + 1.0) - factors)


def test_frames_that_are_no_even_stack_have_no_geometry(tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        image = read_image(make_dicom(tmp_path / "a.dcm", FRAMES, **enhanced([0, 2, 5, 7])))
    assert (image.spacing, image.affine) == (None, None)
    np.testing.assert_array_equal(image.pixels[..., 0], FRAMES)
    assert "no even stack" in caplog.text


def test_frames_of_one_place_that_nothing_tells_apart_are_single_images(tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", FRAMES, **enhanced([0, 2, 2, 4]))
    with pytest.raises(SeveralVolumes, match="holds 4 volumes"):
        read_image(path)
    image = read_image(path, volume=2)
    np.testing.assert_array_equal(image.pixels[..., 0], FRAMES[2])
    np.testing.assert_allclose(image.affine[:3, 3], [1, 2, 2])


@pytest.mark.parametrize(("offsets", "start"), [([0, 3, 6, 9], 5), ([5, 8, 11, 14], 5), ([0, -3, -6, -9], 5)])
def test_dose_grids_are_in_grays_and_in_place(offsets, start, tmp_path) -> None:
    place = {**PLACE, "ImagePositionPatient": [1, 2, start], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    elements = {"Modality": "RTDOSE", "DoseGridScaling": 0.001, "GridFrameOffsetVector": offsets}
    image = read_image(make_dicom(tmp_path / "a.dcm", FRAMES, **place, **elements))
    falling = offsets[1] < 0
    np.testing.assert_allclose(image.pixels[..., 0], FRAMES[:: -1 if falling else 1] * 0.001, rtol=1e-6)
    np.testing.assert_allclose(image.affine @ [3, 0, 0, 1], [1, 2, start if falling else start + 9, 1])


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"Rows": 60_000, "Columns": 60_000}, "limit"),
        ({"NumberOfFrames": 2**31 - 1}, "limit"),
        ({"NumberOfFrames": 3}, "truncated"),
        ({"NumberOfFrames": -3}, "frames"),
        ({"Rows": 8}, "truncated"),
        ({"Rows": 0}, "no image"),
        ({"BitsAllocated": 12}, "allocated"),
        ({"BitsStored": 17}, "bits stored"),
        ({"HighBit": 3, "BitsStored": 12}, "high bit"),
        ({"PhotometricInterpretation": "CMYK"}, "colour model"),
        ({"PhotometricInterpretation": "RGB"}, "colour model"),
        ({"PhotometricInterpretation": None}, "colour model"),
    ],
)
def test_headers_that_cannot_be(elements, message, tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED, **elements)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert PATIENT_NAME not in str(caught.value)


def test_errors_repeat_no_text_of_the_file(tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED, PhotometricInterpretation=PATIENT_NAME)
    with pytest.raises(ImageError, match="no colour model of the standard") as caught:
        read_image(path)
    assert PATIENT_NAME not in str(caught.value)
    dataset = pydicom.dcmread(make_dicom(path, STORED))
    del dataset.PixelData
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of the value
        dataset.SOPClassUID = PATIENT_NAME
        dataset.save_as(path)
    with pytest.raises(ImageError, match="of no named kind") as caught:
        read_image(path)
    assert PATIENT_NAME not in str(caught.value)


LARGE = RANDOM.integers(0, 4096, (64, 48), np.uint16)


def compressed(path: Path, syntax: str, **elements: object) -> Path:
    """LARGE as 12 bits, compressed, whose header then is changed."""
    dataset = pydicom.dcmread(make_dicom(path, LARGE, BitsStored=12))
    dataset.compress(syntax)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_frames_are_held_against_the_header(syntax, tmp_path) -> None:
    path = compressed(tmp_path / "a.dcm", syntax)
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], LARGE)
    for elements in ({"Rows": 16_000, "Columns": 16_000}, {"NumberOfFrames": 2}, {"Rows": 48, "Columns": 65}):
        with pytest.raises(ImageError, match=r"a\.dcm"):
            read_image(compressed(tmp_path / "a.dcm", syntax, **elements))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, DeflatedExplicitVRLittleEndian]
)
def test_truncated_files(syntax, share, tmp_path) -> None:
    path = tmp_path / "a.dcm"
    if syntax in (RLELossless, JPEG2000Lossless):
        compressed(path, syntax)
    else:
        make_dicom(path, STORED, syntax=syntax)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match=r"a\.dcm"):
        read_image(path)


def test_a_deflated_bomb_is_refused_before_it_grows(tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((4000, 4000), np.uint16), syntax=DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 100_000
    with pytest.raises(ImageError, match="limit"):
        read_image(path, max_pixels=1000)


def test_foreign_compression_is_named(tmp_path) -> None:
    path = compressed(tmp_path / "a.dcm", RLELossless)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    dataset.save_as(path)
    with pytest.raises(ImageError, match="MPEG-4"):
        read_image(path)


def test_without_preamble_and_without_meta(tmp_path) -> None:
    content = make_dicom(tmp_path / "a.dcm", STORED, syntax=ImplicitVRLittleEndian).read_bytes()
    (tmp_path / "b.dcm").write_bytes(content[132:])
    meta_length = int.from_bytes(content[140:144], "little")
    (tmp_path / "c.dcm").write_bytes(content[144 + meta_length :])
    for name in ("b.dcm", "c.dcm"):
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels[..., 0], STORED)


def test_mutated_headers_are_read_or_refused(tmp_path) -> None:
    """A quick look; the long run over all formats is a script of its own."""
    random = np.random.default_rng(3)
    files = [
        make_dicom(tmp_path / "a.dcm", STORED, **PLACE, RescaleSlope=1, RescaleIntercept=-1024).read_bytes(),
        make_dicom(tmp_path / "b.dcm", FRAMES, **enhanced([0, 2, 4, 6])).read_bytes(),
        compressed(tmp_path / "c.dcm", RLELossless).read_bytes(),
        compressed(tmp_path / "d.dcm", JPEG2000Lossless).read_bytes(),
    ]
    path = tmp_path / "mutated.dcm"
    for index in range(400):
        content = bytearray(files[index % len(files)])
        for position in random.integers(132, len(content), random.integers(1, 8)):
            content[position] = random.choice([0, 1, 0x7F, 0xFF, random.integers(256)])
        path.write_bytes(bytes(content))
        with contextlib.suppress(ImageError):
            assert read_image(path, max_pixels=2**24).pixels.size <= 2**24


# --- the zoo ----------------------------------------------------------------------------------------------------------

# Files that hold no image or are damaged on purpose, and a word of the sentence that says so.
REFUSED = {
    "pydicom-tests/dicomdirtests/DICOMDIR-bigEnd": "DICOMDIR",
    "pydicom-tests/dicomdirtests/DICOMDIR-empty.dcm": "DICOMDIR",
    "pydicom-tests/dicomdirtests/DICOMDIR-implicit": "DICOMDIR",
    "pydicom-tests/nested_priv_SQ.dcm": "no image",
    "pydicom-tests/no_meta.dcm": "neither the mark",
    "pydicom-tests/no_meta_group_length.dcm": "without pixels",
    "pydicom-tests/priv_SQ.dcm": "without pixels",
    "pydicom-tests/reportsi.dcm": "Basic Text SR",
    "pydicom-tests/rtstruct.dcm": "RT Structure Set",
    "pydicom-tests/rtstruct.dump": "no known format",
    "pydicom-tests/test-SR.dcm": "Comprehensive SR",
    "pydicom-tests/waveform_ecg.dcm": "ECG",
}
# Files that pydicom itself cannot decode, or decodes into a wrong picture, and a file with the same picture.
TWINS = {
    "pydicom-data/liver_rle.dcm": "pydicom-data/liver.dcm",
    "pydicom-data/liver_deflate.dcm": "pydicom-data/liver.dcm",
    "pydicom-data/liver_nonbyte_aligned_deflate.dcm": "pydicom-data/liver_nonbyte_aligned.dcm",
    "pydicom-tests/zipMR.gz": "pydicom-tests/MR_small.dcm",
    "pydicom-data/OBXXXX1A_expb.dcm": "pydicom-data/OBXXXX1A.dcm",
    "pylibjpeg/JPEGExtended/JPEG-lossy.dcm": "pylibjpeg/JPEGExtended/JPEGExtended_1s_1f_u_16_12.dcm",
    "pylibjpeg/JPEGExtended/RG2_JPLY.dcm": "pylibjpeg/JPEGExtended/RG2_JPLY_fixed.dcm",
}
# The uncompressed reference, what is the same picture, and by how much a lossy one may differ on average (percent of
# the range of the reference).
REFERENCES = [
    ("CT2_UNC", "J2KR/CT2_J2KR", 0),
    ("CT2_UNC", "JPLL/CT2_JPLL", 0),
    ("MR3_UNC", "JLSL/MR3_JLSL", 0),
    ("MR3_UNC", "J2KI/MR3_J2KI", 2),
    ("MR4_UNC", "J2KR/MR4_J2KR", 0),
    ("MR4_UNC", "JLSL/MR4_JLSL", 0),
    ("MR4_UNC", "JLSN/MR4_JLSN", 0.5),
    ("NM1_UNC", "J2KR/NM1_J2KR", 0),
    ("NM1_UNC", "JLSL/NM1_JLSL", 0),
    ("NM1_UNC", "RLE/NM1_RLE", 0),
    ("VL1_UNC", "J2KR/VL1_J2KR", 0),
    ("VL1_UNC", "J2KI/VL1_J2KI", 2),
]


def zoo_files(data_folder: Path) -> dict[str, Path]:
    zoo = data_folder / "dicom-zoo"
    return {path.relative_to(zoo).as_posix(): path for path in sorted(zoo.rglob("*")) if path.is_file()}


def is_refused(name: str) -> bool:
    return name in REFUSED or name.endswith(".zst") or "TINY_ALPHA" in name


def pydicom_values(path: Path) -> np.ndarray:
    """What pydicom's own functions make of a file, on the road that the standard describes."""
    dataset = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stored = dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(stored, dataset)
        return colours >> 8 if colours.dtype == np.uint16 else colours
    if dataset.SamplesPerPixel > 1:
        return stored
    if getattr(dataset, "ModalityLUTSequence", None) and dataset.ModalityLUTSequence[0].LUTData is None:
        del dataset.ModalityLUTSequence, dataset.RescaleSlope
    values = apply_modality_lut(stored, dataset) * float(dataset.get("DoseGridScaling", 1))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        ends = np.array([0, 2**dataset.BitsStored - 1])
        values = apply_modality_lut(ends, dataset).sum() - values
    return values


@pytest.mark.data
def test_every_file_of_the_zoo_reads_as_in_pydicom_or_is_refused(data_folder, caplog) -> None:
    files = zoo_files(data_folder)
    assert len(files) > 180
    assert set(REFUSED) | set(TWINS) <= set(files)
    with caplog.at_level(logging.CRITICAL):
        for name, path in files.items():
            if is_refused(name):
                with pytest.raises(ImageError, match=REFUSED.get(name, "pixels|format")):
                    read_image(path)
                continue
            image = read_image(path)
            if name in TWINS:
                expected = read_image(files[TWINS[name]]).pixels
            elif "TOSHIBA" in name or name.endswith("16_16_bad.dcm") or "/JPLY/" in name:
                continue
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    expected = pydicom_values(path)
            expected = np.asarray(expected).reshape(image.pixels.shape)
            # Real values are single, those of pydicom double precision: they agree to the last digit of the former.
            tolerance = 2**-23 if image.pixels.dtype == np.float32 else 0
            np.testing.assert_allclose(image.pixels, expected, rtol=tolerance, err_msg=name)


@pytest.mark.data
@pytest.mark.parametrize(("reference", "name", "percent"), REFERENCES)
def test_compressed_pictures_equal_the_uncompressed_one(reference, name, percent, data_folder, tmp_path) -> None:
    folder = data_folder / "dicom-zoo" / "wg04"
    with pa.CompressedInputStream(str(folder / "REF" / f"{reference}.zst"), "zstd") as stream:
        (tmp_path / reference).write_bytes(stream.read())
    expected = read_image(tmp_path / reference).pixels
    pixels = read_image(folder / name).pixels
    if percent == 0:
        np.testing.assert_array_equal(pixels, expected)
    else:
        span = float(expected.max()) - float(expected.min())
        difference = np.abs(pixels.astype(float) - expected)
        assert 0 < difference.mean() < percent / 100 * span


@pytest.mark.data
def test_an_overflowing_encoder_and_a_wrong_sign_are_put_right(data_folder) -> None:
    """In both, what the standard's decoder gives jumps by thousands; a CT from air to bone does not."""
    folder = data_folder / "dicom-zoo" / "pylibjpeg"
    for name in ("JPEGLossless/JPEGLossless_1s_1f_i_16_16_bad.dcm", "JPEG2000Lossless/TOSHIBA_J2K_SIZ1_PixRep0.dcm"):
        values = read_image(folder / name).pixels[..., 0].astype(float)
        assert values.min() >= -3024
        assert values.max() <= 3071
        assert np.abs(np.diff(values, axis=1)).mean() < 50


@pytest.mark.data
def test_old_sequential_jpegs_are_the_picture_of_other_codecs(data_folder) -> None:
    """Two JPEG files whose scan header is wrong, beside JPEG 2000 files of the same picture."""
    folder = data_folder / "dicom-zoo" / "wg04"
    for first, second in (("JPLY/MR2_JPLY", "J2KR/MR2_J2KR"), ("JPLY/RG3_JPLY", "J2KI/RG3_J2KI")):
        pixels, expected = (read_image(folder / name).pixels.astype(float) for name in (first, second))
        assert np.abs(pixels - expected).mean() < 0.01 * (expected.max() - expected.min())
