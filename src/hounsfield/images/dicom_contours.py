"""DICOM RT Structure Sets (PS3.3 A.19): the contours of regions in the patient, and the voxels that they enclose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset

from hounsfield.errors import ImageError
from hounsfield.images.dicom_file import refusing
from hounsfield.images.image import Image
from hounsfield.images.orientation import is_usable
from hounsfield.masks import filled_polygons

# Contours that enclose an area; points and open lines do not.
CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"})
# How far, in slices, the points of a contour may lie from its plane: coordinates are rounded.
FLAT = 0.25
# Of contours, more may not lie outside the image before the two are taken for strangers.
MOST_OUTSIDE = 0.5


@dataclass(frozen=True, eq=False)
class RegionOfInterest:
    """One region of a structure set.

    Attributes:
        name: as the reader called it.
        contours: (points, 3) each, LPS mm, closed and planar.
    """

    name: str
    contours: tuple[npt.NDArray[np.float64], ...]


def read_regions(path: Path) -> tuple[RegionOfInterest, ...]:
    """The regions of a structure set that have closed contours, in the order of their numbers.

    Raises:
        ImageError: the file is damaged or no structure set.
    """
    with refusing(path):
        dataset = pydicom.dcmread(path, force=True)
        if "StructureSetROISequence" not in dataset:
            raise ImageError(
                f"{path} holds no regions (modality {dataset.get('Modality', 'unknown')}): expected a DICOM RT "
                "Structure Set. Export it again from its source."
            )
        names = {int(item.ROINumber): str(item.get("ROIName", "")) for item in dataset.StructureSetROISequence}
        contours = {
            int(item.ReferencedROINumber): tuple(map(_points, _closed(item)))
            for item in dataset.get("ROIContourSequence", ())
        }
    return tuple(
        RegionOfInterest(name.strip() or f"ROI {number}", contours[number])
        for number, name in sorted(names.items())
        if contours.get(number)
    )


def _closed(region: Dataset) -> list[Dataset]:
    return [one for one in region.get("ContourSequence", ()) if str(one.get("ContourGeometricType", "")) in CLOSED]


def _points(contour: Dataset) -> npt.NDArray[np.float64]:
    return np.array(contour.ContourData, np.float64).reshape(-1, 3)


def referenced_series(path: Path) -> tuple[str, ...]:
    """The series that a structure set or a segmentation says it is of.

    Raises:
        ImageError: the file is damaged.
    """
    with refusing(path):
        dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        found = [str(item.SeriesInstanceUID) for item in dataset.get("ReferencedSeriesSequence", ())]
        for frame in dataset.get("ReferencedFrameOfReferenceSequence", ()):
            for study in frame.get("RTReferencedStudySequence", ()):
                found += [str(item.SeriesInstanceUID) for item in study.get("RTReferencedSeriesSequence", ())]
    return tuple(dict.fromkeys(found))


def enclosed(region: RegionOfInterest, image: Image) -> Image:
    """The voxels of an image whose centre a region encloses.

    A contour belongs to the slice that it lies in, or nearest to. Several in one slice are combined by exclusive or,
    so that one within another is a hole, and so is a keyhole.

    Args:
        region: with contours parallel to the slices of the image.
        image: with an affine.

    Returns:
        Uint8 zeros and ones in one channel, on the grid of the image.

    Raises:
        ImageError: the image has no affine, the contours are not parallel to its slices, or most lie outside.
    """
    if image.affine is None or not is_usable(image.affine):
        raise ImageError(f"the contours of '{region.name}' are in mm, and the image does not say where it lies")
    back = np.linalg.inv(image.affine)
    shape = (1,) * (3 - image.rank) + image.shape
    by_slice: dict[int, list[npt.NDArray[np.float64]]] = {}
    outside = 0
    for contour in region.contours:
        places = contour @ back[:3, :3].T + back[:3, 3]
        middle = float(places[:, 0].mean())
        if np.abs(places[:, 0] - middle).max() > FLAT:
            raise ImageError(
                f"the contours of '{region.name}' are not parallel to the slices of the image: they were drawn on "
                "another series"
            )
        number = int(np.floor(middle + 0.5))
        if 0 <= number < shape[0]:
            by_slice.setdefault(number, []).append(places[:, 1:])
        else:
            outside += 1
    if outside > MOST_OUTSIDE * len(region.contours):
        raise ImageError(
            f"{outside} of {len(region.contours)} contours of '{region.name}' lie outside the image: they were drawn "
            "on another series"
        )
    mask = np.zeros((*shape, 1), np.uint8)
    for number, contours in by_slice.items():
        mask[number, ..., 0] = filled_polygons(contours, (shape[1], shape[2]))
    return image.replace(pixels=mask.reshape(*image.shape, 1), modality="SEG")
