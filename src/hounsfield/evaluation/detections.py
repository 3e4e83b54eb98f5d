"""Truths and findings of one test of detection, checked once and laid out flat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.boxes import COLUMNS, are_valid, pairwise_iou
from hounsfield.errors import EvaluationError
from hounsfield.evaluation.outcomes import Floats, Integers
from hounsfield.object_masks import ObjectMask, mask_overlaps


class Truth(NamedTuple):
    """The objects of one image: boxes (n, 2·rank) in pixels, half-open, class indices (n,), and maybe their masks."""

    boxes: npt.ArrayLike
    classes: npt.ArrayLike
    masks: Sequence[ObjectMask] | None = None


class Finding(NamedTuple):
    """What was found in one image: boxes (m, 2·rank), class indices (m,), scores (m,), higher is surer, maybe masks."""

    boxes: npt.ArrayLike
    classes: npt.ArrayLike
    scores: npt.ArrayLike
    masks: Sequence[ObjectMask] | None = None


@dataclass(frozen=True, eq=False)
class Detections:
    """Truths and findings of n images.

    Attributes:
        labels: the classes.
        num_images: n.
        rank: 2 or 3.
        truth_boxes: (g, 2·rank) float64.
        truth_classes: (g,) class indices.
        truth_images: (g,) the image of each, ascending.
        boxes: (m, 2·rank) float64, of what was found.
        classes: (m,) class indices.
        scores: (m,).
        images: (m,) the image of each, ascending.
        truth_masks: of each object, and ``masks`` of each finding, where all of both have masks; otherwise ``None``.
    """

    labels: tuple[str, ...]
    num_images: int
    rank: int
    truth_boxes: Floats
    truth_classes: Integers
    truth_images: Integers
    boxes: Floats
    classes: Integers
    scores: Floats
    images: Integers
    truth_masks: tuple[ObjectMask, ...] | None = None
    masks: tuple[ObjectMask, ...] | None = None

    @property
    def has_masks(self) -> bool:
        """Whether findings can be judged by their masks."""
        return self.truth_masks is not None and self.masks is not None

    def overlaps(self, found: Integers, objects: Integers, *, by_mask: bool = False) -> Floats:
        """The intersection over union of findings with objects, by their numbers: (found, objects)."""
        if by_mask and self.truth_masks is not None and self.masks is not None:
            findings = [self.masks[number] for number in found.tolist()]
            return mask_overlaps(findings, [self.truth_masks[number] for number in objects.tolist()])
        return np.asarray(pairwise_iou(self.boxes[found], self.truth_boxes[objects]))

    @classmethod
    def join(cls, parts: Sequence[Detections]) -> Detections:
        """Several tests of the same labels as one, their images one after another."""
        # A part without any box cannot tell its rank.
        rank = max(part.rank for part in parts)
        starts = np.cumsum([0, *(part.num_images for part in parts)])

        def boxes(name: str) -> Floats:
            return np.concatenate([getattr(part, name).reshape(-1, 2 * rank) for part in parts])

        def images(name: str) -> Integers:
            return np.concatenate([getattr(part, name) + start for part, start in zip(parts, starts, strict=False)])

        def masks(name: str) -> tuple[ObjectMask, ...] | None:
            known = [getattr(part, name) for part in parts]
            return None if any(each is None for each in known) else tuple(mask for each in known for mask in each)

        return cls(
            labels=parts[0].labels,
            num_images=int(starts[-1]),
            rank=rank,
            truth_boxes=boxes("truth_boxes"),
            truth_classes=np.concatenate([part.truth_classes for part in parts]),
            truth_images=images("truth_images"),
            boxes=boxes("boxes"),
            classes=np.concatenate([part.classes for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            images=images("images"),
            truth_masks=masks("truth_masks"),
            masks=masks("masks"),
        )

    def take(self, images: Integers) -> Detections:
        """The truths and findings of some images, in the order given."""
        places = np.full(self.num_images, -1)
        places[images] = np.arange(len(images))
        true, found = (
            kept[np.argsort(places[of][kept], kind="stable")]
            for of in (self.truth_images, self.images)
            for kept in [np.flatnonzero(places[of] >= 0)]
        )
        return replace(
            self,
            num_images=len(images),
            truth_boxes=self.truth_boxes[true],
            truth_classes=self.truth_classes[true],
            truth_images=places[self.truth_images][true],
            boxes=self.boxes[found],
            classes=self.classes[found],
            scores=self.scores[found],
            images=places[self.images][found],
            truth_masks=None if self.truth_masks is None else tuple(self.truth_masks[at] for at in true.tolist()),
            masks=None if self.masks is None else tuple(self.masks[at] for at in found.tolist()),
        )

    def truth_counts(self) -> Integers:
        """(n, labels): objects of each class in each image."""
        return self._counts(self.truth_images, self.truth_classes)

    def counts(self, threshold: float) -> Integers:
        """(n, labels): findings of each class in each image with at least this score."""
        sure = self.scores >= threshold
        return self._counts(self.images[sure], self.classes[sure])

    def _counts(self, images: Integers, classes: Integers) -> Integers:
        counts = np.zeros((self.num_images, len(self.labels)), np.int64)
        np.add.at(counts, (images, classes), 1)
        return counts


def as_detections(truths: Sequence[Truth], found: Sequence[Finding], *, labels: Sequence[str]) -> Detections:
    """Lay out the truths and findings of n images, one entry an image in the same order.

    Raises:
        EvaluationError: the lists differ in length, or an array does not fit: shapes, unknown classes, boxes of no size
            among the truths, coordinates or scores that are no numbers.
    """
    if len(truths) != len(found) or not len(truths):
        raise EvaluationError(
            f"Found truths of {len(truths):,} images and findings of {len(found):,}: expected the same images in both, "
            "at least one, with empty arrays where there is nothing. Check that both come from the same list."
        )
    rank = _rank([*truths, *found])
    one = [_flat(entry.boxes, entry.classes, rank, "truths", image) for image, entry in enumerate(truths)]
    two = [_flat(entry.boxes, entry.classes, rank, "findings", image) for image, entry in enumerate(found)]
    scores = [np.asarray(entry.scores, np.float64).reshape(-1) for entry in found]
    for image, (values, (boxes, _)) in enumerate(zip(scores, two, strict=True)):
        if len(values) != len(boxes) or not np.isfinite(values).all():
            raise EvaluationError(
                f"Found {len(values)} scores for {len(boxes)} boxes in image {image}, or one that is no number: "
                "expected one for each box. Check the predictions."
            )
    detections = Detections(
        labels=tuple(labels),
        num_images=len(truths),
        rank=rank,
        truth_boxes=np.concatenate([boxes for boxes, _ in one]),
        truth_classes=np.concatenate([classes for _, classes in one]),
        truth_images=np.repeat(np.arange(len(truths)), [len(classes) for _, classes in one]),
        boxes=np.concatenate([boxes for boxes, _ in two]),
        classes=np.concatenate([classes for _, classes in two]),
        scores=np.concatenate(scores),
        images=np.repeat(np.arange(len(found)), [len(classes) for _, classes in two]),
        truth_masks=_masks(truths, [len(classes) for _, classes in one]),
        masks=_masks(found, [len(classes) for _, classes in two]),
    )
    _check(detections)
    return detections


def detections_from_tables(
    truth: pd.DataFrame, found: pd.DataFrame, *, images: Sequence[str], labels: Sequence[str]
) -> Detections:
    """Truths and findings from tables with one row a box: ``image``, ``label``, the box's columns, and ``score``.

    Args:
        truth: the objects; a column ``score`` is not looked at.
        found: what was found.
        images: every image that was looked at, those without any box too.
        labels: the classes.

    Raises:
        EvaluationError: a column is missing, or a box is of an image or a label that is not among these.
    """
    columns = list(next((COLUMNS[rank] for rank in (3, 2) if set(COLUMNS[rank]) <= set(truth.columns)), COLUMNS[2]))
    parts = []
    for what, table, needed in (("truths", truth, columns), ("findings", found, [*columns, "score"])):
        absent = [column for column in ("image", "label", *needed) if column not in table.columns]
        if absent:
            raise EvaluationError(
                f"The table of {what} lacks {', '.join(absent)}: it has {', '.join(map(str, table.columns))}. Expected "
                f"one row a box with image, label, {', '.join(needed)}. Rename or add the columns."
            )
        at, of = (
            pd.Index(known).get_indexer(pd.Index(table[name])) for name, known in (("image", images), ("label", labels))
        )
        if (at < 0).any() or (of < 0).any():
            first = table[(at < 0) | (of < 0)].iloc[0]
            raise EvaluationError(
                f"Found a box of '{first['label']}' in '{first['image']}' among the {what}: expected one of "
                f"{', '.join(labels)} in one of the {len(images):,} images. Check that both tables are of the same "
                "data."
            )
        values = table[needed].to_numpy(np.float64)
        order = np.argsort(at, kind="stable")
        rows = np.split(order, np.searchsorted(at[order], np.arange(1, len(images))))
        parts.append([(values[row], of[row]) for row in rows])
    truths = [Truth(values, classes) for values, classes in parts[0]]
    findings = [Finding(values[:, :-1], classes, values[:, -1]) for values, classes in parts[1]]
    return as_detections(truths, findings, labels=labels)


def _masks(entries: Sequence[Truth | Finding], counts: Sequence[int]) -> tuple[ObjectMask, ...] | None:
    """The masks of all boxes; ``None`` where an image with boxes has none."""
    if any(count and entry.masks is None for entry, count in zip(entries, counts, strict=True)):
        return None
    masks = tuple(mask for entry in entries for mask in entry.masks or ())
    if len(masks) != sum(counts):
        raise EvaluationError(
            f"Found {len(masks):,} masks for {sum(counts):,} boxes: expected one for each. Check the predictions."
        )
    return masks


def _rank(entries: Sequence[Truth | Finding]) -> int:
    widths = {np.shape(entry.boxes)[-1] for entry in entries if np.size(entry.boxes)}
    if not widths <= {4} and not widths <= {6}:
        raise EvaluationError(
            f"Found boxes of {sorted(widths)} coordinates: expected 4 for images or 6 for volumes, the same in all."
        )
    return 3 if widths == {6} else 2


def _flat(boxes: Any, classes: Any, rank: int, what: str, image: int) -> tuple[Floats, Integers]:
    laid = np.asarray(boxes, np.float64).reshape(-1, 2 * rank)
    numbers = np.asarray(classes).reshape(-1)
    if len(laid) != len(numbers) or not np.isfinite(laid).all():
        raise EvaluationError(
            f"Found {len(laid)} boxes and {len(numbers)} classes among the {what} of image {image}, or a coordinate "
            "that is no number: expected a class for each box."
        )
    return laid, numbers.astype(np.int64)


def _check(detections: Detections) -> None:
    for what, classes in (("truths", detections.truth_classes), ("findings", detections.classes)):
        wrong = (classes < 0) | (classes >= len(detections.labels))
        if wrong.any():
            raise EvaluationError(
                f"Found the class {int(classes[wrong][0])} among the {what}: expected 0 to "
                f"{len(detections.labels) - 1}, for {', '.join(detections.labels)}. Leave out padding, and check the "
                "order of the labels."
            )
    empty = ~are_valid(detections.truth_boxes)
    if empty.any():
        raise EvaluationError(
            f"Found {int(empty.sum())} true boxes of zero or negative size, first in image "
            f"{int(detections.truth_images[empty][0])}: nothing can hit them. Leave them out."
        )
