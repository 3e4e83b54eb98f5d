"""``phantom:vaccine``: preparations of one virus at three dilutions, on two grids, by two microscopes.

Each preparation has a planted concentration and planted shares of full, empty and damaged capsids and of aggregates;
one in eight is a blank, the buffer alone. The second microscope is planted to see fewer particles, as one on whose
grids fewer of them settle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hounsfield.phantoms.micrograph import SIZE, Specimen, write_field
from hounsfield.phantoms.microscope import MICROSCOPES
from hounsfield.phantoms.particles import CAPSIDS
from hounsfield.phantoms.patients import Bias

NAME = "phantom:vaccine"
ATTRIBUTES = {"instrument": tuple(MICROSCOPES)}
DILUTIONS = (1, 4, 16)
GRIDS, FIELDS = 2, 2
# Of each preparation, what the second microscope's grids hold for one particle on those of the first.
RECOVERY = {"Lumen 120": 1.0, "Ardent 80": 0.85}
GRID_SPREAD = 0.08  # standard deviation of the logarithm
TRUTH_FILE = "preparations.csv"


@dataclass(frozen=True)
class Preparation:
    """What is planted: capsids and aggregates per µm² undiluted, and the share of each kind."""

    identifier: str
    density: float
    shares: dict[str, float]
    depth: float
    pool: float
    debris: float


def draw_preparation(seed: int, index: int) -> tuple[Preparation, np.random.Generator]:
    """Preparation ``index`` of a cohort, and the generator that everything else of it comes from."""
    rng = np.random.default_rng([*NAME.encode(), seed, index])
    damaged, aggregated = rng.uniform(0.03, 0.15), rng.uniform(0.0, 0.06)
    full = rng.uniform(0.25, 0.95) * (1 - damaged - aggregated)
    density = float(np.exp(rng.uniform(np.log(20), np.log(50)))) * (index % 8 != 7)
    return Preparation(
        identifier=f"LOT-{seed}-{index:04d}",
        density=density,
        shares={
            "aggregate": float(aggregated),
            "damaged": float(damaged),
            "empty": float(1 - full - damaged - aggregated),
            "full": float(full),
        },
        depth=float(rng.uniform(30, 44)),
        pool=float(rng.uniform(6, 18)),
        debris=float(rng.uniform(1, 5)),
    ), rng


def write_preparation(folder: Path, index: int, *, seed: int, bias: Bias) -> list[dict[str, object]]:
    """Write the 24 fields of one preparation below ``folder`` and return their rows of the table: one a box.

    Args:
        folder: where ``images/`` is.
        index: number of the preparation.
        seed: of the cohort.
        bias: what is planted; particles of a weak group are thinner.
    """
    made, rng = draw_preparation(seed, index)
    rows: list[dict[str, object]] = []
    for model, scope in MICROSCOPES.items():
        area = (SIZE * scope.pixel / 1000) ** 2
        for dilution in DILUTIONS:
            for grid in range(1, GRIDS + 1):
                settled = RECOVERY[model] * float(np.exp(rng.normal(0, GRID_SPREAD)))
                numbers = {
                    kind: made.density * share * area * settled / dilution for kind, share in made.shares.items()
                }
                specimen = Specimen(made.identifier, scope, numbers, 0.0, made.depth, made.pool, made.debris, CAPSIDS)
                suffix = ".png" if scope.bits == 8 else ".tif"
                for number, draws in enumerate(rng.spawn(FIELDS), start=1):
                    name = f"{made.identifier}-{model.split()[0]}-{dilution}-{grid}-{number}{suffix}"
                    known: dict[str, object] = {
                        "image": f"images/{name}",
                        "patient": made.identifier,
                        "instrument": model,
                        "dilution": dilution,
                        "grid": f"{made.identifier}-{model.split()[0]}-{dilution}-{grid}",
                        "pixel_nm": scope.pixel,
                        "_truth": made,
                    }
                    rows += write_field(folder, known, specimen, bias.strength(known), draws)
    return rows


def write_truth(folder: Path, rows: Sequence[dict[str, object]]) -> None:
    """Write what is planted in each preparation as ``preparations.csv``, apart from what a training looks at."""
    made = {str(row["patient"]): row["_truth"] for row in rows}
    table = [
        {"specimen": name, "per_um2": round(truth.density, 4)}
        | {f"share_{kind}": round(share, 4) for kind, share in truth.shares.items()}
        for name, truth in made.items()
        if isinstance(truth, Preparation)
    ]
    pd.DataFrame(table).to_csv(folder / TRUTH_FILE, index=False)
