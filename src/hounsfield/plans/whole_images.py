"""What the plans of all networks that judge an image as a whole have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hounsfield.plans.architecture import Adapt, Pooling, Stem, ViewPooling
from hounsfield.plans.augmentation import STRENGTHS, Augmentation
from hounsfield.plans.base import MAX_COUNT, MAX_WIDTH, BasePlan

# Images of a sample that one step of a training can show.
MAX_VIEWS = 256
# More than any image is reduced.
MAX_SHRINK = 64


class Front(BaseModel):
    """What a resnet does to the prepared images before its stages, where these were not prepared for it.

    Attributes:
        shrink: of how many pixels along each axis the mean is taken; what is left over at the end is not seen.
        standardise: whether each channel of an image then gets the mean 0 and the deviation 1.
        stem: the first layers: "small" keeps the resolution, "medium" halves it, "large" quarters it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shrink: int = Field(default=1, ge=1, le=MAX_SHRINK)
    standardise: bool = False
    stem: Stem


class Companion(BaseModel):
    """A network that is trained from scratch beside one that is adapted, on the same prepared images.

    The logits of both are averaged, so that they make one network. Fields are those of a plan; what is not here is that
    of the plan that the companion belongs to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    network: str = Field(pattern=r"^resnet[0-9]{2}$")
    width: int = Field(ge=1, le=MAX_WIDTH)
    front: Front
    pooling: Pooling = "mean"
    batch_size: int = Field(ge=1, le=MAX_COUNT)
    epochs: int = Field(ge=1, le=MAX_COUNT)
    patience: int = Field(ge=1, le=MAX_COUNT)
    learning_rate: float = Field(gt=0)
    augmentation: Augmentation


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
        companion: a network that is trained from scratch beside the one that is adapted, and averaged with it; null for
            none.
        licence: of these weights, as it was found or accepted.
        channels: their names, where images are put together of several files or volumes.
        pooling: of a resnet: "mean" over the last maps, or mean and maximum of the maps of all "stages".
        front: of a resnet: what it does to the prepared images first; null for nothing.
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
    companion: Companion | None = None
    licence: str = ""
    channels: tuple[str, ...] = ()
    pooling: Pooling = "mean"
    front: Front | None = None
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
        if self.companion is not None and (self.adapt is None or self.views is not None):
            raise ValueError("a companion needs weights that are adapted, and images that are judged one by one")
        if self.adapt is not None and self.front is not None:
            raise ValueError("front is for a network from scratch, and this one is adapted: set front of the companion")
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
        if self.front is not None:
            options |= self.front.model_dump()
        return options

    def settled(self) -> Self:
        """The plan without a limit of time, with the epochs of its first network and of the first companion."""
        plan, decided = super().settled(), self.decided_epochs(self.folds + 1)
        if self.companion is None or not decided:
            return plan
        companion = self.companion.model_copy(update={"epochs": decided[-1][1]})
        return plan.model_copy(update={"companion": companion})

    def companion_plan(self) -> Self | None:
        """The plan of the companion alone; ``None`` where there is none."""
        if self.companion is None:
            return None
        own = {name: getattr(self.companion, name) for name in Companion.model_fields}
        scratch = {"weights": None, "adapt": None, "licence": "", "compare_scratch": 0, "companion": None}
        return self.model_copy(update=own | scratch | {"epoch_images": None})
