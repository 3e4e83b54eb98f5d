"""Where the pixels of a DICOM image lie in the patient: positions, orientations, spacings, affines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.images.dicom_header import Header

Vector = npt.NDArray[np.float64]

# Direction cosines may be written with few digits; beyond this they are no orthonormal pair.
ORTHONORMAL_TOLERANCE = 1e-2
# Two planes are parallel when their cosines and their relative spacings differ by less.
PARALLEL_TOLERANCE = 1e-3
# PS3.3 C.8.5.5.1.15 and C.8.5.5.1.17: 3 means centimetres.
CENTIMETRES = 3
# Distances between slices may differ by this share of the usual one, or this many millimetres, through rounding.
GAP_SHARE = 0.02
GAP_MILLIMETRES = 0.01


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice in patient space (DICOM PS3.3 C.7.6.2): all in millimetres, x to the left, y to the back, z up.

    Attributes:
        position: centre of the first pixel.
        along_columns: unit vector of growing column index (the first three cosines of the orientation).
        along_rows: unit vector of growing row index.
        spacing: distance between (rows, columns).
        thickness: distance to the next slice as the file declares it, or the slice's thickness, or 1.
    """

    position: Vector
    along_columns: Vector
    along_rows: Vector
    spacing: tuple[float, float]
    thickness: float

    @property
    def normal(self) -> Vector:
        """Unit vector along which slices are sorted: the cross product of the row and column directions."""
        return np.asarray(np.cross(self.along_columns, self.along_rows))

    @property
    def depth(self) -> float:
        """Signed distance of the slice from the origin along its normal."""
        return float(self.normal @ self.position)

    def affine(self, step: Vector | None = None) -> Vector:
        """The 4×4 matrix from (slice, row, column, 1) to patient millimetres (PS3.3 equation C.7.6.2.1-1).

        Args:
            step: from one slice to the next; by default ``thickness`` along the normal.
        """
        matrix = np.eye(4)
        matrix[:3, 0] = self.normal * self.thickness if step is None else step
        matrix[:3, 1] = self.along_rows * self.spacing[0]
        matrix[:3, 2] = self.along_columns * self.spacing[1]
        matrix[:3, 3] = self.position
        return matrix


def read_plane(position: Header, orientation: Header, measures: Header) -> Plane | None:
    """The plane of a slice, each part from where it stands: the image itself or its functional groups."""
    origin = position.decimals("ImagePositionPatient")
    cosines = orientation.decimals("ImageOrientationPatient")
    spacing = pixel_spacing(measures)
    if len(origin) != 3 or len(cosines) != 6 or spacing is None:
        return None
    along_columns, along_rows = np.array(cosines[:3]), np.array(cosines[3:])
    norms = np.linalg.norm(along_columns), np.linalg.norm(along_rows)
    if max(abs(norms[0] - 1), abs(norms[1] - 1), abs(along_columns @ along_rows)) > ORTHONORMAL_TOLERANCE:
        return None
    thickness = measures.decimal("SpacingBetweenSlices") or measures.decimal("SliceThickness")
    return Plane(
        position=np.array(origin),
        along_columns=along_columns,
        along_rows=along_rows,
        spacing=spacing,
        thickness=abs(thickness) if thickness else 1.0,
    )


def pixel_spacing(header: Header) -> tuple[float, float] | None:
    """Millimetres between (rows, columns); at the detector where the patient's plane is not known."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        values = header.decimals(keyword)
        if len(values) == 2 and min(values) > 0:
            return values[0], values[1]
    return _ultrasound_spacing(header)


def _ultrasound_spacing(header: Header) -> tuple[float, float] | None:
    regions = header.items("SequenceOfUltrasoundRegions")
    if len(regions) != 1:
        return None
    region = regions[0]
    units = region.integer("PhysicalUnitsXDirection"), region.integer("PhysicalUnitsYDirection")
    rows, columns = region.decimal("PhysicalDeltaY"), region.decimal("PhysicalDeltaX")
    if units != (CENTIMETRES, CENTIMETRES) or not rows or not columns:
        return None
    return abs(rows) * 10, abs(columns) * 10


def frame_planes(header: Header, num_frames: int) -> list[Plane] | None:
    """The plane of each frame of a multi-frame image, or ``None`` where the file does not tell them all."""
    offsets = header.decimals("GridFrameOffsetVector")
    if offsets:
        return _offset_planes(header, offsets, num_frames)
    frames = header.items("PerFrameFunctionalGroupsSequence")
    if len(frames) != num_frames:
        return None
    shared = header.item("SharedFunctionalGroupsSequence")
    planes = []
    for frame in frames:
        parts = [functional_group(frame, shared, keyword) for keyword in PLANE_GROUPS]
        plane = read_plane(*parts) if None not in parts else None  # type: ignore[arg-type]  # None is ruled out here
        if plane is None:
            return None
        planes.append(plane)
    return planes


PLANE_GROUPS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")


def functional_group(frame: Header | None, shared: Header | None, keyword: str) -> Header | None:
    """The first item of a functional group: the frame's own, else the one that all frames share."""
    own = frame.item(keyword) if frame else None
    return own or (shared.item(keyword) if shared else None)


def _offset_planes(header: Header, offsets: tuple[float, ...], num_frames: int) -> list[Plane] | None:
    """Planes of a dose grid (PS3.3 C.8.8.3.2): offsets from the first frame if they begin with zero, else positions."""
    plane = read_plane(header, header, header)
    if plane is None or len(offsets) != num_frames:
        return None
    start = 0.0 if offsets[0] == 0 else plane.depth
    return [
        Plane(
            plane.position + plane.normal * (offset - start),
            plane.along_columns,
            plane.along_rows,
            plane.spacing,
            plane.thickness,
        )
        for offset in offsets
    ]


def stack_order(planes: list[Plane]) -> npt.NDArray[np.intp]:
    """Indices that sort planes along the normal of the first one."""
    normal = planes[0].normal
    return np.argsort([float(normal @ plane.position) for plane in planes], kind="stable")


def are_parallel(first: Plane, other: Plane) -> bool:
    """Whether two planes have the same orientation and spacing, to within rounding."""
    turned = np.abs(first.along_columns - other.along_columns) + np.abs(first.along_rows - other.along_rows)
    wider = max(abs(first.spacing[axis] / other.spacing[axis] - 1) for axis in (0, 1))
    return bool(turned.max() < PARALLEL_TOLERANCE and wider < PARALLEL_TOLERANCE)


def gap_tolerance(gap: float) -> float:
    """How far, in millimetres, a distance between slices may be from the usual one."""
    return max(GAP_SHARE * gap, GAP_MILLIMETRES)


def is_even(depths: npt.NDArray[Any]) -> bool:
    """Whether sorted positions along the normal have one distance, which is not zero."""
    gaps = np.diff(depths)
    usual = float(np.median(gaps))
    return usual > GAP_MILLIMETRES and float(np.abs(gaps - usual).max()) <= gap_tolerance(usual)
