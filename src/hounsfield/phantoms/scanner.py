"""Bodies in patient coordinates on the grid of a scanner, and the CT series of what it saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from hounsfield.phantoms.anatomy import Array, single
from hounsfield.phantoms.dicom_writing import common_elements, set_pixels, write_file
from hounsfield.phantoms.patients import Patient, derive_uid

# Position of the patient -> direction cosines (LPS) of a row (rising column), and of a column (rising row).
POSITIONS = {"HFS": ((1, 0, 0), (0, 1, 0)), "FFS": ((-1, 0, 0), (0, 1, 0)), "HFP": ((-1, 0, 0), (0, -1, 0))}
SCANNERS = {"Volumex 64": ("Aldermoor Imaging", "B30f", 0.45, 18.0), "Spira 16": ("Veldt Medical", "LUNG", 0.25, 32.0)}
_INTERCEPT = -1024


@dataclass(frozen=True)
class Frame:
    """The grid of one series: where the middle of each voxel is in the patient."""

    row: npt.NDArray[np.float64]  # direction in which the column index rises
    column: npt.NDArray[np.float64]  # direction in which the row index rises
    normal: npt.NDArray[np.float64]  # direction from slice to slice
    origin: npt.NDArray[np.float64]  # middle of voxel (0, 0, 0), mm
    shape: tuple[int, int, int]  # slices, rows, columns
    spacing: tuple[float, float, float]  # mm

    @classmethod
    def of(cls, position: str, tilt: float, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Frame:
        """The patient's middle in the middle of the grid; ``tilt`` (radians) turns it about the left-right axis."""
        cosine, sine = np.cos(tilt), np.sin(tilt)
        turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
        row, column = (turn @ np.array(direction, float) for direction in POSITIONS[position])
        normal = np.cross(row, column)
        middle = [(size - 1) / 2 * step for size, step in zip(shape, spacing, strict=True)]
        origin = -(normal * middle[0] + column * middle[1] + row * middle[2])
        return cls(row, column, normal, origin, shape, spacing)

    def coordinates(self) -> tuple[Array, Array, Array]:
        """Patient coordinates (x to the left, y to the back, z to the head) of every voxel, each of ``shape``."""
        steps = [np.arange(size) * step for size, step in zip(self.shape, self.spacing, strict=True)]
        axes = (self.normal, self.column, self.row)
        points = [
            sum(
                np.reshape(step * axis[part], [-1 if i == j else 1 for j in range(3)])
                for i, (step, axis) in enumerate(zip(steps, axes, strict=True))
            )
            for part in range(3)
        ]
        x, y, z = (single(point + self.origin[part]) for part, point in enumerate(points))
        return x, y, z

    def slice_position(self, number: int) -> list[float]:
        """Image Position (Patient) of a slice."""
        return [round(float(value), 6) for value in self.origin + self.normal * self.spacing[0] * number]


def ellipsoid(x: Array, y: Array, z: Array, centre: tuple[float, ...], half: tuple[float, ...], pixel: float) -> Array:
    """Share of each voxel inside an ellipsoid: 1 within, 0 without, a ramp of a pixel (mm) between (partial volume)."""
    parts = [((axis - np.float32(c)) / np.float32(h)) ** 2 for axis, c, h in zip((x, y, z), centre, half, strict=True)]
    distance = (np.sqrt(parts[0] + parts[1] + parts[2]) - 1) * np.float32(min(half))
    return single(np.clip(0.5 - distance / np.float32(pixel), 0, 1))


def blend(volume: Array, share: Array, value: float) -> None:
    """Let a material take its share of each voxel."""
    volume += share * (np.float32(value) - volume)


def write_series(  # noqa: PLR0913 - a series is of a patient, a study, a scanner, a position and a grid
    folder: Path,
    volume: Array,
    patient: Patient,
    frame: Frame,
    row: dict[str, object],
    rng: np.random.Generator,
    *,
    body_part: str = "CHEST",
    windows: tuple[tuple[float, float], ...] = ((-600, 1500), (40, 400)),
    date: str | None = None,
) -> list[Path]:
    """Write one file a slice under names in no order, as an export does.

    Args:
        folder: made here.
        volume: HU, on the grid of ``frame``.
        patient: who it is of.
        frame: where the voxels are.
        row: its ``series`` (UID), ``scanner`` and ``position``.
        rng: draws the names of the files.
        body_part: BodyPartExamined.
        windows: (center, width) of display.
        date: of the study, YYYYMMDD; made of the patient's number where it is not given.

    Returns:
        The files, in the order of the slices.
    """
    folder.mkdir()
    names = rng.permutation(10_000)[: len(volume)]
    series = str(row["series"])
    shared = _series_dataset(patient, frame, str(row["scanner"]), str(row["position"]), series)
    shared.BodyPartExamined = body_part
    shared.WindowCenter, shared.WindowWidth = [[int(pair[part]) for pair in windows] for part in (0, 1)]
    if date is not None:
        shared.StudyDate = shared.SeriesDate = shared.AcquisitionDate = shared.ContentDate = date
    files = []
    for number, (name, plane) in enumerate(zip(names, volume, strict=True)):
        shared.SOPInstanceUID = derive_uid(series, number)
        shared.InstanceNumber = number + 1
        shared.ImagePositionPatient = frame.slice_position(number)
        shared.SliceLocation = round(number * frame.spacing[0], 3)
        stored = np.clip(np.rint(plane - _INTERCEPT), 0, 4095).astype(np.uint16)
        set_pixels(shared, stored, bits=12, photometric="MONOCHROME2")
        files.append(folder / f"IM{name:04d}.dcm")
        write_file(shared, files[-1])
    return files


def _series_dataset(patient: Patient, frame: Frame, scanner: str, position: str, series: str) -> Dataset:
    """What all slices of a series share: CT image (PS3.3, A.3)."""
    date = f"2021{1 + patient.index % 12:02d}{1 + patient.index % 28:02d}"
    dataset = common_elements(
        patient, modality="CT", study=derive_uid(series, "study"), series=series, instance=series, date=date
    )
    manufacturer, kernel, _, _ = SCANNERS[scanner]
    dataset.Manufacturer, dataset.ManufacturerModelName = manufacturer, scanner
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.AcquisitionNumber = 1
    dataset.KVP = 120
    dataset.ConvolutionKernel = kernel
    dataset.PatientPosition = position
    dataset.PositionReferenceIndicator = ""
    dataset.ImageOrientationPatient = [round(float(value), 8) + 0.0 for value in (*frame.row, *frame.column)]
    dataset.PixelSpacing = [frame.spacing[1], frame.spacing[2]]
    dataset.SliceThickness = dataset.SpacingBetweenSlices = frame.spacing[0]
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = _INTERCEPT, 1, "HU"
    return dataset
