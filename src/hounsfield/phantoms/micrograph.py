"""``phantom:micrograph``: electron micrographs of virus-like particles of four kinds, overlapping, among debris.

A specimen is one preparation, as of a vaccine; it has a few fields, and particles of some of the kinds. Every particle
of which enough is in the field is boxed; debris never is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from hounsfield.images import write_image
from hounsfield.images.image import Image
from hounsfield.masks import Region, region_boxes, run_lengths
from hounsfield.phantoms.microscope import (
    MICROSCOPES,
    Array,
    Microscope,
    develop,
    expose,
    stain_around,
    wave_intensity,
)
from hounsfield.phantoms.particles import KINDS, OUTLINE, Kind, Particle, draw_debris, draw_particle
from hounsfield.phantoms.patients import Bias

NAME = "phantom:micrograph"
SIZE = 384
# Around the field, so that particles are cut by its border and the lens's effect does not wrap around.
MARGIN = 80
ATTRIBUTES = {"microscope": tuple(MICROSCOPES)}
COLUMNS = ("y0", "x0", "y1", "x1")
COCO_FILE = "annotations.json"
# A particle is boxed when this part of its area is in the field.
VISIBLE = 0.35
# Particles may lie over each other up to this part of the sum of their radii.
NEAREST = 0.45
_BLANK = 0.08  # of the specimens have no particle


@dataclass(frozen=True)
class Specimen:
    """One preparation: how many particles of each kind a field has on average, and how it was stained.

    ``kinds`` are those that are boxed; where damaged capsids are one of them, none lies among the debris.
    """

    identifier: str
    microscope: Microscope
    numbers: dict[str, float]
    clustering: float
    depth: float
    pool: float
    debris: float
    kinds: Mapping[str, Kind] = field(default_factory=lambda: KINDS)


def draw_specimen(seed: int, index: int) -> tuple[Specimen, np.random.Generator]:
    """Specimen ``index`` of a cohort, and the generator that everything else of it comes from."""
    rng = np.random.default_rng([*NAME.encode(), seed, index])
    model = list(MICROSCOPES)[int(rng.random() < 0.4)]
    blank = rng.random() < _BLANK
    present = rng.random(len(KINDS)) < 0.6
    present[int(rng.integers(len(KINDS)))] = True
    amounts = np.exp(rng.normal(0, 0.5, len(KINDS))) * present * (not blank)
    numbers = {name: float(kind.number * amount) for (name, kind), amount in zip(KINDS.items(), amounts, strict=True)}
    return Specimen(
        identifier=f"SPECIMEN-{seed}-{index:04d}",
        microscope=MICROSCOPES[model],
        numbers=numbers,
        clustering=float(rng.uniform(0, 0.7)),
        depth=float(rng.uniform(22, 40)),
        pool=float(rng.uniform(6, 20)),
        debris=float(rng.uniform(3, 12)),
    ), rng


def write_specimen(folder: Path, index: int, *, seed: int, bias: Bias) -> list[dict[str, object]]:
    """Write the fields of one specimen below ``folder`` and return their rows of the table: one a box.

    Args:
        folder: where ``images/`` is.
        index: number of the specimen.
        seed: of the cohort.
        bias: what is planted; particles of a weak group are thinner.
    """
    specimen, rng = draw_specimen(seed, index)
    rows: list[dict[str, object]] = []
    for number, draws in enumerate(rng.spawn(int(rng.integers(2, 5))), start=1):
        suffix = ".png" if specimen.microscope.bits == 8 else ".tif"
        known: dict[str, object] = {
            "image": f"images/{specimen.identifier}-{number}{suffix}",
            "patient": specimen.identifier,
            "microscope": specimen.microscope.model,
        }
        rows += write_field(folder, known, specimen, bias.strength(known), draws)
    return rows


def write_field(
    folder: Path, known: dict[str, object], specimen: Specimen, strength: float, rng: np.random.Generator
) -> list[dict[str, object]]:
    """Write one field as ``known["image"]`` below ``folder`` and return its rows: one a box, or one without a box."""
    picture, found = render(specimen, strength, rng)
    write_image(Image(picture[..., None]), folder / str(known["image"]))
    rows: list[dict[str, object]] = [] if found else [{"label": "", **known, **dict.fromkeys(COLUMNS)}]
    for label, region in found:
        (box,) = region_boxes(region).tolist()
        rows.append({"label": label, **known, **dict(zip(COLUMNS, box, strict=True)), "_runs": run_lengths(region)})
    return rows


# The label of each particle, and where it lies in the field.
Outlines = list[tuple[str, Region]]


def render(specimen: Specimen, strength: float, rng: np.random.Generator) -> tuple[np.ndarray, Outlines]:
    """Simulate one field.

    Returns:
        (rows, columns) stored values, and the label and the pixels (rows, columns) of each particle.
    """
    scope = specimen.microscope
    side = SIZE + 2 * MARGIN
    protein = np.zeros((side, side))
    outlines: Outlines = []
    for label, middle, particle in _arranged(specimen, rng):
        found = _add(protein, particle, middle, strength)
        if found is not None:
            outlines.append((label, found))
    for _ in range(rng.poisson(specimen.debris)):
        debris = draw_debris(scope.pixel, rng, capsids=specimen.kinds is KINDS)
        _add(protein, debris, rng.uniform(0, side, 2), 1.0)
    specks = cv2.GaussianBlur((rng.random((side, side)) < 0.004).astype(np.float64), (0, 0), 2.5 / scope.pixel)
    protein += 60 * specks * rng.uniform(0.3, 1.0)
    depth = specimen.depth * (1 + _clouds(side, 70, 0.09, rng) + _clouds(side, 14, 0.03, rng))
    stain = stain_around(protein, depth, specimen.pool, scope.pixel) + _precipitate(side, rng)
    film = rng.normal(0, 0.07, (side, side))
    defocus = float(rng.uniform(700, 2600))
    intensity = wave_intensity(protein, stain, film, scope, defocus)
    seen = intensity[MARGIN:-MARGIN, MARGIN:-MARGIN]
    counts = expose(seen, scope, float(np.exp(rng.normal(0, 0.25))), rng)
    return develop(counts, scope), outlines


def _arranged(specimen: Specimen, rng: np.random.Generator) -> list[tuple[str, tuple[float, float], Particle]]:
    """The particles of a field with their middles in pixels: scattered or in heaps, not too deep over each other."""
    scope = specimen.microscope
    side = SIZE + 2 * MARGIN
    heaps = rng.uniform(MARGIN, side - MARGIN, (int(rng.integers(1, 4)), 2))
    share = (side / SIZE) ** 2
    placed: list[tuple[str, tuple[float, float], Particle]] = []
    for label, kind in specimen.kinds.items():
        for _ in range(rng.poisson(specimen.numbers[label] * share)):
            shift = (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.5, 0.5)))
            particle = draw_particle(kind, scope.pixel, shift, rng)
            for _ in range(12):
                heaped = rng.random() < specimen.clustering
                middle = (
                    rng.normal(heaps[rng.integers(len(heaps))], 70 / scope.pixel) if heaped else rng.uniform(0, side, 2)
                )
                if _has_room(middle, particle, placed, scope.pixel):
                    placed.append((label, (float(middle[0]), float(middle[1])), particle))
                    break
    return placed


def _has_room(
    middle: np.ndarray, particle: Particle, placed: Sequence[tuple[str, tuple[float, float], Particle]], pixel: float
) -> bool:
    for _, other, neighbour in placed:
        least = NEAREST * (min(particle.reach, 60) + min(neighbour.reach, 60)) / pixel
        if np.hypot(middle[0] - other[0], middle[1] - other[1]) < least:
            return False
    return True


def _add(protein: Array, particle: Particle, middle: Sequence[float] | np.ndarray, strength: float) -> Region | None:
    """Add a particle to the field; its pixels in the part that is stored, where enough of it lies there."""
    size = particle.thickness.shape[0]
    start = [round(float(at)) - size // 2 for at in middle]
    first = [max(0, -at) for at in start]
    last = [min(size, length - at) for at, length in zip(start, protein.shape, strict=True)]
    if min(np.subtract(last, first)) <= 0:
        return None
    part = particle.thickness[first[0] : last[0], first[1] : last[1]]
    protein[start[0] + first[0] : start[0] + last[0], start[1] + first[1] : start[1] + last[1]] += strength * part
    outline = particle.thickness > OUTLINE * particle.thickness.max()
    rows, columns = np.nonzero(outline)
    rows, columns = rows + start[0] - MARGIN, columns + start[1] - MARGIN
    inside = (rows >= 0) & (rows < SIZE) & (columns >= 0) & (columns < SIZE)
    if inside.mean() < VISIBLE:
        return None
    region = np.zeros((SIZE, SIZE), bool)
    region[rows[inside], columns[inside]] = True
    return region


def _clouds(side: int, scale: float, amplitude: float, rng: np.random.Generator) -> Array:
    """Smooth random changes of this standard deviation, on the scale of so many pixels."""
    coarse = rng.standard_normal((max(4, int(side / scale)),) * 2)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(amplitude * smooth / max(float(smooth.std()), 1e-9))


def _precipitate(side: int, rng: np.random.Generator) -> Array:
    """Crystals of stain: small, dark and sharp."""
    grains = np.zeros((side, side))
    for _ in range(rng.poisson(5)):
        y, x = (int(at) for at in rng.integers(0, side, 2))
        axes = (int(rng.integers(1, 5)), int(rng.integers(1, 4)))
        cv2.ellipse(grains, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(25, 90)), -1)
    return grains


def write_coco(folder: Path, rows: Sequence[dict[str, object]]) -> None:
    """Write the boxes of a cohort once more, with the outlines, as ``annotations.json`` in COCO's form."""
    images = {str(row["image"]): row for row in rows}
    numbers = {image: number for number, image in enumerate(images, start=1)}
    categories = {label: number for number, label in enumerate(KINDS, start=1)}
    annotations: list[dict[str, object]] = []
    for row in rows:
        if row["label"]:
            y0, x0, y1, x1 = (int(str(row[column])) for column in COLUMNS)
            runs = cast("list[int]", row["_runs"])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": numbers[str(row["image"])],
                    "category_id": categories[str(row["label"])],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": sum(runs[1::2]),
                    "segmentation": {"size": [SIZE, SIZE], "counts": runs},
                    "iscrowd": 0,
                }
            )
    listed = [
        {
            "id": number,
            "file_name": image,
            "height": SIZE,
            "width": SIZE,
            "patient": images[image]["patient"],
            "microscope": images[image]["microscope"],
        }
        for image, number in numbers.items()
    ]
    content = {
        "images": listed,
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for label, number in categories.items()],
    }
    (folder / COCO_FILE).write_text(json.dumps(content), encoding="utf-8")
