"""Small DICOM files with known contents, written by pydicom, for the tests of the readers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

PATIENT_NAME = "Mustermann^Erika"


def make_dicom(
    path: Path, pixels: np.ndarray, *, syntax: str = ExplicitVRLittleEndian, content: bytes = b"", **elements: Any
) -> Path:
    """Write (rows, columns), (frames, rows, columns) or colour pixels; ``elements`` override, ``None`` removes.

    ``content`` replaces the bytes of the pixels, as words.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    implicit, little_endian = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    dataset = FileDataset(None, {}, b"\0" * 128, meta, is_implicit_VR=implicit, is_little_endian=little_endian)
    samples = elements.get("SamplesPerPixel", 1)
    shape = pixels.shape[: pixels.ndim - (samples > 1)]
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "PatientName": PATIENT_NAME,
        "PatientID": "P1",
        "Modality": "CT",
        "Rows": shape[-2],
        "Columns": shape[-1],
        "NumberOfFrames": shape[0] if len(shape) == 3 else None,
        "SamplesPerPixel": samples,
        "PlanarConfiguration": 0 if samples > 1 else None,
        "PhotometricInterpretation": "RGB" if samples > 1 else "MONOCHROME2",
        "BitsAllocated": pixels.dtype.itemsize * 8,
        "BitsStored": pixels.dtype.itemsize * 8,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        **elements,
    }
    values.setdefault("HighBit", values["BitsStored"] - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of the malformed values that some tests are about
        for keyword, value in values.items():
            if value is not None:
                setattr(dataset, keyword, value)
        dataset.PixelData = content or pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
        dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 and not content else "OW"
        dataset.save_as(path, enforce_file_format=True)
    return path


def make_series(
    folder: Path,
    depths: list[float],
    *,
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    **elements: Any,
) -> list[Path]:
    """A CT series with a slice at each depth along the normal, whose HU values are ten times the depth plus the row.

    File names and instance numbers are in an order of their own, and each millimetre of depth moves the slice by
    ``shift``.
    """
    folder.mkdir(exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    order = np.random.default_rng(7).permutation(len(depths))
    paths = []
    for index, depth in enumerate(depths):
        rows = np.arange(6)[:, np.newaxis]
        values = np.round(depth * 10 + rows + np.zeros((6, 5))).astype(np.int16) + 1024
        position = np.array([-100.0, -80.0, 30.0]) + normal * depth + np.array(shift) * depth
        settings: dict[str, Any] = {
            "ImagePositionPatient": [f"{value:.6f}" for value in position],
            "ImageOrientationPatient": list(orientation),
            "PixelSpacing": [0.5, 0.75],
            "SliceThickness": 2.0,
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
            "InstanceNumber": int(order[index]) + 1,
            **elements,
        }
        paths.append(make_dicom(folder / f"IM{order[-1 - index]:04d}", values, **settings))
    return paths
