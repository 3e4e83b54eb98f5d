"""What lies between a detector's networks, on NumPy: proposals, RoI align, the judging of regions, and their masks.

This is :mod:`hounsfield.detection` in prediction, without Keras. The trunk gives the levels of the pyramid and, for
every anchor, a logit of holding an object; the head judges regions. Each image goes its own way here, so nothing is
padded before the head, and RoI align reads only what lies under a box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hounsfield import boxes as geometry

Floats = npt.NDArray[np.float32]
# (regions, *bins, channels) -> logits (regions, labels + 1), the background first, and offsets (regions, 2·rank).
Head = Callable[[Floats], Sequence[Floats]]

# (regions, *bins, channels) -> logits (regions, side, side, labels) of the masks of what lies there.
MaskHead = Callable[[Floats], Floats]

# Masks are computed for so many regions at a time, since engines prepare themselves for a shape.
MASKS_AT_ONCE = 16

# The same numbers as in hounsfield.detection, which cannot be imported without Keras; a test holds both to each other.
REFINEMENT_SCALE = (0.1, 0.2)
LARGEST_LOG_RATIO = math.log(1000 / 16)
SMALLEST_SIDE = 1e-3
# Beyond this a logit of a mask is as good as sure, and its exponential stays finite.
LARGEST_LOGIT = 50.0
POSITIONS_A_BIN = 2


@dataclass(frozen=True)
class TwoStage:
    """The way from what the trunk says to detections; fields as in ``DetectorSettings``, and the levels' strides."""

    input_shape: tuple[int, ...]
    num_labels: int
    anchors: tuple[tuple[tuple[float, ...], ...], ...]
    strides: tuple[int, ...]
    roi_bins: int
    roi_points: int
    num_candidates: int
    num_proposals: int
    max_detections: int
    proposal_overlap: float
    detection_overlap: float
    score_floor: float
    mask_bins: int = 0

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """From the plain values that a bundle keeps; further ones are not looked at.

        Raises:
            KeyError: a value is missing.
        """
        # Detectors of earlier versions have no masks.
        known = {"mask_bins": 0, **stored}
        return cls(**{field.name: known[field.name] for field in fields(cls)})

    @property
    def rank(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.input_shape) - 1

    @property
    def num_levels(self) -> int:
        """Levels of the pyramid."""
        return len(self.anchors)

    @property
    def num_proposing(self) -> int:
        """Levels that have anchors."""
        return sum(map(bool, self.anchors))

    @cached_property
    def anchor_grid(self) -> Floats:
        """(anchors, 2·rank), level by level, position by position, shape by shape."""
        levels = zip(self.strides, self.anchors, strict=True)
        return np.concatenate(
            [_level_grid(self.input_shape[:-1], stride, shapes) for stride, shapes in levels if shapes]
        )

    def detect(
        self, outputs: Sequence[Floats], head: Head, masks: MaskHead | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """The detections of a batch, in the form in which ``FasterRCNN.predict`` gives them.

        Args:
            outputs: of the trunk: all levels (batch, *positions, channels), then the
                logits of those with anchors, then their offsets.
            head: called once.
            masks: the mask head, of a detector that has one.

        Returns:
            "boxes" (batch, max_detections, 2·rank), "classes" (−1 for padding), "scores" (falling, 0 for padding),
            "count" (batch,); with a mask head "masks" (batch, max_detections, side, side), from 0 to 1; and "features"
            (batch, 2·channels): the means of the coarsest and of the finest level.
        """
        batch, count = len(outputs[0]), self.num_proposals
        levels, says = outputs[: self.num_levels], outputs[self.num_levels :]
        logits = _joined(says[: self.num_proposing], ())
        offsets = _joined(says[self.num_proposing :], (2 * self.rank,))
        proposals = [self.propose(*each) for each in zip(logits, offsets, strict=True)]
        # As many regions each time: engines prepare themselves for a shape.
        regions = np.zeros((batch, count, *[self.roi_bins] * self.rank, levels[0].shape[-1]), np.float32)
        for image, boxes in enumerate(proposals):
            regions[image, : len(boxes)] = self.roi_align([level[image] for level in levels], boxes)
        judged = [np.reshape(part, (batch, count, -1)) for part in head(regions.reshape(-1, *regions.shape[2:]))]
        answers = [
            self.judge(boxes, judged[0][image, : len(boxes)], judged[1][image, : len(boxes)])
            for image, boxes in enumerate(proposals)
        ]
        padded = self._padded(answers)
        if masks is not None:
            side = 2 * self.mask_bins
            padded["masks"] = np.zeros((batch, self.max_detections, side, side), np.float32)
            for image, (boxes, classes, _) in enumerate(answers):
                levels_here = [level[image] for level in levels]
                padded["masks"][image, : len(boxes)] = self.outline(levels_here, boxes, classes, masks)
        return padded | {"features": features_of(levels)}

    def outline(
        self, levels: Sequence[Floats], boxes: Floats, classes: npt.NDArray[np.int64], head: MaskHead
    ) -> Floats:
        """The box masks of what was found in one image: (n, side, side), from 0 to 1.

        Args:
            levels: of the pyramid, (*positions, channels) each.
            boxes: (n, 4).
            classes: (n,).
            head: called for some regions at a time.
        """
        side = 2 * self.mask_bins
        masks = np.zeros((len(boxes), side, side), np.float32)
        for first in range(0, len(boxes), MASKS_AT_ONCE):
            rows = slice(first, first + MASKS_AT_ONCE)
            here, own = boxes[rows], classes[rows]
            regions = np.zeros((MASKS_AT_ONCE, self.mask_bins, self.mask_bins, levels[0].shape[-1]), np.float32)
            regions[: len(here)] = self.roi_align(levels, here, bins=self.mask_bins)
            logits = head(regions)[np.arange(len(here)), :, :, own]
            masks[rows] = 1 / (1 + np.exp(-np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)))
        return masks

    def propose(self, logits: Floats, offsets: Floats) -> Floats:
        """The regions of one image most likely to hold an object, best first: (n, 2·rank), at most ``num_proposals``.

        Args:
            logits: (anchors,) of being an object.
            offsets: (anchors, 2·rank).
        """
        chosen = top(logits, self.num_candidates)
        boxes = self._clipped(decode(offsets[chosen], self.anchor_grid[chosen]))
        boxes = boxes[geometry.are_valid(boxes)]
        return boxes[kept(boxes, threshold=self.proposal_overlap)][: self.num_proposals]

    def roi_align(self, levels: Sequence[Floats], boxes: Floats, *, bins: int | None = None) -> Floats:
        r"""A grid of values under each box, (n, \*bins, channels), from the level that suits its size.

        Args:
            levels: of the pyramid, (\*positions, channels) each.
            boxes: (n, 2·rank).
            bins: along each axis; ``roi_bins`` where not given.
        """
        bins = self.roi_bins if bins is None else bins
        pooled = np.zeros((len(boxes), *[bins] * self.rank, levels[0].shape[-1]), np.float32)
        numbers = self._levels_of(boxes, bins)
        for number, (level, stride) in enumerate(zip(levels, self.strides, strict=True)):
            rows = np.flatnonzero(numbers == number)
            if len(rows):
                pooled[rows] = _read(level, boxes[rows] / np.float32(stride), bins, self.roi_points)
        return pooled

    def judge(self, boxes: Floats, logits: Floats, offsets: Floats) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
        """Boxes, classes and scores of what the regions of one image hold, best first.

        Args:
            boxes: (n, 2·rank), the regions.
            logits: (n, labels + 1), the background first.
            offsets: (n, 2·rank).
        """
        scale = np.repeat(np.array(REFINEMENT_SCALE, np.float32), self.rank)
        refined = self._clipped(decode(offsets * scale, boxes))
        scores = _softmax(logits)[:, 1:]
        scores[~geometry.are_valid(refined)] = -1
        flat = np.where(scores >= self.score_floor, scores, np.float32(-1)).reshape(-1)
        chosen = top(flat, self.num_candidates)
        chosen = chosen[flat[chosen] >= 0]
        candidates, classes = refined[chosen // self.num_labels], chosen % self.num_labels
        stay = kept(candidates, threshold=self.detection_overlap, classes=classes)[: self.max_detections]
        return candidates[stay], classes[stay], flat[chosen[stay]]

    def _levels_of(self, boxes: Floats, bins: int) -> npt.NDArray[np.int64]:
        """The number of the level that each box is read from (Lin et al., 2017, equation 1)."""
        volume = np.maximum(geometry.volumes(boxes), np.float32(1e-6))
        nearest = math.log2(POSITIONS_A_BIN * bins * self.strides[0])
        octave = np.log(volume) / np.float32(self.rank * math.log(2)) - np.float32(nearest)
        return np.asarray(np.clip(np.floor(octave + np.float32(1e-5)), 0, len(self.strides) - 1), np.int64)

    def _clipped(self, boxes: Floats) -> Floats:
        return np.asarray(geometry.clipped(boxes, self.input_shape[:-1]), np.float32)

    def _padded(self, answers: Sequence[tuple[Floats, npt.NDArray[np.int64], Floats]]) -> dict[str, npt.NDArray[Any]]:
        batch, padding = len(answers), self.max_detections
        padded: dict[str, npt.NDArray[Any]] = {
            "boxes": np.zeros((batch, padding, 2 * self.rank), np.float32),
            "classes": np.full((batch, padding), -1, np.int32),
            "scores": np.zeros((batch, padding), np.float32),
            "count": np.array([len(scores) for _, _, scores in answers], np.int32),
        }
        for image, (boxes, classes, scores) in enumerate(answers):
            padded["boxes"][image, : len(boxes)] = boxes
            padded["classes"][image, : len(boxes)] = classes
            padded["scores"][image, : len(boxes)] = scores
        return padded


def features_of(levels: Sequence[Floats]) -> Floats:
    """(batch, 2·channels): the means of the coarsest level and of the finest."""
    means = [level.reshape(len(level), -1, level.shape[-1]).mean(axis=1) for level in (levels[-1], levels[0])]
    return np.concatenate(means, axis=1, dtype=np.float32)


def decode(offsets: Floats, references: Floats) -> Floats:
    """Boxes to which offsets lead from references (Ren et al., 2015, equation 2): (n, 2·rank)."""
    rank = geometry.rank_of(references)
    source = geometry.to_centres(references)
    sides = np.maximum(source[..., rank:], np.float32(SMALLEST_SIDE))
    centres = source[..., :rank] + offsets[..., :rank] * sides
    lengths = sides * np.exp(np.minimum(offsets[..., rank:], np.float32(LARGEST_LOG_RATIO)))
    return np.asarray(geometry.from_centres(np.concatenate([centres, lengths], axis=-1)), np.float32)


def top(values: Floats, count: int) -> npt.NDArray[np.intp]:
    """Where the largest values (n,) are, falling; of equal ones the earlier first."""
    if count < len(values):
        chosen = np.sort(np.argpartition(-values, count)[:count])
        return chosen[np.argsort(-values[chosen], kind="stable")]
    return np.argsort(-values, kind="stable")


def kept(boxes: Floats, *, threshold: float, classes: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.intp]:
    """Which of the boxes (n, 2·rank), best first, greedy suppression keeps.

    The best box stays, those of its class that overlap it by more than the threshold go, and so on. All pairs
    are looked at once and in float32, as the network was tested: for some hundred boxes also the fastest way.
    """
    overlaps = geometry.pairwise_iou(boxes, boxes) > np.float32(threshold)
    if classes is not None:
        overlaps &= classes[:, np.newaxis] == classes
    stays = np.ones(len(boxes), bool)
    for row in range(len(boxes)):
        if stays[row]:
            stays[row + 1 :] &= ~overlaps[row, row + 1 :]
    return np.flatnonzero(stays)


def _level_grid(shape: Sequence[int], stride: int, shapes: Sequence[Sequence[float]]) -> Floats:
    axes = [(np.arange(-(-length // stride), dtype=np.float32) + 0.5) * stride for length in shape]
    centres = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 1, len(shape))
    half = np.asarray(shapes, np.float32)[np.newaxis] / 2
    return np.concatenate([centres - half, centres + half], axis=-1, dtype=np.float32).reshape(-1, 2 * len(shape))


def _joined(maps: Sequence[Floats], last: tuple[int, ...]) -> Floats:
    """The outputs of all levels in the order of the anchors: (batch, anchors, *last)."""
    return np.concatenate([values.reshape(len(values), -1, *last) for values in maps], axis=1)


def _read(level: Floats, boxes: Floats, bins: int, points: int) -> Floats:
    r"""The grids of boxes (n, 2·rank), in positions of a level (\*positions, channels): (n, \*bins, channels)."""
    rank, channels = geometry.rank_of(boxes), level.shape[-1]
    pairs = [
        _interpolation(boxes[:, axis], boxes[:, rank + axis], level.shape[axis], bins, points) for axis in range(rank)
    ]
    read = np.empty((len(boxes), *[bins] * rank, channels), np.float32)
    for row in range(len(boxes)):
        under = [slice(*reach[row]) for _, reach in pairs]
        values = level[tuple(under)]
        for axis, ((weights, _), where) in enumerate(zip(pairs, under, strict=True)):
            values = weights[row][:, where] @ values.reshape(bins**axis, where.stop - where.start, -1)
        read[row] = values.reshape(*[bins] * rank, channels)
    return read


def _interpolation(
    start: Floats, end: Floats, length: int, bins: int, points: int
) -> tuple[Floats, list[tuple[int, int]]]:
    """How much each position of an axis counts in each bin, (n, bins, length), and which of them count at all."""
    share = (np.arange(bins * points, dtype=np.float32) + np.float32(0.5)) / np.float32(bins * points)
    places = start[:, np.newaxis] + (end - start)[:, np.newaxis] * share - np.float32(0.5)
    places = np.clip(places, 0, length - 1)
    weights = np.maximum(1 - np.abs(places[..., np.newaxis] - np.arange(length, dtype=np.float32)), 0)
    first = np.floor(places[:, 0]).astype(int)
    last = np.minimum(np.floor(places[:, -1]).astype(int) + 2, length)
    reach = list(zip(first.tolist(), last.tolist(), strict=True))
    return weights.reshape(len(start), bins, points, length).mean(axis=2, dtype=np.float32), reach


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), np.float32)
