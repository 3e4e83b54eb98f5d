"""What a detector's planner must know of the boxes and the images that are trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.boxes import COLUMNS, sides
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.scan import Scan
from hounsfield.cohorts.training_grids import training_grids
from hounsfield.errors import CohortError

# Cells along each axis of the grid by which the places of objects are compared.
CELLS = 4
# Mean logarithm of height over width up to which objects have no direction; pixels may be a little off square.
LARGEST_STRETCH = 0.1
# Fewer images tell nothing of symmetries.
FEWEST_IMAGES = 20
# The mean square of a figure over its standard error is 1 by chance.
CHANCE_FACTOR = 4.0


@dataclass(frozen=True, eq=False)
class TrainingBoxes:
    """Lengths in the axes that the pipeline brings volumes to: those of the patient where all orientations are known.

    Attributes:
        sides: (boxes, rank) in pixels.
        box_spacing: (boxes, rank) millimetres per pixel; ``None`` where some image has no spacing.
        shapes: (images, rank) of the images.
        spacing: (images, rank); ``None`` where some image has none.
        oriented: whether volumes know how they lie in the patient.
        most: objects in one image, at most.
        turnable: whether a quarter turn of an image leaves it as likely as it was.
        outlined: whether each object has a mask.
    """

    sides: npt.NDArray[np.float64]
    box_spacing: npt.NDArray[np.float64] | None
    shapes: npt.NDArray[np.int64]
    spacing: npt.NDArray[np.float64] | None
    oriented: bool
    most: int
    turnable: bool
    outlined: bool = False


def training_boxes(cohort: Cohort, scanned: Scan) -> TrainingBoxes:
    """Measure the boxes of a detection cohort.

    Args:
        cohort: its training rows.
        scanned: the facts of these rows.

    Raises:
        CohortError: there is no box.
    """
    table, rank = cohort.box_table, cohort.box_rank
    if table is None or not len(table):
        raise CohortError(
            f"The training split of the cohort '{cohort.name}' has no box at all: a detector learns from objects. "
            "Check the annotations and the column 'split'."
        )
    grids = training_grids(cohort, scanned, rank)
    names = cohort.table["image"].iloc[grids.rows].tolist()
    table = table[table["image"].isin(names)]
    owner = pd.Index(names).get_indexer(pd.Index(table["image"]))
    lengths = sides(table[list(COLUMNS[rank])].to_numpy(np.float64))
    lengths = np.take_along_axis(lengths, grids.turns[owner], axis=1)
    return TrainingBoxes(
        sides=lengths,
        box_spacing=None if grids.spacing is None else grids.spacing[owner],
        shapes=grids.shapes,
        spacing=grids.spacing,
        oriented=grids.oriented,
        most=int(cohort.box_counts().sum(axis=1).max()),
        outlined=rank == 2 and cohort.has_object_masks,
        turnable=rank == 2 and _turnable(table[list(COLUMNS[2])].to_numpy(np.float64), owner, grids.shapes),
    )


def _turnable(boxes: npt.NDArray[np.float64], owner: npt.NDArray[np.int64], shapes: npt.NDArray[np.int64]) -> bool:
    """Whether objects lie, and are shaped, as if images could have been taken in any direction.

    On the whole they must be about as tall as wide, and what a turn by one or two right angles changes in the share of
    an image's objects in each cell of a grid must be no more than chance, by the standard error of its mean.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / shapes[owner]
    cells = np.clip((centres * CELLS).astype(int), 0, CELLS - 1)
    shares = np.zeros((len(shapes), CELLS, CELLS))
    np.add.at(shares, (owner, cells[:, 0], cells[:, 1]), 1)
    count = shares.sum(axis=(1, 2))
    taller = np.log((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1]))
    heights = np.bincount(owner, taller, minlength=len(shapes))
    seen = count > 0
    shares, heights = shares[seen] / count[seen, None, None], heights[seen] / count[seen]
    if len(shares) < FEWEST_IMAGES:
        return False
    if abs(heights.mean()) > LARGEST_STRETCH:
        return False
    changes = [shares - np.rot90(shares, turns, axes=(1, 2)) for turns in (1, 2)]
    return all(_is_chance(change.reshape(len(change), -1)) for change in changes)


def _is_chance(change: npt.NDArray[np.float64]) -> bool:
    """Whether the mean of (n, figures) is 0 but for chance."""
    error = change.std(axis=0) / np.sqrt(len(change))
    likely = np.square(change.mean(axis=0)[error > 0] / error[error > 0])
    return bool(likely.mean() < CHANCE_FACTOR) if likely.size else True
