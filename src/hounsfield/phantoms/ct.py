"""``phantom:ct-nodule``: chest CT volumes in Hounsfield units, with and without a nodule, as DICOM series.

Volumes are composed on the scanner's own grid (slices along the table, rows, columns) from analytic bodies in patient
coordinates (LPS, mm), so that feet-first, prone and tilted acquisitions show the same patient seen another way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hounsfield.phantoms.anatomy import Array, single
from hounsfield.phantoms.patients import SITES, Bias, Patient, derive_uid, draw_patient
from hounsfield.phantoms.scanner import POSITIONS, SCANNERS, Frame, blend, ellipsoid, write_series

NAME = "phantom:ct-nodule"
SHAPE = (48, 64, 64)
SPACING = (6.0, 5.4, 5.4)  # mm: slices, rows, columns
AIR, LUNG, FAT, SOFT, BONE, VESSEL = -1000.0, -850.0, -100.0, 40.0, 700.0, 50.0
ATTRIBUTES = {"sex": ("F", "M"), "site": tuple(SITES), "scanner": tuple(SCANNERS), "position": tuple(POSITIONS)}


def frame_of(position: str, tilt: float) -> Frame:
    """The grid of this phantom's series; see ``Frame.of``."""
    return Frame.of(position, tilt, SHAPE, SPACING)


@dataclass(frozen=True)
class Nodule:
    """A soft ellipsoid in a lung; mm in patient coordinates."""

    centre: tuple[float, float, float]  # x, y, z
    half: tuple[float, float, float]
    density: float  # HU


def write_patient(folder: Path, index: int, *, seed: int, bias: Bias) -> list[dict[str, object]]:
    """Write the series of one patient below ``folder`` and return its row of the table.

    Args:
        folder: where ``images/`` is.
        index: number of the patient.
        seed: of the cohort.
        bias: what is planted; in a weak group nodules differ less from lung.
    """
    patient, rng = draw_patient(NAME, seed, index, prevalence=0.5)
    scanner = str(rng.choice(list(SCANNERS)))
    position = str(rng.choice(list(POSITIONS), p=[0.6, 0.25, 0.15]))
    frame = frame_of(position, float(rng.uniform(-0.15, 0.15)) if rng.random() < 0.3 else 0.0)
    series = derive_uid(NAME, seed, index, "series")
    row: dict[str, object] = {
        "image": f"images/{patient.identifier}",
        "label": "nodule" if patient.diseased else "no nodule",
        "patient": patient.identifier,
        "series": series,
        "sex": patient.sex,
        "age": patient.age,
        "site": patient.site,
        "scanner": scanner,
        "position": position,
    }
    strength = bias.strength(row) if patient.diseased else 0.0
    volume, box = render(frame, patient, scanner, strength, rng)
    row |= dict(zip(("z0", "y0", "x0", "z1", "y1", "x1"), box or (None,) * 6, strict=True))
    write_series(folder / str(row["image"]), volume, patient, frame, row, rng)
    return [row]


def render(
    frame: Frame, patient: Patient, scanner: str, strength: float, rng: np.random.Generator
) -> tuple[Array, tuple[int, ...] | None]:
    """Simulate one volume.

    Returns:
        HU on the grid of ``frame``, and the nodule's box (z0, y0, x0, z1, y1, x1), half-open, where ``strength`` is
        not 0.
    """
    x, y, z = frame.coordinates()
    scale = (0.93 if patient.sex == "F" else 1.0) * rng.normal(1.0, 0.04)
    volume, lung = _trunk(x / scale, y / scale, z / scale, rng)
    radius = _vessel_field(frame, scale, rng)
    blend(volume, np.clip(radius, 0, 1) * lung, VESSEL)
    nodule = _draw_nodule(rng, scale)
    inside = _ellipsoid(x, y, z, nodule.centre, nodule.half)
    density = LUNG + (nodule.density - LUNG) * strength
    box = None
    if strength:
        blend(volume, inside, density)
        box = _box(inside)
    _, _, blur, noise = SCANNERS[scanner]
    grain = ndimage.gaussian_filter(rng.standard_normal(SHAPE, dtype=np.float32), (0, blur, blur))
    smooth = ndimage.gaussian_filter(volume, (0, blur, blur))
    return single(smooth + grain * np.float32(noise * rng.uniform(0.8, 1.3) / grain.std())), box


def _ellipsoid(x: Array, y: Array, z: Array, centre: tuple[float, ...], half: tuple[float, ...]) -> Array:
    return ellipsoid(x, y, z, centre, half, SPACING[1])


def _trunk(x: Array, y: Array, z: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Body with fat, muscle, lungs, heart, spine, ribs and liver; and the share of each voxel that is lung."""
    width, depth, fat = rng.uniform(150, 162), rng.uniform(104, 116), rng.uniform(8, 22)
    breath, broad = rng.uniform(-14, 10), rng.uniform(0.92, 1.06)  # how high the diaphragm stands; build of the lungs
    tall = 1e4  # a body longer than the field of view
    volume = np.full(SHAPE, AIR, np.float32)
    blend(volume, _ellipsoid(x, y, z, (0, 0, 0), (width, depth, tall)), FAT)
    blend(volume, _ellipsoid(x, y, z, (0, 0, 0), (width - fat, depth - fat, tall)), SOFT)
    lung = np.zeros(SHAPE, np.float32)
    for side in (-1, 1):
        lung = np.maximum(lung, _ellipsoid(x, y, z, (side * 68, 0, -10), (52 * broad, 78 * broad, 128)))
    lung *= 1 - _ellipsoid(x, y, z, (-62, 0, -150 + breath), (80, 100, 78))
    lung *= 1 - _ellipsoid(x, y, z, (62, 0, -160 + breath), (74, 96, 74))
    lung *= 1 - _ellipsoid(x, y, z, (24, -28, -48), (rng.uniform(46, 56), 46, 58))
    ribs = _ribs(x, y, z, width - fat, depth - fat)
    blend(volume, lung, LUNG)
    blend(volume, ribs * (1 - lung), BONE)
    spine = _ellipsoid(x, y, z, (0, 66, 0), (20, 18, tall))
    blend(volume, spine * single(0.72 + 0.28 * np.cos(2 * np.pi * z / 26)), 0.6 * BONE)
    blend(volume, _ellipsoid(x, y, z, (0, 26, 85), (9, 9, 70)), AIR)
    return volume, lung


def _ribs(x: Array, y: Array, z: Array, width: float, depth: float) -> Array:
    """Share of rib: rings in the chest wall that slope down to the front."""
    shell = np.sqrt((x / np.float32(width)) ** 2 + (y / np.float32(depth)) ** 2)
    sloping = np.mod(z + 0.35 * y, 30.0) - 15.0
    tube = np.sqrt(((shell - 0.93) * np.float32(depth)) ** 2 + sloping**2)
    return single(np.clip((8.0 - tube) / SPACING[1] + 0.5, 0, 1))


def _vessel_field(frame: Frame, scale: float, rng: np.random.Generator) -> Array:
    """Share of each voxel that is vessel: branching tubes from both hila, drawn with their cross-section's area."""
    share = np.zeros(SHAPE)
    axes = np.stack([frame.normal, frame.column, frame.row])
    for side in (-1.0, 1.0):
        points, radii, pace = _vessel_tree(side, scale, rng)
        index = np.rint((points - frame.origin) @ axes.T / np.array(SPACING)).astype(np.intp)
        fits = ((index >= 0) & (index < np.array(SHAPE))).all(axis=1)
        flat = np.ravel_multi_index(tuple(index[fits].T), SHAPE)
        volume = np.pi * radii[fits] ** 2 * pace[fits] / np.prod(SPACING)
        share += np.bincount(flat, weights=volume, minlength=share.size).reshape(SHAPE)
    return single(share)


def _vessel_tree(
    side: float, scale: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Points (x, y, z) along the vessels of one lung, their radii, and the length that each stands for; mm."""
    count, steps = 7, 16
    start = np.array([side * 28.0, 5.0, 0.0]) * scale + rng.normal(0, 3, (count, 3))
    heading = rng.normal(0, 0.9, (count, 3)) + np.array([side * 0.9, 0.0, 0.0])
    radius, length = rng.uniform(2.6, 3.6, count), rng.uniform(22, 34, count)
    parts = []
    along = np.linspace(1 / steps, 1, steps)[None, :, None]
    for _ in range(4):
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        path = start[:, None] + along * (heading * length[:, None])[:, None]
        parts.append((path.reshape(-1, 3), np.repeat(radius, steps), np.repeat(length / steps, steps)))
        start = np.repeat(path[:, -1], 2, axis=0)
        heading = np.repeat(heading, 2, axis=0) + rng.normal(0, 0.45, (len(start), 3))
        radius, length = np.repeat(radius, 2) * 0.74, np.repeat(length, 2) * rng.uniform(0.75, 1.0, len(start))
    points, radii, pace = (np.concatenate(part) for part in zip(*parts, strict=True))
    return points, radii, pace


def _draw_nodule(rng: np.random.Generator, scale: float) -> Nodule:
    """Somewhere in the middle of a lung, 22 to 38 mm wide, a fifth less or more along each axis."""
    direction = rng.normal(0, 1, 3)
    place = direction / np.linalg.norm(direction) * rng.uniform(0.2, 1.0) ** (1 / 3)
    side = rng.choice([-1.0, 1.0])
    centre = np.array([side * (74 + 22 * side * place[0]), 8 + 44 * place[1], 8 + 62 * place[2]]) * scale
    half = rng.uniform(11, 19) * rng.uniform(0.85, 1.2, 3)
    return Nodule(_triple(centre), _triple(half), float(rng.uniform(-40, 60)))


def _triple(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _box(inside: Array) -> tuple[int, ...]:
    """(z0, y0, x0, z1, y1, x1), half-open, around the voxels that are at least half nodule."""
    found = np.argwhere(inside >= 0.5 * inside.max())
    return (*(int(value) for value in found.min(axis=0)), *(int(value) + 1 for value in found.max(axis=0)))
