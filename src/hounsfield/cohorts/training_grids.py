"""The sizes and spacings of the images that are trained on, in the axes that the pipeline brings them to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.scan import Scan
from hounsfield.images.orientation import CANONICAL, SIDES


@dataclass(frozen=True, eq=False)
class TrainingGrids:
    """Of the readable images of a rank; the axes are those of the patient where all orientations are known.

    Attributes:
        rows: (images,) of the cohort.
        turns: (images, rank) which axis of the image becomes each axis.
        shapes: (images, rank).
        spacing: (images, rank) millimetres; ``None`` where some image has none.
        oriented: whether volumes know how they lie in the patient.
    """

    rows: npt.NDArray[np.int64]
    turns: npt.NDArray[np.int64]
    shapes: npt.NDArray[np.int64]
    spacing: npt.NDArray[np.float64] | None
    oriented: bool


def training_grids(cohort: Cohort, scanned: Scan, rank: int) -> TrainingGrids:
    """Measure the grids of the images of a cohort.

    Args:
        cohort: its training rows.
        scanned: the facts of these rows.
        rank: of the images.
    """
    readable = [
        row for row in range(len(cohort)) if scanned.facts[row].reason is None and len(scanned.facts[row].shape) == rank
    ]
    facts = [scanned.facts[row] for row in readable]
    oriented = rank == 3 and all(fact.orientation for fact in facts)
    turns = [_turned(fact.orientation) if oriented and fact.orientation else np.arange(rank) for fact in facts]
    known = all(fact.spacing is not None and len(fact.spacing) == rank for fact in facts)
    return TrainingGrids(
        np.array(readable, np.int64),
        np.array(turns, np.int64).reshape(-1, rank),
        np.array([np.array(fact.shape)[turn] for fact, turn in zip(facts, turns, strict=True)], np.int64),
        np.array([np.array(fact.spacing)[turn] for fact, turn in zip(facts, turns, strict=True)]) if known else None,
        oriented,
    )


def canonical_places(places: npt.NDArray[np.float64], grids: TrainingGrids, scanned: Scan) -> npt.NDArray[np.float64]:
    """Places (images, …, rank), 0 to 1 along the axes of each image, along the axes of ``grids``."""
    turned = np.empty_like(places)
    for number, (row, turn) in enumerate(zip(grids.rows.tolist(), grids.turns, strict=True)):
        turned[number] = places[number][..., turn]
        orientation = scanned.facts[row].orientation if grids.oriented else None
        if orientation:
            reverse = [orientation[axis] != letter for axis, letter in zip(turn, CANONICAL, strict=True)]
            turned[number] = np.where(reverse, 1 - turned[number], turned[number])
    return turned


def _turned(orientation: str) -> npt.NDArray[np.int64]:
    """Which axis of a volume becomes each axis of the canonical orientation."""
    found = [SIDES[letter][0] for letter in orientation]
    return np.array([found.index(SIDES[letter][0]) for letter in CANONICAL])
