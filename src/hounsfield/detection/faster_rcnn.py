"""Faster R-CNN: one network proposes regions and another classifies them, on shared features.

Ren, He, Girshick, Sun, "Faster R-CNN: towards real-time object detection with region proposal networks", 2015
(arXiv:1506.01497), on a feature pyramid (Lin et al., 2017) with RoI align (He et al., 2017) and a generalised IoU loss
(Rezatofighi et al., 2019); of rank 2 or 3, in fixed shapes, on every backend of Keras. In images a third network may
outline each object (He et al., "Mask R-CNN", 2017, arXiv:1703.06870).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from hounsfield import boxes as geometry
from hounsfield.detection.anchors import anchor_grid, decode, encode
from hounsfield.detection.layers import FULL_PRECISION, feature_pyramid, mask_head, proposal_head, region_head
from hounsfield.detection.losses import (
    classification_loss,
    generalised_iou_loss,
    mask_loss,
    objectness_loss,
    smooth_l1,
)
from hounsfield.detection.matching import Sample, balanced_sample, match
from hounsfield.detection.roi_align import mask_align, roi_align
from hounsfield.detection.suppression import best_kept
from hounsfield.models.backbone import backbone
from hounsfield.models.training_model import Precision, training_copy
from hounsfield.plans.detector_settings import DetectorSettings
from hounsfield.shares import uniform

# Scales the outputs, so that values of about 1 give the small refinements that regions need (as Girshick, 2015).
REFINEMENT_SCALE = (0.1, 0.2)
LOSSES = ("objectness", "anchor_boxes", "classes", "region_boxes")
MASK_LOSS = "masks"
# A position is part of an object if so much of it is.
HALF = 0.5


class FirstStage(NamedTuple):
    """The pyramid's levels, and the objectness logit and offsets of every anchor."""

    levels: tuple[Any, ...]
    logits: Any
    offsets: Any


class Targets(NamedTuple):
    """The training targets of a batch: sampled anchors and regions with their targets, without gradients.

    ``masks`` are those of the first regions, among which the positive ones are.
    """

    anchors: Sample
    anchor_targets: Any
    regions: Any
    region_classes: Any
    region_targets: Any
    region_positive: Any
    region_filled: Any
    masks: Any = None


@keras.saving.register_keras_serializable("hounsfield")
class FasterRCNN(keras.Model):  # type: ignore[misc]  # Keras has no types
    r"""A detector: plain ``compile``, ``fit`` and ``predict``.

    ``fit`` takes images (batch, \*spatial, channels) and, as targets, a dictionary of ``boxes`` in pixels
    (batch, padding, 2·rank) and ``classes`` (batch, padding) from 0, with −1 for padding; for a detector with masks
    also ``masks`` (batch, padding, side, side), box masks of 0 and 1 (see ``hounsfield.object_masks``). ``predict``
    gives a dictionary of ``boxes`` (batch, max_detections, 2·rank), ``classes`` (−1 for padding), ``scores``
    (descending, 0 for padding) and ``count``, and with masks ``masks`` (batch, max_detections, side, side), 0 to 1.

    Args:
        settings: of the architecture.
        precision: of a network that is to be trained; where not given, a plain network in Keras's float type.
        seed: of the draws of anchors and regions in training.
        augmentation: layers that change intensities in training, without moving anything; not saved.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        *,
        precision: Precision | None = None,
        seed: int = 0,
        augmentation: Sequence[keras.Layer] = (),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.settings = settings
        self.precision = precision
        self.seed = seed
        self.augmentation = list(augmentation)
        self.strides, trunk, head = _networks(settings)
        masks = _mask_network(settings)
        self.trunk = trunk if precision is None else training_copy(trunk, precision, FULL_PRECISION)
        self.head = head if precision is None else training_copy(head, precision, FULL_PRECISION)
        # Keras keeps the weights of whatever was assigned, so this is assigned once.
        self.mask_head: Any = (
            masks if masks is None or precision is None else training_copy(masks, precision, FULL_PRECISION)
        )
        self.anchors = anchor_grid(settings.input_shape[:-1], self.strides, settings.anchors)
        self.draws = keras.random.SeedGenerator(seed)
        self.means = [keras.metrics.Mean(name=name) for name in (*LOSSES, *([MASK_LOSS] if masks is not None else []))]
        self.built = True

    @property
    def parts(self) -> list[keras.Model]:
        """The trunk, the head, and where there is one the mask head."""
        return [self.trunk, self.head, *([] if self.mask_head is None else [self.mask_head])]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        base: dict[str, Any] = super().get_config()
        return base | {"settings": self.settings.to_dict(), "precision": self.precision, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> FasterRCNN:  # noqa: ARG003 - Keras's signature
        """The inverse of :meth:`get_config`."""
        return cls(
            DetectorSettings.model_validate(config["settings"]), **{k: v for k, v in config.items() if k != "settings"}
        )

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        """The detections of each image.

        In training all slots are padding: there the forward pass is part of the loss, since the second stage is trained
        on a sample that depends on the true boxes.
        """
        if training:
            return self._nothing(images)
        first = self.first_stage(images)
        found = self.classify(first, *self.propose(first, self.settings.num_proposals))
        if self.mask_head is None:
            return found
        logits = self.mask_logits(first, found["boxes"])
        own = ops.one_hot(found["classes"], self.settings.num_labels, dtype=logits.dtype)
        values = ops.sum(logits * ops.expand_dims(ops.expand_dims(own, 2), 2), axis=-1)
        present = ops.expand_dims(ops.expand_dims(found["scores"] > 0, -1), -1)
        return found | {"masks": ops.where(present, ops.sigmoid(values), ops.zeros_like(values))}

    def first_stage(self, images: Any, *, training: bool = False) -> FirstStage:
        """Features, and the outputs of the region proposal network for every anchor."""
        outputs = self.trunk(images, training=training)
        num_levels = len(self.strides)
        num_proposing = (len(outputs) - num_levels) // 2
        levels = tuple(_at_least_float32(level) for level in outputs[:num_levels])
        logits = _joined(outputs[num_levels : num_levels + num_proposing], (-1,))
        return FirstStage(levels, logits, _joined(outputs[-num_proposing:], (-1, 2 * self.settings.rank)))

    def propose(self, first: FirstStage, count: int) -> tuple[Any, Any]:
        """The regions most likely to hold an object, without gradients.

        Returns:
            Boxes (batch, count, 2·rank) inside the image, and (batch, count) booleans that are false for padding.
        """
        logits, offsets = ops.stop_gradient(first.logits), ops.stop_gradient(first.offsets)
        values, chosen = ops.top_k(logits, min(self.settings.num_candidates, len(self.anchors)))
        references = ops.take(self._anchors(logits), chosen, axis=0)
        boxes = self._clipped(decode(_rows(offsets, chosen), references))
        scores = ops.where(geometry.are_valid(boxes, namespace=ops), ops.sigmoid(values), -1.0)
        kept, present = best_kept(
            boxes, scores, threshold=self.settings.proposal_overlap, count=min(count, scores.shape[1])
        )
        return _rows(boxes, kept), present

    def regions(self, first: FirstStage, boxes: Any) -> tuple[Any, Any]:
        """Logits (batch, n, labels + 1), the background first, and refined boxes (batch, n, 2·rank) of regions."""
        settings = self.settings
        pooled = roi_align(
            first.levels, boxes, self.strides[: len(first.levels)], bins=settings.roi_bins, points=settings.roi_points
        )
        count = boxes.shape[1]
        logits, offsets = self.head(ops.reshape(pooled, (-1, *pooled.shape[2:])))
        rank = settings.rank
        scale = ops.convert_to_tensor(np.repeat(REFINEMENT_SCALE, rank), offsets.dtype)
        refined = decode(ops.reshape(offsets * scale, (-1, count, 2 * rank)), boxes)
        return ops.reshape(logits, (-1, count, settings.num_labels + 1)), refined

    def mask_logits(self, first: FirstStage, boxes: Any) -> Any:
        """Logits (batch, n, side, side, labels) of the masks of what lies in boxes (batch, n, 4), with a mask head."""
        settings, count = self.settings, boxes.shape[1]
        pooled = roi_align(
            first.levels, boxes, self.strides[: len(first.levels)], bins=settings.mask_bins, points=settings.roi_points
        )
        logits = self.mask_head(ops.reshape(pooled, (-1, *pooled.shape[2:])))
        return ops.reshape(logits, (-1, count, *logits.shape[1:]))

    def classify(self, first: FirstStage, boxes: Any, present: Any) -> dict[str, Any]:
        """The second stage in prediction: label, score and box of each detection."""
        settings = self.settings
        logits, refined = self.regions(first, boxes)
        scores = ops.softmax(logits, axis=-1)[..., 1:]
        refined = self._clipped(refined)
        usable = ops.logical_and(present, geometry.are_valid(refined, namespace=ops))
        scores = ops.where(ops.logical_and(ops.expand_dims(usable, -1), scores >= settings.score_floor), scores, -1.0)
        flat = ops.reshape(scores, (-1, scores.shape[1] * settings.num_labels))
        values, chosen = ops.top_k(flat, min(settings.num_candidates, flat.shape[1]))
        classes = ops.mod(chosen, settings.num_labels)
        candidates = _rows(refined, chosen // settings.num_labels)
        kept, found = best_kept(
            candidates,
            values,
            threshold=settings.detection_overlap,
            count=min(settings.max_detections, values.shape[1]),
            classes=classes,
        )
        return _padded(_rows(candidates, kept), _entries(classes, kept), _entries(values, kept), found, settings)

    def sampled_targets(self, first: FirstStage, truth: dict[str, Any]) -> Targets:
        """Sample the anchors and regions to train on, with their targets (Ren et al., 2015, section 3.1)."""
        settings = self.settings
        truths, classes = _at_least_float32(truth["boxes"]), ops.cast(truth["classes"], "int32")
        known = classes >= 0
        anchors = ops.expand_dims(self._anchors(first.logits), 0)
        matches = match(
            anchors,
            truths,
            known,
            positive_from=settings.anchor_positive,
            negative_below=settings.anchor_negative,
            keep_best=True,
        )
        sampled = self._draw(matches.positive, matches.negative, settings.anchors_sampled)
        references = ops.take(anchors[0], sampled.indices, axis=0)
        anchor_targets = encode(_rows(truths, _entries(matches.truth, sampled.indices)), references)
        proposals, present = self.propose(first, settings.num_proposals)
        # True boxes are added as regions, so that the second stage sees every object from the first step on.
        candidates = ops.concatenate([proposals, truths], axis=1)
        usable = ops.concatenate([present, known], axis=1)
        share = settings.region_positive
        matches = match(candidates, truths, known, positive_from=share, negative_below=share)
        positive, negative = (ops.logical_and(usable, kind) for kind in (matches.positive, matches.negative))
        drawn = self._draw(positive, negative, settings.regions_sampled)
        owner = _entries(matches.truth, drawn.indices)
        labels = ops.where(drawn.positive, _entries(classes, owner) + 1, 0)
        regions, objects = _rows(candidates, drawn.indices), _rows(truths, owner)
        masks = None if self.mask_head is None else self._mask_targets(regions, objects, truth["masks"], owner)
        targets = Targets(sampled, anchor_targets, regions, labels, objects, drawn.positive, drawn.filled, masks)
        fixed: Targets = keras.tree.map_structure(
            lambda values: None if values is None else ops.stop_gradient(values), targets
        )
        return fixed

    def _mask_targets(self, regions: Any, objects: Any, masks: Any, owner: Any) -> Any:
        """What of the masks of their objects lies in the first regions, (batch, n, side, side) of 0 and 1."""
        count, sampled = min(self.settings.masks_sampled, regions.shape[1]), masks.shape[2:]
        flat = ops.reshape(ops.cast(masks, objects.dtype), (-1, masks.shape[1], sampled[0] * sampled[1]))
        own = ops.reshape(_rows(flat, owner[:, :count]), (-1, count, *sampled))
        shares = mask_align(own, objects[:, :count], regions[:, :count], bins=2 * self.settings.mask_bins)
        return ops.cast(shares >= HALF, objects.dtype)

    def losses_of(self, first: FirstStage, targets: Targets) -> dict[str, Any]:
        """The losses on sampled targets, with equal weights (Ren et al., 2015, equation 1; He et al., 2017)."""
        anchors = targets.anchors
        logits, refined = self.regions(first, targets.regions)
        losses = {
            "objectness": objectness_loss(_entries(first.logits, anchors.indices), anchors.positive, anchors.filled),
            "anchor_boxes": smooth_l1(_rows(first.offsets, anchors.indices), targets.anchor_targets, anchors.positive),
            "classes": classification_loss(logits, targets.region_classes, targets.region_filled),
            "region_boxes": generalised_iou_loss(refined, targets.region_targets, targets.region_positive),
        }
        if targets.masks is not None:
            count = targets.masks.shape[1]
            losses[MASK_LOSS] = mask_loss(
                self.mask_logits(first, targets.regions[:, :count]),
                targets.masks,
                targets.region_classes[:, :count],
                targets.region_positive[:, :count],
            )
        return losses

    def compute_loss(self, x: Any = None, y: Any = None, *_: Any, training: bool = True, **__: Any) -> Any:
        """The sum of the losses of a batch; the outputs of ``call`` are not used."""
        if training:
            for layer in self.augmentation:
                x = layer(x, training=True)
        first = self.first_stage(x, training=training)
        losses = self.losses_of(first, self.sampled_targets(first, y))
        for mean in self.means:
            mean.update_state(losses[mean.name])
        return sum(losses.values())

    def _anchors(self, like: Any) -> Any:
        return ops.convert_to_tensor(self.anchors, like.dtype)

    def _clipped(self, boxes: Any) -> Any:
        return geometry.clipped(boxes, self.settings.input_shape[:-1], namespace=ops)

    def _draw(self, positive: Any, negative: Any, count: int) -> Sample:
        draws = uniform(ops.shape(positive), seed=self.draws)
        count = min(count, positive.shape[1])
        share = max(1, int(self.settings.positive_share * count))
        return balanced_sample(positive, negative, draws, count=count, max_positive=share)

    def _nothing(self, images: Any) -> dict[str, Any]:
        batch, padding = ops.shape(images)[0], self.settings.max_detections
        side = 2 * self.settings.mask_bins
        return ({"masks": ops.zeros((batch, padding, side, side))} if side else {}) | {
            "boxes": ops.zeros((batch, padding, 2 * self.settings.rank)),
            "classes": -ops.ones((batch, padding), "int32"),
            "scores": ops.zeros((batch, padding)),
            "count": ops.zeros((batch,), "int32"),
        }


def _networks(settings: DetectorSettings) -> tuple[tuple[int, ...], keras.Model, keras.Model]:
    """The strides of the pyramid; the trunk, from an image to a first stage; and the head of the second stage."""
    body, strides = backbone(
        settings.backbone,
        settings.input_shape,
        width=settings.width,
        stem=settings.stem,
        weights=settings.weights,
        encoder=settings.encoder,
    )
    num_levels = len(settings.anchors)
    levels = feature_pyramid(body.outputs, settings.pyramid_channels, num_levels=num_levels)
    proposing = [level for level, shapes in zip(levels, settings.anchors, strict=True) if shapes]
    logits, offsets = proposal_head(proposing, settings.anchors_a_position)
    trunk = keras.Model(body.inputs[0], [*levels, *logits, *offsets], name="trunk")
    head = region_head(
        settings.roi_bins,
        settings.rank,
        settings.pyramid_channels,
        units=settings.head_units,
        num_labels=settings.num_labels,
    )
    return strides[:num_levels], trunk, head


def _mask_network(settings: DetectorSettings) -> keras.Model | None:
    if not settings.mask_bins:
        return None
    return mask_head(settings.mask_bins, settings.pyramid_channels, num_labels=settings.num_labels)


def _joined(maps: list[Any], shape: tuple[int, ...]) -> Any:
    """The outputs of a head on all levels, in the order of the anchors."""
    return ops.concatenate([ops.reshape(values, (ops.shape(values)[0], *shape)) for values in maps], axis=1)


def _rows(values: Any, indices: Any) -> Any:
    """Of (batch, n, k) values the rows (batch, m) of each image: (batch, m, k)."""
    return ops.take_along_axis(values, ops.expand_dims(indices, -1), axis=1)


def _entries(values: Any, indices: Any) -> Any:
    """Of (batch, n) values the entries (batch, m) of each image: (batch, m)."""
    return ops.take_along_axis(values, indices, axis=1)


def _at_least_float32(values: Any) -> Any:
    """Coordinates and sums of many features need more digits than bfloat16 has."""
    return values if keras.backend.standardize_dtype(values.dtype) == "float64" else ops.cast(values, "float32")


def _padded(boxes: Any, classes: Any, scores: Any, found: Any, settings: DetectorSettings) -> dict[str, Any]:
    missing = settings.max_detections - boxes.shape[1]
    boxes = ops.where(ops.expand_dims(found, -1), boxes, ops.zeros_like(boxes))
    classes = ops.where(found, ops.cast(classes, "int32"), -1)
    scores = ops.where(found, scores, 0.0)
    return {
        "boxes": ops.pad(boxes, ((0, 0), (0, missing), (0, 0))),
        "classes": ops.pad(classes, ((0, 0), (0, missing)), constant_values=-1),
        "scores": ops.pad(scores, ((0, 0), (0, missing))),
        "count": ops.sum(ops.cast(found, "int32"), axis=1),
    }
