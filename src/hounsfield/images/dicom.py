"""One DICOM file as an image: real values, true geometry, and what is known of its origin."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.dicom_file import open_dicom, refusing
from hounsfield.images.dicom_geometry import (
    Plane,
    are_parallel,
    frame_planes,
    is_even,
    pixel_spacing,
    read_plane,
    stack_order,
)
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_layout import GREY, Layout, read_layout
from hounsfield.images.dicom_metadata import read_metadata
from hounsfield.images.dicom_pixels import stored_pixels
from hounsfield.images.dicom_values import palette_to_rgb, read_windows, real_values
from hounsfield.images.image import Image

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]


def read_dicom(path: Path, max_pixels: int) -> Image:
    """Read one DICOM file.

    Grey values are real ones (Hounsfield units of CT, grays of a dose grid), never windowed, with MONOCHROME1 turned
    round; palettes and YBR kinds become RGB. One frame makes a 2D image, several a 3D one. Frames that tell their
    positions are sorted along the normal; where these are not those of an even stack, the frames stay in the file's
    order and the image has no geometry.

    Raises:
        ImageError: the file is damaged, holds no image, declares more than ``max_pixels`` values, or is of a kind that
            cannot be read.
    """
    return decode(open_dicom(path, max_pixels), path, max_pixels)


def decode(header: Header, path: Path, max_pixels: int) -> Image:
    """Make the image of a file that has been opened with its pixels; as ``read_dicom``."""
    with refusing(path):
        _check_has_image(header, path)
        layout = read_layout(header, path, max_pixels)
        stored, layout = stored_pixels(header, layout, path)
        windows: tuple[tuple[float, float], ...] = ()
        if layout.photometric in GREY:
            values, value_range = real_values(header, stored, layout)
            windows = read_windows(header, layout, value_range)
        elif layout.photometric == "PALETTE COLOR":
            values = palette_to_rgb(header, stored, layout)
        else:
            values = stored
        metadata = read_metadata(header, windows)
        modality = header.text("Modality")
        if layout.frames == 1:
            spacing, affine = _slice_geometry(header)
            return Image(values[0], spacing, affine, modality, metadata)
        values, volume_spacing, affine = _stacked(header, values, layout, path)
        return Image(values, volume_spacing, affine, modality, metadata)


def _check_has_image(header: Header, path: Path) -> None:
    if "DirectoryRecordSequence" in header:
        raise ImageError(
            f"{path} is a DICOMDIR: it lists the images of a medium and holds none. Read the files that it names, or "
            "give it to group_series."
        )
    if "PixelData" in header or "FloatPixelData" in header or "DoubleFloatPixelData" in header:
        return
    uid = header.dataset["SOPClassUID"].value if "SOPClassUID" in header else None
    # An identifier that is not registered is its own name, and text from the file stays out of errors.
    kind = uid.name if uid is not None and uid.name != uid else "of no named kind"
    raise ImageError(
        f"{path} is a DICOM file without pixels ({kind}): either it is no image, or it was truncated before its "
        "pixels. Leave it out, or copy it again from its source."
    )


def _slice_geometry(header: Header) -> tuple[tuple[float, float] | None, npt.NDArray[np.float64] | None]:
    plane = read_plane(header, header, header)
    if plane is None:
        planes = frame_planes(header, 1)
        plane = planes[0] if planes else None
    return (plane.spacing, plane.affine()) if plane else (pixel_spacing(header), None)


def _stacked(
    header: Header, values: Array, layout: Layout, path: Path
) -> tuple[Array, tuple[float, float, float] | None, npt.NDArray[np.float64] | None]:
    planes = frame_planes(header, layout.frames)
    if planes is None:
        return values, None, None
    order = stack_order(planes)
    planes = [planes[index] for index in order]
    if not is_stack(planes):
        logger.warning("%s: its frames are no even stack of parallel slices, so the image has no geometry", path)
        return values, None, None
    step = (planes[-1].position - planes[0].position) / (len(planes) - 1)
    if not np.array_equal(order, np.arange(len(order))):
        values = values[order]
    return values, (float(np.linalg.norm(step)), *planes[0].spacing), planes[0].affine(step)


def is_stack(planes: list[Plane]) -> bool:
    """Whether sorted planes are parallel, evenly spaced, and straight above one another."""
    first = planes[0]
    if not all(are_parallel(first, plane) for plane in planes[1:]):
        return False
    offsets = np.array([plane.position - first.position for plane in planes])
    drift = np.abs(offsets - np.outer(offsets @ first.normal, first.normal)).max()
    return is_even(offsets @ first.normal) and bool(drift < min(first.spacing) / 2)
