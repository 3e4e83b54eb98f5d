"""One DICOM file as an image: real values, true geometry, and what is known of its origin."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.dicom_file import open_dicom, refusing
from hounsfield.images.dicom_frames import frame_parts, frame_places, functional_group
from hounsfield.images.dicom_geometry import (
    GAP_MILLIMETRES,
    Plane,
    are_parallel,
    grid_distance,
    grid_tolerance,
    pixel_spacing,
    read_plane,
)
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_layout import GREY, Layout, check_layout, read_layout
from hounsfield.images.dicom_metadata import read_metadata
from hounsfield.images.dicom_mosaic import Mosaic, read_mosaic
from hounsfield.images.dicom_pixels import stored_pixels, with_all_frames
from hounsfield.images.dicom_segmentation import is_segmentation, read_segmentation
from hounsfield.images.dicom_slide import assembled, is_slide, read_tilings, slide_size
from hounsfield.images.dicom_units import value_scale
from hounsfield.images.dicom_values import palette_to_rgb, read_windows, real_values
from hounsfield.images.image import Image
from hounsfield.images.stacks import Part
from hounsfield.images.volumes import chosen_volume

logger = logging.getLogger(__name__)

Affine = npt.NDArray[np.float64]


def read_dicom(path: Path, max_pixels: int, volume: int | None = None) -> Image:
    """Read one DICOM file.

    Grey values are real ones (Hounsfield units of CT, grays of a dose grid), never windowed, with MONOCHROME1 turned
    round; palettes and YBR kinds become RGB. One frame makes a 2D image, several a 3D one. Frames that tell their
    positions are sorted along the normal; where these are not those of an even stack, or the frames are a film over
    time, they stay in the file's order and the image has no geometry.

    Args:
        path: the file.
        max_pixels: the most values that the file may declare.
        volume: which volume of a file whose frames are not one stack, from 0.

    Raises:
        SeveralVolumes: the frames make several volumes (b-values, echoes, phases, orientations), and none was chosen.
        ImageError: the file is damaged, holds no image, declares more than ``max_pixels`` values, or is of a kind that
            cannot be read.
    """
    return decode(open_dicom(path, max_pixels), path, max_pixels, volume)


def decode(header: Header, path: Path, max_pixels: int, volume: int | None = None) -> Image:
    """Make the image of a file that has been opened with its pixels; as ``read_dicom``."""
    with refusing(path):
        _check_has_image(header, path)
        _check_is_whole(header, path)
        declared = read_layout(header, path, max_pixels)
        layout = with_all_frames(header, declared, path)
        if layout is not declared:
            check_layout(layout, path, max_pixels)
        if is_segmentation(header):
            return _segmented(header, layout, path, volume)
        if is_slide(header):
            return _slide(header, layout, path, max_pixels, volume)
        mosaic = read_mosaic(header, path) if layout.frames == 1 else None
        parts = [] if layout.frames == 1 else frame_parts(header, layout.frames, path)
        if not parts:
            chosen_volume([""], volume, path)
        if mosaic is not None:
            return _unfolded(_image(header, layout, path, (0,)), mosaic, path)
        if layout.frames == 1:
            spacing, affine = _slice_geometry(header, path)
            return _image(header, layout, path, (0,)).replace(spacing=spacing, affine=affine)
        if not parts:
            return _image(header, layout, path, range(layout.frames))
        part = parts[chosen_volume([_described(part, layout) for part in parts], volume, path)]
        return _stacked(header, layout, path, part)


def volume_words(header: Header, path: Path) -> list[str] | None:
    """A few words about each volume in a file that is a volume, or several, by itself; ``None`` for a single slice."""
    with refusing(path):
        frames = header.integer("NumberOfFrames") or 1
        if is_segmentation(header) or is_slide(header):
            return [""]
        if frames == 1 and "PerFrameFunctionalGroupsSequence" not in header:
            return None if read_mosaic(header, path) is None else [""]
        return [part.words for part in frame_parts(header, frames, path)] or [""]


def _described(part: Part, layout: Layout) -> str:
    size = "×".join(str(length) for length in (len(part.indices), layout.rows, layout.columns))
    return f"{part.words}, {size} voxels" if part.words else f"{size} voxels"


def _image(header: Header, layout: Layout, path: Path, frames: Sequence[int]) -> Image:
    """Real values and facts of the chosen frames, without their geometry."""
    stored, layout = stored_pixels(header, layout, path, frames)
    windows: tuple[tuple[float, float], ...] = ()
    units, rescale = None, None
    if layout.photometric in GREY:
        values, value_range, rescale = real_values(header, stored, layout, frames)
        windows = read_windows(header, layout, value_range, frames[0])
        scale = value_scale(header, path, frames)
        values, windows, units = scale.applied(values), scale.applied_to_windows(windows), scale.units
        rescale = scale.joined(rescale) if stored.dtype.kind in "iu" else None
    elif layout.photometric == "PALETTE COLOR":
        values = palette_to_rgb(header, stored, layout)
    else:
        values = stored
    metadata = read_metadata(header, windows, units, rescale)
    return Image(values if len(values) > 1 else values[0], None, None, header.text("Modality"), metadata)


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


def _check_is_whole(header: Header, path: Path) -> None:
    """Refuse a part of an image that was split into several files (PS3.3 C.7.6.16.2.2.4): the rest would be missing."""
    if "ConcatenationUID" not in header or header.integer("InConcatenationTotalNumber") == 1:
        return
    number, total = header.integer("InConcatenationNumber"), header.integer("InConcatenationTotalNumber")
    raise ImageError(
        f"{path} is part {number or '?'} of {total or 'several'} of an image that was split into several files (a "
        "concatenation): expected the whole one. Export it again as one file, or as one file for each slice."
    )


def _slide(header: Header, layout: Layout, path: Path, max_pixels: int, volume: int | None) -> Image:
    """The picture of one level; its place on the glass is none in the patient."""
    tilings = read_tilings(header, layout, path, max_pixels)
    tiling = tilings[chosen_volume([one.words for one in tilings], volume, path)]
    tiles = _image(header, layout, path, tiling.frames)
    pixels = tiles.pixels if len(tiling.frames) > 1 else tiles.pixels[np.newaxis]
    measures = functional_group(None, header.item("SharedFunctionalGroupsSequence"), "PixelMeasuresSequence")
    picture = assembled(pixels, tiling, slide_size(header) or (layout.rows, layout.columns))
    return tiles.replace(pixels=picture, spacing=pixel_spacing(measures or header))


def _segmented(header: Header, layout: Layout, path: Path, volume: int | None) -> Image:
    found = read_segmentation(header, layout, path)
    pixels = found.volumes[chosen_volume(found.words, volume, path)]
    metadata = replace(read_metadata(header, ()), labels=found.labels)
    image = Image(pixels if len(pixels) > 1 else pixels[0], None, None, header.text("Modality"), metadata)
    if found.planes is None:
        return image
    if len(pixels) == 1:
        return image.replace(spacing=found.planes[0].spacing, affine=found.planes[0].affine())
    return _placed(image, found.planes, path)


def _unfolded(picture: Image, mosaic: Mosaic, path: Path) -> Image:
    pixels = mosaic.unfolded(picture.pixels)
    if mosaic.planes is None or len(pixels) == 1:
        logger.warning("%s: its mosaic does not tell where its slices lie, so the image has no geometry", path)
        return picture.replace(pixels=pixels)
    order = mosaic.order
    return _placed(picture.replace(pixels=pixels[order]), [mosaic.planes[index] for index in order], path)


def _slice_geometry(header: Header, path: Path) -> tuple[tuple[float, float] | None, Affine | None]:
    places = None
    if "PerFrameFunctionalGroupsSequence" in header or "SliceVector" in header:
        places = frame_places(header, 1, path)
    plane = places[0].plane if places else read_plane(header, header, header)
    if plane is None and header.decimals("ImageOrientationPatient") and pixel_spacing(header) is not None:
        logger.warning("%s: its position and orientation are incomplete or impossible, so it has no affine", path)
    return (plane.spacing, plane.affine()) if plane else (pixel_spacing(header), None)


def _stacked(header: Header, layout: Layout, path: Path, part: Part) -> Image:
    places = frame_places(header, layout.frames, path) or []
    planes = [places[index].plane for index in part.indices]
    if part.varying:
        logger.warning("%s: its frames make one even stack, and yet differ in %s", path, part.varying)
    if len(planes) == 1:
        image = _image(header, layout, path, part.indices)
        return image.replace(spacing=planes[0].spacing, affine=planes[0].affine())
    return _placed(
        _image(header, layout, path, part.indices if is_stack(planes) else sorted(part.indices)), planes, path
    )


def _placed(image: Image, planes: Sequence[Plane], path: Path) -> Image:
    """The image with the geometry of its sorted slices, where these make an even stack."""
    if not is_stack(planes):
        logger.warning("%s: its frames are no even stack of parallel slices, so the image has no geometry", path)
        return image
    step = (planes[-1].position - planes[0].position) / (len(planes) - 1)
    spacing = (float(np.linalg.norm(step)), *planes[0].spacing)
    return image.replace(spacing=spacing, affine=planes[0].affine(step))


def is_stack(planes: Sequence[Plane]) -> bool:
    """Whether sorted planes are parallel, evenly spaced, and straight above one another."""
    first = planes[0]
    if not all(are_parallel(first, plane) for plane in planes[1:]):
        return False
    offsets = np.array([plane.position - first.position for plane in planes])
    drift = np.abs(offsets - np.outer(offsets @ first.normal, first.normal)).max()
    depths = offsets @ first.normal
    usual = float(np.median(np.diff(depths)))
    is_regular = usual > GAP_MILLIMETRES and grid_distance(depths) <= grid_tolerance(planes, usual)
    return is_regular and bool(drift < min(first.spacing) / 2)
