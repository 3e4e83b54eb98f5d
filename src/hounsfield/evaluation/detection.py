"""How good a detector is, and how sure of that one can be: average precision, free response, counts, with intervals.

Average precision is COCO's, computed by one code in 2D and in 3D; in 2D it equals COCO's evaluator figure by figure
(``coco_record`` asks that evaluator itself). Intervals are of the bootstrap by patient: what hits what is settled once,
and a replicate is a column of weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hounsfield.boxes import to_xywh
from hounsfield.errors import EvaluationError, require
from hounsfield.evaluation.average_precision import average_precisions
from hounsfield.evaluation.classification import UNVARIED, Estimate, estimates_to_dict, few_patients
from hounsfield.evaluation.counting import COUNT_FIGURES, counting_errors
from hounsfield.evaluation.detection_matching import (
    IOU_THRESHOLDS,
    MAX_FOUND,
    SIZES,
    ClassMatches,
    Criterion,
    Events,
    class_events,
    match_class,
    matched_pairs,
)
from hounsfield.evaluation.detection_titles import class_figure, detection_title
from hounsfield.evaluation.detections import Detections
from hounsfield.evaluation.free_response import LUNA_RATES, sensitivities
from hounsfield.evaluation.intervals import bca_interval, bootstrap, jackknife, make_clusters, vary
from hounsfield.evaluation.outcomes import Floats, Integers
from hounsfield.tasks import Family

OVERLAP = 0.5
# Of fewer patients a bootstrap has next to nothing to draw from, and its intervals would look sure.
FEWEST_PATIENTS = 5
MASK_FIGURES = ["mask_ap", "mask_ap50", "mask_ap75"]
AP50, AP75 = int(np.argmin(np.abs(IOU_THRESHOLDS - 0.5))), int(np.argmin(np.abs(IOU_THRESHOLDS - 0.75)))


@dataclass(frozen=True, eq=False)
class DetectionAssessment:
    """The outcome of one test of detection.

    Attributes:
        detections: truths and findings.
        estimates: every figure with its interval, as ``evaluate_detections`` gives them.
        threshold: the score from which a finding counts as said.
        criterion: what hits an object in the free-response figures.
        overlap: IoU from which a finding hits an object, in the figures at one overlap.
        patients: how many there are; ``None`` where unknown.
        notes: what was decided or left out.
        split: the name under which ``metrics.json`` holds the figures.
    """

    family: ClassVar[Family] = "boxes"
    detections: Detections
    estimates: Mapping[str, Estimate]
    threshold: float
    criterion: Criterion
    overlap: float
    patients: int | None
    notes: tuple[str, ...] = ()
    split: str = "test"

    def title(self, name: str) -> str:
        """What a figure is called where people read it."""
        return detection_title(name, self.detections.labels)

    def to_dict(self) -> dict[str, Any]:
        """The figures as ``metrics.json`` has them, and beside them what they were made from."""
        return {
            self.split: estimates_to_dict(dict(self.estimates)),
            "task": "detection",
            "labels": list(self.detections.labels),
            "threshold": self.threshold,
            "overlap": self.overlap,
            "criterion": self.criterion,
            "cases": self.detections.num_images,
            "objects": len(self.detections.truth_classes),
            "patients": self.patients,
            "notes": list(self.notes),
        }


def assess_detections(  # noqa: PLR0913 - each is a fact of the test that only the caller knows
    detections: Detections,
    *,
    threshold: float = 0.5,
    criterion: Criterion = "iou",
    overlap: float = OVERLAP,
    groups: npt.ArrayLike | None = None,
    notes: Sequence[str] = (),
    num_replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> DetectionAssessment:
    """``evaluate_detections``, and with the figures what a reader must know of them."""
    estimates = evaluate_detections(
        detections,
        threshold=threshold,
        criterion=criterion,
        overlap=overlap,
        groups=groups,
        num_replicates=num_replicates,
        seed=seed,
        confidence=confidence,
    )
    patients = None if groups is None else len(make_clusters(_present(detections), groups))
    told = [] if (most := max_found(detections)) == MAX_FOUND else [_said_of_most(most)]
    return DetectionAssessment(detections, estimates, threshold, criterion, overlap, patients, notes=(*notes, *told))


def _said_of_most(most: int) -> str:
    return (
        f"An image has {most:,} objects of one class, so {most:,} findings of a class were looked at in each image, "
        f"where COCO looks at {MAX_FOUND}."
    )


def max_found(detections: Detections) -> int:
    """How many findings of a class are looked at in each image: COCO's 100, or as many as an image has objects."""
    return max(MAX_FOUND, int(detections.truth_counts().max(initial=0)))


def evaluate_detections(
    detections: Detections,
    *,
    threshold: float = 0.5,
    criterion: Criterion = "iou",
    overlap: float = OVERLAP,
    groups: npt.ArrayLike | None = None,
    num_replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Estimate]:
    """Every figure with its interval.

    - ``ap`` over IoU .50 to .95, ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``, ``ap_large`` (sides below 32, to 96
      and above, of the square or cube of the same measure): means over the classes;
    - ``mask_ap``, ``mask_ap50``, ``mask_ap75`` likewise by the overlap of masks, where objects and findings have them;
    - ``sensitivity_fp_RATE`` at 1/8 to 8 false findings an image, and their mean ``luna16``: all classes together;
    - ``precision``, ``recall`` and ``f1`` of what is found with at least the threshold, at the overlap given;
    - ``count_bias``, ``count_mae``, ``count_low``, ``count_high``: objects an image, found with at least the threshold;
    - where there are several classes, ``ap_LABEL`` (``ap_label_LABEL`` for a class called small, medium or large),
      ``ap50_LABEL``, ``luna16_LABEL``, and the counts of each.

    What is undefined, such as ``ap_large`` without a large object, is ``nan``. Intervals are BCa's of the bootstrap by
    patient; there are none of fewer than five patients, nor of a figure that is the same in every replicate, such as
    the recall of a test without a miss.

    Args:
        detections: truths and findings of n images.
        threshold: the score from which a finding counts as said; choose it on validation.
        criterion: what hits an object in the free-response figures; see ``class_events``.
        overlap: IoU from which a finding hits an object, in the figures at one overlap.
        groups: (n,) patient of each image; ``None`` when each image is of another patient.
        num_replicates: bootstrap replicates.
        seed: of the bootstrap.
        confidence: nominal coverage of each interval.

    Raises:
        EvaluationError: a share is out of range, or there is not one patient an image.
    """
    for name, share in (("confidence", confidence), ("overlap", overlap)):
        if not 0 < share < 1:
            raise EvaluationError(f"The {name} is {share:g}: expected a share strictly between 0 and 1.")
    figures = _Figures(detections, threshold, criterion, overlap)
    clusters = make_clusters(_present(detections), groups)
    values = figures.of(np.ones((detections.num_images, 1)))[:, 0]
    replicates = bootstrap(figures.of, clusters, _present(detections), num_replicates=num_replicates, seed=seed)
    left_out = jackknife(figures.of, clusters, seed=seed)
    estimates = {}
    few = f"too few patients ({len(clusters)}) for an interval" if len(clusters) < FEWEST_PATIENTS else ""
    unsure = few_patients(len(np.unique(clusters.of_case[_present(detections).any(axis=1)])))
    rows = zip(figures.rests_on().items(), values.tolist(), replicates, left_out, strict=True)
    for (name, count), value, drawn, without in rows:
        low, high, note = math.nan, math.nan, few
        if not math.isfinite(value):
            note = "nothing to measure it on"
        elif not few and not vary(drawn):
            note = UNVARIED
        elif not few:
            ends = bca_interval(value, drawn, without, confidence=confidence)
            low, high, note = min(ends.low, value), max(ends.high, value), unsure
        estimates[name] = Estimate(value, low, high, count, "bootstrap, BCa, by patient", note)
    return estimates


def weighted_figures(
    detections: Detections, *, threshold: float, criterion: Criterion = "iou", overlap: float = OVERLAP
) -> tuple[list[str], Callable[[Floats], Floats]]:
    """The names of all figures, and their values (names, R) as a function of (n, R) weights of the images."""
    figures = _Figures(detections, threshold, criterion, overlap)
    return list(figures.rests_on()), figures.of


def quick_precision(detections: Detections) -> tuple[float, float]:
    """Average precision over IoU .50 to .95 and at .50, the means over the classes, without intervals."""
    weights = np.ones((detections.num_images, 1))
    most = max_found(detections)
    parts = [
        average_precisions(match_class(detections, label, max_found=most), weights)[0, :, 0]
        for label in range(len(detections.labels))
    ]
    mean = _mean_of_defined(np.stack(parts))
    return float(mean.mean()), float(mean[AP50])


def _present(detections: Detections) -> npt.NDArray[np.bool_]:
    return detections.truth_counts() > 0


@dataclass(frozen=True, eq=False)
class _Figures:
    """Every figure as a function of the images' weights."""

    detections: Detections
    threshold: float
    criterion: Criterion
    overlap: float

    @cached_property
    def matches(self) -> list[ClassMatches]:
        """By class, for average precision."""
        most = max_found(self.detections)
        return [match_class(self.detections, label, max_found=most) for label in range(self._num_labels)]

    @cached_property
    def mask_matches(self) -> list[ClassMatches]:
        """By class, for average precision by the overlap of masks; empty without masks."""
        if not self.detections.has_masks:
            return []
        most, sizes = max_found(self.detections), [SIZES["all"]]
        return [
            match_class(self.detections, label, max_found=most, sizes=sizes, by_mask=True)
            for label in range(self._num_labels)
        ]

    @cached_property
    def events(self) -> list[Events]:
        """By class, for the free-response figures."""
        return [
            class_events(self.detections, label, criterion=self.criterion, threshold=self.overlap)
            for label in range(self._num_labels)
        ]

    @cached_property
    def said(self) -> tuple[Integers, Integers, Integers]:
        """Hits, findings and objects of each image, at the threshold and the overlap."""
        findings, _ = matched_pairs(self.detections, threshold=self.threshold, overlap=self.overlap)
        hits = np.bincount(self.detections.images[findings], minlength=self.detections.num_images)
        return hits, self.detections.counts(self.threshold).sum(axis=1), self._objects

    @cached_property
    def _objects(self) -> Integers:
        return np.asarray(self.detections.truth_counts().sum(axis=1))

    @property
    def _num_labels(self) -> int:
        return len(self.detections.labels)

    def rests_on(self) -> dict[str, int]:
        """The names of the rows of ``of``, and on how many objects, findings or images each rests."""
        images, objects = self.detections.num_images, self.detections.truth_counts().sum(axis=0).tolist()
        sized = np.sum([matches.num_truths.sum(axis=1) for matches in self.matches], axis=0).tolist()
        names = ["ap", "ap50", "ap75", *(f"ap_{size}" for size in SIZES if size != "all")]
        names += MASK_FIGURES if self.mask_matches else []
        names += [*(f"sensitivity_fp_{rate:g}" for rate in LUNA_RATES), "luna16", "precision", "recall", "f1"]
        found = dict.fromkeys(names, sum(objects)) | dict.fromkeys(COUNT_FIGURES, images)
        found |= {f"ap_{size}": count for size, count in zip(SIZES, sized, strict=True) if size != "all"}
        found["precision"] = int(self.said[1].sum())
        if self._num_labels > 1:
            for label, count in zip(self.detections.labels, objects, strict=True):
                found |= {class_figure(name, label): count for name in ("ap", "ap50", "luna16")}
                found |= {class_figure(name, label): images for name in COUNT_FIGURES}
        return found

    def of(self, weights: Floats) -> Floats:
        """(J, R) values for (n, R) weights."""
        precisions = np.stack([average_precisions(matches, weights) for matches in self.matches])
        mean = _mean_of_defined(precisions)
        rows = [mean[0].mean(axis=0), mean[0, AP50], mean[0, AP75], *(mean[size].mean(axis=0) for size in (1, 2, 3))]
        if self.mask_matches:
            by_mask = _mean_of_defined(np.stack([average_precisions(each, weights)[0] for each in self.mask_matches]))
            rows += [by_mask.mean(axis=0), by_mask[AP50], by_mask[AP75]]
        free = sensitivities(Events.joined(self.events, self._objects), weights)
        rows += [*free, free.mean(axis=0), *_shares(self.said, weights)]
        true, found = self.detections.truth_counts(), self.detections.counts(self.threshold)
        rows += [*counting_errors(true.sum(axis=1), found.sum(axis=1), weights)]
        if self._num_labels > 1:
            for label in range(self._num_labels):
                rows += [precisions[label, 0].mean(axis=0), precisions[label, 0, AP50]]
                rows += [sensitivities(self.events[label], weights).mean(axis=0)]
                rows += [*counting_errors(true[:, label], found[:, label], weights)]
        return np.stack(rows)


def _mean_of_defined(values: Floats) -> Floats:
    """The mean over the first axis of what is defined; ``nan`` where nothing is."""
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    total = np.where(defined, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _shares(said: tuple[Integers, Integers, Integers], weights: Floats) -> Iterable[Floats]:
    """Precision, recall and F1 in each replicate."""
    hits, found, objects = (part.astype(np.float64) @ weights for part in said)
    for part, whole in ((hits, found), (hits, objects), (2 * hits, found + objects)):
        yield np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)


def choose_score(detections: Detections, *, overlap: float = OVERLAP) -> float:
    """The score from which findings had best be said: the one of the greatest F1 at one overlap.

    Choose it on validation. With nothing found, or nothing to find, it is 0.5.
    """
    parts = [class_events(detections, label, threshold=overlap) for label in range(len(detections.labels))]
    events = Events.joined(parts, detections.truth_counts().sum(axis=1))
    scores = np.concatenate([events.hit_scores, events.false_scores])
    if not len(events.hit_scores):
        return 0.5
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(order < len(events.hit_scores))
    values = 2 * hits / (np.arange(1, len(order) + 1) + events.num_truths.sum())
    # Findings of one score are said together.
    last = np.append(np.diff(scores[order]) != 0, True)
    best = int(np.argmax(np.where(last, values, -1.0)))
    lower = scores[order][best + 1 :]
    # Between this score and the next one, so that rounding in a file does not move a finding across.
    return float((scores[order][best] + lower[0]) / 2 if len(lower) else scores[order][best])


def image_errors(detections: Detections, *, threshold: float = 0.5, overlap: float = OVERLAP) -> dict[str, Integers]:
    """What went wrong in each image: ``hits``, ``missed`` objects and ``false`` findings, each (n,)."""
    hits, found, objects = _Figures(detections, threshold, "iou", overlap).said
    return {"hits": hits, "missed": objects - hits, "false": found - hits}


def coco_record(detections: Detections) -> dict[str, float]:
    """The figures of COCO's own evaluator (faster-coco-eval), for 2D boxes: the AP of record.

    Returns:
        ``ap``, ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``, ``ap_large``; ``nan`` where it says −1.

    Raises:
        EvaluationError: the boxes are of volumes.
        MissingDependency: faster-coco-eval is not installed.
    """
    if detections.rank != 2:
        raise EvaluationError(
            "COCO's evaluator takes boxes of images, and these are of volumes. Use the figures of ours."
        )
    package = require("faster_coco_eval", "the average precision of COCO's own evaluator")
    truth = package.COCO(_coco_truth(detections))
    boxes = to_xywh(detections.boxes)
    found = [
        {"image_id": int(image), "category_id": int(label), "bbox": box.tolist(), "score": float(score)}
        for image, label, box, score in zip(
            detections.images, detections.classes, boxes, detections.scores, strict=True
        )
    ]
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    if not found:
        return dict.fromkeys(names, 0.0)
    evaluator = package.COCOeval_faster(truth, truth.loadRes(found), "bbox")
    evaluator.params.maxDets = [1, 10, max_found(detections)]
    evaluator.evaluate()
    evaluator.accumulate()
    precision = evaluator.eval["precision"][..., -1]
    chosen = [
        precision[:, :, :, 0],
        precision[AP50, :, :, 0],
        precision[AP75, :, :, 0],
        *(precision[:, :, :, size] for size in (1, 2, 3)),
    ]
    means = [float(part[part > -1].mean()) if (part > -1).any() else math.nan for part in chosen]
    return dict(zip(names, means, strict=True))


def _coco_truth(detections: Detections) -> dict[str, Any]:
    boxes = to_xywh(detections.truth_boxes)
    rows = zip(detections.truth_images, detections.truth_classes, boxes, strict=True)
    return {
        "images": [{"id": image} for image in range(detections.num_images)],
        "categories": [{"id": label, "name": name} for label, name in enumerate(detections.labels)],
        "annotations": [
            {
                "id": number,
                "image_id": int(image),
                "category_id": int(label),
                "bbox": box.tolist(),
                "area": float(box[2] * box[3]),
                "iscrowd": 0,
            }
            for number, (image, label, box) in enumerate(rows, start=1)
        ],
    }
