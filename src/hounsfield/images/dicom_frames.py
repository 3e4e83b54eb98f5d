"""Where the frames of a multi-frame file lie, and which of them make one volume."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from hounsfield.images.dicom_geometry import Plane, offset_planes, read_plane
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_labels import TIMES, VECTORS, frame_labels
from hounsfield.images.stacks import Part, Place, partition

logger = logging.getLogger(__name__)


def frame_parts(header: Header, num_frames: int, path: Path) -> list[Part]:
    """The volumes in a multi-frame file, by the indices of their frames.

    Empty where the file does not say where its frames lie, and for a film: frames of one position, over time.
    """
    places = frame_places(header, num_frames, path)
    if places is None:
        return []
    parts = partition(places)
    if all(part.is_certain for part in parts):
        return [] if len(parts) == num_frames and _is_film(places) else parts
    if _is_film(places):
        return []
    # Nothing tells frames of one position apart: no two of them may be put into one volume.
    return [Part((index,), f"frame {index + 1}") for index in range(num_frames)]


def _is_film(places: list[Place]) -> bool:
    """Whether all frames lie in one position and differ in nothing but time."""
    first = places[0]
    moved = max(float(np.abs(place.plane.position - first.plane.position).max()) for place in places)
    turned = max(float(np.abs(place.plane.normal - first.plane.normal).max()) for place in places)
    labels = {label for place in places for label in place.labels} - set(TIMES)
    return moved == turned == 0 and all(
        len({place.labels.get(label) for place in places}) == 1 for label in labels if not label.startswith("dimension")
    )


def frame_places(header: Header, num_frames: int, path: Path) -> list[Place] | None:
    """Plane and labels of each frame of a multi-frame image, or ``None`` where the file does not tell them all."""
    offsets = header.decimals("GridFrameOffsetVector")
    if offsets:
        planes = offset_planes(header, offsets, num_frames)
        return [Place(plane, number=index) for index, plane in enumerate(planes)] if planes else None
    frames = header.items("PerFrameFunctionalGroupsSequence")
    if frames:
        return _of_groups(header, frames, num_frames, path)
    if header.decimals("SliceVector"):
        return _of_nuclear_medicine(header, num_frames)
    return _of_root(header, num_frames, path)


def _of_groups(header: Header, frames: list[Header], num_frames: int, path: Path) -> list[Place] | None:
    if len(frames) != num_frames:
        logger.warning("%s describes %d frames and holds %d, so it has no geometry", path, len(frames), num_frames)
        return None
    shared = header.item("SharedFunctionalGroupsSequence")
    pointers = _dimensions(header)
    is_mr = header.text("Modality") == "MR"
    places = []
    for index, frame in enumerate(frames):
        plane = frame_plane(header, frame, shared)
        if plane is None:
            return None
        labels = frame_labels(frame, shared)
        content = frame.item("FrameContentSequence")
        values = content.decimals("DimensionIndexValues") if content and pointers else ()
        labels |= {f"dimension {pointers[rank]}": value for rank, value in enumerate(values[: len(pointers)])}
        places.append(Place(plane, labels, index, is_mr))
    return places


def frame_plane(header: Header, frame: Header | None, shared: Header | None) -> Plane | None:
    """The plane of a frame: each part from its own group, the one that all frames share, or the image itself."""
    parts = [functional_group(frame, shared, keyword) or header for keyword in PLANE_GROUPS]
    return read_plane(*parts)


PLANE_GROUPS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")


def functional_group(frame: Header | None, shared: Header | None, keyword: str) -> Header | None:
    """The first item of a functional group: the frame's own, else the one that all frames share."""
    own = frame.item(keyword) if frame else None
    return own or (shared.item(keyword) if shared else None)


def _dimensions(header: Header) -> list[str]:
    """A name for each dimension that the frames are indexed by; its number makes it one of its own."""
    return [str(rank + 1) for rank, _ in enumerate(header.items("DimensionIndexSequence"))]


def _of_nuclear_medicine(header: Header, num_frames: int) -> list[Place] | None:
    """Reconstructed slices of SPECT (PS3.3 C.8.4.15): the first one's place, and a distance that may be negative."""
    slices = header.decimals("SliceVector")
    detector = header.item("DetectorInformationSequence") or header
    place = detector if detector.vector("ImagePositionPatient", 3) else header
    oriented = detector if detector.vector("ImageOrientationPatient", 6) else header
    plane = read_plane(place, oriented, header)
    step = header.decimal("SpacingBetweenSlices") or header.decimal("SliceThickness")
    if plane is None or not step or len(slices) != num_frames:
        return None
    vectors = {keyword: header.decimals(keyword) for keyword in VECTORS}
    places = []
    for index, number in enumerate(slices):
        labels = {keyword: values[index] for keyword, values in vectors.items() if len(values) == num_frames}
        position = plane.position + plane.normal * step * (number - 1)
        places.append(Place(replace(plane, position=position), labels, index))
    return places


def _of_root(header: Header, num_frames: int, path: Path) -> list[Place] | None:
    """Frames of a file that states one plane for the whole: a stack from there on, unless they are a film."""
    shared = header.item("SharedFunctionalGroupsSequence")
    plane = frame_plane(header, None, shared)
    measures = functional_group(None, shared, "PixelMeasuresSequence") or header
    step = measures.decimal("SpacingBetweenSlices") or (
        measures.decimal("SliceThickness") if header.text("Modality") in {"CT", "PT"} else None
    )
    is_timed = any(header.text(keyword) for keyword in ("FrameTime", "FrameTimeVector"))
    if plane is None or not step or is_timed or num_frames == 1:
        return None
    logger.warning(
        "%s states the place of its first frame only; the others were taken to follow along the normal at %g mm",
        path,
        step,
    )
    return [
        Place(replace(plane, position=plane.position + plane.normal * step * index), number=index)
        for index in range(num_frames)
    ]
