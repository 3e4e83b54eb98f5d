"""Truth as boxes around objects: the labels of a sample are the classes of its boxes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.boxes import COLUMNS as BOX_COLUMNS
from hounsfield.boxes import sides
from hounsfield.cohorts import box_table as box_tables
from hounsfield.cohorts.finding import Finding
from hounsfield.cohorts.targets.base import Samples
from hounsfield.cohorts.targets.labels import IMBALANCE, LabelTargets, with_none
from hounsfield.errors import CohortError

# Pixels below which a side is hard to see: less than one cell of the finest feature map that detectors use.
SMALL_SIDE = 8.0


class BoxTargets(LabelTargets):
    """See ``Targets``."""

    def check_boxes(self, samples: Samples) -> None:
        """Refuse a table of boxes that does not belong to the samples."""
        box_tables.check_boxes(known_boxes(samples), samples.table["image"], samples.labels, samples.name)

    def strata(self, samples: Samples) -> npt.NDArray[np.int64]:
        """The objects of each class in each image; an image without any is a stratum of its own."""
        return with_none(box_counts(samples))

    def truths(self, samples: Samples) -> list[Hashable | None]:
        """How many objects of each class each image has."""
        return [tuple(counts) for counts in box_counts(samples).tolist()]

    def findings(self, samples: Samples, shapes: Sequence[tuple[int, ...]]) -> list[Finding]:
        """Boxes beyond their images, small ones, and classes of very different frequency."""
        return [*_outside(samples, shapes), *_small(samples), *_imbalance(samples)]

    def subset(self, samples: Samples, table: pd.DataFrame) -> dict[str, Any]:
        """The boxes of the images that are kept."""
        boxes = known_boxes(samples)
        return {"box_table": boxes[boxes["image"].isin(table["image"])].reset_index(drop=True)}


def known_boxes(samples: Samples) -> pd.DataFrame:
    """The table of boxes.

    Raises:
        CohortError: there is none.
    """
    if samples.box_table is None:
        raise CohortError(
            f"The cohort '{samples.name}' is of the task '{samples.task}' and has no boxes: only detection has them. "
            "Give data with boxes, or choose how it is read with --kind."
        )
    return samples.box_table


def box_counts(samples: Samples) -> npt.NDArray[np.int64]:
    """How many objects of each class each image has: (rows, labels)."""
    known = known_boxes(samples)
    counts = np.zeros((len(samples.table), len(samples.labels)), np.int64)
    rows = pd.Index(samples.table["image"]).get_indexer(pd.Index(known["image"]))
    np.add.at(counts, (rows, pd.Index(samples.labels).get_indexer(pd.Index(known["label"]))), 1)
    return counts


def _outside(samples: Samples, shapes: Sequence[tuple[int, ...]]) -> list[Finding]:
    boxes = known_boxes(samples)
    rank = box_tables.box_rank(boxes, samples.name)
    rows = pd.Index(samples.table["image"]).get_indexer(pd.Index(boxes["image"]))
    limits = np.array([shape if len(shape) == rank else (0 if shape else np.inf,) * rank for shape in shapes])
    beyond = (boxes[list(BOX_COLUMNS[rank][rank:])].to_numpy(np.float64) > limits[rows]).any(axis=1)
    outside = tuple(np.unique(rows[beyond]).tolist())
    if not outside:
        return []
    text = f"{len(outside):,} images have boxes that reach beyond them: were they drawn on other images?"
    return [Finding("warning", "Boxes outside their images", text, outside)]


def _small(samples: Samples) -> list[Finding]:
    boxes = known_boxes(samples)
    lengths = sides(boxes[list(BOX_COLUMNS[box_tables.box_rank(boxes, samples.name)])].to_numpy(np.float64))
    num_small = int((lengths < SMALL_SIDE).any(axis=1).sum())
    if not num_small:
        return []
    text = (
        f"{num_small:,} of {len(boxes):,} boxes have a side of less than {SMALL_SIDE:g} pixels: they are hard to find, "
        "and harder where images are made smaller."
    )
    return [Finding("note", "Small objects", text)]


def _imbalance(samples: Samples) -> list[Finding]:
    totals = box_counts(samples).sum(axis=0)
    most, least = int(totals.argmax()), int(totals.argmin())
    if totals[most] < IMBALANCE * totals[least]:
        return []
    text = (
        f"'{samples.labels[most]}' has {totals[most] / max(totals[least], 1):.0f} times as many boxes as "
        f"'{samples.labels[least]}' ({totals[least]:,}): look at the figures of each class."
    )
    return [Finding("note", "Imbalance of objects", text)]
