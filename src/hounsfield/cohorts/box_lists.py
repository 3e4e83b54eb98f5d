"""Lists of boxes as anyone may have them, true ones or findings: read without looking at the images they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.boxes import COLUMNS as BOX_COLUMNS
from hounsfield.boxes import are_valid, from_xywh
from hounsfield.cohorts.box_rows import SCORE, read_box_rows
from hounsfield.cohorts.box_table import box_rank
from hounsfield.cohorts.coco import read_coco
from hounsfield.cohorts.labels import class_order, tidy
from hounsfield.cohorts.options import Options
from hounsfield.errors import CohortError
from hounsfield.textfiles import parse_json, read_text

ENTRY = ("image_id", "category_id", "bbox", SCORE)


@dataclass(frozen=True, eq=False)
class BoxList:
    """Boxes and the images that they are of.

    Attributes:
        images: one row an image: ``image``, ``patient`` where the list names one, and whatever else it says of it.
        boxes: one row per box: ``image``, ``label``, the columns of the box in pixels, and perhaps ``score``.
        labels: the classes, in the list's own order where it has one.
        categories: of a COCO file, the class of each identifier.
        notes: what was decided or left out.
    """

    images: pd.DataFrame
    boxes: pd.DataFrame
    labels: tuple[str, ...]
    categories: Mapping[Any, str]
    notes: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        """2 or 3."""
        return box_rank(self.boxes, "the list")


def read_truth(path: Path) -> BoxList:
    """True boxes: a table with one row per box (see ``cohorts.box_rows``), or a COCO JSON.

    Boxes of no size are left out with a note, since nothing could hit them.

    Raises:
        CohortError: the file is neither, or it lists no box.
    """
    found = _read(path)
    valid = are_valid(found.boxes[list(BOX_COLUMNS[found.rank])].to_numpy(np.float64)) & found.boxes["label"].notna()
    kept = found.boxes[np.asarray(valid)].reset_index(drop=True)
    if kept.empty:
        raise CohortError(
            f"Found no valid box in {path}: expected the objects that are to be found, a row for each. Check the file."
        )
    left = len(found.boxes) - len(kept)
    told = (f"{left:,} of {len(found.boxes):,} true boxes have no size or no class and were left out.",) if left else ()
    return replace(found, boxes=kept, notes=(*found.notes, *told))


def read_findings(path: Path, truth: BoxList) -> BoxList:
    """Predicted boxes: a table of boxes with a column ``score``, a COCO JSON with scores, or COCO results.

    Args:
        path: of the file; one without any row says that nothing was found.
        truth: COCO results name images and classes by its identifiers.

    Raises:
        CohortError: the file is none of these, or a finding has no score.
    """
    results = _coco_results(path)
    found = _read(path, may_be_empty=True) if results is None else _named(results, truth, path)
    scores = found.boxes.get(SCORE)
    without = len(found.boxes) if scores is None else int(scores.isna().sum())
    if without:
        raise CohortError(
            f"{without:,} of {len(found.boxes):,} findings of {path} have no score: expected a column '{SCORE}' with a "
            "number for each, higher for surer. Add it; where a detector gives none, write 1."
        )
    return found


def _read(path: Path, *, may_be_empty: bool = False) -> BoxList:
    if not path.is_file():
        raise CohortError(f"There is no file {path}. Check the path.")
    if path.suffix.lower() == ".json":
        annotations, categories = read_coco(path)
    else:
        annotations, categories = read_box_rows(path, Options(), may_be_empty=may_be_empty), {}
    boxes = annotations.boxes.drop(columns="place")
    boxes["label"], told = tidy(boxes["label"].astype(object).where(boxes["label"].notna(), ""))
    boxes["label"] = boxes["label"].astype(object).where(boxes["label"] != "", None)
    present = list(boxes["label"].dropna().unique())
    labels = tuple(label for label in annotations.order if label in present) or class_order(present)
    images = annotations.images.drop_duplicates("image", ignore_index=True)
    return BoxList(images, boxes, labels, categories, (*annotations.notes, *told))


def _coco_results(path: Path) -> list[dict[str, Any]] | None:
    """The entries of a file in COCO's format of results; ``None`` where it is something else."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    try:
        content = parse_json(read_text(path))
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, list) else None


def _named(entries: list[dict[str, Any]], truth: BoxList, path: Path) -> BoxList:
    """COCO results with the names of images and classes in place of identifiers."""
    if "id" not in truth.images.columns:
        raise CohortError(
            f"{path} is a list of COCO results, which name images and classes by the identifiers of a COCO file, and "
            "the truth is none. Give the COCO JSON as the truth, or a table with image, label, box and score."
        )
    names = dict(zip(truth.images["id"], truth.images["image"], strict=True))
    rows = []
    for number, entry in enumerate(entries):
        given = [entry.get(key) for key in ENTRY] if isinstance(entry, dict) else [None] * 4
        image, category, box, score = given
        known = isinstance(image, (str, int)) and image in names
        known &= isinstance(category, (str, int)) and category in truth.categories
        if not known or not isinstance(box, list) or len(box) != 4:
            raise CohortError(
                f"Result {number} of {path} names image {image!r}, category {category!r} and the box {box!r}: expected "
                "identifiers that the truth has, and a box of four numbers. Check that both are of the same data."
            )
        rows.append((names[image], truth.categories[category], *box, score))
    frame = pd.DataFrame(rows, columns=["image", "label", *BOX_COLUMNS[2], SCORE])
    numbers = frame[[*BOX_COLUMNS[2], SCORE]].apply(pd.to_numeric, errors="coerce").astype(float)
    frame[list(BOX_COLUMNS[2])] = from_xywh(numbers[list(BOX_COLUMNS[2])].to_numpy())
    frame[SCORE] = numbers[SCORE]
    return BoxList(truth.images, frame, tuple(frame["label"].unique()), truth.categories)
