"""Files and series that are not one stack, or are stacked in an unusual way, and values that cannot be read."""

from __future__ import annotations

import gzip
import io
import logging
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless, generate_uid

from dicom_samples import make_dicom, make_series
from hounsfield.errors import ImageError, SeveralVolumes, UsageError
from hounsfield.images import group_series, read_image, read_series
from test_dicom import FRAMES, PLACE, STORED, enhanced, item

# --- values that are there and cannot be read -------------------------------------------------------------------------

# Large enough for every encoder.
LARGE = np.random.default_rng(5).integers(0, 1000, (4, 40, 48), np.uint16)
UPRIGHT = {**PLACE, "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}


def with_bytes(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert content.count(old) == 1
    assert len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("elements", "old", "new"),
    [
        ({"RescaleSlope": "2.5", "RescaleIntercept": "-1024.0"}, b"-1024.0 ", b"-1024,0 "),
        ({"RescaleSlope": "2.5", "RescaleIntercept": "-7"}, b"2.5 ", b"2,5 "),
        ({"PixelSpacing": ["0.25", "0.75"]}, b"0.25\\0.75 ", b"0,25\\0,75 "),
        ({"ImagePositionPatient": ["-10.5", "2", "3.25"]}, b"-10.5\\2\\3.25", b"-10,5\\2\\3,25"),
        ({"WindowCenter": "40.5", "WindowWidth": "80"}, b"40.5", b"40,5"),
        ({"DoseGridScaling": "0.125"}, b"0.125 ", b"0,125 "),
    ],
)
def test_decimal_commas_are_read(elements, old, new, tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED, **{**UPRIGHT, **elements})
    point = read_image(path)
    comma = read_image(with_bytes(path, old, new))
    np.testing.assert_array_equal(comma.pixels, point.pixels)
    np.testing.assert_array_equal(comma.affine, point.affine)
    assert (comma.spacing, comma.metadata.windows) == (point.spacing, point.metadata.windows)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("RescaleSlope", "one"),
        ("RescaleIntercept", "-1.024,5"),
        ("RescaleIntercept", "nan"),
        ("RescaleIntercept", "--5"),
        ("RescaleIntercept", "1_024"),
        ("PixelSpacing", ["0.5", "wide"]),
        ("PixelSpacing", ["0.5"]),
        ("ImagePositionPatient", ["1", "2"]),
        ("ImagePositionPatient", ["1", "2", "inf"]),
        ("ImageOrientationPatient", ["1", "0", "0", "0", "1"]),
        ("SliceThickness", "thin"),
        ("WindowCenter", "mid"),
        ("WindowWidth", "1 0"),
        ("DoseGridScaling", "mGy"),
        ("NumberOfFrames", "1.5"),
        ("NumberOfFrames", "two"),
    ],
)
def test_a_number_that_cannot_be_read_is_refused_by_name(keyword, value, tmp_path) -> None:
    values = {**UPRIGHT, "WindowCenter": "1", "WindowWidth": "10"}
    path = make_dicom(tmp_path / "a.dcm", STORED, **values)
    text = "\\".join(value) if isinstance(value, list) else value
    dataset = pydicom.dcmread(path)
    # Written as bytes of a kind that is not converted.
    tag = pydicom.tag.Tag(keyword)
    dataset[tag] = pydicom.dataelem.RawDataElement(
        tag,
        pydicom.datadict.dictionary_VR(tag),
        len(text),
        text.encode().ljust(len(text) + len(text) % 2),
        0,
        False,
        True,
    )
    dataset.save_as(path)
    with pytest.raises(ImageError, match=rf"{keyword} \([0-9A-F]{{4}},[0-9A-F]{{4}}\)") as error:
        read_image(path)
    assert text not in str(error.value)


@pytest.mark.parametrize("keyword", ["RescaleSlope", "PixelSpacing", "WindowCenter", "SliceThickness"])
def test_an_empty_value_is_a_missing_one(keyword, tmp_path) -> None:
    values = {**UPRIGHT, "WindowCenter": "1", "WindowWidth": "10", keyword: ""}
    image = read_image(make_dicom(tmp_path / "a.dcm", STORED, **values))
    np.testing.assert_array_equal(image.pixels[..., 0], STORED)


# --- several volumes in one file --------------------------------------------------------------------------------------


def group(keyword: str, **elements: object) -> dict[str, object]:
    return {keyword: [item(**elements)]}


PER_FRAME = {
    "b-value": lambda index: group("MRDiffusionSequence", DiffusionBValue=1000.0 * index),
    "echo": lambda index: group("MREchoSequence", EffectiveEchoTime=30.0 + 50 * index),
    "time": lambda index: group("FrameContentSequence", TemporalPositionIndex=index + 1),
    "phase": lambda index: group("CardiacSynchronizationSequence", NominalPercentageOfCardiacPhase=50.0 * index),
    "stack": lambda index: group("FrameContentSequence", StackID=str(index + 1)),
    "kernel": lambda index: group("CTReconstructionSequence", ConvolutionKernel=f"B{30 + index}f"),
    "component": lambda index: group("MRImageFrameTypeSequence", ComplexImageComponent=("MAGNITUDE", "PHASE")[index]),
    "acquired": lambda index: group("FrameContentSequence", FrameAcquisitionDateTime=f"2020010110{index}000"),
}


@pytest.mark.parametrize("order", ["volumes", "slices"])
@pytest.mark.parametrize("kind", PER_FRAME)
def test_frames_of_several_volumes_are_never_one(kind, order, tmp_path) -> None:
    places = [(volume, depth) for volume in range(2) for depth in (0, 2, 4)]
    places.sort(key=lambda place: place if order == "volumes" else place[::-1])
    elements = enhanced([depth for _, depth in places])
    for frame, (volume, _) in zip(elements["PerFrameFunctionalGroupsSequence"], places, strict=True):
        for keyword, value in PER_FRAME[kind](volume).items():
            setattr(frame, keyword, value)
    pixels = np.stack([np.full((7, 5), 100 * volume + depth, np.uint16) for volume, depth in places])
    path = make_dicom(tmp_path / "a.dcm", pixels, Modality="MR", **elements)
    with pytest.raises(SeveralVolumes, match="holds 2 volumes"):
        read_image(path)
    for volume in range(2):
        image = read_image(path, volume=volume)
        assert (image.shape, image.spacing) == ((3, 7, 5), (2, 0.5, 0.75))
        np.testing.assert_array_equal(image.pixels[:, 0, 0, 0], [100 * volume, 100 * volume + 2, 100 * volume + 4])
    with pytest.raises(ImageError, match="number 2"):
        read_image(path, volume=2)
    (first, second) = group_series([path]).series
    assert (first.volume, second.volume) == (0, 1)
    np.testing.assert_array_equal(read_series(second).pixels, read_image(path, volume=1).pixels)
    np.testing.assert_array_equal(read_series([path], volume=1).pixels, read_image(path, volume=1).pixels)


def test_frames_of_several_orientations_are_several_volumes(tmp_path) -> None:
    elements = enhanced([0, 2, 4, 6])
    del elements["SharedFunctionalGroupsSequence"][0].PlaneOrientationSequence
    for index, frame in enumerate(elements["PerFrameFunctionalGroupsSequence"]):
        cosines = [1, 0, 0, 0, 1, 0] if index < 2 else [0, 1, 0, 0, 0, -1]
        frame.PlaneOrientationSequence = [item(ImageOrientationPatient=cosines)]
    path = make_dicom(tmp_path / "a.dcm", FRAMES, **elements)
    with pytest.raises(SeveralVolumes, match=r"orientation axial.*orientation sagittal"):
        read_image(path)


def test_a_film_of_one_place_stays_one_image(tmp_path) -> None:
    elements = enhanced([5, 5, 5, 5])
    for index, frame in enumerate(elements["PerFrameFunctionalGroupsSequence"]):
        frame.FrameContentSequence = [item(TemporalPositionIndex=index + 1)]
    image = read_image(make_dicom(tmp_path / "a.dcm", FRAMES, **elements))
    np.testing.assert_array_equal(image.pixels[..., 0], FRAMES)
    assert (image.affine, image.spacing) == (None, None)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_only_the_frames_of_the_volume_are_decoded(syntax, tmp_path) -> None:
    elements = enhanced([0, 2, 0, 2])
    for index, frame in enumerate(elements["PerFrameFunctionalGroupsSequence"]):
        frame.MRDiffusionSequence = [item(DiffusionBValue=500.0 * (index // 2))]
    path = make_dicom(tmp_path / "a.dcm", LARGE, **elements)
    dataset = pydicom.dcmread(path)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path)
    np.testing.assert_array_equal(read_image(path, volume=1).pixels[..., 0], LARGE[2:])


def test_a_rescaling_of_some_frames_is_theirs_alone(tmp_path) -> None:
    elements = enhanced([0, 2, 4, 6], slopes=[2, 2, 2, 2])
    for frame in elements["PerFrameFunctionalGroupsSequence"][2:]:
        del frame.PixelValueTransformationSequence
    image = read_image(make_dicom(tmp_path / "a.dcm", FRAMES, **elements))
    expected = FRAMES.astype(np.float32)
    expected[0] *= 2
    expected[1] = expected[1] * 2 - 1
    np.testing.assert_array_equal(image.pixels[..., 0], expected)


def test_parts_of_the_geometry_may_stand_in_the_image_itself(tmp_path) -> None:
    elements = enhanced([0, 2, 4, 6])
    elements["SharedFunctionalGroupsSequence"] = None
    root = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [0.5, 0.75]}
    image = read_image(make_dicom(tmp_path / "a.dcm", FRAMES, **elements, **root))
    assert image.spacing == (2, 0.5, 0.75)


def test_a_cone_beam_ct_states_one_place_for_all_its_frames(tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        image = read_image(make_dicom(tmp_path / "a.dcm", FRAMES, **UPRIGHT, SpacingBetweenSlices="0.4"))
    assert image.spacing == pytest.approx((0.4, 0.5, 0.75))
    np.testing.assert_allclose(image.affine @ [3, 0, 0, 1], [-10, 20, 30.5 + 1.2, 1])
    assert "first frame only" in caplog.text
    film = make_dicom(tmp_path / "b.dcm", FRAMES, **UPRIGHT, SpacingBetweenSlices="0.4", FrameTime="40")
    assert read_image(film).affine is None


@pytest.mark.parametrize(("step", "origin"), [(-4, 18.5), (4, 30.5)])
def test_reconstructed_spect_is_stacked_by_its_slice_vector(step, origin, tmp_path) -> None:
    detector = item(ImagePositionPatient=[-10, 20, 30.5], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    elements = {
        "Modality": "NM",
        "ImageType": ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"],
        "PixelSpacing": [4, 4],
        "SpacingBetweenSlices": step,
        "DetectorInformationSequence": [detector],
        "SliceVector": [1, 2, 3, 4],
    }
    image = read_image(make_dicom(tmp_path / "a.dcm", FRAMES, **elements))
    np.testing.assert_array_equal(image.pixels[..., 0], FRAMES if step > 0 else FRAMES[::-1])
    np.testing.assert_allclose(image.affine[:3, 3], [-10, 20, origin])
    assert image.spacing == (4, 4, 4)
    gated = {**elements, "SliceVector": [1, 2, 1, 2], "TimeSlotVector": [1, 1, 2, 2]}
    path = make_dicom(tmp_path / "b.dcm", FRAMES, **gated)
    with pytest.raises(SeveralVolumes, match=r"time slot 1.*time slot 2"):
        read_image(path)


# --- mosaics ----------------------------------------------------------------------------------------------------------


def test_a_mosaic_is_unfolded(tmp_path) -> None:
    slices = np.arange(14, dtype=np.uint16)[:, np.newaxis, np.newaxis] + np.zeros((1, 6, 8), np.uint16)
    tiles = np.concatenate([slices, np.zeros((2, 6, 8), np.uint16)])
    picture = tiles.reshape(4, 4, 6, 8).swapaxes(1, 2).reshape(24, 32)
    path = make_dicom(tmp_path / "a.dcm", picture, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"], **UPRIGHT)
    with pytest.raises(ImageError, match="does not tell how many"):
        read_image(path)
    dataset = pydicom.dcmread(path)
    for block, kind, count in ((0x10, "US", 14), (0x11, "US", 14), (0x10, "LO", "14"), (0x10, "US", 17)):
        changed = dataset.copy()
        changed.add_new(0x00190000 | block, "LO", "SIEMENS MR HEADER")
        changed.add_new(0x00190000 | block << 8 | 0x0A, kind, count)
        changed.save_as(path)
        if count == 17:
            with pytest.raises(ImageError, match="do not fit"):
                read_image(path)
        else:
            image = read_image(path)
            np.testing.assert_array_equal(image.pixels[..., 0], slices)
            assert image.affine is None
            assert [series.kind for series in group_series([path]).series] == ["image"]


# --- series -----------------------------------------------------------------------------------------------------------

DEPTHS = [0.0, 2.5, 5.0, 7.5]


def test_one_identifier_for_several_slices_does_not_cost_any(tmp_path, caplog) -> None:
    make_series(tmp_path, DEPTHS, SOPInstanceUID="1.2.3.4.5")
    with caplog.at_level(logging.WARNING):
        image = read_series(tmp_path)
    assert (image.shape, image.spacing[0]) == ((4, 6, 5), 2.5)
    assert "one SOPInstanceUID" in caplog.text


def test_one_identifier_for_two_pictures_of_one_place_is_refused(tmp_path) -> None:
    paths = make_series(tmp_path, DEPTHS)
    dataset = pydicom.dcmread(paths[1])
    dataset.PixelData = bytes(reversed(dataset.PixelData))
    dataset.save_as(tmp_path / "again")
    with pytest.raises(ImageError, match="lie where another one lies"):
        read_series(tmp_path)


def test_positions_with_one_decimal_are_even(tmp_path) -> None:
    make_series(tmp_path, [round(0.625 * index, 1) for index in range(40)])
    assert read_series(tmp_path).spacing[0] == pytest.approx(0.625, abs=2e-3)


def test_a_missing_slice_is_noticed_in_rounded_positions(tmp_path) -> None:
    make_series(tmp_path, [round(0.625 * index, 1) for index in range(20) if index != 7])
    with pytest.raises(ImageError, match=r"missing|unevenly"):
        read_series(tmp_path)


def test_slices_that_drift_off_the_grid_are_uneven(tmp_path) -> None:
    depths = np.cumsum([2.0] * 20 + [2.03] * 20).tolist()
    make_series(tmp_path, depths)
    with pytest.raises(ImageError, match="unevenly"):
        read_series(tmp_path)


def test_two_spacings_are_resampled_to_the_finer_one(tmp_path, caplog) -> None:
    depths = [0.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 25.0]
    make_series(tmp_path, depths)
    with caplog.at_level(logging.WARNING):
        image = read_series(tmp_path)
    assert "interpolated" in caplog.text
    assert (image.shape[0], image.spacing[0]) == (11, 2.5)
    # The values of make_series are linear in depth, but for a shift of half between rounded ones.
    expected = 2.5 * np.arange(11)[:, np.newaxis] * 10 + np.arange(6)
    np.testing.assert_allclose(image.pixels[:, :, 2, 0], expected, atol=0.51)
    np.testing.assert_allclose(image.affine @ [10, 0, 0, 1], [-100, -80, 55, 1])
    with pytest.raises(ImageError, match="no even volume"):
        read_series(tmp_path, uneven="refuse")


def test_uneven_slices_are_resampled_on_request(tmp_path) -> None:
    make_series(tmp_path, [0, 2.0, 5, 8.1, 10.6])
    image = read_series(tmp_path, uneven="resample")
    assert (image.shape[0], image.spacing[0]) == (6, 2.0)
    np.testing.assert_allclose(image.pixels[:, 0, 0, 0], [0, 20, 40, 60, 80, 100], atol=0.51)


def test_uneven_slices_are_resampled_by_the_setting(tmp_path, monkeypatch) -> None:
    make_series(tmp_path, [0, 2.0, 5, 8.1, 10.6])
    monkeypatch.setenv("HOUNSFIELD_UNEVEN", "resample")
    assert read_series(tmp_path).shape[0] == 6
    monkeypatch.setenv("HOUNSFIELD_UNEVEN", "stretch")
    with pytest.raises(UsageError, match="resample, refuse"):
        read_series(tmp_path)


def test_slices_without_positions_stand_in_the_order_of_their_numbers(tmp_path, caplog) -> None:
    make_series(tmp_path, DEPTHS, ImagePositionPatient=None)
    numbers = {pydicom.dcmread(path).InstanceNumber: path for path in tmp_path.iterdir()}
    with caplog.at_level(logging.WARNING):
        image = read_series(tmp_path)
    assert "state no position" in caplog.text
    assert (image.affine, image.spacing) == (None, None)
    expected = [read_image(numbers[number]).pixels for number in sorted(numbers)]
    np.testing.assert_array_equal(image.pixels, expected)


def test_interleaved_mr_is_one_volume_with_a_warning(tmp_path, caplog) -> None:
    for name, start in (("a", 0.0), ("b", 1.0)):
        depths = [start + 2 * index for index in range(4)]
        make_series(tmp_path / name, depths, AcquisitionNumber=int(start) + 1, Modality="MR")
    with caplog.at_level(logging.WARNING):
        assert read_series(tmp_path).spacing[0] == 1
    assert "differ in AcquisitionNumber" in caplog.text


# --- pixels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", [None, 1, 2])
def test_frames_that_are_not_declared_are_read(declared, tmp_path, caplog) -> None:
    path = make_dicom(tmp_path / "a.dcm", FRAMES, NumberOfFrames=declared)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(read_image(path).pixels[..., 0], FRAMES)
    assert "holds 4" in caplog.text
    with pytest.raises(ImageError, match="limit"):
        read_image(path, max_pixels=FRAMES[:2].size)


def test_pixels_that_make_no_whole_frames_are_refused(tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED, content=FRAMES.tobytes() + b"abcd", Rows=7, Columns=5)
    with pytest.raises(ImageError, match="whole frames"):
        read_image(path)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_frames_that_are_not_declared_are_read(syntax, tmp_path) -> None:
    path = make_dicom(tmp_path / "a.dcm", LARGE)
    dataset = pydicom.dcmread(path)
    dataset.compress(syntax, generate_instance_uid=False)
    del dataset.NumberOfFrames
    dataset.save_as(path)
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], LARGE)


def test_plain_pixels_under_a_compressed_syntax_are_read(tmp_path, caplog) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED)
    with_bytes(path, ExplicitVRLittleEndian.encode() + b"\0", RLELossless.encode() + b"\0")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(read_image(path).pixels[..., 0], STORED)
    assert "not compressed" in caplog.text


def test_gzipped_files_are_read(tmp_path) -> None:
    content = make_dicom(tmp_path / "a.dcm", STORED, **PLACE).read_bytes()
    for name in ("b.dcm.gz", "c.gz", "d"):
        (tmp_path / name).write_bytes(gzip.compress(content))
        image = read_image(tmp_path / name)
        np.testing.assert_array_equal(image.pixels[..., 0], STORED)
    (tmp_path / "e.dcm.gz").write_bytes(gzip.compress(content)[:-30])
    with pytest.raises(ImageError, match="truncated"):
        read_image(tmp_path / "e.dcm.gz")


COLOURS = np.stack(
    [np.mgrid[0:64, 0:64][1] * 4, np.mgrid[0:64, 0:64][0] * 4, 255 - np.mgrid[0:64, 0:64][1] * 2], -1
).astype(np.uint8)
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"


def jpeg(markers: bytes, **options: object) -> bytes:
    """A JPEG of ``COLOURS`` with no application markers but those given."""
    stream = io.BytesIO()
    Pillow.fromarray(COLOURS).save(stream, "JPEG", quality=95, **options)
    full = stream.getvalue()
    bare, position = full[:2] + markers, 2
    while full[position + 1] != 0xDA:
        length = int.from_bytes(full[position + 2 : position + 4], "big")
        if not 0xE0 <= full[position + 1] <= 0xEF:
            bare += full[position : position + 2 + length]
        position += 2 + length
    return bare + full[position:]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("declared", ["RGB", "YBR_FULL_422", "YBR_FULL"])
@pytest.mark.parametrize(
    ("markers", "options"),
    [
        (b"", {"subsampling": 2}),
        (b"", {"subsampling": 1}),
        (ADOBE + b"\1", {"subsampling": 0}),
        (ADOBE + b"\1", {"subsampling": 2}),
        (ADOBE + b"\0", {"keep_rgb": True, "subsampling": 0}),
    ],
)
def test_what_a_jpeg_says_of_its_colours_counts(markers, options, declared, progressive, tmp_path) -> None:
    frame = jpeg(markers, progressive=progressive, **options)
    elements = {"PhotometricInterpretation": declared, "SamplesPerPixel": 3, "Modality": "US"}
    path = make_dicom(tmp_path / "a.dcm", COLOURS, **elements)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset.SOPInstanceUID = generate_uid()
    dataset.save_as(path)
    assert np.abs(read_image(path).pixels.astype(int) - COLOURS).mean() < 1


# --- what vendors keep in private elements ----------------------------------------------------------------------------

PHILIPS = "Philips Medical Systems"
PHILIPS_IMAGING, PHILIPS_MR = "Philips Imaging DD 001", "Philips MR Imaging DD 001"


@pytest.mark.parametrize("block", [0x10, 0x12])
@pytest.mark.parametrize(
    ("manufacturer", "creator", "group", "element", "representation", "values"),
    [
        (PHILIPS, PHILIPS_IMAGING, 0x2001, 0x03, "FL", (0.0, 1000.0)),
        (PHILIPS, PHILIPS_IMAGING, 0x2001, 0x08, "IS", (1, 2)),
        (PHILIPS, "Philips MR Imaging DD 005", 0x2005, 0x13, "IS", (1, 2)),
        ("SIEMENS", "SIEMENS MR HEADER", 0x0019, 0x0C, "IS", (0, 1000)),
        ("GE MEDICAL SYSTEMS", "GEMS_PARM_01", 0x0043, 0x39, "IS", ([0, 8, 0, 0], [1000000800, 8, 0, 0])),
        ("GE MEDICAL SYSTEMS", "GEMS_PARM_01", 0x0043, 0x2F, "SS", (0, 1)),
        ("UIH", "Image Private Header", 0x0065, 0x09, "FD", (1.25, 929.75)),
    ],
)
def test_private_elements_tell_volumes_apart(
    manufacturer, creator, group, element, representation, values, block, tmp_path
) -> None:
    numbers = np.random.default_rng(4).permutation(8)
    for volume, value in enumerate(values):
        paths = make_series(tmp_path / str(volume), DEPTHS, Modality="MR", Manufacturer=manufacturer)
        for index, path in enumerate(paths):
            dataset = pydicom.dcmread(path)
            dataset.add_new(group << 16 | block, "LO", creator)
            dataset.add_new(group << 16 | block << 8 | element, representation, value)
            # No run of numbers is complete, so that nothing else tells the volumes apart.
            dataset.InstanceNumber = int(numbers[4 * volume + index]) % 3
            dataset.PixelData = (dataset.pixel_array + 100 * volume).tobytes()
            dataset.save_as(path)
    with pytest.raises(SeveralVolumes, match="holds 2 volumes"):
        read_series(tmp_path)
    first, second = (read_series(tmp_path, volume=number) for number in range(2))
    np.testing.assert_array_equal(second.pixels, first.pixels + 100)


def test_directions_of_philips_are_told_apart_by_their_three_elements(tmp_path) -> None:
    for volume, direction in enumerate(np.eye(3)):
        for path in make_series(tmp_path / str(volume), DEPTHS, Modality="MR", Manufacturer=PHILIPS, InstanceNumber=1):
            dataset = pydicom.dcmread(path)
            dataset.add_new(0x20050010, "LO", PHILIPS_MR)
            for axis, value in enumerate(direction):
                dataset.add_new(0x200510B0 + axis, "FL", float(value))
            dataset.PixelData = (dataset.pixel_array + 100 * volume).tobytes()
            dataset.save_as(path)
    with pytest.raises(SeveralVolumes, match="holds 3 volumes"):
        read_series(tmp_path)
    found = sorted(float(read_series(tmp_path, volume=number).pixels.min()) for number in range(3))
    assert found == [0, 100, 200]


def test_slices_are_told_apart_by_combined_private_and_standard_labels(tmp_path) -> None:
    """Two b-values, each at two echoes, and instance numbers of no use."""
    for volume, (b_value, echo) in enumerate([(0, 30), (0, 80), (900, 30), (900, 80)]):
        elements = {"Modality": "MR", "Manufacturer": "SIEMENS", "EchoTime": echo, "InstanceNumber": 1}
        for path in make_series(tmp_path / str(volume), DEPTHS, **elements):
            dataset = pydicom.dcmread(path)
            dataset.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
            dataset.add_new(0x0019100C, "IS", b_value)
            dataset.PixelData = (dataset.pixel_array + volume).tobytes()
            dataset.save_as(path)
    assert [len(series.paths) for series in group_series(tmp_path).series] == [4, 4, 4, 4]
    with pytest.raises(SeveralVolumes, match="b-value 900"):
        read_series(tmp_path)


# --- parts of images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "total", "words"), [(1, 2, "part 1 of 2"), (3, None, "part 3 of several")])
def test_a_part_of_a_concatenation_is_not_taken_for_the_whole(number, total, words, tmp_path) -> None:
    """PS3.3 C.7.6.16.2.2.4: a part reads well by itself, and the rest of the volume is missing."""
    split = {"ConcatenationUID": generate_uid(), "InConcatenationNumber": number, "InConcatenationTotalNumber": total}
    path = make_dicom(tmp_path / "a.dcm", FRAMES, **split)
    with pytest.raises(ImageError, match=words):
        read_image(path)
    with pytest.raises(ImageError, match=words):
        read_series(tmp_path)
    whole = make_dicom(tmp_path / "a.dcm", FRAMES, **{**split, "InConcatenationTotalNumber": 1})
    assert read_image(whole).shape == FRAMES.shape


@pytest.mark.parametrize("keyword", ["SequenceName", "SeriesDescription", "ProtocolName", "ImageComments"])
def test_a_text_tells_volumes_apart_where_the_order_of_slices_would_mix_them(keyword: str, tmp_path: Path) -> None:
    for number in range(8):
        place, turn = divmod(number, 2)
        b_value = (50, 800)[turn if place % 2 == 0 else 1 - turn]
        elements = {keyword: f"*ep_b{b_value}", "InstanceNumber": number + 1}
        pixels = np.full((8, 8), b_value, np.uint16)
        make_dicom(
            tmp_path / f"{number}.dcm", pixels, **{**UPRIGHT, "ImagePositionPatient": [0, 0, 2 * place]}, **elements
        )
    for volume, b_value in enumerate((50, 800)):
        assert set(read_series(tmp_path, volume=volume).pixels.ravel().tolist()) == {b_value}
