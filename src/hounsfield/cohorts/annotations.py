"""From boxes as a source found them to a detection cohort: what is wrong with a box is named, counted and left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.boxes import COLUMNS as BOX_COLUMNS
from hounsfield.boxes import are_valid, clipped, iou, sides
from hounsfield.cohorts.box_table import MASK, box_rank
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.files import FileSource, typed_places
from hounsfield.cohorts.image_rows import image_rows
from hounsfield.cohorts.labels import check_known, class_order, misspellings, tidy
from hounsfield.cohorts.options import MAX_BAD_FRACTION, NUM_NAMED, Options
from hounsfield.cohorts.shapes import image_shapes
from hounsfield.errors import CohortError
from hounsfield.object_masks import ObjectMask
from hounsfield.tasks import SEPARATOR

# A box may stand out by so many pixels before its clipping is worth a word: annotators count the last pixel variously.
TOLERATED = 1.0
# From this share of bad boxes on it is likelier that the numbers mean something else than that each is a slip.
SUSPICIOUS = 0.2
# What a note on boxes that were left out says.
INVALID = "boxes are invalid and were left out"
# The overlap with its box from which the pixels of an object lie where they should.
SAME_PLACE = 0.5
# Why an object has no mask, where its source simply has none.
NO_MASK = "it has no mask"
NO_SIZE, NO_POSITION, NO_CLASS, NO_IMAGE, OUTSIDE = (
    "zero or negative size",
    "a coordinate that is not a number",
    "an unknown class",
    "an image that is not listed",
    "outside the image",
)


@dataclass(frozen=True, eq=False)
class Annotations:
    """What a source found, before it is checked.

    Attributes:
        images: one row per image: ``image`` (a path relative to the root), and where known ``patient``, ``split`` and
            attributes. An image listed twice in one split counts once.
        boxes: one row per box: ``image``, ``label`` (missing for a class that the source does not know), the columns of
            the box in pixels, and ``place``: where the source has it, for messages. ``mask`` where the source has masks
            of the objects: that of each as an ``ObjectMask``, or in a text why there is none.
        order: the classes in the source's own order, where it has one.
        sizes: the shapes that the source says the images have.
        notes: what was decided so far.
    """

    images: pd.DataFrame
    boxes: pd.DataFrame
    order: tuple[str, ...] = ()
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def build_box_cohort(found: Annotations, options: Options, *, root: Path, kind: str, name: str) -> Cohort:
    """Check images and boxes and put the cohort together.

    Invalid boxes are left out and the notes name and count them: of zero or negative size, without a position, of an
    unknown class, of an image that is not listed, outside the image. What stands out of its image is cut.

    Args:
        found: images and boxes.
        options: what the user chose.
        root: the folder that the images' paths are relative to.
        kind: of the data.
        name: of the cohort.

    Raises:
        CohortError: there is no valid box, no box in the training split, or more than 5 % of the images are missing or
            have another size than the source says.
    """
    where = f"the {kind} data {name}"
    table, notes = image_rows(found.images, options, root, where)
    shapes = image_shapes(root, table["image"].tolist())
    table, told = _drop_other_sizes(table, shapes, found.sizes, where)
    notes += told
    boxes, told = _valid_boxes(found.boxes, table["image"], set(found.images["image"]), shapes, name)
    notes += told
    labels, told = _labels(boxes, found.order, options, where)
    table.insert(1, "label", _classes_of_images(table["image"], boxes, labels))
    notes += [*told, _counts(table, boxes)]
    _check_training(table, where)
    told_all = (*found.notes, *notes)
    places = typed_places(table["image"], root)
    return Cohort(table, "detection", labels, FileSource(root), kind, name, told_all, boxes, places)


def _drop_other_sizes(
    table: pd.DataFrame, shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, tuple[int, ...]], where: str
) -> tuple[pd.DataFrame, list[str]]:
    """Leave out images whose size is not the one that their boxes were drawn for."""
    wrong = [
        image
        for image in table["image"]
        if image in sizes and image in shapes and min(sizes[image]) > 0 and sizes[image] != shapes[image]
    ]
    if not wrong:
        return table, []
    named = ", ".join(f"{image} ({_by(sizes[image])}, is {_by(shapes[image])})" for image in wrong[:NUM_NAMED])
    if len(wrong) > MAX_BAD_FRACTION * len(table):
        raise CohortError(
            f"Found {len(wrong)} of {len(table)} images of {where} with another size than the annotations say: {named}"
            ". Their boxes would lie elsewhere. Give the images that were annotated, or correct the sizes."
        )
    note = f"{len(wrong)} images were left out, since they have another size than their annotations say: {named}."
    return table[~table["image"].isin(wrong)].reset_index(drop=True), [note]


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _valid_boxes(
    boxes: pd.DataFrame, kept: pd.Series[str], listed: set[str], shapes: Mapping[str, tuple[int, ...]], name: str
) -> tuple[pd.DataFrame, list[str]]:
    """The boxes that can be learned from, cut to their images, without repetitions; with notes on all others."""
    rank = box_rank(boxes, name)
    columns = list(BOX_COLUMNS[rank])
    # Images that were left out were named already, and take their boxes along.
    boxes = boxes[boxes["image"].isin(kept) | ~boxes["image"].isin(listed)].reset_index(drop=True)
    values = boxes[columns].to_numpy(np.float64)
    limits = _limits(boxes["image"], shapes, rank, name)
    inside = clipped(values, limits)
    reasons = np.select(
        [
            ~boxes["image"].isin(listed).to_numpy(),
            boxes["label"].isna().to_numpy(),
            ~np.isfinite(values).all(axis=1),
            ~are_valid(values),
            ~are_valid(inside),
        ],
        [NO_IMAGE, NO_CLASS, NO_POSITION, NO_SIZE, OUTSIDE],
        default="",
    )
    notes = _name_invalid(boxes, columns, reasons)
    good = reasons == ""
    cut = good & (sides(values) - sides(inside) > TOLERATED).any(axis=1)
    if cut.any():
        first = boxes["place"][cut].iloc[0]
        notes.append(f"{int(cut.sum())} boxes extend beyond their images and were cut at the border, first {first}.")
    final = boxes[["image", "label"]].assign(**dict(zip(columns, inside.T, strict=True)))[good]
    if MASK in boxes.columns:
        masks, told = _masks(boxes[good], inside[good])
        notes += told
        final = final if masks is None else final.assign(mask=masks)
    distinct = final.drop_duplicates(ignore_index=True)
    if len(distinct) < len(final):
        notes.append(f"{len(final) - len(distinct)} boxes that repeat another one of the same class were left out.")
    if distinct.empty:
        raise CohortError(
            f"Found no valid box in {name} ({len(boxes)} in all). Expected at least one in pixels. "
            + (" ".join(notes) or "Add boxes, or check that the right annotations were given.")
        )
    return distinct, notes


def _masks(boxes: pd.DataFrame, corners: npt.NDArray[np.float64]) -> tuple[list[bytes] | None, list[str]]:
    """The masks of all objects for the table, or ``None`` and a note where some object has no mask in its box."""
    reasons = []
    around = np.array([each.box if isinstance(each, ObjectMask) else (0,) * 4 for each in boxes[MASK]], float)
    for mask, overlap in zip(boxes[MASK], iou(around.reshape(-1, 4), corners), strict=True):
        if not isinstance(mask, ObjectMask):
            reasons.append(str(mask))
        else:
            reasons.append("" if overlap >= SAME_PLACE else "its mask does not lie in its box")
    bad = [number for number, reason in enumerate(reasons) if reason]
    if not bad:
        notes = [f"Each of the {len(boxes):,} boxes has a mask of its object."] if len(boxes) else []
        return [mask.to_bytes() for mask in boxes[MASK]], notes
    if len(bad) == len(boxes) and len(set(reasons)) == 1 and reasons[0] == NO_MASK:
        return None, []
    first = f"{boxes['place'].iloc[bad[0]]}: {reasons[bad[0]]}"
    told = (
        f"{len(bad):,} of {len(boxes):,} boxes have no mask of their object that can be used, first {first}. Masks are "
        "learned where every object has one: only the boxes are used."
    )
    return None, [told]


def _limits(
    images: pd.Series[str], shapes: Mapping[str, tuple[int, ...]], rank: int, name: str
) -> npt.NDArray[np.float64]:
    """(boxes, rank): the shape of each box's image, infinite where it is not known yet."""
    unknown = (np.inf,) * rank
    other = [image for image in images.unique() if len(shapes.get(image, unknown)) != rank]
    if other:
        raise CohortError(
            f"Found boxes of {2 * rank} coordinates in {name} for images of another number of axes, first '{other[0]}' "
            f"({_by(shapes[other[0]])}). Expected {' '.join(BOX_COLUMNS[2])} for images and {' '.join(BOX_COLUMNS[3])} "
            "for volumes. Give both of one kind."
        )
    known = {image: shapes.get(image, unknown) for image in images.unique()}
    return np.array([known[image] for image in images], np.float64).reshape(-1, rank)


def _name_invalid(boxes: pd.DataFrame, columns: Sequence[str], reasons: npt.NDArray[np.str_]) -> list[str]:
    bad = np.flatnonzero(reasons != "")
    if not len(bad):
        return []
    counts = pd.Series(reasons[bad]).value_counts()
    listed = "; ".join(
        f"{count} of {reason}" if reason != OUTSIDE else f"{count} {reason}" for reason, count in counts.items()
    )
    named = "; ".join(_describe(boxes.iloc[row], columns, reasons[row]) for row in bad[:NUM_NAMED])
    note = f"{len(bad)} of {len(boxes)} {INVALID} ({listed}): {named}"
    note += "; …." if len(bad) > NUM_NAMED else "."
    if len(bad) > SUSPICIOUS * len(boxes):
        note += " So many suggest that the numbers have another meaning, such as corners in another order."
    return [note]


def _describe(box: pd.Series, columns: Sequence[str], reason: str) -> str:
    numbers = ", ".join(f"{column} {box[column]:g}" for column in columns)
    what = "no known class" if pd.isna(box["label"]) else box["label"]
    return f"{box['place']} ({what}, {numbers}: {reason})"


def _labels(
    boxes: pd.DataFrame, order: Sequence[str], options: Options, where: str
) -> tuple[tuple[str, ...], list[str]]:
    texts, notes = tidy(boxes["label"])
    if (texts == "").any():
        first = boxes["image"][texts == ""].iloc[0]
        raise CohortError(
            f"Found {int((texts == '').sum())} boxes without a label in {where}, first in '{first}'. Expected the "
            "class of each. Fill them, or leave these boxes out."
        )
    if texts.str.contains(SEPARATOR, regex=False).any():
        raise CohortError(f"A class of {where} has '{SEPARATOR}' in its name, which separates labels. Rename it.")
    boxes["label"] = texts
    sizes = {str(label): int(count) for label, count in texts.value_counts().items()}
    if options.labels:
        check_known(sorted(sizes), options.labels, where)
        return options.labels, notes
    # A class of one image is no slip by itself here: two patients are said to have each, so that only case tells.
    notes += misspellings(sizes, dict.fromkeys(sizes, 2), where)
    unused = [label for label in order if label not in sizes]
    if unused:
        notes.append(f"The classes {', '.join(unused)} have no box and were left out.")
    return (tuple(label for label in order if label in sizes) if order else class_order(sorted(sizes))), notes


def _classes_of_images(images: pd.Series[str], boxes: pd.DataFrame, labels: Sequence[str]) -> pd.Series[str]:
    """The classes that each image has boxes of, in class order, ``;`` between them; empty for none."""
    position = {label: number for number, label in enumerate(labels)}
    present = boxes.groupby("image")["label"].agg(
        lambda found: SEPARATOR.join(sorted(set(found), key=position.__getitem__))
    )
    return images.map(present).fillna("").astype(str)


def _counts(table: pd.DataFrame, boxes: pd.DataFrame) -> str:
    counts = ", ".join(f"{count:,} {label}" for label, count in boxes["label"].value_counts().items())
    negatives = int((table["label"] == "").sum())
    return (
        f"{len(boxes):,} boxes in {len(table):,} images ({counts}); {negatives:,} images have none and are negatives."
    )


def _check_training(table: pd.DataFrame, where: str) -> None:
    given = table["split"]
    training = table["label"][given == "train"]
    if len(training) and (training == "").all():
        raise CohortError(
            f"Found no box at all in the {len(training)} training images of {where}. Expected objects to learn from. "
            "Check that the annotations of the training split were given, or leave the splits out."
        )
