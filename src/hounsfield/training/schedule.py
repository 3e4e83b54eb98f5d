"""How one network is trained, as the plan decides it."""

from __future__ import annotations

from dataclasses import dataclass

from hounsfield.plans.base import BasePlan


@dataclass(frozen=True)
class Schedule:
    """How one network is trained; each field is a decision of the plan.

    ``warmup`` is a share of all steps, ``patience`` a number of epochs, ``accumulate`` a number of batches
    whose gradients make one step, ``average_decay`` the weight of the past in the average of the weights,
    ``epoch_images`` the images in an epoch, where these are not all, ``in_stages`` whether the first layers are
    trained later and at lower rates than the last ones.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup: float
    accumulate: int
    average_decay: float
    patience: int
    epoch_images: int | None = None
    in_stages: bool = False

    @classmethod
    def of(cls, plan: BasePlan) -> Schedule:
        """The plan's decisions."""
        taken = {name: getattr(plan, name) for name in cls.__dataclass_fields__ if name != "in_stages"}
        known = getattr(plan, "adapt", None) == "finetune" or getattr(plan, "encoder", None) is not None
        return cls(**taken, in_stages=known)

    def num_images(self, num_rows: int) -> int:
        """Images in an epoch over so many training rows."""
        return min(num_rows, self.epoch_images or num_rows)

    def num_batches(self, num_rows: int) -> int:
        """Batches in an epoch; a last, smaller batch is left out."""
        images = self.num_images(num_rows)
        return max(1, images // min(self.batch_size, images))
