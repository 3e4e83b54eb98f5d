"""Where the pixels of a DICOM image lie in the patient: positions, orientations, spacings, affines."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
# A tenth of a millimetre is taken for one when it is this near to it.
ROUNDED = 1e-6


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
        # Written out: NumPy's own takes longer than the rest of a slice's geometry.
        (x, y, z), (u, v, w) = self.along_columns.tolist(), self.along_rows.tolist()
        return np.array([y * w - z * v, z * u - x * w, x * v - y * u])

    @property
    def depth(self) -> float:
        """Signed distance of the slice from the origin along its normal."""
        return float(self.normal @ self.position)

    def affine(self, step: Vector | None = None) -> Vector:
        """The 4×4 matrix from (slice, row, column, 1) to patient millimetres (PS3.3 equation C.7.6.2.1-1).

        Args:
            step: from one slice to the next; by default ``thickness`` along the normal.
        """
        rows, columns = self.spacing
        axes = (
            (self.normal * self.thickness if step is None else step).tolist(),
            [cosine * rows for cosine in self.along_rows.tolist()],
            [cosine * columns for cosine in self.along_columns.tolist()],
            self.position.tolist(),
        )
        return np.array([*zip(*axes, strict=True), (0.0, 0.0, 0.0, 1.0)])


def read_plane(position: Header, orientation: Header, measures: Header) -> Plane | None:
    """The plane of a slice, each part from where it stands: the image itself or its functional groups."""
    origin = position.vector("ImagePositionPatient", 3)
    cosines = orientation.vector("ImageOrientationPatient", 6)
    spacing = pixel_spacing(measures)
    if origin is None or cosines is None or spacing is None:
        return None
    along_columns, along_rows = np.array(cosines[:3]), np.array(cosines[3:])
    norms = math.hypot(*cosines[:3]), math.hypot(*cosines[3:])
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
        values = header.vector(keyword, 2)
        if values is not None and min(values) > 0:
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


def offset_planes(header: Header, offsets: tuple[float, ...], num_frames: int) -> list[Plane] | None:
    """Planes of a dose grid (PS3.3 C.8.8.3.2): offsets from the first frame if they begin with zero, else positions."""
    plane = read_plane(header, header, header)
    if plane is None or len(offsets) != num_frames:
        return None
    # The standard's second form: the offsets are positions.
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
    usual = float(np.median(np.diff(depths)))
    return usual > GAP_MILLIMETRES and grid_distance(depths) <= gap_tolerance(usual)


def grid_distance(depths: npt.NDArray[Any]) -> float:
    """How far, at most, sorted positions are from an even grid between them, fitted by least squares."""
    steps = np.arange(len(depths))
    return float(np.abs(depths - np.polyval(np.polyfit(steps, depths, 1), steps)).max())


def grid_tolerance(planes: Sequence[Plane], gap: float) -> float:
    """How far positions may be from an even grid; farther where the file has them with one decimal only."""
    tenths = np.array([plane.position for plane in planes]) * 10
    rounded = bool(np.abs(tenths - np.round(tenths)).max() < ROUNDED)
    # Each coordinate may be off by half a tenth, and the fitted grid by a little more.
    rounding = 0.06 * float(np.abs(planes[0].normal).sum()) if rounded else 0.0
    return max(gap_tolerance(gap), min(rounding, gap / 4))
