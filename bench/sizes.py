"""Does a network learn a planted size? The longest side of particles in simulated electron micrographs.

    python bench/sizes.py [--specimens 60] [--seed 0] [--effort quick] [--minutes N] [--folder FOLDER]

Each picture of 128×128 pixels shows one particle of ``phantom:micrograph``, drawn as there, of one of four kinds. All
kinds have the same range of sizes, so that the kind says next to nothing about the size: the peer knows it, and guesses
the mean of the training values of that kind. The value is the longest side in pixels of what was drawn.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from hounsfield.cohorts.request import DataRequest
from hounsfield.images import Image, write_image
from hounsfield.phantoms.micrograph import Specimen, draw_specimen
from hounsfield.phantoms.microscope import develop, expose, stain_around, wave_intensity
from hounsfield.phantoms.particles import KINDS, OUTLINE, draw_particle
from hounsfield.training import train

SIDE, PICTURES = 128, 10
# Around the picture, so that the lens's effect does not wrap around.
MARGIN = 40
# Nanometres: the smallest are 35 pixels long, the largest 107.
RADII = (33.0, 80.0)


def draw(specimen: Specimen, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A picture of one particle, and the longest side of the particle in pixels."""
    scope, side = specimen.microscope, SIDE + 2 * MARGIN
    particle = draw_particle(replace(KINDS[kind], radii=RADII), scope.pixel, (0.0, 0.0), rng)
    size, protein = particle.thickness.shape[0], np.zeros((side, side))
    # Anywhere near the middle, as a person would cut it out.
    first = [(side - size) // 2 + int(rng.integers(-6, 7)) for _ in range(2)]
    protein[first[0] : first[0] + size, first[1] : first[1] + size] = particle.thickness
    stain = stain_around(protein, np.full_like(protein, specimen.depth), specimen.pool, scope.pixel)
    film = rng.normal(0, 0.07, (side, side))
    intensity = wave_intensity(protein, stain, film, scope, float(rng.uniform(700, 2600)))[
        MARGIN:-MARGIN, MARGIN:-MARGIN
    ]
    outline = particle.thickness > OUTLINE * particle.thickness.max()
    longest = max(int(np.ptp(np.flatnonzero(outline.any(axis=axis)))) + 1 for axis in range(2))
    return develop(expose(intensity, scope, float(np.exp(rng.normal(0, 0.25))), rng), scope), longest


def write_pictures(folder: Path, specimens: int, seed: int) -> Path:
    """The pictures, and their table."""
    (folder / "pictures").mkdir()
    rows = []
    for index in range(specimens):
        specimen, rng = draw_specimen(seed, index)
        suffix = ".png" if specimen.microscope.bits == 8 else ".tif"
        for number in range(PICTURES):
            kind = str(rng.choice(list(KINDS)))
            picture, longest = draw(specimen, kind, rng)
            image = f"pictures/{specimen.identifier}-{number}{suffix}"
            write_image(Image(picture[..., None]), folder / image)
            rows.append({"image": image, "patient": specimen.identifier, "longest_side": float(longest), "kind": kind})
    pd.DataFrame(rows).to_csv(folder / "sizes.csv", index=False)
    return folder / "sizes.csv"


def explained_by_kind(run: Path, table: Path) -> float:
    """What the kind alone explains of the test values."""
    truth = pd.read_csv(table).set_index("image")
    splits = pd.read_parquet(run / "cohort.parquet").set_index("image")["split"]
    known, test = (truth.loc[splits.index[splits == name]] for name in ("train", "test"))
    values = test["longest_side"]
    error = (values - test["kind"].map(known.groupby("kind")["longest_side"].mean())).pow(2).sum()
    return float(1 - error / (values - values.mean()).pow(2).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--specimens", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--effort", choices=("quick", "standard", "thorough"), default="quick")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--folder", type=Path, help="a new folder; by default one that is removed at the end")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        table = write_pictures(folder, arguments.specimens, arguments.seed)
        request = DataRequest(str(table), label_columns=("longest_side",), task="regression")
        run = train(request, folder / "run", effort=arguments.effort, minutes=arguments.minutes, seed=arguments.seed)
        found = run.metrics["test"]
        for name in ("r2", "mae"):
            figure = found[name]
            print(f"{name}: {figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f}), n = {figure['n']}")
        print(f"r2 of the kind alone: {explained_by_kind(run.folder, table):.3f}")


if __name__ == "__main__":
    main()
