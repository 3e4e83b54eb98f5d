"""Which finding hits which object, as COCO's evaluator and as LUNA16's see it.

Matching is done once for each image; every figure, and each of its bootstrap replicates, is then a weighted count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from hounsfield.boxes import sides, to_centres, volumes
from hounsfield.errors import UsageError
from hounsfield.evaluation.detections import Detections
from hounsfield.evaluation.outcomes import Booleans, Floats, Integers

# COCO's thresholds, .50 to .95, to the last bit as its evaluator makes them.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, int(np.round((0.95 - 0.5) / 0.05)) + 1)
# COCO's sizes are areas from 32² and 96² pixels on; here they are sides of a square or cube of the same measure.
SIZES: dict[str, tuple[float, float]] = {
    "all": (0.0, np.inf),
    "small": (0.0, 32.0),
    "medium": (32.0, 96.0),
    "large": (96.0, np.inf),
}
# Findings of one class in one image beyond this are not looked at, as in COCO.
MAX_FOUND = 100
Criterion = Literal["iou", "centre"]


def known_criterion(name: str) -> Criterion:
    """The criterion of a name.

    Raises:
        UsageError: there is none of this name.
    """
    known: dict[str, Criterion] = {each: each for each in get_args(Criterion)}
    if name not in known:
        raise UsageError(f"The criterion '{name}' is not known; expected {' or '.join(known)}.")
    return known[name]


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """The findings of one class in all images, surest first (earlier images first among equals), and what they hit.

    Attributes:
        images: (D,) the image of each finding.
        scores: (D,).
        hits: (S, T, D) whether it takes an object, for each range of sizes and each threshold.
        ignored: (S, T, D) whether it does not count: it takes an object of another size, or takes none and is of
            another size itself.
        num_truths: (S, n) objects of the size in each image.
    """

    images: Integers
    scores: Floats
    hits: Booleans
    ignored: Booleans
    num_truths: Integers


def match_class(
    detections: Detections,
    label: int,
    *,
    thresholds: npt.NDArray[np.float64] = IOU_THRESHOLDS,
    sizes: Sequence[tuple[float, float]] = tuple(SIZES.values()),
    max_found: int = MAX_FOUND,
    by_mask: bool = False,
) -> ClassMatches:
    """Match the findings of one class as COCO does (``COCOeval.evaluateImg`` of cocodataset/cocoapi).

    In each image the findings choose in the order of their scores; each takes the free object that it overlaps most,
    if by at least the threshold, and one of another size only where there is none of this size.

    Args:
        detections: of all classes.
        label: the class index.
        thresholds: (T,) of IoU.
        sizes: (S,) ranges of side, both ends inside; the side of a box is the square or cube root of its measure.
        max_found: findings that are looked at in each image.
        by_mask: whether the overlap is that of the masks; sizes are those of the boxes still.
    """
    measures = np.asarray(sizes, np.float64) ** detections.rank
    num_truths = np.zeros((len(measures), detections.num_images), np.int64)
    shape = (len(measures), len(thresholds), 0)
    numbers = [np.zeros(0, np.int64)]
    hits, ignored = [np.zeros(shape, bool)], [np.zeros(shape, bool)]
    for image, truth, found in _by_image(detections, label, max_found):
        other = _outside(detections.truth_boxes[truth], measures)
        num_truths[:, image] = (~other).sum(axis=1)
        boxes = detections.boxes[found]
        taken = _match(detections.overlaps(found, truth, by_mask=by_mask), other, thresholds)
        # The last column stands for no object.
        of_other = np.pad(other, ((0, 0), (0, 1)))[np.arange(len(measures))[:, None, None], taken]
        numbers.append(found)
        hits.append(taken >= 0)
        ignored.append(of_other | ((taken < 0) & _outside(boxes, measures)[:, None]))
    every = np.concatenate(numbers)
    order = np.argsort(-detections.scores[every], kind="stable")
    ranked = every[order]
    return ClassMatches(
        detections.images[ranked],
        detections.scores[ranked],
        np.concatenate(hits, axis=-1)[..., order],
        np.concatenate(ignored, axis=-1)[..., order],
        num_truths,
    )


def _by_image(detections: Detections, label: int, max_found: int) -> Iterator[tuple[int, Integers, Integers]]:
    """Image, its objects of the class, and what was found of it, surest first; images without either are left out."""
    truth = np.flatnonzero(detections.truth_classes == label)
    found = np.flatnonzero(detections.classes == label)
    bounds = np.arange(detections.num_images + 1)
    truth_at = np.searchsorted(detections.truth_images[truth], bounds)
    found_at = np.searchsorted(detections.images[found], bounds)
    for image in range(detections.num_images):
        objects = truth[truth_at[image] : truth_at[image + 1]]
        here = found[found_at[image] : found_at[image + 1]]
        if len(objects) or len(here):
            surest = here[np.argsort(-detections.scores[here], kind="stable")][:max_found]
            yield image, objects, surest


def _outside(boxes: Floats, measures: Floats) -> Booleans:
    """(S, boxes): whether the measure of a box lies outside each range."""
    measure = volumes(boxes)
    return np.asarray((measure < measures[:, :1]) | (measure > measures[:, 1:]))


def _match(ious: Floats, other: Booleans, thresholds: Floats) -> Integers:
    """(S, T, D): the object that each finding takes, −1 for none.

    Args:
        ious: (D, G), findings surest first.
        other: (S, G) whether an object is of another size.
        thresholds: (T,).
    """
    least = np.minimum(thresholds, 1 - 1e-10)
    num_found, num_objects = ious.shape
    taken = np.full((len(other), len(least), num_found), -1)
    free = np.ones((len(other), len(least), num_objects), bool)
    for number in np.flatnonzero((ious >= least.min()).any(axis=1)):
        possible = free & (ious[number] >= least[:, None])
        own = possible & ~other[:, None]
        allowed = np.where(own.any(axis=-1, keepdims=True), own, possible)
        # Of equal overlaps COCO's loop ends with the last one.
        backwards = np.where(allowed, ious[number], -1.0)[..., ::-1]
        best = num_objects - 1 - backwards.argmax(axis=-1)
        size, threshold = np.nonzero(allowed.any(axis=-1))
        free[size, threshold, best[size, threshold]] = False
        taken[size, threshold, number] = best[size, threshold]
    return taken


def matched_pairs(detections: Detections, *, threshold: float = 0.5, overlap: float = 0.5) -> tuple[Integers, Integers]:
    """Which finding takes which object, among the findings with at least this score.

    Args:
        detections: of all classes and images.
        threshold: of the score.
        overlap: IoU from which a finding may take an object.

    Returns:
        The numbers of the findings that take an object, and of those objects, pair by pair.
    """
    pairs = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    every = max(1, len(detections.scores))
    for label in range(len(detections.labels)):
        for _, truth, found in _by_image(detections, label, every):
            sure = found[detections.scores[found] >= threshold]
            ious = detections.overlaps(sure, truth)
            taken = _match(ious, np.zeros((1, len(truth)), bool), np.array([overlap]))[0, 0]
            pairs.append((sure[taken >= 0], truth[taken[taken >= 0]]))
    findings, objects = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return findings, objects


@dataclass(frozen=True, eq=False)
class Events:
    """At which scores objects are found and false findings are made, for a free-response curve.

    Attributes:
        hit_scores: (h,) for each object that is found at all, the score from which it is.
        hit_images: (h,).
        false_scores: (f,) of findings that hit nothing.
        false_images: (f,).
        num_truths: (n,) objects in each image.
    """

    hit_scores: Floats
    hit_images: Integers
    false_scores: Floats
    false_images: Integers
    num_truths: Integers

    @classmethod
    def joined(cls, parts: Sequence[Events], num_truths: Integers) -> Events:
        """The events of several parts together, with the objects of all of them in each image."""
        return cls(
            np.concatenate([part.hit_scores for part in parts]),
            np.concatenate([part.hit_images for part in parts]),
            np.concatenate([part.false_scores for part in parts]),
            np.concatenate([part.false_images for part in parts]),
            num_truths,
        )


def class_events(detections: Detections, label: int, *, criterion: Criterion = "iou", threshold: float = 0.5) -> Events:
    """What the findings of one class hit.

    Args:
        detections: of all classes.
        label: the class index.
        criterion: ``"iou"``: matched as COCO does, so a second finding of one object is false. ``"centre"``, LUNA16's
            rule (Setio et al., Medical Image Analysis 2017, section 2.3) for boxes: the middle of the finding lies in
            the ellipsoid that fills the object's box; further findings of one object count neither way.
        threshold: of IoU.
    """
    if criterion == "iou":
        every = max(1, len(detections.scores))
        matches = match_class(
            detections, label, thresholds=np.array([threshold]), sizes=[SIZES["all"]], max_found=every
        )
        hit = matches.hits[0, 0]
        return Events(
            matches.scores[hit], matches.images[hit], matches.scores[~hit], matches.images[~hit], matches.num_truths[0]
        )
    return _events_by_centre(detections, label)


def _events_by_centre(detections: Detections, label: int) -> Events:
    none = np.zeros(0, np.int64)
    parts = [Events(np.zeros(0), none, np.zeros(0), none, none)]
    for image, truth, found in _by_image(detections, label, max(1, len(detections.scores))):
        inside = _in_ellipsoid(detections.boxes[found], detections.truth_boxes[truth], detections.rank)
        reached = inside.any(axis=0)
        # The findings stand surest first, so the first that lies inside gives the score.
        best = detections.scores[found[inside[:, reached].argmax(axis=0)]] if reached.any() else np.zeros(0)
        false = detections.scores[found][~inside.any(axis=1)]
        parts.append(Events(best, np.full(len(best), image), false, np.full(len(false), image), none))
    return Events.joined(parts, detections.truth_counts()[:, label])


def _in_ellipsoid(boxes: Floats, objects: Floats, rank: int) -> Booleans:
    """(boxes, objects): whether the middle of a box lies in the ellipsoid that fills an object's box."""
    middles, centres = to_centres(boxes)[:, :rank], to_centres(objects)[:, :rank]
    away = (middles[:, None] - centres) / (sides(objects) / 2)
    return np.asarray((away**2).sum(axis=-1) <= 1)
