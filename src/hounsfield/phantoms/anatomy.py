"""A thorax of analytic bodies, as path lengths of X-rays through it.

Coordinates are millimetres in the detector plane: ``x`` to the right of the picture (the patient's left), ``y`` down,
the origin in the middle of the thorax. Each function returns the length in mm of the material that a ray at (x, y)
crosses. Sizes follow adult anatomy: a lung some 250 mm high and 170 mm deep, ribs 11 mm wide at a pitch of 24 mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Thorax:
    """The body of one patient; lengths in mm."""

    half_width: float  # of the lungs together, at their base
    lung_height: float
    depth: float  # of the body, front to back
    wall: float  # chest wall beside the lung
    dome: float  # height of the diaphragm's dome
    dome_step: float  # by how much the right dome stands higher
    heart_width: float
    heart_tilt: float  # radians
    heart_shift: float
    knob: float  # radius of the aortic arch
    mediastinum: float  # half width
    rib_pitch: float
    rib_drop: float
    rib_radius: float
    rib_jitter: Array
    bone_density: float
    clavicle_rise: float
    breast: float  # thickness, 0 for none
    breast_height: float  # centre, as a part of the lung's height
    breast_width: float
    stomach: float  # radius of the gas bubble, 0 for none
    vessel_seed: int


@dataclass(frozen=True)
class Grid:
    """Where the rays of one picture meet the patient: flat detector coordinates, after positioning."""

    x: Array
    y: Array
    spacing: float
    angle: float
    shift: tuple[float, float]

    @classmethod
    def of(cls, size: int, spacing: float, *, angle: float, shift: tuple[float, float]) -> Grid:
        """Rays of a square detector; the patient is turned by ``angle`` and moved by ``shift`` mm (y, x)."""
        axis = ((np.arange(size, dtype=np.float32) - (size - 1) / 2) * spacing).astype(np.float32)
        u, v = np.meshgrid(axis - np.float32(shift[1]), axis - np.float32(shift[0]))
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return cls(u * cosine + v * sine, v * cosine - u * sine, spacing, angle, shift)

    def pixels(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Row and column (fractional) at which patient coordinates appear."""
        cosine, sine = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        middle = (self.x.shape[0] - 1) / 2
        rows = (x * sine + y * cosine + self.shift[0]) / self.spacing + middle
        columns = (x * cosine - y * sine + self.shift[1]) / self.spacing + middle
        return single(rows), single(columns)


def draw_thorax(rng: np.random.Generator, sex: str, age: int) -> Thorax:
    """Draw a body; sex sets the size and the breasts, age the heart, the aorta, the bones and the curvature."""
    female = sex == "F"
    scale = (0.92 if female else 1.0) * rng.normal(1.0, 0.045)
    girth = float(np.clip(rng.normal(1.0, 0.14), 0.75, 1.45))
    years = (age - 50) / 40
    return Thorax(
        half_width=132 * scale * rng.normal(1.0, 0.04),
        lung_height=248 * scale * rng.normal(1.0, 0.06),
        depth=215 * scale * girth,
        wall=26 * girth**2,
        dome=38 * rng.normal(1.0, 0.2),
        dome_step=rng.normal(13.0, 5.0),
        heart_width=66 * scale * (1 + 0.07 * years) * rng.normal(1.0, 0.1),
        heart_tilt=rng.normal(0.65, 0.12),
        heart_shift=rng.normal(22.0, 5.0),
        knob=15 + 4 * years + rng.normal(0.0, 1.5),
        mediastinum=24 * scale * (1 + 0.08 * years) * rng.normal(1.0, 0.1),
        rib_pitch=24 * scale * rng.normal(1.0, 0.05),
        rib_drop=rng.normal(34.0, 9.0),
        rib_radius=rng.normal(5.4, 0.5),
        rib_jitter=rng.normal(0.0, 1.3, (4, 16)).astype(np.float32),
        bone_density=(1.0 - 0.18 * max(years, 0.0) * (1.5 if female else 1.0)) * rng.normal(1.0, 0.1),
        clavicle_rise=rng.normal(14.0, 8.0),
        breast=float(np.clip(rng.normal(34.0, 15.0), 4.0, 75.0)) * girth if female else 0.0,
        breast_height=rng.normal(0.74, 0.05) + 0.04 * years,
        breast_width=rng.normal(62.0, 7.0) * scale,
        stomach=float(rng.uniform(8, 22)) if rng.random() < 0.6 else 0.0,
        vessel_seed=int(rng.integers(2**31)),
    )


def single(values: npt.ArrayLike) -> Array:
    """Values in single precision, which is enough for path lengths and halves the time."""
    return np.asarray(values, dtype=np.float32)


def _cap(inside: Array) -> Array:
    """Square root of what is above zero: the profile of a ray through an ellipsoid."""
    return single(np.sqrt(np.maximum(inside, np.float32(0.0))))


def _edge(distance: Array, softness: float) -> Array:
    """1 far inside (distance > 0), 0 far outside, smooth over ``softness`` mm."""
    return single(0.5 + 0.5 * np.tanh(distance / np.float32(2 * softness)))


def _ellipse(grid: Grid, x: float, y: float, half: tuple[float, float], tilt: float = 0.0) -> Array:
    """Normalised radius squared about (x, y) of an ellipse with half axes ``half`` = (along x, along y), tilted."""
    dx, dy = grid.x - np.float32(x), grid.y - np.float32(y)
    cosine, sine = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    along, across = (dx * cosine + dy * sine) / np.float32(half[0]), (dy * cosine - dx * sine) / np.float32(half[1])
    return single(along * along + across * across)


def relative_height(thorax: Thorax, y: Array) -> Array:
    """0 at the apex of the lungs, 1 at their base."""
    return single((y + np.float32(0.55 * thorax.lung_height)) / np.float32(thorax.lung_height))


def lateral_border(thorax: Thorax, height: Array) -> Array:
    """Distance of the lung's outer border from the midline, by relative height."""
    upward = np.clip(1 - height, 0, 1)
    reach = _cap(1 - upward ** np.float32(2.6))
    return single(46 + (thorax.half_width - 46) * reach - 6 * np.clip(height - 0.75, 0, 1) * 4)


def lungs(thorax: Thorax, grid: Grid, inspiration: float) -> Array:
    """Path through aerated lung; ``inspiration`` in mm moves the diaphragm down."""
    height = relative_height(thorax, grid.y)
    outer = lateral_border(thorax, height)
    inner = 46 - (46 - thorax.mediastinum) * np.clip(height * 3.2, 0, 1) ** np.float32(0.6)
    centre, half = (outer + inner) / 2, np.maximum((outer - inner) / 2, np.float32(1e-3))
    across = np.clip(np.abs((np.abs(grid.x) - centre) / half), 0, 1)
    reach = _cap(1 - np.clip(1 - height, 0, 1) ** np.float32(2.4))
    air = 0.78 * thorax.depth * reach * _cap(1 - across ** np.float32(3.2)) * (height > 0)
    right = grid.x < 0
    base = 0.45 * thorax.lung_height + inspiration - np.where(right, thorax.dome_step, 0.0)
    bow = (np.abs(grid.x) - 0.48 * thorax.half_width) / (0.55 * thorax.half_width)
    diaphragm = (base - thorax.dome * (1 - np.minimum(bow * bow, 2.4))).astype(np.float32)
    recess = 0.16 * np.exp(-np.maximum(grid.y - diaphragm, 0) / 22)
    return single(air * (_edge(diaphragm - grid.y, 1.6) * 0.84 + recess))


def body(thorax: Thorax, grid: Grid) -> Array:
    """Path through everything inside the skin: trunk, shoulders and neck."""
    height = relative_height(thorax, grid.y)
    shoulder = _edge(-0.25 * thorax.lung_height - grid.y, 14.0)
    half = thorax.half_width + thorax.wall + 75 * shoulder
    trunk = thorax.depth * _cap(1 - np.clip(np.abs(grid.x) / half, 0, 1) ** np.float32(3.6))
    slope = -0.70 * thorax.lung_height + 42 * np.clip((np.abs(grid.x) - 40) / 110, 0, 2) ** np.float32(1.3)
    top = _edge((grid.y - slope).astype(np.float32), 5.0) * np.clip(0.45 + 0.9 * (height + 0.12), 0.42, 1.0)
    neck = 120 * _cap(1 - (grid.x / 58) ** 2)
    return single(np.maximum(trunk * top, neck * (height < 0.3)))


def heart(thorax: Thorax, grid: Grid, magnification: float, turn: float) -> Array:
    """Path through heart, great vessels and hila that stand where lung would be; ``turn`` in mm shifts them."""
    bottom = 0.45 * thorax.lung_height - 0.55 * thorax.dome
    half = (thorax.heart_width * 1.12 * magnification, thorax.heart_width * 0.78 * magnification)
    ventricles = 105 * _cap(
        1 - _ellipse(grid, thorax.heart_shift + turn, bottom - 0.62 * half[1], half, thorax.heart_tilt)
    )
    atrium_half = (0.66 * thorax.heart_width * magnification, 0.80 * thorax.heart_width * magnification)
    atrium = 80 * _cap(1 - _ellipse(grid, -4 + turn, bottom - 0.72 * half[1], atrium_half))
    arch_y = -0.55 * thorax.lung_height + 0.27 * thorax.lung_height
    arch = 70 * _cap(1 - _ellipse(grid, 19 + turn, arch_y, (thorax.knob, thorax.knob)))
    pulmonary = 45 * _cap(1 - _ellipse(grid, 26 + turn, arch_y + 36, (13, 20)))
    return single(np.maximum.reduce([ventricles, atrium, arch, pulmonary]))


def airways(thorax: Thorax, grid: Grid, turn: float) -> Array:
    """Path through the gas of trachea and stomach, which stands where soft tissue would be."""
    carina = -0.55 * thorax.lung_height + 0.33 * thorax.lung_height
    trachea = 16 * _cap(1 - ((grid.x - 0.4 * turn + 2) / 8.5) ** 2) * _edge(carina - grid.y, 4.0)
    side = np.where(grid.x < 0, np.float32(0.95), np.float32(0.65))
    bronchus = np.abs(grid.y - carina - side * np.abs(grid.x - 0.4 * turn)) * 0.75
    bronchi = 11 * _cap(1 - (bronchus / 6.5) ** 2) * (np.abs(grid.x) < 34) * (grid.y > carina - 6)
    gas = np.zeros_like(grid.x)
    if thorax.stomach:
        where = (0.5 * thorax.half_width, 0.45 * thorax.lung_height - 0.45 * thorax.dome + thorax.stomach)
        gas = 2.2 * thorax.stomach * _cap(1 - _ellipse(grid, *where, (1.5 * thorax.stomach, thorax.stomach)))
    return single(np.maximum(trachea, bronchi) + gas)


def _rib_set(thorax: Thorax, grid: Grid, drop: Array, start: float, jitter: Array) -> Array:
    """Path through a fan of ribs whose centre lines are ``start + i · pitch + drop(x)``, each off by its jitter.

    ``jitter`` has one row per side of the body, the patient's right first.
    """
    pitch = np.float32(thorax.rib_pitch)
    number = np.clip(np.rint((grid.y - start - drop) / pitch), 0, 9).astype(np.intp)
    slope = np.gradient(drop, axis=1) / np.float32(grid.spacing)
    distance = (grid.y - start - drop - number * pitch - jitter[(grid.x >= 0).astype(np.intp), number]) / np.sqrt(
        1 + slope * slope
    )
    ratio = (distance / np.float32(thorax.rib_radius)) ** 2
    return single(_cap(1 - ratio) * 5.0 - _cap(0.62 - ratio) * 2.7)


def ribs(thorax: Thorax, grid: Grid, turn: float) -> Array:
    """Path through bone of the posterior ribs and, fainter and crossing them, the anterior ribs."""
    height = relative_height(thorax, grid.y)
    outer = lateral_border(thorax, np.clip(height, 0.02, 1.2)) + 3
    across = ((np.abs(grid.x - 0.3 * turn) - 14) / np.maximum(outer - 14, 20)).astype(np.float32)
    inside = _edge((1.02 - across) * 60, 2.0) * (across > 0) * (height > -0.05) * _edge((1.12 - height) * 200, 12.0)
    start = -0.55 * thorax.lung_height + 6
    behind = thorax.rib_drop * (1.35 * across**2 - 0.45 * across)
    before = thorax.rib_drop * (1.9 - 1.15 * across**2) + 14
    posterior = _rib_set(thorax, grid, behind, start, thorax.rib_jitter[:2])
    anterior = _rib_set(thorax, grid, before, start, thorax.rib_jitter[2:])
    return single(inside * (posterior + 0.62 * anterior * _edge((across - 0.42) * 60, 3.0)))


def skeleton(thorax: Thorax, grid: Grid, turn: float) -> Array:
    """Path through ribs, spine, clavicles and shoulder blades, by the patient's bone density."""
    beat = np.cos(2 * np.pi * grid.y / np.float32(thorax.rib_pitch * 0.98))
    spine = (11 + 3.0 * beat) * _cap(1 - np.square(np.square((grid.x - 0.5 * turn) / (17 + 1.5 * beat))))
    far = np.abs(grid.x - turn)
    line = -0.55 * thorax.lung_height + 26 - thorax.clavicle_rise * np.sin((far - 14) / 62) - 0.10 * far
    tube = ((grid.y - line) / 6.2) ** 2
    clavicles = (8.5 * _cap(1 - tube) - 4.5 * _cap(0.6 - tube)) * _edge(far - 14, 1.5) * _edge(165 - far, 6.0)
    blade_x = np.abs(grid.x) - 1.06 * thorax.half_width
    blade = ((blade_x / 30) ** 2 + ((grid.y + 0.26 * thorax.lung_height) / 62) ** 2).astype(np.float32)
    blades = 4.0 * _edge((1 - blade) * 20, 2.0)
    return single(thorax.bone_density * (ribs(thorax, grid, turn) + spine + clavicles + blades))


def breasts(thorax: Thorax, grid: Grid) -> Array:
    """Path through the breasts, which add to the body; zero for men."""
    if not thorax.breast:
        return np.zeros_like(grid.x)
    y = (thorax.breast_height - 0.55) * thorax.lung_height
    total = np.zeros_like(grid.x)
    for side in (-1, 1):
        radius = _ellipse(grid, side * 0.58 * thorax.half_width, y, (thorax.breast_width, 0.92 * thorax.breast_width))
        total += thorax.breast * _cap(1 - radius) ** np.float32(1.3)
    return total


def vessels(thorax: Thorax, grid: Grid, turn: float) -> Array:
    """Path through the pulmonary vessels: branching tubes, each drawn with its cross-section's area.

    A tube of radius r adds π r² per unit of length, whatever the pixel size; its profile is approximated by a Gaussian
    of standard deviation r/2, so tubes thinner than a pixel keep their right contrast.
    """
    rng = np.random.default_rng(thorax.vessel_seed)
    total = np.zeros_like(grid.x)
    points = [_vessel_tree(thorax, rng, side, turn) for side in (-1.0, 1.0)]
    x, y, radius, length = (np.concatenate(part) for part in zip(*points, strict=True))
    rows, columns = grid.pixels(x, y)
    for low, high in ((0.0, 0.8), (0.8, 1.6), (1.6, 9.0)):
        chosen = (radius > low) & (radius <= high)
        weight = np.pi * radius[chosen] ** 2 * length[chosen] / grid.spacing**2
        sigma = max(float(radius[chosen].mean()) / 2 / grid.spacing, 0.35)
        total += cv2.GaussianBlur(_splat(rows[chosen], columns[chosen], weight, total.shape), (0, 0), sigma)
    return total


def _splat(rows: Array, columns: Array, weight: Array, shape: tuple[int, ...]) -> Array:
    """Sum weights at fractional positions by bilinear shares."""
    top, left = np.floor(rows).astype(np.intp), np.floor(columns).astype(np.intp)
    down, along = rows - top, columns - left
    image = np.zeros(shape[0] * shape[1])
    for dy, dx, share in (
        (0, 0, (1 - down) * (1 - along)),
        (0, 1, (1 - down) * along),
        (1, 0, down * (1 - along)),
        (1, 1, down * along),
    ):
        row, column = top + dy, left + dx
        inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
        flat = row[inside] * shape[1] + column[inside]
        image += np.bincount(flat, weights=(share * weight)[inside], minlength=image.size)
    return single(image.reshape(shape))


def _vessel_tree(
    thorax: Thorax, rng: np.random.Generator, side: float, turn: float
) -> tuple[Array, Array, Array, Array]:
    """Points (x, y) along the vessels of one lung, with the radius and the length that each point stands for."""
    count, steps = 9, 14
    x = np.full(count, side * 30 + turn)
    y = np.linspace(-14, 18, count) - 0.13 * thorax.lung_height + rng.normal(0, 3, count)
    heading = np.linspace(-1.45, 1.45, count) + rng.normal(0, 0.12, count)
    radius, length = rng.uniform(3.6, 5.4, count), rng.uniform(32, 52, count)
    parts: list[tuple[Array, ...]] = []
    for _ in range(5):
        bend = rng.normal(0, 0.25, x.size)
        along = np.linspace(0, 1, steps)[None]
        angle = heading[:, None] + bend[:, None] * along
        pace = (length / steps)[:, None]
        path_x = x[:, None] + side * np.cumsum(np.cos(angle) * pace, axis=1)
        path_y = y[:, None] + np.cumsum(np.sin(angle) * pace, axis=1)
        taper = radius[:, None] * (1 - 0.28 * along)
        parts.append((path_x.ravel(), path_y.ravel(), taper.ravel(), np.broadcast_to(pace, taper.shape).ravel()))
        x, y = np.repeat(path_x[:, -1], 2), np.repeat(path_y[:, -1], 2)
        spread = np.tile([-1.0, 1.0], heading.size) * rng.uniform(0.2, 0.5, x.size)
        heading = np.repeat(angle[:, -1], 2) + spread
        radius = np.repeat(radius, 2) * rng.uniform(0.62, 0.82, x.size)
        length = np.repeat(length, 2) * rng.uniform(0.6, 0.95, x.size)
    merged = [np.concatenate(column).astype(np.float32) for column in zip(*parts, strict=True)]
    return merged[0], merged[1], merged[2], merged[3]
