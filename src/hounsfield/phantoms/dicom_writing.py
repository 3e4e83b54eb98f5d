"""Phantom pictures as DICOM files: digital X-ray images and CT series, the same bytes for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from hounsfield.phantoms.patients import Patient, derive_uid

_IMPLEMENTATION = derive_uid("implementation")


def common_elements(patient: Patient, *, modality: str, study: str, series: str, instance: str, date: str) -> Dataset:
    """Patient, study, series, equipment and SOP modules that every phantom file has.

    Args:
        patient: who it is of; the file says so by identifier alone, the name is left empty.
        modality: DICOM code.
        study: study instance UID.
        series: series instance UID.
        instance: SOP instance UID.
        date: of the study, YYYYMMDD.
    """
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = CTImageStorage if modality == "CT" else DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = instance, study, series
    dataset.FrameOfReferenceUID = derive_uid(series, "frame")
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = date
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber = dataset.StudyID = dataset.ReferringPhysicianName = ""
    dataset.Modality = modality
    dataset.PatientName = ""
    dataset.PatientID = patient.identifier
    dataset.PatientBirthDate = ""
    dataset.PatientSex = patient.sex
    dataset.PatientAge = f"{patient.age:03d}Y"
    dataset.InstitutionName = patient.site
    dataset.BodyPartExamined = "CHEST"
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    return dataset


def set_pixels(dataset: Dataset, stored: npt.NDArray[np.uint16], *, bits: int, photometric: str) -> None:
    """Set the image pixel module of an unsigned grey picture, ``bits`` stored in 16."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = np.ascontiguousarray(stored, dtype="<u2").tobytes()


def write_file(dataset: Dataset, path: Path) -> None:
    """Write a DICOM Part 10 file in explicit little endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION
    file = FileDataset(str(path), dataset, preamble=b"\0" * 128, file_meta=meta)
    file.save_as(path, enforce_file_format=True)
