"""``phantom:ct-organs``: abdominal CT with outlined organs and a lesion of the liver, each patient at two visits.

Organs are analytic bodies in patient coordinates (LPS, mm). Both visits show the same body: breathing has moved its
organs, the patient lies otherwise on the table, and the lesion has grown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from scipy import ndimage

from hounsfield.images.dicom_segmentation_writer import write_segmentation
from hounsfield.images.image import Image, Metadata
from hounsfield.phantoms.anatomy import Array, single
from hounsfield.phantoms.patients import SITES, Bias, Patient, derive_uid, draw_patient
from hounsfield.phantoms.scanner import POSITIONS, SCANNERS, Frame, blend, ellipsoid, write_series

NAME = "phantom:ct-organs"
SHAPE = (44, 64, 64)
SPACING = (5.0, 5.0, 5.0)  # mm: slices, rows, columns
LABELS = ("liver", "spleen", "left kidney", "right kidney", "lesion")
ATTRIBUTES = {"sex": ("F", "M"), "site": tuple(SITES), "scanner": tuple(SCANNERS), "position": tuple(POSITIONS)}
# Hounsfield units in the portal venous phase.
AIR, FAT, MUSCLE, BONE, VESSEL, BOWEL = -1000.0, -100.0, 60.0, 550.0, 150.0, 30.0
LIVER, SPLEEN, KIDNEY, LESION = 110.0, 125.0, 180.0, 50.0
PREVALENCE = 0.8
TALL = 1e4  # mm: longer than the field of view
Centre = tuple[float, float, float]


@dataclass(frozen=True)
class Abdomen:
    """One patient's body, the same at both visits; mm.

    Attributes:
        scale: of everything.
        width: half of the body's.
        depth: half of it from front to back.
        fat: under the skin.
        liver: half axes of its right lobe.
        left_lobe: half axes.
        spleen: half axes.
        kidneys: half axes, left and right.
        shifts: of each organ from its usual place.
        gas: middles and radii of gas in the bowel.
        lesion: its middle from that of the right lobe, as a part of its half axes.
        lesion_half: half axes at the first visit; 0 where there is none.
        growth: by which its volume has grown at the second visit.
    """

    scale: float
    width: float
    depth: float
    fat: float
    liver: Centre
    left_lobe: Centre
    spleen: Centre
    kidneys: tuple[Centre, Centre]
    shifts: Array
    gas: Array
    lesion: Centre
    lesion_half: Centre
    growth: float


def draw_abdomen(patient: Patient, rng: np.random.Generator) -> Abdomen:
    """Draw a body; who is ``diseased`` has a lesion, whose volume grows by 20 % to 200 %."""
    female = patient.sex == "F"
    direction = rng.normal(0, 1, 3)
    place = direction / np.linalg.norm(direction) * rng.uniform(0.1, 1.0) ** (1 / 3) * 0.55
    half = rng.uniform(9, 17) * rng.uniform(0.85, 1.15, 3) * patient.diseased
    kidney = np.array([25.0, 25.0, 52.0])
    return Abdomen(
        scale=float((0.93 if female else 1.0) * rng.normal(1.0, 0.04)),
        width=float(rng.uniform(136, 150)),
        depth=float(rng.uniform(100, 116)),
        fat=float(rng.uniform(8, 22)),
        liver=_triple(np.array([62.0, 66, 68]) * rng.uniform(0.9, 1.1, 3)),
        left_lobe=_triple(np.array([62.0, 34, 36]) * rng.uniform(0.85, 1.15, 3)),
        spleen=_triple(np.array([24.0, 40, 48]) * rng.uniform(0.8, 1.25, 3)),
        kidneys=(_triple(kidney * rng.uniform(0.9, 1.1, 3)), _triple(kidney * rng.uniform(0.9, 1.1, 3))),
        shifts=rng.normal(0, 3.0, (5, 3)),
        gas=np.column_stack(
            [rng.uniform(-70, 90, 7), rng.uniform(-75, -20, 7), rng.uniform(-105, -45, 7), rng.uniform(6, 15, 7)]
        ),
        lesion=_triple(place),
        lesion_half=_triple(half),
        growth=float(rng.uniform(1.2, 3.0)),
    )


def _triple(values: Array) -> Centre:
    return float(values[0]), float(values[1]), float(values[2])


def write_patient(folder: Path, index: int, *, seed: int, bias: Bias) -> list[dict[str, object]]:
    """Write both visits of one patient below ``folder`` and return their rows of the table.

    Args:
        folder: where ``images/`` is.
        index: number of the patient.
        seed: of the cohort.
        bias: what is planted; in a weak group lesions differ less from the liver.
    """
    patient, rng = draw_patient(NAME, seed, index, prevalence=PREVALENCE)
    body = draw_abdomen(patient, rng)
    first = date(2021, 1 + index % 12, 1 + index % 28)
    rows = []
    for visit, (draws, day) in enumerate(zip(rng.spawn(2), (first, first + timedelta(days=91)), strict=True), start=1):
        row: dict[str, object] = {
            "image": f"images/{patient.identifier}-{visit}",
            "mask": f"masks/{patient.identifier}-{visit}.dcm",
            "patient": patient.identifier,
            "visit": visit,
            "date": day.isoformat(),
            "series": derive_uid(NAME, seed, index, visit, "series"),
            "sex": patient.sex,
            "age": patient.age,
            "site": patient.site,
            "scanner": str(draws.choice(list(SCANNERS))),
            "position": str(draws.choice(list(POSITIONS), p=[0.6, 0.25, 0.15])),
        }
        tilt = float(draws.uniform(-0.12, 0.12)) if draws.random() < 0.3 else 0.0
        frame = Frame.of(str(row["position"]), tilt, SHAPE, SPACING)
        volume, mask = render(frame, body, visit, str(row["scanner"]), bias.strength(row), draws)
        row["lesion_ml"] = round(float((mask == LABELS.index("lesion") + 1).sum() * np.prod(SPACING) / 1000), 3)
        _write(folder, row, volume, mask, patient, frame, draws)
        rows.append(row)
    return rows


def render(
    frame: Frame, body: Abdomen, visit: int, scanner: str, strength: float, rng: np.random.Generator
) -> tuple[Array, np.ndarray]:
    """Simulate one visit.

    Args:
        frame: the grid.
        body: of the patient.
        visit: 1 or 2; the lesion has grown at the second.
        scanner: of ``SCANNERS``.
        strength: how much the lesion differs from the liver, 1 at most.
        rng: draws breath and noise.

    Returns:
        HU on the grid of ``frame``, and the label map of ``LABELS`` on it: a voxel is of what takes half of it or more.
    """
    x, y, z = (axis / np.float32(body.scale) for axis in frame.coordinates())
    breath = float(rng.normal(0, 5.0))
    shares = _organs(x, y, z - np.float32(breath), body, visit)
    volume = np.full(frame.shape, AIR, np.float32)
    for shrink, density in ((0.0, FAT), (body.fat, MUSCLE), (body.fat + 14, FAT)):
        blend(volume, _body(x, y, z, (0, 0, 0), (body.width - shrink, body.depth - shrink, TALL)), density)
    blend(volume, _body(x, y, z, (0, 74, 0), (21, 19, TALL)), BONE)
    blend(volume, _body(x, y, z, (10, 44, 0), (10, 10, TALL)), VESSEL)
    blend(volume, _body(x, y, z, (10, -35, -75), (85, 45, 40)), BOWEL)
    for *middle, radius in body.gas:
        blend(volume, _body(x, y, z, _triple(np.array(middle)), (radius, radius, radius)), AIR)
    values = (LIVER, SPLEEN, KIDNEY, KIDNEY, LIVER + (LESION - LIVER) * strength)
    mask = np.zeros(frame.shape, np.uint8)
    for number, (share, value) in enumerate(zip(shares, values, strict=True), start=1):
        blend(volume, share, value)
        mask[share >= 0.5] = number
    _, _, blur, noise = SCANNERS[scanner]
    grain = ndimage.gaussian_filter(rng.standard_normal(frame.shape, dtype=np.float32), (0, blur, blur))
    smooth = ndimage.gaussian_filter(volume, (0, blur, blur))
    return single(smooth + grain * np.float32(noise * rng.uniform(0.8, 1.2) / grain.std())), mask


def _body(x: Array, y: Array, z: Array, centre: Centre, half: Centre) -> Array:
    return ellipsoid(x, y, z, centre, half, SPACING[1])


def _organs(x: Array, y: Array, z: Array, body: Abdomen, visit: int) -> list[Array]:
    """The share of each voxel that each of ``LABELS`` takes; no two take more than all of it."""
    usual = np.array([(-66.0, -8, 34), (-4.0, -46, 44), (92.0, 34, 44), (58.0, 52, -28), (-58.0, 54, -40)])
    right, left, spleen_at, left_at, right_at = (_triple(place) for place in usual + body.shifts)
    left_kidney = _body(x, y, z, left_at, body.kidneys[0])
    right_kidney = _body(x, y, z, right_at, body.kidneys[1])
    kidneys = np.maximum(left_kidney, right_kidney)
    liver = np.maximum(_body(x, y, z, right, body.liver), _body(x, y, z, left, body.left_lobe)) * (1 - kidneys)
    spleen = _body(x, y, z, spleen_at, body.spleen) * (1 - kidneys) * (1 - liver)
    lesion = np.zeros_like(liver)
    if body.lesion_half[0]:
        middle = np.array(right) + np.array(body.lesion) * np.array(body.liver)
        grown = body.growth ** (1 / 3) if visit == 2 else 1.0
        lesion = _body(x, y, z, _triple(middle), _triple(np.array(body.lesion_half) * grown)) * liver
    return [liver, spleen, left_kidney, right_kidney, single(lesion)]


def _write(
    folder: Path,
    row: dict[str, object],
    volume: Array,
    mask: np.ndarray,
    patient: Patient,
    frame: Frame,
    rng: np.random.Generator,
) -> None:
    """Write the series, and the segmentation of what is marked in it."""
    day = str(row["date"]).replace("-", "")
    windows = ((60.0, 400.0),)
    files = write_series(
        folder / str(row["image"]), volume, patient, frame, row, rng, body_part="ABDOMEN", windows=windows, date=day
    )
    affine = np.eye(4)
    for axis, direction in enumerate((frame.normal, frame.column, frame.row)):
        affine[:3, axis] = direction * frame.spacing[axis]
    affine[:3, 3] = frame.origin
    present = tuple((value, label) for value, label in enumerate(LABELS, start=1) if (mask == value).any())
    path = folder / str(row["mask"])
    path.parent.mkdir(exist_ok=True)
    series = derive_uid(row["series"], "segmentation")
    write_segmentation(
        Image(mask[..., np.newaxis], frame.spacing, affine, "SEG", Metadata(labels=present)),
        path,
        files,
        elements={
            "SeriesInstanceUID": series,
            "SOPInstanceUID": derive_uid(series, "instance"),
            "ContentDate": day,
            "ContentTime": "120000",
            "SeriesDate": day,
            "SeriesTime": "120000",
        },
    )
