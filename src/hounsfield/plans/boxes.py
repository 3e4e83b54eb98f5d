"""The plan of a detector: every decision of its training, as one file that a person can read, edit and rerun."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from hounsfield.plans.architecture import Stem
from hounsfield.plans.augmentation import SCENE_STRENGTHS, Augmentation, SceneAugmentation
from hounsfield.plans.base import BasePlan
from hounsfield.plans.detector_settings import DetectorSettings
from hounsfield.plans.encoder import Encoder


class DetectionPlan(BasePlan):
    """Every decision of a detector's training, beside those of ``BasePlan``.

    ``input_shape`` is the network's canvas: the pipeline brings images to the scale of training and leaves their sizes
    mixed; smaller ones are padded, and of larger ones parts are trained on and overlapping windows predicted.

    Attributes:
        task: "detection".
        weights: of the backbone: "imagenet" for those of keras.applications, or what ``--weights`` takes, which is of
            ``encoder`` then; null for random ones.
        encoder: the residual network of these weights.
        licence: of them, as it was found or accepted.
        stem: of a resnet: "large" makes the finest features one in 4 pixels, "medium" one in 2, "small" one a pixel.
        anchors: (levels, anchors, rank) sides in pixels of the canvas, finest level first.
        pyramid_channels: of every level of the pyramid.
        head_units: of the two dense layers that classify a region.
        roi_bins: along each axis of a region.
        mask_bins: along each axis of a region whose object gets a mask of twice as many positions; 0 for boxes alone.
        max_objects: in one training canvas; the padding of the targets.
        max_detections: in one canvas, at most.
        num_proposals: regions of a canvas that the second stage looks at.
        num_candidates: best anchors of a canvas that suppression looks at.
        augmentation: limits of the random changes of place and size, which move boxes too.
        intensities: limits of the random changes of values.
        window_overlap: share of a window that neighbours share in images larger than the canvas.
        validate_every: epochs between two validations.
    """

    named_values: ClassVar[Mapping[str, Mapping[Any, BaseModel]]] = {"augmentation": SCENE_STRENGTHS}

    task: Literal["detection"] = "detection"
    weights: str | None = Field(default=None, max_length=4096)
    encoder: Encoder | None = None
    licence: str = ""
    stem: Stem
    anchors: tuple[tuple[tuple[float, ...], ...], ...] = Field(min_length=1)
    pyramid_channels: int = Field(ge=1)
    head_units: int = Field(ge=1)
    roi_bins: int = Field(ge=1)
    mask_bins: int = Field(default=0, ge=0)
    max_objects: int = Field(ge=1)
    max_detections: int = Field(ge=1)
    num_proposals: int = Field(ge=1)
    num_candidates: int = Field(ge=1)
    augmentation: SceneAugmentation
    intensities: Augmentation
    window_overlap: float = Field(default=0.25, ge=0, lt=0.9)
    validate_every: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _weights_of_the_encoder(self) -> Self:
        if (self.encoder is not None) != (self.weights not in (None, "imagenet")):
            raise ValueError("encoder and weights other than imagenet go together: make a plan with --weights")
        return self

    def detector_settings(self) -> DetectorSettings:
        """What the network is made of.

        Raises:
            pydantic.ValidationError: the fields do not agree.
        """
        return DetectorSettings(
            input_shape=self.input_shape,
            num_labels=len(self.labels),
            anchors=self.anchors,
            backbone=self.network,
            width=self.width,
            stem=self.stem,
            weights="imagenet" if self.weights == "imagenet" else None,
            encoder=self.encoder,
            pyramid_channels=self.pyramid_channels,
            roi_bins=self.roi_bins,
            head_units=self.head_units,
            mask_bins=self.mask_bins,
            num_candidates=self.num_candidates,
            num_proposals=self.num_proposals,
            max_detections=self.max_detections,
        )
