"""Virus-like particles and debris as maps of projected thickness: what a beam passes through, in nanometres.

Each function fills a grid around the particle's middle. Kinds are told apart by form alone: faceted capsids, small
spheres, enveloped particles with spikes, rods.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

Array = npt.NDArray[np.float64]
GOLDEN = (1 + np.sqrt(5)) / 2
# A particle is where its thickness is more than this part of its greatest one.
OUTLINE = 0.12


@dataclass(frozen=True)
class Particle:
    """A thickness map and how far it reaches.

    Attributes:
        thickness: nm of matter along the beam, on a square grid with the particle's middle in the middle.
        reach: nm from the middle to what is farthest of it.
    """

    thickness: Array
    reach: float


def grid(reach: float, pixel: float, shift: tuple[float, float]) -> tuple[Array, Array]:
    """Coordinates (y, x) in nm of a square of pixels around a middle that lies ``shift`` pixels off a pixel's own."""
    half = int(np.ceil(reach / pixel)) + 2
    along = np.arange(-half, half + 1, dtype=np.float64)
    y, x = np.meshgrid((along - shift[0]) * pixel, (along - shift[1]) * pixel, indexing="ij")
    return y, x


def _faces() -> Array:
    """The 20 outward normals of an icosahedron's faces: the corners of a dodecahedron."""
    corners = [(a, b, c) for a in (-1.0, 1.0) for b in (-1.0, 1.0) for c in (-1.0, 1.0)]
    for a in (-1.0, 1.0):
        for b in (-1.0, 1.0):
            one, two = a / GOLDEN, b * GOLDEN
            corners += [(0, one, two), (one, two, 0), (two, 0, one)]
    return np.asarray(np.array(corners, np.float64) / np.sqrt(3))


FACES = _faces()


def _solid(y: Array, x: Array, normals: Array, radius: float) -> Array:
    """Thickness of the body that lies within ``radius`` of its middle along every normal (z, y, x)."""
    room = radius - normals[:, 1, None, None] * y - normals[:, 2, None, None] * x
    # A face along the beam is taken as one that is all but along it: beside it there is nothing.
    slope = np.where(np.abs(normals[:, 0]) < 1e-6, 1e-6, normals[:, 0])
    depth = room / slope[:, None, None]
    up = slope > 0
    return np.asarray(np.maximum(depth[up].min(axis=0) - depth[~up].max(axis=0), 0))


def icosahedral(y: Array, x: Array, radius: float, rng: np.random.Generator) -> Array:
    """A faceted capsid of 8 nm protein around its genome; one in seven is empty."""
    normals = _turned_faces(rng)
    return _capsid(y, x, radius, normals, 0.15 if rng.random() < 1 / 7 else rng.uniform(0.75, 0.95))


def full(y: Array, x: Array, radius: float, rng: np.random.Generator) -> Array:
    """A capsid with its genome."""
    return _capsid(y, x, radius, _turned_faces(rng), rng.uniform(0.75, 0.95))


def empty(y: Array, x: Array, radius: float, rng: np.random.Generator) -> Array:
    """A whole capsid with hardly anything in it."""
    return _capsid(y, x, radius, _turned_faces(rng), rng.uniform(0.02, 0.2))


def damaged(y: Array, x: Array, radius: float, rng: np.random.Generator) -> Array:
    """A capsid, full or empty, of which a part has broken off."""
    turn = rng.uniform(0, 2 * np.pi)
    kept = np.cos(turn) * x + np.sin(turn) * y > radius * rng.uniform(-0.35, 0.2)
    whole = full if rng.random() < 0.5 else empty
    return np.asarray(whole(y, x, radius, rng) * kept)


def aggregate(y: Array, x: Array, radius: float, rng: np.random.Generator) -> Array:
    """Four to seven capsids that stick together, each touching one before it; ``radius`` is that of their heap."""
    size, thickness = radius * 0.45, np.zeros_like(y)
    middles = [np.zeros(2)]
    for _ in range(int(rng.integers(3, 7))):
        turn = rng.uniform(0, 2 * np.pi)
        beside = middles[int(rng.integers(len(middles)))] + 1.25 * size * np.array([np.sin(turn), np.cos(turn)])
        # The heap stays within its radius.
        middles.append(beside * min(1.0, (radius - size) / max(float(np.hypot(*beside)), 1e-9)))
    for middle in middles:
        whole = full if rng.random() < 0.5 else empty
        thickness = np.maximum(thickness, whole(y - middle[0], x - middle[1], size, rng))
    return thickness


def _turned_faces(rng: np.random.Generator) -> Array:
    return np.asarray(Rotation.random(rng=rng).apply(FACES))


def _capsid(y: Array, x: Array, radius: float, normals: Array, core: float) -> Array:
    """A shell of 8 nm protein; ``core`` is how much of the room within is filled."""
    inside = radius * 0.795  # of the faces, which lie nearer than the corners
    return _solid(y, x, normals, inside) - (1 - core) * _solid(y, x, normals, inside - 8)


def spherical(y: Array, x: Array, radius: float, rng: np.random.Generator) -> Array:
    """A small round capsid of 3.5 nm protein; two in five are empty."""
    core = rng.uniform(0.05, 0.2) if rng.random() < 0.4 else rng.uniform(0.7, 0.95)
    return _ball(y, x, radius) - (1 - core) * _ball(y, x, radius - 3.5)


def _ball(y: Array, x: Array, radius: float) -> Array:
    return np.asarray(2 * np.sqrt(np.maximum(radius**2 - y**2 - x**2, 0)))


def enveloped(y: Array, x: Array, radius: float, rng: np.random.Generator) -> Array:
    """A flattened membrane bag of changing outline, with a core and a fringe of spikes 9 nm long."""
    angle, distance = np.arctan2(y, x), np.hypot(y, x)
    outline = np.full_like(angle, radius - 10)
    for order in (2, 3, 4):
        outline *= 1 + rng.normal(0, 0.12 / order**2) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    bag = _dome(distance, outline)
    wall = np.clip((3.5 - np.abs(distance - outline + 3)) / 1.5 + 0.5, 0, 1)
    core = _dome(np.hypot(y - rng.normal(0, 4), x - rng.normal(0, 4)), outline * rng.uniform(0.45, 0.65))
    number = round(2 * np.pi * radius / 13)
    teeth = np.clip(1.5 * np.cos(number * angle + rng.uniform(0, 2 * np.pi)) + 0.4, 0, 1)
    fringe = np.clip(distance - outline + 0.5, 0, 1) * np.clip(outline + 9.5 - distance, 0, 1)
    return np.asarray(0.45 * bag + 14 * wall + 0.35 * core + 24 * teeth * fringe)


def _dome(distance: Array, outline: Array) -> Array:
    """Thickness of a body of this outline, dried to half of its height."""
    share = np.clip(distance / np.maximum(outline, 1e-3), 0, 1)
    return np.asarray(np.where(outline > 1, outline * np.sqrt(1 - share**2), 0))


def rod(y: Array, x: Array, radius: float, rng: np.random.Generator) -> Array:
    """A slightly bent tube with a channel of 4 nm and a helix of 7 nm pitch along it; ``radius`` is half its length."""
    turn = rng.uniform(0, np.pi)
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    across = across - rng.normal(0, 0.02) / radius * along**2
    wall = rng.uniform(9, 12)
    ends = np.clip((radius - wall * 0.4 - np.abs(along)) / 2 + 0.5, 0, 1)
    tube = 2 * np.sqrt(np.maximum(wall**2 - across**2, 0)) - 2 * np.sqrt(np.maximum(4.0 - across**2, 0))
    return np.asarray(np.maximum(tube, 0) * ends * (1 + 0.08 * np.cos(2 * np.pi * along / 7)))


@dataclass(frozen=True)
class Kind:
    """A kind of particle: what draws it, its radii in nm, and how many a field has on average where it occurs."""

    draw: Callable[[Array, Array, float, np.random.Generator], Array]
    radii: tuple[float, float]
    number: float


KINDS = {
    "enveloped": Kind(enveloped, (42, 62), 4.0),
    "icosahedral": Kind(icosahedral, (36, 46), 5.0),
    "rod": Kind(rod, (65, 125), 4.0),
    "spherical": Kind(spherical, (13, 17), 14.0),
}
# What a preparation of one virus holds; the numbers are those of a specimen.
CAPSIDS = {
    "aggregate": Kind(aggregate, (84, 96), 1.0),
    "damaged": Kind(damaged, (38, 44), 1.0),
    "empty": Kind(empty, (38, 44), 1.0),
    "full": Kind(full, (38, 44), 1.0),
}


def draw_particle(kind: Kind, pixel: float, shift: tuple[float, float], rng: np.random.Generator) -> Particle:
    """One particle of a kind.

    Args:
        kind: of ``KINDS``.
        pixel: nm.
        shift: of its middle from that of a pixel, in pixels.
        rng: draws size, orientation and form.
    """
    radius = float(rng.uniform(*kind.radii))
    y, x = grid(radius * 1.3, pixel, shift)
    return Particle(kind.draw(y, x, radius, rng), radius)


def draw_debris(pixel: float, rng: np.random.Generator, *, capsids: bool = True) -> Particle:
    """Something that is no particle: a clot of protein, a torn membrane, or, with ``capsids``, a broken one."""
    radius = float(rng.uniform(10, 55))
    y, x = grid(radius * 1.2, pixel, (0.0, 0.0))
    what = rng.random() * (1.0 if capsids else 0.8)
    if what < 0.5:
        return Particle(_clot(y, x, radius, rng), radius)
    if what < 0.8:
        return Particle(_torn_membrane(y, x, radius, rng), radius)
    return Particle(_broken_capsid(y, x, float(rng.uniform(30, 42)), rng), radius)


def _clot(y: Array, x: Array, radius: float, rng: np.random.Generator) -> Array:
    rough = cv2.GaussianBlur(rng.standard_normal(y.shape), (0, 0), max(1.0, y.shape[0] / 12))
    inside = 1 - np.hypot(y, x) / radius + 0.5 * rough / max(float(rough.std()), 1e-9)
    return np.asarray(np.clip(inside, 0, 0.6) * rng.uniform(0.3, 0.9) * radius)


def _torn_membrane(y: Array, x: Array, radius: float, rng: np.random.Generator) -> Array:
    angle, distance = np.arctan2(y, x), np.hypot(y, x)
    bent = radius * 0.8 * (1 + 0.12 * np.cos(2 * angle + rng.uniform(0, 2 * np.pi)))
    line = np.clip((3.5 - np.abs(distance - bent)) / 1.5, 0, 1)
    shown = np.cos(angle - rng.uniform(0, 2 * np.pi)) > rng.uniform(-0.3, 0.6)
    return np.asarray(line * shown * rng.uniform(10, 22))


def _broken_capsid(y: Array, x: Array, radius: float, rng: np.random.Generator) -> Array:
    turn = rng.uniform(0, 2 * np.pi)
    kept = np.cos(turn) * x + np.sin(turn) * y > radius * rng.uniform(0.15, 0.45)
    return np.asarray(icosahedral(y, x, radius, rng) * kept)
