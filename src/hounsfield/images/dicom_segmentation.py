"""DICOM Segmentation objects (PS3.3 A.51): frames of single segments, or label maps, as volumes of segment numbers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.dicom_frames import frame_plane, functional_group
from hounsfield.images.dicom_geometry import GAP_MILLIMETRES, Plane, are_parallel, gap_tolerance
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_layout import Layout
from hounsfield.images.dicom_pixels import native_bytes, stored_pixels

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a segmentation object holds.

    Attributes:
        volumes: one label map of all segments; or one volume for each segment, where these overlap or are fractions.
        words: about each volume.
        planes: of the slices, sorted and without gaps; ``None`` where the file does not tell them.
        labels: number and label of each segment.
    """

    volumes: tuple[Array, ...]
    words: tuple[str, ...]
    planes: tuple[Plane, ...] | None
    labels: tuple[tuple[int, str], ...]


def is_segmentation(header: Header) -> bool:
    """Whether a file is a segmentation object."""
    return "SegmentSequence" in header


def read_segmentation(header: Header, layout: Layout, path: Path) -> Segmentation:
    """Decode the frames and put each where its segment and its position are.

    Frames without any pixel of a segment are usually left out; the slices of the volume are those between the first and
    the last position, at the distance that the file states or that divides all the distances found.

    Raises:
        ImageError: a frame states no segment or is in no row with the others, or the frames are tiles.
    """
    kind = (header.text("SegmentationType") or "").upper()
    _check_frames(header, layout, path)
    stored = stored_pixels(header, layout, path, range(layout.frames))[0][..., 0]
    planes, slots = _grid(header, layout.frames, path)
    labels = _labels(header, path)
    size = (len(planes) if planes else layout.frames, layout.rows, layout.columns, 1)
    if kind == "LABELMAP":
        return Segmentation((_filled(stored, slots, size),), ("",), planes, labels)
    numbers = _segments(header, layout.frames, path)
    _check_described(numbers, labels, path)
    by_segment = {
        number: [index for index, other in enumerate(numbers) if other == number] for number in sorted(set(numbers))
    }
    _check_apart({number: [slots[index] for index in frames] for number, frames in by_segment.items()}, labels, path)
    if kind == "FRACTIONAL":
        highest = header.decimal("MaximumFractionalValue") or layout.stored_range[1]
        fractions = (stored / np.float32(highest)).astype(np.float32)
        volumes = [
            _filled(fractions[frames], [slots[index] for index in frames], size) for frames in by_segment.values()
        ]
        return Segmentation(tuple(volumes), _words(by_segment), planes, labels)
    masks = (stored > 0).astype(np.uint16 if max(numbers) > np.iinfo(np.uint8).max else np.uint8)
    parts = [
        _filled(masks[frames], [slots[index] for index in frames], size) * masks.dtype.type(number)
        for number, frames in by_segment.items()
    ]
    if sum((part > 0).astype(np.uint16) for part in parts).max() > 1:
        return Segmentation(tuple(parts), _words(by_segment), planes, labels)
    return Segmentation((np.sum(parts, axis=0, dtype=masks.dtype),), ("",), planes, labels)


def _labels(header: Header, path: Path) -> tuple[tuple[int, str], ...]:
    """Number and label of each segment, and of the background where a label map describes it."""
    labels = tuple(
        (item.integer("SegmentNumber") or 0, item.text("SegmentLabel") or "")
        for item in header.items("SegmentSequence")
    )
    numbers = [number for number, _ in labels]
    if len(set(numbers)) < len(numbers):
        raise ImageError(
            f"{path} is a segmentation that describes two segments by one number, so that nothing tells their pixels "
            "apart: expected a number of its own for each. Export it again from its source."
        )
    return labels


def _check_described(numbers: Sequence[int], labels: Sequence[tuple[int, str]], path: Path) -> None:
    """Refuse segments whose pixels would be lost, and name those that have no label."""
    if min(numbers) < 1:
        raise ImageError(
            f"{path} is a segmentation with the segment number {min(numbers)}: expected numbers from 1, for 0 is the "
            "background. Export it again from its source."
        )
    if unknown := sorted(set(numbers) - {number for number, _ in labels}):
        logger.warning("%s: its segment %s has no description, so its label is unknown", path, unknown[0])


def _check_frames(header: Header, layout: Layout, path: Path) -> None:
    """Refuse frames that are described, not declared and yet there; those that are not there are a part cut out."""
    described = len(header.items("PerFrameFunctionalGroupsSequence"))
    if described <= layout.frames:
        return
    if len(header.raw("PixelData") or b"") > native_bytes(layout) + 1 or header.transfer_syntax.is_encapsulated:
        raise ImageError(
            f"{path} is a segmentation that declares {layout.frames} frames and describes {described}, so that some "
            "would be lost. Export it again from its source."
        )
    logger.warning(
        "%s is a segmentation that describes %d frames, of which it holds the first %d only",
        path,
        described,
        layout.frames,
    )


def _check_apart(slots: Mapping[int, Sequence[int]], labels: Sequence[tuple[int, str]], path: Path) -> None:
    """Refuse several frames of a segment in one place where another segment has none: some may be of the other."""
    twice = [number for number, places in slots.items() if len(set(places)) < len(places)]
    empty = sorted({number for number, _ in labels} - {0, *slots})
    if twice and empty:
        raise ImageError(
            f"{path} is a segmentation with several frames of its segment {twice[0]} in one place, and without any of "
            f"its segment {empty[0]}: expected each frame to state its own segment. Export it again from its source."
        )


def _words(numbers: Sequence[int] | dict[int, Any]) -> tuple[str, ...]:
    return tuple(f"segment {number}" for number in numbers)


def _filled(frames: Array, slots: Sequence[int], size: tuple[int, ...]) -> Array:
    volume = np.zeros(size, dtype=frames.dtype)
    for frame, slot in zip(frames, slots, strict=True):
        # Two frames of one segment in one place are parts of it.
        np.maximum(volume[slot, ..., 0], frame, out=volume[slot, ..., 0])
    return volume


def _segments(header: Header, num_frames: int, path: Path) -> list[int]:
    frames = header.items("PerFrameFunctionalGroupsSequence")
    shared = header.item("SharedFunctionalGroupsSequence")
    numbers = []
    for index in range(num_frames):
        group = functional_group(
            frames[index] if index < len(frames) else None, shared, "SegmentIdentificationSequence"
        )
        number = group.integer("ReferencedSegmentNumber") if group else None
        if number is None:
            raise ImageError(
                f"{path} is a segmentation whose frame {index + 1} does not state its segment, so it cannot be read as "
                "a label map. Export it again from its source."
            )
        numbers.append(number)
    return numbers


def _grid(header: Header, num_frames: int, path: Path) -> tuple[tuple[Plane, ...] | None, list[int]]:
    """The planes of the volume, and the slice that each frame belongs to."""
    frames = header.items("PerFrameFunctionalGroupsSequence")
    shared = header.item("SharedFunctionalGroupsSequence")
    if "TotalPixelMatrixColumns" in header:
        raise ImageError(
            f"{path} is a segmentation of a whole slide in tiles, which is not read here. Convert it to a picture."
        )
    found = [frame_plane(header, frames[index] if index < len(frames) else None, shared) for index in range(num_frames)]
    planes = [plane for plane in found if plane is not None]
    if len(planes) < num_frames:
        if len(set(_segments(header, num_frames, path))) > 1:
            raise ImageError(
                f"{path} is a segmentation of several segments whose frames state no position, so that nothing tells "
                "which belong together. Export it again from its source."
            )
        logger.warning("%s: its frames state no position, so the label map has no geometry", path)
        return None, list(range(num_frames))
    first = planes[0]
    if not all(are_parallel(first, plane) for plane in planes):
        raise ImageError(f"{path} is a segmentation whose frames are not parallel: expected one stack of slices.")
    depths = np.array([float(first.normal @ plane.position) for plane in planes])
    measures = functional_group(frames[0] if frames else None, shared, "PixelMeasuresSequence") or header
    step = _step(depths, measures.decimal("SpacingBetweenSlices"), first.thickness, path)
    slots = np.round((depths - depths.min()) / step).astype(int)
    start = planes[int(depths.argmin())]
    count = int(slots.max()) + 1
    if count > len(set(slots.tolist())):
        logger.warning("%s: %d slices without a frame were taken for empty", path, count - len(set(slots.tolist())))
    direction = (planes[int(depths.argmax())].position - start.position) / max(count - 1, 1)
    return tuple(_moved(start, direction * index, step) for index in range(count)), slots.tolist()


def _moved(plane: Plane, offset: npt.NDArray[np.float64], step: float) -> Plane:
    return Plane(plane.position + offset, plane.along_columns, plane.along_rows, plane.spacing, step)


def _step(depths: npt.NDArray[np.float64], stated: float | None, thickness: float, path: Path) -> float:
    """The distance between slices: the stated one, or else the smallest, of which all others are multiples.

    The thickness of slices is no distance between them: it counts only where there is one slice.
    """
    gaps = np.diff(np.unique(np.round(depths, 4)))
    gaps = gaps[gaps > GAP_MILLIMETRES]
    if not len(gaps):
        return thickness
    for step in (abs(stated or 0.0), float(gaps.min())):
        if not step:
            continue
        multiples = np.round(gaps / step)
        if np.all(multiples >= 1) and np.all(np.abs(gaps - multiples * step) <= gap_tolerance(step) * multiples):
            return step
    raise ImageError(
        f"{path} is a segmentation of slices unevenly spaced, from {gaps.min():g} to {gaps.max():g} mm: expected "
        "an even stack. Export it again from its source."
    )
