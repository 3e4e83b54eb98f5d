from __future__ import annotations

import logging

import numpy as np
import pydicom
import pytest

from dicom_samples import make_dicom, make_series
from hounsfield.errors import ImageError
from hounsfield.images import dicom_units, read_image, read_series
from test_dicom import FRAMES, STORED, enhanced, item

PET = {
    "Modality": "PT",
    "Units": "BQML",
    "DecayCorrection": "START",
    "PatientWeight": "70",
    "SeriesDate": "20200101",
    "SeriesTime": "110000",
    "AcquisitionDate": "20200101",
    "AcquisitionTime": "110000.5",
    "RescaleSlope": "2",
    "RescaleIntercept": "0",
}
DOSE = {
    "RadionuclideTotalDose": "370000000",
    "RadionuclideHalfLife": "6588",
    "RadiopharmaceuticalStartTime": "100000",
}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    dicom_units._warn_once.cache_clear()


def pet(path, dose=None, **elements):
    values = {**PET, "RadiopharmaceuticalInformationSequence": [item(**{**DOSE, **(dose or {})})], **elements}
    return make_dicom(path, STORED, **values)


def test_standardised_uptake_by_body_weight(tmp_path) -> None:
    """By hand: 370 MBq of fluorine-18 an hour before, 70 kg: half-life 6588 s, so that 253.3 MBq are left."""
    image = read_image(pet(tmp_path / "a.dcm", WindowCenter="10000", WindowWidth="20000"))
    left = 370e6 * 0.5 ** (3600 / 6588)
    assert left == pytest.approx(253.3e6, rel=1e-3)
    np.testing.assert_allclose(image.pixels[..., 0], STORED * 2.0 * 70_000 / left, rtol=1e-6)
    assert image.metadata.units == "g/ml"
    center, width = image.metadata.windows[0]
    assert (center, width) == pytest.approx((10_000 * 70_000 / left, 20_000 * 70_000 / left))


def test_a_dose_of_the_time_of_administration_does_not_decay(tmp_path) -> None:
    image = read_image(pet(tmp_path / "a.dcm", DecayCorrection="ADMIN"))
    np.testing.assert_allclose(image.pixels[..., 0], STORED * 2.0 * 70_000 / 370e6, rtol=1e-6)


def test_the_date_of_the_dose_counts_over_midnight(tmp_path) -> None:
    dose = {"RadiopharmaceuticalStartDateTime": "20191231233000.00+0000"}
    moments = {"SeriesTime": "003000", "AcquisitionTime": "003000"}
    image = read_image(pet(tmp_path / "a.dcm", dose, **moments))
    expected = STORED * 2.0 * 70_000 / (370e6 * 0.5 ** (3600 / 6588))
    np.testing.assert_allclose(image.pixels[..., 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("dose", "elements"),
    [
        ({}, {"PatientWeight": None}),
        ({}, {"PatientWeight": "0"}),
        ({}, {"DecayCorrection": "NONE"}),
        ({}, {"SeriesTime": None}),
        ({}, {"SeriesTime": "120000"}),  # made after its images
        ({"RadionuclideTotalDose": None}, {}),
        ({"RadionuclideHalfLife": None}, {}),
        ({"RadiopharmaceuticalStartTime": None}, {}),
        ({"RadiopharmaceuticalStartTime": "113000"}, {}),  # given after the scan
        ({"RadiopharmaceuticalStartDateTime": "20191201100000"}, {}),
    ],
)
def test_without_all_that_it_takes_activity_stays(dose, elements, tmp_path, caplog) -> None:
    dose = {**DOSE, **dose}
    path = pet(tmp_path / "a.dcm", **elements)
    dataset = pydicom.dcmread(path)
    dataset.RadiopharmaceuticalInformationSequence = [item(**{k: v for k, v in dose.items() if v is not None})]
    dataset.save_as(path)
    with caplog.at_level(logging.WARNING):
        image = read_image(path)
    np.testing.assert_allclose(image.pixels[..., 0], STORED * 2.0)
    assert image.metadata.units == "Bq/ml"
    assert "standardised uptake" in caplog.text


def test_an_unreadable_dose_is_refused(tmp_path) -> None:
    path = pet(tmp_path / "a.dcm")
    content = path.read_bytes()
    assert content.count(b"370000000") == 1
    path.write_bytes(content.replace(b"370000000", b"370 MBq  "))
    with pytest.raises(ImageError, match="RadionuclideTotalDose"):
        read_image(path)


@pytest.mark.parametrize(
    ("elements", "units"),
    [
        ({"RescaleSlope": "1", "RescaleIntercept": "-1024"}, "HU"),
        ({"RescaleSlope": "1", "RescaleIntercept": "-1024", "RescaleType": "HU"}, "HU"),
        ({"RescaleSlope": "1", "RescaleIntercept": "-1024", "RescaleType": "US"}, None),
        ({}, None),
        ({"Modality": "MR", "RescaleSlope": "2", "RescaleIntercept": "0"}, None),
        ({"Modality": "PT", "Units": "GML"}, "g/ml"),
        ({"Modality": "PT", "Units": "CNTS"}, "counts"),
        ({"Modality": "RTDOSE", "DoseGridScaling": "0.5", "DoseUnits": "GY"}, "Gy"),
        ({"Modality": "RTDOSE", "DoseGridScaling": "0.5", "DoseUnits": "RELATIVE"}, None),
    ],
)
def test_units(elements, units, tmp_path) -> None:
    assert read_image(make_dicom(tmp_path / "a.dcm", STORED, **elements)).metadata.units == units


def test_philips_counts_become_standardised_uptake_by_their_private_factor(tmp_path) -> None:
    elements = {"Modality": "PT", "Units": "CNTS", "Manufacturer": "Philips Medical Systems"}
    path = make_dicom(tmp_path / "a.dcm", STORED, **elements)
    dataset = pydicom.dcmread(path)
    dataset.add_new(0x70530010, "LO", "Philips PET Private Group")
    dataset.add_new(0x70531000, "DS", "0.0005")
    dataset.save_as(path)
    image = read_image(path)
    np.testing.assert_allclose(image.pixels[..., 0], STORED * 0.0005, rtol=1e-6)
    assert image.metadata.units == "g/ml"


def mapping(slope: float = 0.5, code: str = "mm2/s"):
    unit = item(CodeValue=code, CodingSchemeDesignator="UCUM", CodeMeaning="unit")
    return item(RealWorldValueSlope=slope, RealWorldValueIntercept=-3.0, MeasurementUnitsCodeSequence=[unit])


def test_a_real_world_value_map_is_applied_where_nothing_else_is(tmp_path) -> None:
    elements = {"Modality": "MR", "RealWorldValueMappingSequence": [mapping()]}
    image = read_image(make_dicom(tmp_path / "a.dcm", STORED, **elements))
    np.testing.assert_allclose(image.pixels[..., 0], STORED * 0.5 - 3)
    assert image.metadata.units == "mm²/s"
    frames = enhanced([0, 2, 4, 6])
    frames["SharedFunctionalGroupsSequence"][0].RealWorldValueMappingSequence = [mapping()]
    image = read_image(make_dicom(tmp_path / "b.dcm", FRAMES, **frames))
    np.testing.assert_allclose(image.pixels[..., 0], FRAMES * 0.5 - 3)


@pytest.mark.parametrize("kind", ["rescaled", "two maps", "a table"])
def test_a_real_world_value_map_beside_another_is_named(kind, tmp_path, caplog) -> None:
    elements = {"Modality": "MR", "RealWorldValueMappingSequence": [mapping()]}
    if kind == "rescaled":
        elements |= {"RescaleSlope": "2", "RescaleIntercept": "1"}
    elif kind == "two maps":
        elements["RealWorldValueMappingSequence"] = [mapping(), mapping(2.0, "ms")]
    else:
        elements["RealWorldValueMappingSequence"] = [item(RealWorldValueLUTData=[1.0, 2.0])]
    with caplog.at_level(logging.WARNING):
        image = read_image(make_dicom(tmp_path / "a.dcm", STORED, **elements))
    np.testing.assert_allclose(image.pixels[..., 0], STORED * 2.0 + 1 if kind == "rescaled" else STORED)
    assert "real-world value map" in caplog.text


def test_a_series_of_two_units_is_refused(tmp_path) -> None:
    paths = make_series(tmp_path, [0.0, 2.0, 4.0], RescaleType="HU")
    dataset = pydicom.dcmread(paths[1])
    dataset.RescaleType = "US"
    dataset.save_as(paths[1])
    with pytest.raises(ImageError, match="measured in"):
        read_series(tmp_path)
