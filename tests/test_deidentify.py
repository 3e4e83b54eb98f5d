"""What the basic profile of PS3.15 Annex E asks for, and that one key keeps a cohort together."""

from __future__ import annotations

import datetime as dt
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from hounsfield.errors import ImageError
from hounsfield.images import read_image, read_series
from hounsfield.images.confidentiality import PROFILE
from hounsfield.images.conversion import convert
from hounsfield.images.deidentification import deidentify
from hounsfield.images.deidentify import deidentify_file, deidentify_paths, make_key, read_key
from hounsfield.images.pseudonyms import pseudonym

KEY = b"0123456789abcdef"
SECRETS = ("Lovelace", "Ada", "4711", "Charité", "Dr House", "Room 12", "555-0199", "ZZ-private", "ACC-99")


def study_object(patient: str = "4711", instance: str = "1.2.3.4.5") -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, instance
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.9"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Lovelace^Ada", patient, "18151210"
    dataset.PatientSex, dataset.PatientAge, dataset.PatientWeight = "F", "094Y", "55"
    dataset.OtherPatientIDs, dataset.PatientTelephoneNumbers = "4711-b", "555-0199"
    dataset.StudyDate, dataset.SeriesDate, dataset.ContentDate = "20200131", "20200131", "20200203"
    dataset.StudyTime, dataset.AcquisitionDateTime = "101112", "20200131101530.25+0100"
    dataset.AccessionNumber, dataset.StudyID = "ACC-99", "4711"
    dataset.InstitutionName, dataset.StationName = "Charité", "Room 12"
    dataset.ReferringPhysicianName, dataset.OperatorsName = "Dr House", "Dr House"
    dataset.StudyDescription, dataset.Modality, dataset.BodyPartExamined = "CT of Ada Lovelace", "CT", "CHEST"
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.PixelSpacing = "1", "-1024", ["0.7", "0.7"]
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3.4.5"
    reference.PatientName = "Lovelace^Ada"
    block = reference.private_block(0x0011, "ZZ-private nested", create=True)
    block.add_new(0x01, "LO", "ZZ-private")
    dataset.SourceImageSequence = [reference]
    request = Dataset()
    request.RequestedProcedureDescription = "for Ada"
    dataset.RequestAttributesSequence = [request]
    block = dataset.private_block(0x0009, "ZZ-private", create=True)
    block.add_new(0x02, "LO", "ZZ-private Lovelace")
    dataset.add_new(0x60000022, "LO", "overlay of Ada")
    dataset.add_new(0x00190001, "LO", "ZZ-private")
    dataset.add_new(0x00085555, "LO", "Ada in an attribute that no dictionary knows")
    dataset.VerifyingObserverName = "Dr House"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.BitsAllocated = 2, 2, 1, 8
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 7, 0
    dataset.PhotometricInterpretation, dataset.PixelData = "MONOCHROME2", b"\1\2\3\4"
    dataset["PixelData"].VR = "OB"
    return dataset


def write(dataset: Dataset, path) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.SourceApplicationEntityTitle = "Room 12"
    dataset.file_meta = meta
    dataset.preamble = b"Lovelace".ljust(128)
    pydicom.dcmwrite(path, dataset)


def test_nothing_that_identifies_is_left_in_the_file(tmp_path):
    write(study_object(), tmp_path / "a.dcm")
    before = (tmp_path / "a.dcm").read_bytes()
    deidentify_file(tmp_path / "a.dcm", tmp_path / "b.dcm", KEY)
    after = (tmp_path / "b.dcm").read_bytes()
    for secret in SECRETS:
        assert secret.encode() in before
        assert secret.encode() not in after
    for uid in (b"1.2.3.4.5", b"1.2.9"):
        assert uid in before
        assert uid + b"\0" not in after
    written = pydicom.dcmread(tmp_path / "b.dcm")
    assert written.file_meta.MediaStorageSOPInstanceUID == written.SOPInstanceUID
    assert written.PixelData == b"\1\2\3\4"
    assert (written.RescaleIntercept, written.PixelSpacing[0], written.BodyPartExamined) == (-1024, 0.7, "CHEST")


def test_each_action_of_the_table_is_taken():
    cleaned = deidentify(study_object(), KEY).dataset
    for keyword in ("OtherPatientIDs", "PatientTelephoneNumbers", "PatientAge", "PatientWeight",
                    "StudyDescription", "RequestAttributesSequence"):  # fmt: skip
        assert keyword not in cleaned, keyword
    for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "ReferringPhysicianName"):
        assert not cleaned[keyword].value, keyword
    assert (
        cleaned.InstitutionName
        == cleaned.StationName
        == cleaned.OperatorsName
        == cleaned.VerifyingObserverName
        == "REMOVED"
    )
    assert not [element for element in cleaned.iterall() if element.tag.is_private]
    assert 0x60000022 not in cleaned
    assert 0x00085555 not in cleaned
    assert not cleaned.SourceImageSequence[0].PatientName


def test_the_result_declares_what_was_done():
    cleaned = deidentify(study_object(), KEY).dataset
    assert cleaned.PatientIdentityRemoved == "YES"
    assert cleaned.LongitudinalTemporalInformationModified == "MODIFIED"
    assert [code.CodeValue for code in cleaned.DeidentificationMethodCodeSequence] == ["113100", "113107"]
    assert all(len(text) <= 64 for text in cleaned.DeidentificationMethod)


def test_the_original_is_not_touched():
    original = study_object()
    deidentify(original, KEY)
    assert original == study_object()


def test_uids_stay_consistent_and_registered_ones_stay():
    first, second = study_object(), study_object(instance="1.2.3.4.6")
    second.FrameOfReferenceUID = "1.2.840.10008.1.4.1.1"
    one, two = deidentify(first, KEY).dataset, deidentify(second, KEY).dataset
    assert one.StudyInstanceUID == two.StudyInstanceUID != "1.2.3"
    assert one.SeriesInstanceUID == two.SeriesInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID
    assert two.SourceImageSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID
    assert one.SOPClassUID == CTImageStorage == one.SourceImageSequence[0].ReferencedSOPClassUID
    assert two.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"
    for keyword in ("StudyInstanceUID", "SOPInstanceUID"):
        uid = UID(one[keyword].value)
        assert uid.is_valid
        assert uid.startswith("2.25.")


def test_one_patient_has_one_pseudonym_under_one_key():
    one = deidentify(study_object(), KEY)
    assert one.patient == one.dataset.PatientID == str(one.dataset.PatientName)
    assert deidentify(study_object(instance="1.9"), KEY).patient == one.patient
    assert deidentify(study_object(" 4711 "), KEY).patient == one.patient
    assert deidentify(study_object("4712"), KEY).patient != one.patient
    assert deidentify(study_object(), KEY[::-1]).patient != one.patient
    nameless = study_object("")
    assert deidentify(nameless, KEY).patient == deidentify(study_object(""), KEY).patient != one.patient
    nameless.PatientName = ""
    other = study_object("")
    other.PatientName, other.StudyInstanceUID = "", "1.2.4"
    assert deidentify(nameless, KEY).patient != deidentify(other, KEY).patient


def date(text: str) -> dt.date:
    return dt.date(int(text[:4]), int(text[4:6]), int(text[6:8]))


def test_dates_of_a_patient_move_together():
    cleaned = deidentify(study_object(), KEY).dataset
    shift = dt.date(2020, 1, 31) - date(cleaned.StudyDate)
    assert dt.timedelta(days=1) <= shift <= dt.timedelta(days=3650)
    assert date(cleaned.ContentDate) - date(cleaned.StudyDate) == dt.timedelta(days=3)
    assert str(cleaned.AcquisitionDateTime) == cleaned.StudyDate + "101530.25+0100"
    assert cleaned.StudyTime == "101112"
    later = study_object(instance="1.9")
    later.StudyDate = "20210131"
    assert date(deidentify(later, KEY).dataset.StudyDate) - date(cleaned.StudyDate) == dt.timedelta(days=366)
    shifts = {deidentify(study_object(f"P{number}"), KEY).dataset.StudyDate for number in range(20)}
    assert len(shifts) > 15


@given(st.dates(dt.date(1900, 1, 1), dt.date(2200, 1, 1)), st.dates(dt.date(1900, 1, 1), dt.date(2200, 1, 1)))
def test_intervals_between_any_dates_are_kept(first, second):
    dataset = Dataset()
    dataset.PatientID, dataset.StudyDate, dataset.SeriesDate = "P", f"{first:%Y%m%d}", f"{second:%Y%m%d}"
    cleaned = deidentify(dataset, KEY).dataset
    assert date(cleaned.SeriesDate) - date(cleaned.StudyDate) == second - first


@pytest.mark.parametrize(
    ("given_date", "length"), [("2020.01.31", 8), ("", 0), ("nonsense", 0), ("20201399", 0), ("00010101", 0)]
)
def test_odd_dates(given_date, length):
    dataset = Dataset()
    dataset.PatientID = "P"
    with pydicom.config.disable_value_validation():
        dataset.StudyDate = given_date
    assert len(deidentify(dataset, KEY).dataset.StudyDate) == length


def test_partial_date_times_keep_their_precision():
    dataset = Dataset()
    dataset.PatientID, dataset.AcquisitionDateTime = "P", "2020"
    assert len(str(deidentify(dataset, KEY).dataset.AcquisitionDateTime)) == 4


def test_characteristics_can_be_kept_and_high_ages_are_capped():
    cleaned = deidentify(study_object(), KEY, keep_characteristics=True).dataset
    assert (cleaned.PatientSex, cleaned.PatientAge, cleaned.PatientWeight) == ("F", "090Y", 55)
    assert not cleaned.PatientBirthDate
    assert cleaned.DeidentificationMethodCodeSequence[2].CodeValue == "113108"
    young = study_object()
    young.PatientAge = "045Y"
    assert deidentify(young, KEY, keep_characteristics=True).dataset.PatientAge == "045Y"


def test_the_table_speaks_of_attributes_that_exist():
    actions = PROFILE.actions
    assert len(actions) > 640
    assert set(actions.values()) == {"D", "Z", "X", "U", "Z/D", "X/Z", "X/D", "X/Z/D", "X/Z/U*"}
    known = [tag for tag in actions if dictionary_has_tag(tag)]
    assert len(known) > 0.9 * len(actions)
    assert all(dictionary_VR(tag) == "UI" for tag in known if actions[tag] == "U")
    assert all(dictionary_VR(tag) in {"DA", "DT", "TM"} for tag in PROFILE.dates)
    assert not (PROFILE.removed | PROFILE.binary) & set(actions)


def test_no_listed_text_survives():
    texts = {"LO", "SH", "LT", "ST", "UT", "UC", "PN", "UR", "AE", "CS"}
    dataset = Dataset()
    for tag in PROFILE.actions:
        if dictionary_has_tag(tag) and tag >> 16 != 2 and dictionary_VR(tag) in texts:
            dataset.add_new(tag, dictionary_VR(tag), "SECRET")
    assert len(dataset) > 300
    assert "SECRET" not in str(deidentify(dataset, KEY).dataset)


def test_what_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"nothing" * 50)
    nameless = study_object()
    write(nameless, tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "nameless").write_bytes(content.replace(b"\x08\0\x18\0UI", b"\x08\0\x19\0UI"))
    (tmp_path / "odd").write_bytes(content.replace(b"\x28\0\x10\0US\2\0", b"\x28\0\x10\0US\3\0"))
    for source in ("a", "absent", ".", "nameless", "odd"):
        with pytest.raises(ImageError):
            deidentify_file(tmp_path / source, tmp_path / "b.dcm", KEY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "nameless", "odd", "whole"]


def test_a_file_without_preamble_is_deidentified(tmp_path):
    write(study_object(), tmp_path / "a.dcm")
    (tmp_path / "b.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[132:])
    deidentify_file(tmp_path / "b.dcm", tmp_path / "c.dcm", KEY)
    assert pydicom.dcmread(tmp_path / "c.dcm").PatientID.startswith("HF-")


def test_keys(tmp_path):
    path = tmp_path / "key"
    make_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(read_key(path)) == 64
    assert pseudonym("4711", read_key(path)) == pseudonym("4711", read_key(path))
    with pytest.raises(FileExistsError):
        make_key(path)
    path.write_text("short\n")
    for bad in (path, tmp_path / "absent"):
        with pytest.raises(ImageError):
            read_key(bad)
    with pytest.raises(ImageError, match="at least 16"):
        deidentify(study_object(), b"short")


def test_a_key_is_whole_or_not_there(tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            make_key(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patched:  # a file system without links
        patched.setattr(os, "link", full)
        make_key(tmp_path / "key")
        with pytest.raises(FileExistsError):
            make_key(tmp_path / "key")
    assert len(read_key(tmp_path / "key")) == 64
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(FileExistsError):
        make_key(tmp_path / "key")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


@pytest.mark.parametrize("point", ["write_text", "fsync"])
def test_a_killed_maker_of_keys_leaves_no_key(tmp_path, point):
    script = f"""
import os, signal, sys, pathlib
from hounsfield.images.deidentify import make_key
def killed(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
setattr(pathlib.Path if "{point}" == "write_text" else os, "{point}", killed)
make_key(pathlib.Path(sys.argv[1]))
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "key")], check=False)
    assert done.returncode == -9
    assert not (tmp_path / "key").exists()
    make_key(tmp_path / "key")
    assert len(read_key(tmp_path / "key")) == 64


def test_two_instances_of_one_uid_are_both_kept(tmp_path):
    (tmp_path / "in").mkdir()
    for number, pixels in enumerate((b"\1\2\3\4", b"\5\6\7\0", b"\1\2\3\4")):
        dataset = study_object()
        dataset.PixelData = pixels
        write(dataset, tmp_path / "in" / f"{number}.dcm")
    done = deidentify_paths(tmp_path / "in", tmp_path / "out", KEY)
    assert [pydicom.dcmread(path).PixelData for path in done.written] == [b"\1\2\3\4", b"\5\6\7\0"]
    assert done.repeated == (tmp_path / "in" / "2.dcm",)
    assert sorted((tmp_path / "out").rglob("*.dcm")) == sorted(done.written)
    assert {pydicom.dcmread(path).SOPInstanceUID for path in done.written} == {done.written[0].stem}


def test_the_outcome_lists_what_was_kept(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(2):
        dataset = study_object(instance=f"1.2.3.{number}")
        dataset.Manufacturer, dataset.SoftwareVersions = "Maker", "Release of Lovelace"
        with pydicom.config.disable_value_validation():
            dataset.add_new(0x00180022, "CS", "Ada 1")
        write(dataset, tmp_path / "in" / f"{number}.dcm")
    done = deidentify_paths(tmp_path / "in", tmp_path / "out", KEY)
    assert done.kept_text == {"Manufacturer": 2}
    assert done.kept["PixelSpacing"] == done.kept["BodyPartExamined"] == 2
    assert not {"SoftwareVersions", "PatientName", "StudyDate", "StudyInstanceUID", "ScanOptions"} & set(done.kept)
    assert done.broken == {"ScanOptions": 2}


@pytest.mark.parametrize(
    "text",
    [
        "Lovelace", "scan of ADA", "id 4711!", "ACC-99", "Dr House's protocol", "born 10.12.1815", "12/10/1815",
        "2020-01-31", "of 20200203", "1.2.3.4.5 is it",
    ],
)  # fmt: skip
def test_texts_that_repeat_the_patient_go(text):
    dataset = study_object()
    dataset.Manufacturer, dataset.ImageType = text, ["ORIGINAL", "PRIMARY", "LOVELACE"]
    dataset.PatientPosition = "ADA"
    dataset.SoftwareVersions = "House music adaptive 47110"
    cleaned = deidentify(dataset, KEY).dataset
    assert cleaned.Manufacturer == "REMOVED"
    assert list(cleaned.ImageType) == ["ORIGINAL", "PRIMARY", "REMOVED"]
    assert cleaned.PatientPosition == "REMOVED"
    assert (cleaned.Modality, cleaned.BodyPartExamined) == ("CT", "CHEST")
    dataset.ReferringPhysicianName = dataset.OperatorsName = dataset.VerifyingObserverName = ""
    assert deidentify(dataset, KEY).dataset.SoftwareVersions == "House music adaptive 47110"


def test_names_in_other_scripts_are_found_in_texts():
    dataset = study_object()
    dataset.PatientName, dataset.Manufacturer, dataset.SoftwareVersions = (
        "Yamada^Taro=山田^太郎",
        "撮影山田様",
        "Müllerian",
    )
    dataset.OperatorsName = "Muller^Li"
    cleaned = deidentify(dataset, KEY).dataset
    assert (cleaned.Manufacturer, cleaned.SoftwareVersions) == ("REMOVED", "Müllerian")


def test_texts_of_other_alphabets_are_kept_readable(tmp_path):
    dataset = study_object()
    dataset.SpecificCharacterSet, dataset.Manufacturer = ["", "ISO 2022 IR 87"], "東芝"
    item = Dataset()
    item.SpecificCharacterSet, item.CodeMeaning = "ISO_IR 100", "Schädel"
    dataset.AnatomicRegionSequence = [item]
    write(dataset, tmp_path / "a.dcm")
    deidentify_file(tmp_path / "a.dcm", tmp_path / "b.dcm", KEY)
    written = pydicom.dcmread(tmp_path / "b.dcm")
    assert written.Manufacturer == "東芝"
    assert written.AnatomicRegionSequence[0].CodeMeaning == "Schädel"


def test_a_mosaic_is_refused_for_its_slices_would_be_lost(tmp_path):
    dataset = study_object()
    dataset.ImageType, dataset.Manufacturer = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "SIEMENS"
    dataset.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    dataset.add_new(0x0019100A, "US", 4)
    write(dataset, tmp_path / "a.dcm")
    with pytest.raises(ImageError, match="mosaic"):
        deidentify_file(tmp_path / "a.dcm", tmp_path / "b.dcm", KEY)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    del dataset[0x0019100A]
    write(dataset, tmp_path / "a.dcm")
    deidentify_file(tmp_path / "a.dcm", tmp_path / "b.dcm", KEY)


@pytest.mark.data
@pytest.mark.parametrize("name", ["siemens-mosaic", "uih-grid"])
def test_real_mosaics_are_refused_and_their_series_is_not(data_folder, tmp_path, name):
    path = min(path for path in (data_folder / "vendor-series" / name).rglob("*.dcm"))
    with pytest.raises(ImageError, match="mosaic"):
        deidentify_file(path, tmp_path / "a.dcm", KEY)
    convert(path, tmp_path / "series")
    done = deidentify_paths(tmp_path / "series", tmp_path / "clean", KEY, keep_pixels=True)
    before, after = read_image(path), read_series(done.written[0].parent)
    np.testing.assert_array_equal(after.pixels, before.pixels)
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)


@pytest.mark.data
def test_images_of_every_kind_are_the_same_afterwards(data_folder, tmp_path):
    """Pixels, geometry and windows of every file of the zoo that is read, whatever its compression."""
    seen, refused = 0, {}
    for path in sorted(path for path in (data_folder / "dicom-zoo").rglob("*") if path.is_file()):
        try:
            before = read_image(path)
        except ImageError:
            continue
        try:
            deidentify_file(path, tmp_path / "a.dcm", KEY, keep_pixels=True)
        except ImageError as error:
            refused[path.name] = str(error)
            continue
        after = read_image(tmp_path / "a.dcm")
        np.testing.assert_array_equal(after.pixels, before.pixels, err_msg=path.name)
        assert (after.spacing, after.metadata.windows) == (before.spacing, before.metadata.windows), path.name
        np.testing.assert_array_equal(after.affine is None, before.affine is None)
        if before.affine is not None:
            np.testing.assert_array_equal(after.affine, before.affine)
        seen += 1
    assert seen > 150
    assert len(refused) < 8
    assert all("SOP class" in reason or "not known here" in reason for reason in refused.values())


@pytest.mark.data
def test_real_files_keep_their_pixels_and_lose_their_names(data_folder, tmp_path):
    paths = [path for path in sorted((data_folder / "ct-series").iterdir()) if path.name != "DIRFILE"][:3]
    paths += sorted(path for path in (data_folder / "mr-study").rglob("*") if path.is_file())[:3]
    assert len(paths) == 6
    for path in paths:
        result = deidentify_file(path, tmp_path / "a.dcm", KEY)
        before, after = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "a.dcm")
        assert after.PixelData == before.PixelData
        assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
        assert after.PatientID == result.patient != before.PatientID
        assert not [element for element in after.iterall() if element.tag.is_private]
        assert list(after.ImagePositionPatient) == list(before.ImagePositionPatient)
