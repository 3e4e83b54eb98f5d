"""The plan of a classifier: every decision of its training, as one file that a person can read, edit and rerun."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from hounsfield.plans.architecture import Pooling
from hounsfield.plans.augmentation import STRENGTHS, Augmentation
from hounsfield.plans.base import BasePlan
from hounsfield.tasks import LabelTask


class Plan(BasePlan):
    """Every decision of a classifier's training, beside those of ``BasePlan``.

    Attributes:
        task: "binary", "multi-class" or "multi-label".
        pooling: of a resnet: "mean" over the last maps, or mean and greatest value of the maps of all "stages".
        dropout: share of the pooled features dropped in training.
        augmentation: limits of the random changes.
        label_smoothing: share of each target that is spread over all labels.
        balance_classes: weight rows so that each label counts the same in the loss.
        balance_groups: a column of the table, or empty; weight rows so that, within each label, each group of this
            column counts the same in the loss, and the group does not tell the label.
        train_share: share of the training patients that is used; less than 1 shows what more data brings.
        folds: 1 trains one network on the training rows; k trains k networks, each on (k−1)/k of the training
            and validation rows, and averages their logits.
        test_time_flips: spatial axes along which the mirrored image is predicted too.
        threshold: probability above which a label is called present (binary and multi-label tasks).
    """

    named_values: ClassVar[Mapping[str, Mapping[Any, BaseModel]]] = {"augmentation": STRENGTHS}

    task: LabelTask
    pooling: Pooling = "mean"
    dropout: float = Field(ge=0, lt=1)
    augmentation: Augmentation
    label_smoothing: float = Field(ge=0, lt=1)
    balance_classes: bool
    balance_groups: str = ""
    train_share: float = Field(default=1.0, gt=0, le=1)
    folds: int = Field(default=1, ge=1)
    test_time_flips: tuple[int, ...] = ()
    threshold: float = Field(default=0.5, gt=0, lt=1)

    def network_options(self) -> dict[str, Any]:
        """The keyword arguments that ``models.build`` needs beside name, shape and labels."""
        options: dict[str, Any] = {"dropout": self.dropout}
        if self.width is not None:
            options["width"] = self.width
        if self.pretrained:
            options["pretrained"] = True
        if self.pooling != "mean":
            options["pooling"] = self.pooling
        return options
