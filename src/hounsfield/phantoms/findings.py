"""What is seen in a lung: opacities, and the harmless things that look a little like them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hounsfield.phantoms.anatomy import Array, Grid, Thorax, heart, lateral_border, lungs, single

Box = tuple[int, int, int, int]
# A pixel belongs to the opacity's box where its path is above this part of the greatest.
_BOX_LEVEL = 0.25
_FAINT = 0.1  # share of opacities that are easily missed, so that nobody scores 1
_LEAST_AIR = 85.0  # mm of lung that an opacity is placed in, so that it can be seen at all


@dataclass(frozen=True)
class Opacity:
    """One focal opacity; it stays with its patient from picture to picture and changes a little in size."""

    side: int  # -1 is the patient's right
    across: float  # 0 at the mediastinum, 1 at the chest wall
    height: float  # 0 at the apex, 1 at the base
    radius: float  # mm
    depth: float  # front to back, as a part of its width
    lobes: Array  # (2, 5): cosine and sine amplitudes of the outline
    grains: Array  # (n, 3): acinar shadows as (x, y, relative radius); none for a solid nodule
    elongation: float
    tilt: float

    def centre(self, thorax: Thorax) -> tuple[float, float]:
        """(x, y) in mm."""
        outer = float(lateral_border(thorax, single([self.height]))[0])
        x = self.side * (thorax.mediastinum + 8 + self.across * (outer - thorax.mediastinum - 16))
        return x, (self.height - 0.55) * thorax.lung_height


def draw_opacity(rng: np.random.Generator, thorax: Thorax) -> Opacity:
    """Draw a nodule or mass with a lobulated outline (two in five), or a patch of acinar shadows, in aerated lung."""
    opacity = _draw_anywhere(rng)
    for _ in range(20):
        x, y = opacity.centre(thorax)
        if aerated_depth(thorax, x, y) > _LEAST_AIR:
            break
        opacity = _draw_anywhere(rng)
    return opacity


def aerated_depth(thorax: Thorax, x: float, y: float) -> float:
    """Path in mm through the air-filled lung at one point, in mid inspiration."""
    point = Grid(single([[x]]), single([[y]]), 1.0, 0.0, (0.0, 0.0))
    return float((lungs(thorax, point, 0.0) - heart(thorax, point, 1.0, 0.0))[0, 0])


def _draw_anywhere(rng: np.random.Generator) -> Opacity:
    solid = rng.random() < 0.4
    radius = float(rng.uniform(15, 23) if solid else rng.uniform(21, 34))
    count = 0 if solid else int(rng.integers(14, 30))
    faint = float(rng.uniform(0.2, 0.5)) if rng.random() < _FAINT else 1.0
    place, angle = np.sqrt(rng.random(count)), rng.uniform(0, 2 * np.pi, count)
    grains = np.stack([place * np.cos(angle), place * np.sin(angle), rng.uniform(0.16, 0.36, count)], axis=1)
    return Opacity(
        side=int(rng.choice([-1, 1])),
        across=float(rng.uniform(0.12, 0.9)),
        height=float(rng.uniform(0.2, 0.82)),
        radius=radius,
        depth=faint * float(rng.uniform(1.3, 2.1) if solid else rng.uniform(1.2, 2.0)),
        lobes=(rng.normal(0, 0.09, (2, 5)) / np.arange(1, 6) ** 0.5).astype(np.float32),
        grains=grains.astype(np.float32),
        elongation=float(rng.uniform(0.75, 1.35)),
        tilt=float(rng.uniform(0, np.pi)),
    )


def opacity_path(opacity: Opacity, thorax: Thorax, grid: Grid, growth: float) -> Array:
    """Path in mm through the soft tissue of an opacity, were the lung around it deep enough."""
    x, y = opacity.centre(thorax)
    radius = opacity.radius * growth
    cosine, sine = np.float32(np.cos(opacity.tilt)), np.float32(np.sin(opacity.tilt))
    dx, dy = grid.x - np.float32(x), grid.y - np.float32(y)
    along = (dx * cosine + dy * sine) / np.float32(radius * opacity.elongation)
    across = (dy * cosine - dx * sine) / np.float32(radius / opacity.elongation)
    if opacity.grains.size:
        path = _acinar(opacity.grains, along, across) * np.float32(2.0 * radius)
    else:
        path = _lobulated(opacity.lobes, along, across) * np.float32(2 * radius)
    return single(path * np.float32(opacity.depth))


def _lobulated(lobes: Array, along: Array, across: Array) -> Array:
    """A ball of radius 1 whose outline swings with the angle."""
    angle = np.arctan2(across, along)
    outline = np.ones_like(angle)
    for order, (cosine, sine) in enumerate(lobes.T, start=2):
        outline += cosine * np.cos(order * angle) + sine * np.sin(order * angle)
    return single(np.sqrt(np.maximum(1 - (along**2 + across**2) / np.maximum(outline, 0.3) ** 2, 0)))


def _acinar(grains: Array, along: Array, across: Array) -> Array:
    """Overlapping fluffy shadows that fill a patch unevenly, saturating where they pile up."""
    near = (np.abs(along) < 1.8) & (np.abs(across) < 1.8)
    path = np.zeros_like(along)
    u, v = along[near], across[near]
    sharpness = 0.5 / grains[:, 2, None] ** 2
    squares = (u[None] - grains[:, 0, None]) ** 2 + (v[None] - grains[:, 1, None]) ** 2
    path[near] = 1.3 * np.tanh(0.8 * np.exp(-squares * sharpness).sum(axis=0))
    return path


def box_of(path: Array) -> Box:
    """(y0, x0, y1, x1), half-open, around what is visible of an opacity."""
    visible = path > _BOX_LEVEL * path.max()
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def haze(grid: Grid, rng: np.random.Generator) -> Array:
    """Broad soft-tissue veils (skin folds, fat, muscle, clothing) that shift brightness, in mm; sick or well alike."""
    coarse = rng.normal(0, 1, (5, 5)).astype(np.float32)
    veil = cv2.resize(coarse, grid.x.shape[::-1], interpolation=cv2.INTER_CUBIC) * np.float32(rng.uniform(1.5, 4.5))
    if rng.random() < 0.2:
        angle, offset = rng.uniform(-0.5, 0.5), rng.uniform(-120, 120)
        fold = (grid.x * np.cos(angle) + grid.y * np.sin(angle) - offset).astype(np.float32)
        veil += np.float32(rng.uniform(3, 7)) * np.exp(-np.maximum(fold, 0) / 25) * (fold > 0)
    return single(veil)


def interstitium(grid: Grid, rng: np.random.Generator, strength: float) -> Array:
    """The fine net of small structures that lung shows everywhere, as a factor about 0."""
    fine = rng.standard_normal(grid.x.shape, dtype=np.float32)
    return single(cv2.GaussianBlur(fine, (0, 0), 3.2 / grid.spacing) * np.float32(strength))


def decoys(thorax: Thorax, grid: Grid, rng: np.random.Generator) -> tuple[Array, Array]:
    """Path through harmless things in soft tissue and in bone or metal: nipples, calcified granulomas, leads, tubes."""
    soft, hard = np.zeros_like(grid.x), np.zeros_like(grid.x)
    if rng.random() < 0.3:
        height = (thorax.breast_height - 0.48) * thorax.lung_height
        for side in (-1, 1):
            soft += 8 * _disc(grid, side * 0.62 * thorax.half_width, height + rng.normal(0, 4), 4.5)
    for _ in range(rng.poisson(0.5)):
        hard += 3.0 * _disc(grid, rng.uniform(-110, 110), rng.uniform(-100, 70), rng.uniform(2.0, 3.5))
    if rng.random() < 0.22:
        for _ in range(3):
            hard += 2.2 * _disc(grid, rng.uniform(-120, 120), rng.uniform(-110, 60), 6.0)
    if rng.random() < 0.18:
        hard += 1.6 * _tube(grid, rng)
    return soft, hard


def _disc(grid: Grid, x: float, y: float, radius: float) -> Array:
    squares = ((grid.x - np.float32(x)) ** 2 + (grid.y - np.float32(y)) ** 2) / np.float32(radius**2)
    return single(np.exp(-squares * squares))


def _tube(grid: Grid, rng: np.random.Generator) -> Array:
    """A catheter from the shoulder down towards the heart."""
    side, bend = rng.choice([-1, 1]), rng.uniform(60, 110)
    course = side * bend * np.exp(-np.maximum(grid.y + 130, 0) / 45) - 14
    return single(np.exp(-(((grid.x - course) / 2.2) ** 2)) * (grid.y < rng.uniform(-20, 40)))
