"""The plan of a classifier: every decision of its training, as one file that a person can read, edit and rerun."""

from __future__ import annotations

from pydantic import Field

from hounsfield.plans.whole_images import WholeImagePlan
from hounsfield.tasks import LabelTask


class Plan(WholeImagePlan):
    """Every decision of a classifier's training, beside those of ``WholeImagePlan``.

    Attributes:
        task: "binary", "multi-class" or "multi-label".
        label_smoothing: share of each target that is spread over all labels.
        balance_classes: weight rows so that each label has the same weight in the loss; in a multi-label task, so that
            the images with a label weigh as much as those without it.
        threshold: probability above which a label is predicted (binary and multi-label tasks).
        label_thresholds: whether each label of a multi-label task gets a threshold of its own, chosen on validation
            images, where it is clearly better than ``threshold`` there.
    """

    task: LabelTask
    label_smoothing: float = Field(ge=0, lt=1)
    balance_classes: bool
    threshold: float = Field(default=0.5, gt=0, lt=1)
    label_thresholds: bool = False
