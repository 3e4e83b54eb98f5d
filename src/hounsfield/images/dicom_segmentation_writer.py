"""Label maps as DICOM Segmentation objects, written by highdicom over the series that they are of."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from hounsfield.errors import ImageError
from hounsfield.images.dicom_file import refusing
from hounsfield.images.image import Image
from hounsfield.version import __version__

# A voxel of the mask and the source's slice that it belongs to are no farther apart than this part of a pixel.
ALIGNED = 0.1


def write_segmentation(
    image: Image, path: Path, sources: Sequence[Path], *, elements: dict[str, Any] | None = None
) -> None:
    """Write a label map as one binary segmentation object with a segment for each of ``metadata.labels``.

    Segments are described as anatomical structures by their label; a later edition of codes is for who knows them.

    Args:
        image: uint8 label map of one channel on the grid of the series, or on one whose axes are flipped, swapped or
            cropped; its metadata names the values.
        path: the file, written in place.
        sources: the files of the series, in any order.
        elements: values to set besides, such as UIDs and dates.

    Raises:
        ImageError: a source is no DICOM image, or the mask does not lie on their grid.
    """
    highdicom: Any = importlib.import_module("highdicom")
    frames = _sorted_sources(sources)
    pixels = _on_frames(image, frames)
    given = elements or {}
    code: Any = importlib.import_module("pydicom.sr.codedict").codes
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=code.SCT.AnatomicalStructure,
            segmented_property_type=code.SCT.AnatomicalStructure,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                name="Hounsfield", version=__version__, family=code.DCM.ArtificialIntelligence
            ),
        )
        for number, (_, name) in enumerate(image.metadata.labels, start=1)
    ]
    numbers = np.zeros(256, np.uint8)
    for number, (value, _) in enumerate(image.metadata.labels, start=1):
        numbers[value] = number
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = highdicom.seg.Segmentation(
            source_images=frames,
            pixel_array=numbers[pixels],
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=descriptions,
            series_instance_uid=given.get("SeriesInstanceUID") or generate_uid(None),
            series_number=int(given.get("SeriesNumber", 100)),
            sop_instance_uid=given.get("SOPInstanceUID") or generate_uid(None),
            instance_number=1,
            manufacturer="Hounsfield",
            manufacturer_model_name="Hounsfield",
            software_versions=__version__,
            device_serial_number="0",
        )
        for keyword, value in given.items():
            setattr(written, keyword, value)
        _derive(written, given)
        written.save_as(path)


def _derive(written: Dataset, given: dict[str, Any]) -> None:
    """Let nothing depend on chance or on the clock where the instance and its time are given."""
    organization = generate_uid(entropy_srcs=[str(written.SOPInstanceUID)])
    for item in (*written.DimensionOrganizationSequence, *written.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    if {"ContentDate", "ContentTime"} <= given.keys():
        written.InstanceCreationDate, written.InstanceCreationTime = given["ContentDate"], given["ContentTime"]
        for item in written.get("ContributingEquipmentSequence", ()):
            item.ContributionDateTime = f"{given['ContentDate']}{given['ContentTime']}"


def _sorted_sources(sources: Sequence[Path]) -> list[Dataset]:
    """The data sets of a series without their pixels, along its normal."""
    found = []
    for source in sources:
        with refusing(source):
            dataset = pydicom.dcmread(source, stop_before_pixels=True)
            dataset.ImagePositionPatient, dataset.ImageOrientationPatient  # noqa: B018 - refused where they are absent
            found.append(dataset)
    if not found:
        raise ImageError("A segmentation object refers to the DICOM files of its series, and none was given.")
    cosines = np.array(found[0].ImageOrientationPatient, np.float64)
    normal = np.cross(cosines[:3], cosines[3:])
    return sorted(found, key=lambda dataset: float(normal @ np.array(dataset.ImagePositionPatient, np.float64)))


def _frame_affine(frames: Sequence[Dataset]) -> npt.NDArray[np.float64]:
    """(slice, row, column, 1) of the sorted frames to LPS mm."""
    first, last = frames[0], frames[-1]
    cosines = np.array(first.ImageOrientationPatient, np.float64)
    affine = np.eye(4)
    affine[:3, 1] = cosines[3:] * float(first.PixelSpacing[0])
    affine[:3, 2] = cosines[:3] * float(first.PixelSpacing[1])
    affine[:3, 3] = np.array(first.ImagePositionPatient, np.float64)
    if len(frames) > 1:
        step = np.array(last.ImagePositionPatient, np.float64) - affine[:3, 3]
        affine[:3, 0] = step / (len(frames) - 1)
    else:
        affine[:3, 0] = np.cross(cosines[:3], cosines[3:])
    return affine


def _on_frames(image: Image, frames: Sequence[Dataset]) -> npt.NDArray[np.uint8]:
    """The mask at the pixels of the frames: (frames, rows, columns)."""
    shape = (len(frames), int(frames[0].Rows), int(frames[0].Columns))
    if image.channels != 1 or image.pixels.dtype != np.uint8 or not image.metadata.labels:
        raise ImageError("A segmentation object is made of a uint8 label map with the names of its labels.")
    if image.affine is None:
        raise ImageError("A segmentation object needs the position of the mask in the patient, and it has none.")
    change = np.linalg.solve(image.affine, _frame_affine(frames))
    values = image.pixels[..., 0].reshape((1,) * (3 - image.rank) + image.shape)
    plane = np.stack([axis.ravel() for axis in np.meshgrid(*map(np.arange, shape[1:]), indexing="ij")])
    result = np.zeros((shape[0], plane.shape[1]), np.uint8)
    for number, line in enumerate(result):
        places = change[:3, 1:3] @ plane + (change[:3, 3] + change[:3, 0] * number)[:, np.newaxis]
        nearest = np.rint(places)
        if np.abs(places - nearest).max() > ALIGNED:
            raise ImageError("The mask does not lie on the pixels of the series. Bring it onto its grid first.")
        whole = nearest.astype(np.int64)
        inside = ((whole >= 0) & (whole < np.array(values.shape)[:, np.newaxis])).all(axis=0)
        line[inside] = values[tuple(whole[:, inside])]
    return result.reshape(shape)
