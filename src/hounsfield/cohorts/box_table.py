"""The table of boxes that a detection cohort carries beside its table of samples: one row per box.

Columns: ``image`` (a reference of the table of samples), ``label``, and the box in pixels, half-open: ``y0, x0, y1,
x1`` for images, ``z0, y0, x0, z1, y1, x1`` for volumes. Tables of predicted boxes have the same columns and ``score``.
Where every object has a mask, a column ``mask`` holds it as ``ObjectMask.to_bytes`` gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.boxes import COLUMNS as BOX_COLUMNS
from hounsfield.boxes import are_valid
from hounsfield.errors import CohortError
from hounsfield.object_masks import ObjectMask

# The column of the objects' masks.
MASK = "mask"
# What is known of one image: its boxes, float32 (n, 2·rank), and the class index of each.
ImageBoxes = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def rank_of_columns(columns: Iterable[str]) -> int | None:
    """2 or 3 by the columns of a box that a table has; ``None`` where it has no box."""
    present = set(columns)
    return next((rank for rank in (3, 2) if present.issuperset(BOX_COLUMNS[rank])), None)


def box_rank(boxes: pd.DataFrame, name: str) -> int:
    """2 or 3, the rank of a table of boxes.

    Raises:
        CohortError: columns are missing.
    """
    rank = rank_of_columns(boxes.columns)
    if rank is None or not {"image", "label"} <= set(boxes.columns):
        raise CohortError(
            f"The table of boxes of the cohort '{name}' has the columns {', '.join(map(str, boxes.columns))}: expected "
            f"image, label and {', '.join(BOX_COLUMNS[2])} (of volumes {', '.join(BOX_COLUMNS[3])}). Add them."
        )
    return rank


def check_boxes(boxes: pd.DataFrame, images: pd.Series[str], labels: Sequence[str], name: str) -> None:
    """Refuse a table of boxes that does not belong to its cohort.

    Raises:
        CohortError: columns are missing, a box is of no image or of no label of the cohort, or it is not valid.
    """
    columns = list(BOX_COLUMNS[box_rank(boxes, name)])
    wrong = {
        "of an image that is not in the table": ~boxes["image"].isin(images),
        f"labelled otherwise than {', '.join(labels)}": ~boxes["label"].isin(labels),
        "of no size or without a position": ~are_valid(boxes[columns].to_numpy(np.float64)),
    }
    for what, rows in wrong.items():
        if rows.any():
            first = boxes[np.asarray(rows)].iloc[0]
            raise CohortError(
                f"The cohort '{name}' has {int(rows.sum())} boxes {what}, first ('{first['image']}', "
                f"'{first['label']}', {[float(first[column]) for column in columns]}). Correct them or leave them out."
            )


def boxes_by_image(boxes: pd.DataFrame, labels: Sequence[str], rank: int) -> dict[str, ImageBoxes]:
    """The boxes of each image that has any, in the order of the table."""
    coordinates = boxes[list(BOX_COLUMNS[rank])].to_numpy(np.float32)
    classes = pd.Index(labels).get_indexer(pd.Index(boxes["label"]))
    rows_of = boxes.groupby(boxes["image"].to_numpy(), sort=False).indices
    found: dict[str, ImageBoxes] = {}
    for image, rows in rows_of.items():
        found[str(image)] = coordinates[rows], np.asarray(classes[rows], np.int64)
    return found


def masks_by_image(boxes: pd.DataFrame) -> dict[str, tuple[ObjectMask, ...]]:
    """The masks of the objects of each image that has any, in the order of the table; none of a table without them."""
    if MASK not in boxes.columns:
        return {}
    found: dict[str, list[ObjectMask]] = {}
    for image, stored in zip(boxes["image"].tolist(), boxes[MASK].tolist(), strict=True):
        found.setdefault(str(image), []).append(ObjectMask.from_bytes(stored))
    return {image: tuple(masks) for image, masks in found.items()}


def no_boxes(rank: int) -> ImageBoxes:
    """What is known of an image without objects."""
    return np.zeros((0, 2 * rank), np.float32), np.zeros(0, np.int64)
