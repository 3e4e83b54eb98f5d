"""What the values of a DICOM image are measured in: standardised uptake of PET, real-world value maps, and the rest.

Standardised uptake values by body weight (SUVbw) follow the vendor-neutral pseudo-code of the Quantitative Imaging
Biomarkers Alliance (QIBA, "SUV computation", 2012): SUV = activity concentration × weight / decayed dose.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.images.dicom_frames import functional_group
from hounsfield.images.dicom_header import Header

Array = npt.NDArray[Any]
Windows = tuple[tuple[float, float], ...]

logger = logging.getLogger(__name__)

SUV = "g/ml"
ACTIVITY = "Bq/ml"
# Units (0054,1001) of PET -> ours, where nothing has to be computed.
PET_UNITS = {
    "BQML": ACTIVITY,
    "GML": SUV,
    "CNTS": "counts",
    "CPS": "counts/s",
    "PROPCPS": "counts/s",
    "CM2ML": "cm²/ml",
}
RESCALE_UNITS = frozenset({"HU", "US", "OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"})
# A dose is given at most this long before its image; beyond, one of the two dates is wrong.
LONGEST_UPTAKE = timedelta(hours=24)


@dataclass(frozen=True)
class Scale:
    """The factor and the summand that values still need, and the unit that they then have."""

    slope: float = 1.0
    intercept: float = 0.0
    units: str | None = None

    def applied(self, values: Array) -> Array:
        """Values in the unit; float32 unless nothing changes."""
        if (self.slope, self.intercept) == (1.0, 0.0):
            return values
        return np.asarray(values * np.float64(self.slope) + self.intercept, dtype=np.float32)

    def joined(self, rescale: tuple[float, float] | None) -> tuple[float, float] | None:
        """One slope and intercept for those of the file and these after them; ``None`` where nothing changes."""
        if (self.slope, self.intercept) == (1.0, 0.0):
            return rescale
        slope, intercept = rescale or (1.0, 0.0)
        return slope * self.slope, intercept * self.slope + self.intercept

    def applied_to_windows(self, windows: Windows) -> Windows:
        """Windows in the unit; those that become too narrow for DICOM's definition are left out."""
        scaled = ((center * self.slope + self.intercept, width * self.slope) for center, width in windows)
        return tuple((center, width) for center, width in scaled if width >= 1)


def value_scale(header: Header, path: Path, frames: Sequence[int]) -> Scale:
    """What the rescaled values of a grey image become, by its modality and what its header states.

    Args:
        header: of the image.
        path: of the file.
        frames: those that are read.
    """
    modality = header.text("Modality")
    if modality == "PT":
        return _of_pet(header, path)
    if modality == "RTDOSE":
        units = (header.text("DoseUnits") or "").upper()
        return Scale(units="Gy" if units == "GY" else None)
    mapped = _of_real_world(header, path, frames)
    if mapped is not None:
        return mapped
    place = _groups(header, frames[:1], "PixelValueTransformationSequence")[0] or header
    rescaled = (place.text("RescaleType") or "").upper()
    if rescaled in RESCALE_UNITS and rescaled != "US":
        return Scale(units=rescaled)
    is_ct = modality == "CT" and not rescaled and place.decimal("RescaleSlope") is not None
    return Scale(units="HU" if is_ct else None)


def _of_pet(header: Header, path: Path) -> Scale:
    units = (header.text("Units") or "").upper()
    if units == "BQML":
        factor = _suv_factor(header)
        if factor is not None:
            return Scale(slope=factor, units=SUV)
        _warn_once("states too little for standardised uptake values (SUV), so its values are in Bq/ml", path.parent)
    if units == "CNTS" and (header.text("Manufacturer") or "").upper().startswith("PHILIPS"):
        factor = header.decimal("PhilipsSUVFactor")
        if factor:
            return Scale(slope=factor, units=SUV)
        activity = header.decimal("PhilipsActivityFactor")
        suv = _suv_factor(header) if activity else None
        if activity:
            return Scale(slope=activity * (suv or 1.0), units=SUV if suv else ACTIVITY)
    return Scale(units=PET_UNITS.get(units))


def _suv_factor(header: Header) -> float | None:
    """What turns Bq/ml into g/ml: the weight in grams by the dose that was left when decay correction begins."""
    dose = header.item("RadiopharmaceuticalInformationSequence")
    weight, decay = header.decimal("PatientWeight"), (header.text("DecayCorrection") or "").upper()
    if dose is None or not weight or weight <= 0 or decay not in {"START", "ADMIN"}:
        return None
    total, half_life = dose.decimal("RadionuclideTotalDose"), dose.decimal("RadionuclideHalfLife")
    if not total or total <= 0 or not half_life or half_life <= 0:
        return None
    if decay == "ADMIN":
        return weight * 1000 / total
    start, given = _scan_start(header), _administration(header, dose)
    if start is None or given is None or not timedelta(0) <= start - given <= LONGEST_UPTAKE:
        return None
    elapsed = (start - given).total_seconds()
    return weight * 1000 / (total * math.pow(2, -elapsed / half_life))


def _scan_start(header: Header) -> datetime | None:
    """When decay correction starts: the series' own time, unless images of the series are older (QIBA)."""
    series = _moment(header.text("SeriesDate"), header.text("SeriesTime"))
    acquired = _moment(header.text("AcquisitionDate"), header.text("AcquisitionTime"))
    if series is None or acquired is None or series > acquired:
        # A series that was made later than its images has another time; theirs differs from bed to bed.
        return None
    return series


def _administration(header: Header, dose: Header) -> datetime | None:
    stamp = dose.text("RadiopharmaceuticalStartDateTime")
    if stamp and len(stamp) >= 14:
        return _moment(stamp[:8], stamp[8:].split("+")[0].split("-")[0])
    return _moment(header.text("SeriesDate"), dose.text("RadiopharmaceuticalStartTime"))


def _moment(day: str | None, time: str | None) -> datetime | None:
    """A DA and a TM value as one; ``None`` where one is missing or malformed."""
    if not day or not time or len(time) < 6:
        return None
    try:
        moment = datetime.strptime(day.strip() + time.strip()[:6], "%Y%m%d%H%M%S")
        return moment + timedelta(seconds=float(f"0{time.strip()[6:]}") if time.strip()[6:] else 0.0)
    except ValueError:
        return None


def _of_real_world(header: Header, path: Path, frames: Sequence[int]) -> Scale | None:
    """The one linear real-world value map, applied where nothing else rescales the values; else it is named."""
    groups = _groups(header, frames, "RealWorldValueMappingSequence")
    maps = [group for group in groups if group] or header.items("RealWorldValueMappingSequence")
    if not maps:
        return None
    scales = {_scale_of(one) for one in maps}
    is_rescaled = (header.decimal("RescaleSlope") or 1.0, header.decimal("RescaleIntercept") or 0.0) != (1.0, 0.0)
    is_rescaled = is_rescaled or any(_groups(header, frames, "PixelValueTransformationSequence"))
    if len(scales) > 1 or None in scales or is_rescaled or "ModalityLUTSequence" in header:
        _warn_once("has a real-world value map, which was not applied beside its other rescaling", path.parent)
        return None
    return scales.pop()


def _scale_of(mapping: Header) -> Scale | None:
    slope, intercept = mapping.decimal("RealWorldValueSlope"), mapping.decimal("RealWorldValueIntercept")
    unit = mapping.item("MeasurementUnitsCodeSequence")
    return Scale(slope, intercept or 0.0, UCUM.get((unit.text("CodeValue") if unit else None) or "")) if slope else None


def _groups(header: Header, frames: Sequence[int], keyword: str) -> list[Header | None]:
    """A functional group of each frame, its own or the shared one."""
    own = header.items("PerFrameFunctionalGroupsSequence")
    shared = header.item("SharedFunctionalGroupsSequence")
    return [functional_group(own[index] if index < len(own) else None, shared, keyword) for index in frames]


@cache
def _warn_once(message: str, folder: Path) -> None:
    """A warning about every file of a series, which is given for the first."""
    logger.warning("an image in %s %s", folder, message)


# Units of the Unified Code for Units of Measure (UCUM) that maps are seen with, as they are written here.
UCUM = {
    "[hnsf'U]": "HU",
    "{SUVbw}g/ml": SUV,
    "Bq/ml": ACTIVITY,
    "mm2/s": "mm²/s",
    "um2/s": "µm²/s",
    "10-6.mm2/s": "10⁻⁶ mm²/s",
    "/min": "1/min",
    "ms": "ms",
    "%": "%",
    "1": "1",
}
