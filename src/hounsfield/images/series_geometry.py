"""How the slices of a series lie to one another: order, copies, gaps, tilt."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hounsfield.images.dicom_geometry import GAP_MILLIMETRES, Plane, gap_tolerance, read_plane
from hounsfield.images.dicom_header import Header
from hounsfield.images.image import Image

# What tells slices at one position apart, tried one by one and then in pairs.
SEPARATORS = (
    "EchoNumbers",
    "EchoTime",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "TriggerTime",
    "ImageType",
)
# Slices may drift along their plane by this share of a pixel over the whole stack before it counts as tilt.
DRIFT_SHARE = 0.1
# A slice farther than this, in pixels, from the line through the first and the last one follows no rule.
WANDER_PIXELS = 0.5
# How many places a message names.
NUM_NAMED = 3


@dataclass(frozen=True, eq=False)
class Slice:
    """What the header of one file says of its place in a series."""

    path: Path
    series: str
    instance: str | None
    modality: str | None
    key: tuple[Any, ...]
    is_localiser: bool
    plane: Plane | None
    separators: tuple[str | None, ...]


def read_slice(header: Header, path: Path) -> Slice | None:
    """The place of a file in its series, or ``None`` for a file without pixels."""
    rows, columns = header.integer("Rows"), header.integer("Columns")
    if not rows or not columns:
        return None
    series = header.text("SeriesInstanceUID") or ""
    localiser = is_localiser(header)
    # A multi-frame file is a series by itself.
    is_single = (header.integer("NumberOfFrames") or 1) == 1 and "PerFrameFunctionalGroupsSequence" not in header
    return Slice(
        path=path,
        series=series,
        instance=header.text("SOPInstanceUID"),
        modality=header.text("Modality"),
        key=(series, rows, columns, header.integer("SamplesPerPixel"), localiser, None if is_single else path),
        is_localiser=localiser,
        plane=read_plane(header, header, header) if is_single else None,
        separators=tuple(header.text(keyword) for keyword in SEPARATORS),
    )


def is_localiser(header: Header) -> bool:
    """Whether a file is a localiser (scout) by its Image Type (PS3.3 section C.7.6.1.1.2)."""
    return "LOCALIZER" in (header.text("ImageType") or "").upper().split("\\")


def without_copies(slices: Sequence[Slice]) -> tuple[list[Slice], list[Slice]]:
    """Slices, and those that repeat an instance that an earlier one holds; in the order of their paths."""
    kept: list[Slice] = []
    copies: list[Slice] = []
    seen: set[str] = set()
    for one in sorted(slices, key=lambda one: one.path):
        (copies if one.instance in seen else kept).append(one)
        if one.instance:
            seen.add(one.instance)
    return kept, copies


def separated(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Sort parallel slices along their normal; where each position occurs several times, one stack for each time."""
    ordered = _sorted(slices)
    multiplicity = max(Counter(_steps(_depths(ordered))).values())
    if multiplicity == 1:
        return [ordered]
    singles = [(index,) for index in range(len(SEPARATORS))]
    for chosen in [*singles, *itertools.combinations(range(len(SEPARATORS)), 2)]:
        parts: dict[tuple[str | None, ...], list[Slice]] = defaultdict(list)
        for one in ordered:
            parts[tuple(one.separators[index] for index in chosen)].append(one)
        if len(parts) == multiplicity and all(_are_apart(part) for part in parts.values()):
            return list(parts.values())
    return [ordered]


def _sorted(slices: Sequence[Slice]) -> list[Slice]:
    plane = slices[0].plane
    if plane is None:
        return list(slices)
    normal = plane.normal
    return sorted(slices, key=lambda one: (float(normal @ one.plane.position) if one.plane else 0.0, one.path))


def _depths(slices: Sequence[Slice]) -> npt.NDArray[np.float64]:
    """Millimetres along the normal of the first slice."""
    planes = [one.plane for one in slices if one.plane]
    normal = planes[0].normal
    return np.array([float(normal @ plane.position) for plane in planes])


def _steps(depths: npt.NDArray[np.float64]) -> list[int]:
    """A number for each sorted depth, the same for depths that are one position."""
    return [0, *np.cumsum(np.diff(depths) > GAP_MILLIMETRES).tolist()]


def _are_apart(slices: Sequence[Slice]) -> bool:
    return bool(np.all(np.diff(_depths(slices)) > GAP_MILLIMETRES))


def find_problems(slices: Sequence[Slice]) -> tuple[str, ...]:
    """What keeps sorted parallel slices from being an even stack, each a part of a sentence."""
    if len(slices) < 2:
        return ()
    depths = _depths(slices)
    gaps = np.diff(depths)
    apart = gaps[gaps > GAP_MILLIMETRES]
    problems = []
    if len(apart) < len(gaps):
        problems.append(
            f"{len(gaps) - len(apart)} slices lie where another one lies ({_places(depths, gaps <= GAP_MILLIMETRES)})"
        )
    if len(apart):
        problems.extend(_gap_problems(depths, gaps, float(np.median(apart))))
    if not problems and _wander(slices) > WANDER_PIXELS:
        problems.append("the slices are shifted against each other along their plane without a rule")
    return tuple(problems)


def _gap_problems(depths: npt.NDArray[np.float64], gaps: npt.NDArray[np.float64], usual: float) -> list[str]:
    wide = (gaps > GAP_MILLIMETRES) & (np.abs(gaps - usual) > gap_tolerance(usual))
    if not wide.any():
        return []
    multiples = np.round(gaps[wide] / usual)
    if np.all(multiples >= 2) and np.all(np.abs(gaps[wide] - multiples * usual) <= gap_tolerance(usual) * multiples):
        missing = int((multiples - 1).sum())
        return [f"{missing} slices are missing at a spacing of {usual:g} mm ({_places(depths, wide)})"]
    narrowest, widest = gaps[gaps > GAP_MILLIMETRES].min(), gaps.max()
    return [f"the slices are unevenly spaced, from {narrowest:g} to {widest:g} mm ({_places(depths, wide)})"]


def _places(depths: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_]) -> str:
    places = [f"{depth:.1f}" for depth in depths[:-1][chosen]]
    more = ", …" if len(places) > NUM_NAMED else ""
    return f"after {', '.join(places[:NUM_NAMED])}{more} mm along the normal"


def _in_plane(slices: Sequence[Slice]) -> npt.NDArray[np.float64]:
    """How many (rows, columns) each slice is shifted against the first one along its own plane."""
    planes = [one.plane for one in slices if one.plane]
    first = planes[0]
    offsets = np.array([plane.position - first.position for plane in planes])
    rows, columns = offsets @ first.along_rows / first.spacing[0], offsets @ first.along_columns / first.spacing[1]
    return np.stack([rows, columns], axis=1)


def _wander(slices: Sequence[Slice]) -> float:
    """The largest distance, in pixels, of a slice from the straight line between the first and the last one."""
    shifts = _in_plane(slices)
    line = np.linspace(0, 1, len(shifts))[:, np.newaxis] * shifts[-1]
    return float(np.abs(shifts - line).max())


def is_tilted(slices: Sequence[Slice]) -> bool:
    """Whether the slices are not straight above one another."""
    return bool(np.abs(_in_plane(slices)).max() > DRIFT_SHARE)


def straightened(volume: Image) -> Image:
    """Shift every slice along its plane so that the axes of a tilted stack are at right angles.

    The canvas grows so that nothing is lost; what no slice covers gets the lowest value of the volume. Values are
    interpolated linearly, those of label maps taken from the nearest pixel.
    """
    affine, spacing = volume.affine, volume.spacing
    if affine is None or spacing is None:
        return volume
    units = affine[:3, 1:3] / np.array(spacing[1:])
    normal = np.cross(units[:, 1], units[:, 0])
    drift = (units.T @ affine[:3, 0]) / np.array(spacing[1:])
    shifts = np.arange(volume.shape[0])[:, np.newaxis] * drift
    low, high = np.floor(shifts.min(axis=0)).astype(int), np.ceil(shifts.max(axis=0)).astype(int)
    lowest = volume.pixels.min()
    size = tuple(extent + above - below for extent, below, above in zip(volume.shape[1:], low, high, strict=True))
    pixels = np.full((volume.shape[0], *size, volume.channels), lowest, dtype=volume.pixels.dtype)
    order: Literal[0, 1] = 0 if volume.modality == "SEG" else 1
    for index, channel in itertools.product(range(volume.shape[0]), range(volume.channels)):
        canvas = np.full(size, lowest, dtype=volume.pixels.dtype)
        canvas[: volume.shape[1], : volume.shape[2]] = volume.pixels[index, :, :, channel]
        pixels[index, :, :, channel] = ndimage.shift(canvas, shifts[index] - low, order=order, cval=float(lowest))
    straight = affine.copy()
    straight[:3, 0] = normal * float(normal @ affine[:3, 0])
    straight[:3, 3] += affine[:3, 1:3] @ low
    gap = math.sqrt(float(straight[:3, 0] @ straight[:3, 0]))
    return volume.replace(pixels=pixels, affine=straight, spacing=(gap, *spacing[1:]))
