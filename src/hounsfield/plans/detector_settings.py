"""What a detector is made of: one frozen, flat set of numbers that a file can hold."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from hounsfield.plans.architecture import Stem, Weights, with_weights
from hounsfield.plans.encoder import Encoder
from hounsfield.tasks import check_shape


class DetectorSettings(BaseModel):
    """Everything from which :class:`~hounsfield.detection.FasterRCNN` is built, but its weights.

    Attributes:
        input_shape: (rows, columns, channels) or (slices, rows, columns, channels).
        num_labels: kinds of objects.
        anchors: (levels, anchors, rank) sides in pixels of the input, finest level first, as ``fit_anchors`` gives
            them; a level without anchors proposes nothing.
        backbone: a name that ``models.backbone`` knows.
        width: channels of the first stage of a resnet; ``None`` for other backbones.
        stem: of a resnet; "large" makes strides of 4, 8, 16, 32, "medium" of 2, 4, 8, 16.
        weights: that a backbone of ``keras.applications`` starts from; ``None`` for random ones.
        encoder: a residual network in the place of ``backbone``, which is then a name alone.
        pyramid_channels: of every level of the pyramid.
        roi_bins: along each axis of a region.
        roi_points: at which the features are read in a bin, along each axis.
        head_units: of the two dense layers that judge a region.
        mask_bins: along each axis of a region whose object gets a mask of twice as many positions; 0 for a detector
            without masks.
        masks_sampled: regions of an image on which masks are learned, at most.
        num_candidates: best anchors of an image that suppression looks at.
        num_proposals: regions of an image that the second stage looks at in prediction.
        max_detections: of an image, at most: the padding of the answer.
        proposal_overlap: IoU above which the weaker of two proposals goes.
        detection_overlap: IoU above which the weaker of two detections of one label goes.
        score_floor: detections of a lower score are left out.
        anchors_sampled: anchors of an image on which the first stage learns.
        regions_sampled: regions of an image on which the second stage learns.
        anchor_positive: IoU from which an anchor is positive, and ``anchor_negative`` below which it is negative.
        region_positive: IoU from which a region is positive; below it, it is background.
        positive_share: of the sampled anchors and regions, at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    input_shape: Annotated[tuple[int, ...], Field(min_length=3, max_length=4), AfterValidator(check_shape)]
    num_labels: int = Field(ge=1, le=2**16)
    anchors: tuple[tuple[tuple[float, ...], ...], ...] = Field(min_length=1)
    backbone: str = "resnet18"
    width: int | None = Field(default=64, ge=1, le=4096)
    stem: Stem = "large"
    weights: Weights = None
    encoder: Encoder | None = None
    pyramid_channels: int = Field(default=64, ge=1, le=4096)
    roi_bins: int = Field(default=7, ge=1, le=64)
    roi_points: int = Field(default=2, ge=1, le=16)
    head_units: int = Field(default=256, ge=1, le=2**16)
    mask_bins: int = Field(default=0, ge=0, le=64)
    masks_sampled: int = Field(default=32, ge=1, le=2**16)
    num_candidates: int = Field(default=512, ge=1, le=2**20)
    num_proposals: int = Field(default=128, ge=1, le=2**16)
    max_detections: int = Field(default=100, ge=1, le=2**16)
    proposal_overlap: float = Field(default=0.7, gt=0, le=1)
    detection_overlap: float = Field(default=0.5, gt=0, le=1)
    score_floor: float = Field(default=0.02, ge=0, lt=1)
    anchors_sampled: int = Field(default=256, ge=2, le=2**16)
    regions_sampled: int = Field(default=128, ge=2, le=2**16)
    anchor_positive: float = Field(default=0.5, gt=0, le=1)
    anchor_negative: float = Field(default=0.3, ge=0, le=1)
    region_positive: float = Field(default=0.5, gt=0, le=1)
    positive_share: float = Field(default=0.5, gt=0, le=1)

    @property
    def rank(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.input_shape) - 1

    @property
    def anchors_a_position(self) -> int:
        """Anchors at each position of a level that has some."""
        return max(map(len, self.anchors))

    @model_validator(mode="before")
    @classmethod
    def _read_old_weights(cls, values: Any) -> Any:
        return with_weights(values)

    @model_validator(mode="after")
    def _agree(self) -> DetectorSettings:
        if self.mask_bins and self.rank == 3:
            raise ValueError("mask_bins is for images: objects in volumes get boxes alone. Set mask_bins to 0.")
        counts = {len(level) for level in self.anchors} - {0}
        sides = {len(shape) for level in self.anchors for shape in level}
        if len(counts) != 1 or sides != {self.rank}:
            raise ValueError(
                f"anchors must have the same number of shapes on each level that has any, with {self.rank} sides each. "
                f"Got {sorted(counts)} shapes a level with {sorted(sides)} sides instead."
            )
        if not self.anchors[-1]:
            raise ValueError("The last level of anchors must have some: leave levels without anchors out at the end.")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.model_dump(mode="json")

    @staticmethod
    def paddings(most_objects: int) -> dict[str, int]:
        """The paddings that images with up to so many objects need, with room for half as many again.

        Args:
            most_objects: in one image.
        """
        detections = max(50, math.ceil(1.5 * most_objects))
        proposals = max(128, math.ceil(1.5 * detections))
        # Suppression compares all candidates with each other, so their number grows more slowly.
        candidates = max(math.ceil(1.5 * proposals), min(4 * proposals, 1500))
        return {"max_detections": detections, "num_proposals": proposals, "num_candidates": candidates}
