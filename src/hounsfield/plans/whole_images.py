"""What the plans of all networks that judge an image as a whole have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, Field, model_validator

from hounsfield.plans.architecture import Adapt, Pooling, ViewPooling
from hounsfield.plans.augmentation import STRENGTHS, Augmentation
from hounsfield.plans.base import BasePlan

# Images of a sample that one step of a training can show.
MAX_VIEWS = 256


class WholeImagePlan(BasePlan):
    """The decisions beside those of ``BasePlan`` that do not depend on what is predicted of the image.

    Attributes:
        weights: what the network starts from: null for random weights, or what ``--weights`` takes.
        adapt: how these weights are adapted: by a "probe", which fits the last layer to the features; by "lora", which
            goes on to train low-rank matrices beside the attention of a vision transformer; or by "finetune", which
            goes on to train all layers in stages; null where the network is trained as a whole from the start.
        compare_scratch: whether a network is also trained from scratch, and the start of the smaller validation loss
            taken: 0 for no; 1 by the validation images; k by k parts of training and validation images, each of which
            is held out in turn.
        licence: of these weights, as it was found or accepted.
        channels: their names, where images are put together of several files or volumes.
        pooling: of a resnet: "mean" over the last maps, or mean and maximum of the maps of all "stages".
        dropout: share of the pooled features that is dropped in training.
        augmentation: limits of the random changes.
        balance_groups: a column of the table, or empty; rows are weighted so that, within each label, every group of
            this column has the same weight in the loss, and the group does not predict the label.
        train_share: share of the training patients that is used; less than 1 shows what more data brings.
        folds: 1 trains one network on the training rows; k trains k networks, each on (k−1)/k of the training and
            validation rows, and averages their outputs before the last activation.
        views: of samples of several images, how many images are shown in training at once; of a larger sample others in
            each epoch. Predictions take all of them. ``None`` where each image is judged by itself.
        view_pooling: how the features of these images become one vector: by "attention" (a weighted mean, whose
            weights are learned), their "mean", or the "max" of each.
        test_time_flips: spatial axes along which the mirrored image is predicted too.
    """

    named_values: ClassVar[Mapping[str, Mapping[Any, BaseModel]]] = {"augmentation": STRENGTHS}

    weights: str | None = Field(default=None, max_length=4096)
    adapt: Adapt | None = None
    compare_scratch: int = Field(default=0, ge=0, le=20)
    licence: str = ""
    channels: tuple[str, ...] = ()
    pooling: Pooling = "mean"
    dropout: float = Field(ge=0, lt=1)
    augmentation: Augmentation
    balance_groups: str = ""
    train_share: float = Field(default=1.0, gt=0, le=1)
    folds: int = Field(default=1, ge=1, le=100)
    views: int | None = Field(default=None, ge=1, le=MAX_VIEWS)
    view_pooling: ViewPooling = "attention"
    test_time_flips: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _weights_to_adapt(self) -> Self:
        if self.adapt is not None and self.weights is None:
            raise ValueError(f"adapt: {self.adapt} needs weights, and there are none")
        if self.adapt is None and self.compare_scratch:
            raise ValueError(f"compare_scratch: {self.compare_scratch} needs weights that are adapted: set adapt, or 0")
        if self.adapt is None and self.weights not in (None, "imagenet"):
            raise ValueError("weights other than imagenet need adapt: probe, lora or finetune")
        return self

    def network_options(self) -> dict[str, Any]:
        """The keyword arguments that ``models.build`` needs beside name, shape and labels."""
        options: dict[str, Any] = {"dropout": self.dropout}
        if self.width is not None:
            options["width"] = self.width
        if self.weights is not None:
            options["weights"] = self.weights
        if self.pooling != "mean":
            options["pooling"] = self.pooling
        return options
