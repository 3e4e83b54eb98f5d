"""How the slices of a series lie to one another: copies, gaps, tilt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.images.dicom_geometry import (
    GAP_MILLIMETRES,
    Plane,
    gap_tolerance,
    grid_distance,
    grid_tolerance,
    read_plane,
)
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_labels import file_labels
from hounsfield.images.dicom_slide import is_overview
from hounsfield.images.stacks import Place

# Slices may drift along their plane by this share of a pixel over the whole stack before it counts as tilt.
DRIFT_SHARE = 0.1
# A slice farther than this, in pixels, from the line through the first and the last one follows no rule.
WANDER_PIXELS = 0.5
# How many places a message names.
NUM_NAMED = 3

# Two spacings must alternate no more often, and each occur as often, for one of them not to be a missing slice.
MOST_CHANGES = 2
FEWEST_GAPS = 3
# How the one problem begins that resampling can solve.
UNEVEN = "the slices are unevenly spaced"

Digest = Callable[[Path], bytes]


@dataclass(frozen=True, eq=False)
class Slice:
    """What the header of one file says of its place in a series; without ``place`` where it states no position."""

    path: Path
    series: str
    instance: str | None
    modality: str | None
    key: tuple[Any, ...]
    is_localiser: bool
    number: int | None
    place: Place | None

    @property
    def plane(self) -> Plane | None:
        """The plane in the patient."""
        return self.place.plane if self.place else None


def read_slice(header: Header, path: Path, *, is_alone: bool) -> Slice | None:
    """The place of a file in its series, or ``None`` for a file without pixels.

    Args:
        header: of the file.
        path: of the file.
        is_alone: whether the file is a volume by itself.
    """
    rows, columns = header.integer("Rows"), header.integer("Columns")
    if not rows or not columns:
        return None
    series = header.text("SeriesInstanceUID") or ""
    localiser = is_localiser(header)
    plane = None if is_alone else read_plane(header, header, header)
    number = header.integer("InstanceNumber")
    modality = header.text("Modality")
    return Slice(
        path=path,
        series=series,
        instance=header.text("SOPInstanceUID"),
        modality=modality,
        key=(series, rows, columns, header.integer("SamplesPerPixel"), localiser, path if is_alone else None),
        is_localiser=localiser,
        number=number,
        place=Place(plane, file_labels(header), number, modality == "MR") if plane else None,
    )


def is_localiser(header: Header) -> bool:
    """Whether a file is a localiser (scout) by its Image Type (PS3.3 C.7.6.1.1.2), or an overview of a slide."""
    return is_overview(header) or "LOCALIZER" in (header.text("ImageType") or "").upper().split("\\")


def without_copies(slices: Sequence[Slice], digest: Digest) -> tuple[list[Slice], list[Slice], bool]:
    """Leave out slices that repeat an instance.

    Two files of one identifier are copies where they lie in one place and have the same pixels. Some writers give one
    identifier to many slices: these are kept.

    Returns:
        Those that are kept and those that are not, in the order of their paths, and whether kept ones share an
        identifier.
    """
    kept: list[Slice] = []
    copies: list[Slice] = []
    seen: dict[str, list[Slice]] = defaultdict(list)
    shared = False
    for one in sorted(slices, key=lambda one: one.path):
        others = seen[one.instance] if one.instance else []
        if any(_repeats(one, other, digest) for other in others):
            copies.append(one)
            continue
        shared = shared or bool(others)
        others.append(one)
        kept.append(one)
    return kept, copies, shared


def without_equals(slices: Sequence[Slice], digest: Digest) -> tuple[list[Slice], list[Slice]]:
    """Leave out slices that lie where another one lies and have the same pixels, whatever their identifiers."""
    kept: list[Slice] = []
    copies: list[Slice] = []
    for one in sorted(slices, key=lambda one: one.path):
        is_copy = any(_repeats(one, other, digest) for other in kept)
        (copies if is_copy else kept).append(one)
    return kept, copies


def _repeats(one: Slice, other: Slice, digest: Digest) -> bool:
    if one.plane is not None and other.plane is not None:
        moved = float(np.abs(one.plane.position - other.plane.position).max())
        if moved > GAP_MILLIMETRES:
            return False
    return digest(one.path) == digest(other.path)


def find_problems(slices: Sequence[Slice]) -> tuple[str, ...]:
    """What keeps sorted parallel slices from being an even stack, each a part of a sentence."""
    if len(slices) < 2:
        return ()
    depths = depths_of(slices)
    gaps = np.diff(depths)
    apart = gaps[gaps > GAP_MILLIMETRES]
    problems = []
    if len(apart) < len(gaps):
        problems.append(
            f"{len(gaps) - len(apart)} slices lie where another one lies ({_places(depths, gaps <= GAP_MILLIMETRES)})"
        )
    if len(apart):
        problems.extend(_gap_problems(slices, depths, gaps, float(np.median(apart))))
    if not problems and _wander(slices) > WANDER_PIXELS:
        problems.append("the slices are shifted against each other along their plane without a rule")
    return tuple(problems)


def _gap_problems(
    slices: Sequence[Slice], depths: npt.NDArray[np.float64], gaps: npt.NDArray[np.float64], usual: float
) -> list[str]:
    if grid_distance(depths) <= grid_tolerance([one.plane for one in slices if one.plane], usual):
        return []
    wide = (gaps > GAP_MILLIMETRES) & (np.abs(gaps - usual) > gap_tolerance(usual))
    multiples = np.round(gaps[wide] / usual)
    if (
        wide.any()
        and np.all(multiples >= 2)
        and np.all(np.abs(gaps[wide] - multiples * usual) <= gap_tolerance(usual) * multiples)
    ):
        missing = int((multiples - 1).sum())
        return [f"{missing} slices are missing at a spacing of {usual:g} mm ({_places(depths, wide)})"]
    narrowest, widest = gaps[gaps > GAP_MILLIMETRES].min(), gaps.max()
    where = f" ({_places(depths, wide)})" if wide.any() else ""
    return [f"{UNEVEN}, from {narrowest:g} to {widest:g} mm{where}"]


def _places(depths: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_]) -> str:
    places = [f"{depth:.1f}" for depth in depths[:-1][chosen]]
    more = ", …" if len(places) > NUM_NAMED else ""
    return f"after {', '.join(places[:NUM_NAMED])}{more} mm along the normal"


def depths_of(slices: Sequence[Slice]) -> npt.NDArray[np.float64]:
    """Millimetres along the normal of the first slice."""
    planes = [one.plane for one in slices if one.plane]
    normal = planes[0].normal
    return np.array([float(normal @ plane.position) for plane in planes])


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


def has_two_spacings(slices: Sequence[Slice]) -> bool:
    """Whether the slices lie in blocks of two spacings, as of a head whose base was scanned more finely."""
    gaps = np.diff(depths_of(slices))
    low, high = float(gaps.min()), float(gaps.max())
    wide = np.abs(gaps - high) <= gap_tolerance(high)
    if low <= GAP_MILLIMETRES or not np.all(wide | (np.abs(gaps - low) <= gap_tolerance(low))):
        return False
    changes = int((wide[1:] != wide[:-1]).sum())
    return changes <= MOST_CHANGES and min(int(wide.sum()), int((~wide).sum())) >= FEWEST_GAPS
