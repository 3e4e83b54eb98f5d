"""Which objects may show text, that they are masked or refused, and that masks hide what they say and no more."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
)
from typer.testing import CliRunner

from dicom_samples import make_dicom
from hounsfield.cli.main import app
from hounsfield.errors import ImageError, UsageError
from hounsfield.images import read_image
from hounsfield.images.burned_in import MaskRule, Masks, burned_in, read_masks
from hounsfield.images.deidentification import deidentify
from hounsfield.images.deidentify import deidentify_file, deidentify_paths

KEY = b"0123456789abcdef"
CLEANED = Dataset()
CLEANED.CodeValue = "113101"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"BurnedInAnnotation": "YES", "Modality": "CT"}, "declared"),
        ({"BurnedInAnnotation": "NO", "Modality": "US"}, "likely"),
        ({"BurnedInAnnotation": "NO", "Modality": "US", "DeidentificationMethodCodeSequence": [CLEANED]}, "unlikely"),
        ({"BurnedInAnnotation": "YES", "Modality": "US", "DeidentificationMethodCodeSequence": [CLEANED]}, "declared"),
        ({"Modality": "US"}, "likely"),
        ({"Modality": "OT", "SOPClassUID": UltrasoundImageStorage}, "likely"),
        ({"Modality": "CT", "SOPClassUID": SecondaryCaptureImageStorage}, "likely"),
        ({"Modality": "CT", "ConversionType": "WSD"}, "likely"),
        ({"Modality": "CT", "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "likely"),
        ({"Modality": "MR", "ImageType": ["DERIVED", "SECONDARY", "OTHER", "CSA REPORT"]}, "likely"),
        ({"Modality": "CT", "ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "possible"),
        ({"Modality": "XA"}, "possible"),
        ({"Modality": "XA", "BurnedInAnnotation": "NO"}, "unlikely"),
        ({"Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, "unlikely"),
        ({}, "possible"),
    ],
)
def test_burnt_in_text_is_judged(facts, expected):
    dataset = Dataset()
    for keyword, value in facts.items():
        setattr(dataset, keyword, value)
    # Objects without pixels have none to mask.
    assert burned_in(dataset) == expected == deidentify(dataset, KEY).burned_in


PIXELS = np.random.default_rng(0).integers(1, 200, (12, 10)).astype(np.uint8)


def ultrasound(path, pixels=PIXELS, **elements):
    return make_dicom(path, pixels, **{"Modality": "US", "SOPClassUID": UltrasoundImageStorage, **elements})


def region(x0: int, y0: int, x1: int, y1: int) -> Dataset:
    item = Dataset()
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x0, y0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x1, y1
    return item


def test_likely_text_is_refused_until_somebody_decides(tmp_path):
    ultrasound(tmp_path / "a.dcm")
    with pytest.raises(ImageError, match="--keep-pixels"):
        deidentify_file(tmp_path / "a.dcm", tmp_path / "b.dcm", KEY)
    assert not (tmp_path / "b.dcm").exists()
    kept = deidentify_file(tmp_path / "a.dcm", tmp_path / "b.dcm", KEY, keep_pixels=True)
    assert not kept.masked
    assert pydicom.dcmread(tmp_path / "b.dcm").PixelData == PIXELS.tobytes()
    done = deidentify_paths(tmp_path / "a.dcm", tmp_path / "c.dcm", KEY, keep_pixels=True)
    assert done.flagged == {tmp_path / "c.dcm": "likely"}


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_mask_hides_its_rectangle_and_nothing_else(tmp_path, syntax, frames):
    large = np.random.default_rng(1).integers(1, 200, (40, 48)).astype(np.uint8)
    pixels = large if frames == 1 else np.stack([large + index for index in range(frames)])
    path = ultrasound(tmp_path / "a.dcm", pixels)
    if syntax is not None:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, encoding_plugin="" if syntax == RLELossless else "pylibjpeg")
        dataset.save_as(path)
    before = pydicom.dcmread(path).pixel_array
    result = deidentify_file(path, tmp_path / "b.dcm", KEY, masks=Masks(boxes=((0, 2, 3, 10),)))
    after = pydicom.dcmread(tmp_path / "b.dcm")
    expected = before.copy()
    expected[..., 0:3, 2:10] = before.min()
    np.testing.assert_array_equal(after.pixel_array, expected)
    assert result.masked
    assert after.BurnedInAnnotation == "NO"
    assert "113101" in [code.CodeValue for code in after.DeidentificationMethodCodeSequence]
    # What was masked once is not asked for again.
    assert burned_in(after) == "unlikely"


@pytest.mark.parametrize(
    ("pixels", "elements", "hidden"),
    [
        (PIXELS, {"PhotometricInterpretation": "MONOCHROME1"}, int(PIXELS.max())),
        (np.stack([PIXELS] * 3, axis=-1), {"SamplesPerPixel": 3}, int(PIXELS.min())),
        (PIXELS.astype(np.int16) - 100, {}, int(PIXELS.min()) - 100),
        (PIXELS.astype(">u2"), {"syntax": ExplicitVRBigEndian}, int(PIXELS.min())),
    ],
)
def test_kinds_of_pixels_are_masked(tmp_path, pixels, elements, hidden):
    path = ultrasound(tmp_path / "a.dcm", pixels, **elements)
    before = pydicom.dcmread(path).pixel_array.astype(int)
    deidentify_file(path, tmp_path / "b.dcm", KEY, masks=Masks(boxes=((10, 0, 12, 4),)))
    before[10:12, 0:4] = hidden
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "b.dcm").pixel_array, before)


def test_what_lies_outside_the_regions_is_masked(tmp_path):
    path = ultrasound(tmp_path / "a.dcm", SequenceOfUltrasoundRegions=[region(2, 4, 6, 9), region(8, 4, 9, 5)])
    deidentify_file(path, tmp_path / "b.dcm", KEY, masks=Masks(outside_regions=True))
    after = read_image(tmp_path / "b.dcm").pixels[..., 0]
    inside = np.zeros(PIXELS.shape, bool)
    inside[4:10, 2:7] = inside[4:6, 8:10] = True
    np.testing.assert_array_equal(after, np.where(inside, PIXELS, PIXELS.min()))


@pytest.mark.parametrize(
    ("masks", "regions", "words"),
    [
        (Masks(outside_regions=True), [], "no region"),
        (Masks(outside_regions=True), [region(0, 0, 9, 11)], "the whole image"),
        (Masks(boxes=((0, 0, 13, 4),)), [], "12 rows"),
        (Masks(boxes=((0, 0, 2, 11),)), [], "10 columns"),
    ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path, masks, regions, words):
    path = ultrasound(tmp_path / "a.dcm", SequenceOfUltrasoundRegions=regions or None)
    with pytest.raises(ImageError, match=words):
        deidentify_file(path, tmp_path / "b.dcm", KEY, masks=masks)
    assert not (tmp_path / "b.dcm").exists()


def test_rules_choose_by_device(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "- {manufacturer: MAKER, model: Old 1, rows: 12, columns: 10, boxes: [[0, 0, 2, 10]]}\n"
        "- {modality: us, manufacturer: Maker, boxes: [[0, 0, 1, 10]]}\n"
    )
    masks = read_masks([], rules)
    (tmp_path / "in").mkdir()
    for name, device in (("a", {"ManufacturerModelName": "old 1 "}), ("b", {}), ("c", {"Manufacturer": "Other"})):
        elements = {"Manufacturer": "Maker", "SOPInstanceUID": f"1.2.3.{ord(name)}", **device}
        ultrasound(tmp_path / "in" / f"{name}.dcm", **elements)
    done = deidentify_paths(tmp_path / "in", tmp_path / "out", KEY, masks=masks)
    hidden = [int((read_image(path).pixels == PIXELS.min()).all(axis=(1, 2)).sum()) for path in done.written]
    assert hidden == [2, 1]
    assert done.masked == done.written
    assert [path.name for path, _ in done.left_out] == ["c.dcm"]


def test_masks_of_the_command_line(tmp_path):
    assert read_masks(["1,2,3,4", "outside-regions"]) == Masks(boxes=((1, 2, 3, 4),), outside_regions=True)
    for text in ("1,2,3", "a,b,c,d", "3,0,3,4", "-1,0,2,2", ""):
        with pytest.raises(UsageError):
            read_masks([text])
    rules = tmp_path / "rules.yaml"
    for content in (
        "boxes: 3",
        "- {boxes: [[1, 2, 3]]}",
        "- {modality: US}",
        "- {rows: 0}",
        "- {boks: []}",
        "- [",
        "7",
    ):
        rules.write_text(content)
        with pytest.raises(ImageError):
            read_masks([], rules)
    rules.write_text("- {boxes: [[5, 0, 2, 2]]}")
    with pytest.raises(UsageError):
        read_masks([], rules)
    with pytest.raises(ImageError):
        read_masks([], tmp_path / "absent.yaml")
    assert MaskRule(columns=10).fits(pydicom.dcmread(ultrasound(tmp_path / "a.dcm")))


def test_films_are_refused(tmp_path):
    path = make_dicom(tmp_path / "a.dcm", PIXELS, Modality="ES")
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    assert burned_in(dataset) == "likely"


def test_the_command(tmp_path):
    ultrasound(tmp_path / "a.dcm")
    key = ["--deidentify", "--key-file", str(tmp_path / "key")]
    call = ["convert", str(tmp_path / "a.dcm"), str(tmp_path / "b.dcm")]
    assert CliRunner().invoke(app, [*call, *key]).exit_code == 1
    for wrong in (
        ["--mask", "0,0,2,2"],
        ["--keep-pixels"],
        [*key, "--keep-pixels", "--mask", "0,0,2,2"],
        [*key, "--mask", "x"],
    ):
        assert isinstance(CliRunner().invoke(app, [*call, *wrong]).exception, UsageError)
    done = CliRunner().invoke(app, [*call, *key, "--mask", "0,0,2,10", "--json"])
    assert done.exit_code == 0
    assert '"masked": 1' in done.stdout
    assert (read_image(tmp_path / "b.dcm").pixels[:2] == PIXELS.min()).all()
