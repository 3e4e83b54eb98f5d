"""DICOM files out of an ``Image``: secondary captures, multi-frame captures, and series of slices.

A 2D image becomes a Secondary Capture (PS3.3 A.8.1). A volume in one file becomes a Multi-frame Secondary Capture
(A.8.3 to A.8.5) with plane positions in its functional groups; a volume in a folder becomes one object a slice, as CT
or MR Image Storage where that is its modality, which every viewer can stack. Each object is DERIVED, and names the
objects that it was derived from (General Reference module, C.12.4; Derived image, C.7.6.1.1.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

from hounsfield.errors import ImageError
from hounsfield.images.dicom_file import refusing
from hounsfield.images.image import Image
from hounsfield.images.orientation import spacing_of
from hounsfield.version import __version__

# What a derived object shares with its sources: the patient, the study, and the frame of reference.
INHERITED = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
    "StudyDescription", "FrameOfReferenceUID", "PatientPosition", "BodyPartExamined", "BurnedInAnnotation",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)  # fmt: skip

# Attributes that every object must have and that may be empty (type 2).
EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "SeriesNumber", "InstanceNumber", "Manufacturer", "PatientOrientation",
)  # fmt: skip

# What single-slice objects of a modality need beyond that; MR's sequence is not known, "RM" says so (C.8.3.1).
SLICE_OBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "CT": (CTImageStorage, {"KVP": None, "AcquisitionNumber": None}),
    "MR": (
        MRImageStorage,
        {
            "ScanningSequence": "RM",
            "SequenceVariant": "NONE",
            "ScanOptions": None,
            "MRAcquisitionType": None,
            "EchoTime": None,
            "EchoTrainLength": None,
        },
    ),
}


@dataclass(frozen=True)
class _Stored:
    """Pixels as DICOM can store them: real = slope × stored + intercept."""

    pixels: NDArray[Any]
    slope: str
    intercept: str


def write_multiframe(image: Image, path: Path, sources: Sequence[Path] = ()) -> None:
    """Write an image as one DICOM file: a secondary capture, of several frames where it is a volume.

    Whole numbers of up to 16 bits are stored as they are. Real numbers that are whole (Hounsfield units) are too;
    others are spread over 16 bits with a rescale slope, and lose at most half of a 65,535th of their range.

    Args:
        image: grey, or 8-bit colour.
        path: the file, written in place.
        sources: DICOM files that the image was derived from; patient and study are taken from the first.

    Raises:
        ImageError: the values or the geometry have no place in DICOM, or a source is not DICOM.
    """
    stored = _storable(image)
    dataset = _described(image, sources, generate_uid(None))
    if image.rank == 2:
        dataset.SOPClassUID = SecondaryCaptureImageStorage
        if image.affine is not None:
            _place_slice(dataset, _rigid(image.affine), 0)
        elif image.spacing is not None:
            dataset.PixelSpacing = _numbers(image.spacing)
            dataset.NominalScannedPixelSpacing = _numbers(image.spacing)
    else:
        dataset.SOPClassUID = _multiframe_class(stored.pixels)
        _place_frames(dataset, image)
    _write(dataset, stored, stored.pixels, path)


def write_series(image: Image, folder: Path, sources: Sequence[Path] = ()) -> list[Path]:
    """Write a volume as a DICOM series, one file a slice, named by their order, into an existing folder.

    Returns the files. The arguments and what is raised are those of ``write_multiframe``.
    """
    if image.rank != 3 or image.affine is None:
        raise ImageError(
            f"A DICOM series holds a volume with a position in the patient, and the image is of rank {image.rank} "
            f"{'without' if image.affine is None else 'with'} an affine. Write a single '.dcm' file instead."
        )
    affine = _rigid(image.affine)
    stored = _storable(image)
    series, frame_of_reference = generate_uid(None), generate_uid(None)
    template = _described(image, sources, series)
    sop_class, needed = SLICE_OBJECTS.get(image.modality or "", (SecondaryCaptureImageStorage, {}))
    for keyword, value in needed.items():
        setattr(template, keyword, value)
    template.SOPClassUID = sop_class if stored.pixels.shape[-1] == 1 else SecondaryCaptureImageStorage
    template.setdefault("FrameOfReferenceUID", frame_of_reference)
    template.PositionReferenceIndicator = None
    paths = []
    for index, pixels in enumerate(stored.pixels):
        template.SOPInstanceUID = generate_uid(None)
        template.InstanceNumber = index + 1
        _place_slice(template, affine, index)
        paths.append(folder / f"{index + 1:05d}.dcm")
        _write(template, stored, pixels, paths[-1])
    return paths


def _storable(image: Image) -> _Stored:
    pixels = image.pixels
    if image.channels == 3 and pixels.dtype == np.uint8:
        return _Stored(pixels, "1", "0")
    if image.channels != 1 or pixels.dtype.kind not in "biuf":
        raise _unfit(image, "grey values, or red, green and blue of 8 bits")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise _unfit(image, "finite numbers")
    if pixels.dtype in (np.uint8, np.uint16, np.int16):
        return _Stored(pixels, "1", "0")
    low, high = float(pixels.min()), float(pixels.max())
    if pixels.dtype.kind != "f" or np.array_equal(pixels, np.rint(pixels)):
        for kind in (np.uint8, np.int16, np.uint16) if pixels.dtype.itemsize == 1 else (np.int16, np.uint16):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return _Stored(pixels.astype(kind), "1", "0")
    if pixels.dtype.kind != "f":
        raise _unfit(image, "whole numbers of 16 bits")
    slope, intercept = _number((high - low) / 65535 or 1.0), _number(low)
    steps = np.rint((pixels.astype(np.float64) - float(intercept)) / float(slope))
    return _Stored(np.clip(steps, 0, 65535).astype(np.uint16), slope, intercept)


def _unfit(image: Image, holds: str) -> ImageError:
    return ImageError(
        f"A DICOM image holds {holds}, and the image has {image.channels} channel(s) of {image.pixels.dtype}. Convert "
        "the values first, or write '.nii.gz'."
    )


def _described(image: Image, sources: Sequence[Path], series: str) -> Dataset:
    """Patient, study, series and references: everything but the pixels and their place."""
    dataset = Dataset()
    for keyword in EMPTY:
        setattr(dataset, keyword, None)
    known = image.metadata
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientID = known.patient
    dataset.PatientSex = known.sex
    dataset.PatientAge = None if known.age is None else f"{min(int(known.age), 999):03d}Y"
    dataset.StudyInstanceUID = known.study or generate_uid(None)
    dataset.StudyDate = None if known.date is None else known.date.replace("-", "")
    dataset.Manufacturer, dataset.ManufacturerModelName = known.manufacturer, known.scanner
    dataset.InstitutionName, dataset.BodyPartExamined = known.site, known.body_part
    dataset.Modality = image.modality or "OT"
    if known.windows and image.channels == 1:
        dataset.WindowCenter = _numbers([center for center, _ in known.windows])
        dataset.WindowWidth = _numbers([width for _, width in known.windows])
    _refer(dataset, sources)
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = series, generate_uid(None)
    dataset.InstanceNumber = 1
    dataset.ConversionType = "WSD"
    dataset.SecondaryCaptureDeviceManufacturer = "Hounsfield"
    dataset.SecondaryCaptureDeviceSoftwareVersions = __version__
    return dataset


def _refer(dataset: Dataset, sources: Sequence[Path]) -> None:
    references = []
    for number, path in enumerate(sources):
        header = _read_source(path)
        if number == 0:
            for keyword in INHERITED:
                if keyword in header:
                    with refusing(path):
                        dataset[keyword] = header[keyword]
        reference = Dataset()
        reference.ReferencedSOPClassUID = header.SOPClassUID
        reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
        reference.PurposeOfReferenceCodeSequence = [
            _code("121322", "DCM", "Source image for image processing operation")
        ]
        references.append(reference)
    if references:
        dataset.SourceImageSequence = references
        dataset.DerivationDescription = f"Converted by Hounsfield {__version__}"


def _read_source(path: Path) -> Dataset:
    with refusing(path):
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        named = bool(header.get("SOPClassUID")) and bool(header.get("SOPInstanceUID"))
    if not named:
        raise ImageError(
            f"'{path}' was given as a source and has no SOP class and instance UID to refer to. Leave it out, or give "
            "a complete DICOM object."
        )
    return header


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _rigid(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """DICOM places slices by two perpendicular directions and a position each, so the axes must be at right angles."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-3):
        raise ImageError(
            f"The axes of the image are not at right angles (affine {affine.tolist()}), and DICOM slices must be. "
            "Resample the image to a grid with right angles first, or write '.nii.gz'."
        )
    return affine


def _place_slice(dataset: Dataset, affine: NDArray[np.float64], index: int) -> None:
    """Image Plane module, PS3.3 C.7.6.2."""
    slices, rows, columns = spacing_of(affine)
    dataset.SliceThickness = dataset.SpacingBetweenSlices = _number(slices)
    dataset.ImagePositionPatient = _numbers(affine[:3, 3] + index * affine[:3, 0])
    dataset.ImageOrientationPatient = _numbers([*(affine[:3, 2] / columns), *(affine[:3, 1] / rows)])
    dataset.PixelSpacing = _numbers([rows, columns])


def _place_frames(dataset: Dataset, image: Image) -> None:
    """Multi-frame functional groups, PS3.3 C.7.6.16: spacing and orientation shared, a position each frame."""
    dataset.NumberOfFrames = image.shape[0]
    if image.affine is None:
        dataset.PixelSpacing = None if image.spacing is None else _numbers(image.spacing[1:])
        dataset.FrameIncrementPointer = 0x00180040  # CineRate: frames follow one another, and no more is known
        dataset.CineRate = 1
        return
    affine = _rigid(image.affine)
    frames = []
    for index in range(image.shape[0]):
        whole = Dataset()
        _place_slice(whole, affine, index)
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = whole.ImagePositionPatient
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = whole.PixelSpacing
    measures.SliceThickness, measures.SpacingBetweenSlices = whole.SliceThickness, whole.SpacingBetweenSlices
    orientation.ImageOrientationPatient = whole.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.FrameIncrementPointer = 0x52009230
    dataset.setdefault("FrameOfReferenceUID", generate_uid(None))


def _multiframe_class(pixels: NDArray[Any]) -> str:
    if pixels.shape[-1] == 3:
        return str(MultiFrameTrueColorSecondaryCaptureImageStorage)
    if pixels.dtype.itemsize == 1:
        return str(MultiFrameGrayscaleByteSecondaryCaptureImageStorage)
    return str(MultiFrameGrayscaleWordSecondaryCaptureImageStorage)


def _write(dataset: Dataset, stored: _Stored, pixels: NDArray[Any], path: Path) -> None:
    colour = pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1]
    dataset.SamplesPerPixel = pixels.shape[-1]
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    else:
        dataset.RescaleSlope, dataset.RescaleIntercept = stored.slope, stored.intercept
        dataset.RescaleType = "HU" if dataset.Modality == "CT" else "US"
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    content = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    dataset.file_meta = meta
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def _number(value: float) -> str:
    return str(format_number_as_ds(float(value)))


def _numbers(values: Sequence[float] | NDArray[np.float64]) -> list[str]:
    return [_number(value) for value in values]
