"""What the boxes of a detection cohort look like in a few figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hounsfield.boxes import COLUMNS as BOX_COLUMNS
from hounsfield.boxes import sides
from hounsfield.cohorts.cohort import SPLITS, Cohort
from hounsfield.cohorts.distribution import Distribution
from hounsfield.cohorts.targets.boxes import SMALL_SIDE
from hounsfield.cohorts.targets.labels import UNASSIGNED, assigned_splits


@dataclass(frozen=True)
class BoxFigures:
    """Figures of the boxes of a cohort.

    Attributes:
        num_boxes: all of them.
        negatives: images without any.
        counts: split → label → boxes; rows without a split are under ``unassigned``.
        per_image: boxes per image.
        sides: label → one distribution per axis, in pixels of the images as read.
        num_small: boxes with a side below 8 pixels.
    """

    num_boxes: int
    negatives: int
    counts: dict[str, dict[str, int]]
    per_image: Distribution
    sides: dict[str, tuple[Distribution, ...]]
    num_small: int


def box_figures(cohort: Cohort) -> BoxFigures | None:
    """Describe the boxes of a cohort; ``None`` for one of another task."""
    if cohort.box_table is None:
        return None
    table = cohort.box_table
    counts = cohort.box_counts()
    splits = assigned_splits(cohort).to_numpy()
    lengths = sides(table[list(BOX_COLUMNS[cohort.box_rank])].to_numpy(np.float64))
    by_label = {label: lengths[(table["label"] == label).to_numpy()] for label in cohort.labels}
    return BoxFigures(
        num_boxes=len(table),
        negatives=int((counts.sum(axis=1) == 0).sum()),
        counts={
            split: dict(zip(cohort.labels, counts[splits == split].sum(axis=0).tolist(), strict=True))
            for split in (*SPLITS, UNASSIGNED)
            if (splits == split).any()
        },
        per_image=Distribution.of(counts.sum(axis=1)),
        sides={label: tuple(Distribution.of(axis) for axis in part.T) for label, part in by_label.items()},
        num_small=int((lengths < SMALL_SIDE).any(axis=1).sum()),
    )
